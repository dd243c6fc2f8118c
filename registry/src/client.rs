//! One registry as it is asked here: how long an answer may take and how often a request is made again.

use std::{future::Future, time::Duration};

use oci_client::{
    Client, RegistryOperation,
    client::{ClientConfig, ClientProtocol, linux_amd64_resolver},
    errors::OciDistributionError,
};

use crate::{Credentials, Place, RegistryError, is_loopback};

/// Blobs on their way at the same time.
pub(crate) const PARALLEL: usize = 4;
/// A request is made at most this often.
const ATTEMPTS: u32 = 3;
/// Between two attempts; twice as long before the last.
const PAUSE: Duration = Duration::from_millis(300);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What a request may take without its content.
const ANSWER_LIMIT_S: u64 = 60;
/// Slower than this, a content counts as stuck.
const BYTES_A_SECOND_MIN: u64 = 64 * 1024;

/// A registry with somebody who asks it.
pub(crate) struct Asked<'a> {
    pub(crate) place: &'a Place,
    pub(crate) client: Client,
}

impl<'a> Asked<'a> {
    pub(crate) async fn new(
        place: &'a Place,
        credentials: &Credentials,
        operation: RegistryOperation,
    ) -> Result<Self, RegistryError> {
        let local = is_loopback(&place.registry);
        let plain = place.plain_http || local;
        // A proxy that no address goes through: it keeps the environment's proxies away from this machine's own registry.
        let proxy = |url: &str| local.then(|| url.to_owned());
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // Not every registry takes a blob in pieces of the client's size; every one takes it whole.
            use_monolithic_push: true,
            platform_resolver: Some(Box::new(linux_amd64_resolver)),
            connect_timeout: Some(CONNECT_LIMIT),
            user_agent: concat!("dbird/", env!("CARGO_PKG_VERSION")),
            http_proxy: proxy("http://127.0.0.1:9"),
            no_proxy: proxy("localhost,127.0.0.0/8,::1"),
            ..ClientConfig::default()
        };
        let wrong = |error| RegistryError::of(&place.registry, "prepare a connection", error);
        let asked = Asked { place, client: Client::try_from(config).map_err(wrong)? };
        let (auth, reference) = (credentials.to_client(), place.with("latest"));
        asked.ask("sign in", 0, || asked.client.auth(&reference, &auth, operation)).await?;
        Ok(asked)
    }

    /// Asks, within a time that fits so many bytes, and asks again where that can help.
    pub(crate) async fn ask<T, F>(
        &self,
        action: &str,
        bytes: u64,
        mut request: impl FnMut() -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let limit_s = ANSWER_LIMIT_S + bytes / BYTES_A_SECOND_MIN;
        let registry = &self.place.registry;
        let mut attempt = 1;
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(limit_s), request()).await;
            let error = match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => RegistryError::of(registry, action, error),
                Err(_) => RegistryError::TimedOut { registry: registry.clone(), action: action.to_owned(), limit_s },
            };
            if attempt == ATTEMPTS || !error.is_retryable() {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "asks the registry again");
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }
}
