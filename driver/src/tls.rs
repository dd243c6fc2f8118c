//! Who does the cryptography of TLS connections in this process, and whom they trust. It makes no connection.

/// Must be called before the first HTTP client is made; further calls change nothing.
pub(crate) fn prepare() {
    // An error says that it was done before.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The usual certificate authorities, for machines and containers that bring none; those of the system count as well.
pub(crate) fn authorities() -> impl Iterator<Item = &'static [u8]> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|certificate| certificate.as_ref())
}
