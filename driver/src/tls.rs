//! Who does the cryptography of TLS connections in this process, and whom they trust. It makes no connection.

use std::error::Error as _;

use reqwest::{Certificate, Client, ClientBuilder};

/// Must be called before the first HTTP client is made; further calls change nothing.
pub(crate) fn prepare() {
    // An error says that it was done before.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A client of HTTP servers, as far as all of ours are alike: whom it trusts.
pub(crate) fn client() -> ClientBuilder {
    prepare();
    Client::builder().tls_certs_merge(authorities().filter_map(|bytes| Certificate::from_der(bytes).ok()))
}

/// Why a request has no answer. The innermost cause says what happened; those around it repeat it, with the address, which may
/// hold a password.
pub(crate) fn innermost(e: &reqwest::Error) -> String {
    let mut cause = e.source();
    while let Some(inner) = cause.and_then(|c| c.source()) {
        cause = Some(inner);
    }
    cause.map_or_else(|| "no valid answer".to_owned(), ToString::to_string)
}

/// The usual certificate authorities, for machines and containers that bring none; those of the system count as well.
pub(crate) fn authorities() -> impl Iterator<Item = &'static [u8]> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|certificate| certificate.as_ref())
}
