//! Who does the cryptography of TLS connections in this process. It makes no connection.

/// Must be called before the first HTTP client is made; further calls change nothing.
pub(crate) fn prepare() {
    // An error says that it was done before.
    drop(rustls::crypto::ring::default_provider().install_default());
}
