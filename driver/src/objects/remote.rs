//! State in S3 or Azure Blob. It decides how a store is reached, how long that may take and when a store can be trusted with a
//! lease; what is written there it leaves to others.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error as ObjectError, ObjectStore, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    client::ClientConfigKey,
    path::Path as ObjectPath,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    answers::{Answer, OVERWRITES},
    innermost,
    place::Place,
    signer::{Signer, Signing},
};
use crate::{TAKEOVER_MS, store::StoreError, tls};

/// A call to the store has ended by then, so that a heartbeat still comes in time after one whose answer was lost.
const CALL_MS: u64 = TAKEOVER_MS / 2 - 500;
/// A request within a call; a reading one may be made again.
const REQUEST_MS: u64 = 3_000;
const CONNECT_MS: u64 = 2_000;
const RETRIES_MAX: usize = 2;
/// The first credentials may come from a program that takes its time. No lease is held before there are any.
const CREDENTIALS_MS: u64 = 15_000;

/// A bucket or a container, and how it is reached.
pub(super) struct Remote {
    client: Client,
    place: Place,
    /// Whether requests are signed at all.
    signs: bool,
    /// There have been credentials: what keeps them away now is likely to pass.
    signed: AtomicBool,
    /// It was seen to refuse to write over an object.
    refuses: AtomicBool,
}

enum Client {
    S3(AmazonS3),
    Blob(MicrosoftAzure),
}

impl Remote {
    /// Of a bucket. Settings are read from variables that begin with AWS_.
    pub(super) fn s3(
        bucket: String,
        variables: &[(String, String)],
        signer: Option<Arc<dyn Signer>>,
    ) -> Result<Remote, StoreError> {
        let mut builder = AmazonS3Builder::new().with_client_options(client()?).with_retry(retry());
        for (key, value) in settings(variables, "AWS_") {
            if let Ok(key) = key.parse() {
                builder = builder.with_config(key, value);
            }
        }
        let get = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let region = get(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let (host, loopback) = match get(AmazonS3ConfigKey::S3Endpoint).or_else(|| get(AmazonS3ConfigKey::Endpoint)) {
            Some(endpoint) => {
                host(&endpoint, "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL", allows_http(get(ALLOW_HTTP_S3)))?
            }
            None => (format!("https://s3.{region}.amazonaws.com"), false),
        };
        let signs = get(AmazonS3ConfigKey::SkipSignature).as_deref() != Some("true");
        let place = Place::S3 { bucket: bucket.clone(), host };
        if loopback {
            builder = builder.with_allow_http(true);
        }
        if let Some(signer) = signer {
            builder = builder.with_credentials(Arc::new(Signing(signer)));
        }
        let client = builder
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .map_err(|e| place.unusable(&e, "one of the variables AWS_... has a value that can't be used"))?;
        Ok(Remote::new(Client::S3(client), place, signs))
    }

    /// Of a container in a storage account. Settings are read from variables that begin with AZURE_.
    pub(super) fn blob(
        account: String,
        container: String,
        variables: &[(String, String)],
    ) -> Result<Remote, StoreError> {
        let mut builder = MicrosoftAzureBuilder::new().with_client_options(client()?).with_retry(retry());
        for (key, value) in settings(variables, "AZURE_") {
            if let Ok(key) = key.parse() {
                builder = builder.with_config(key, value);
            }
        }
        // Where the platform itself says who this container is.
        if let Some((_, value)) = variables.iter().find(|(key, value)| key == "IDENTITY_ENDPOINT" && !value.is_empty())
        {
            builder = builder.with_msi_endpoint(value);
        }
        let get = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let (host, loopback) = match get(AzureConfigKey::Endpoint) {
            Some(endpoint) => host(&endpoint, "AZURE_STORAGE_ENDPOINT", allows_http(get(ALLOW_HTTP_BLOB)))?,
            None => (format!("https://{account}.blob.core.windows.net"), false),
        };
        let signs = get(AzureConfigKey::SkipSignature).as_deref() != Some("true");
        let place = Place::Blob { account: account.clone(), container: container.clone(), host };
        if loopback {
            builder = builder.with_allow_http(true);
        }
        let client = builder
            .with_account(account)
            .with_container_name(container)
            .build()
            .map_err(|e| place.unusable(&e, "one of the variables AZURE_... has a value that can't be used"))?;
        Ok(Remote::new(Client::Blob(client), place, signs))
    }

    fn new(client: Client, place: Place, signs: bool) -> Remote {
        Remote { client, place, signs, signed: AtomicBool::new(false), refuses: AtomicBool::new(false) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        match &self.client {
            Client::S3(client) => client,
            Client::Blob(client) => client,
        }
    }

    /// Makes a call that ends in time; `what` says what is not done if it fails.
    pub(super) async fn call<T>(
        &self,
        what: impl Fn() -> String,
        calling: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let first = !self.signed.load(Ordering::Relaxed);
        let mut until = Instant::now() + Duration::from_millis(if first { CREDENTIALS_MS } else { CALL_MS });
        let credentials = timeout_at(until, self.credentials()).await;
        match credentials {
            Ok(Ok(())) => self.signed.store(true, Ordering::Relaxed),
            Ok(Err(e)) => return Err(self.unsigned(what(), innermost(&e), !first)),
            Err(_) => return Err(self.unsigned(what(), "they were not there in time".to_owned(), !first)),
        }
        if first {
            until = Instant::now() + Duration::from_millis(CALL_MS);
        }
        timeout_at(until, calling).await.unwrap_or_else(|_| {
            Err(StoreError {
                what: what(),
                retry: true,
                hint: Some(self.place.unreachable()),
                source: Some(format!("there was no whole answer within {CALL_MS} ms").into()),
            })
        })
    }

    async fn credentials(&self) -> Result<(), ObjectError> {
        if !self.signs {
            return Ok(());
        }
        match &self.client {
            Client::S3(client) => client.credentials().get_credential().await.map(drop),
            Client::Blob(client) => client.credentials().get_credential().await.map(drop),
        }
    }

    fn unsigned(&self, what: String, why: String, retry: bool) -> StoreError {
        let source = Some(format!("no credentials were found: {why}").into());
        StoreError { what, retry, hint: Some(self.place.no_credentials()), source }
    }

    /// Fails with a store that writes over objects: two commands would both hold the lease. An object that is always the same
    /// is created twice; where it stands already, once. It carries no meaning, so no answer to it can do any harm.
    pub(super) async fn must_refuse(&self, prefix: &ObjectPath) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = prefix.clone().join("created-once.json");
        for _ in 0..2 {
            let payload = PutPayload::from_static(b"{\"format\":1}");
            match self.objects().put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => {}
                Err(ref e @ ObjectError::AlreadyExists { .. }) if Answer::of(e).taken() => {
                    self.refuses.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(e) => {
                    let what = format!("the state can't be written ({}/{path})", self.place);
                    return Err(Answer::of(&e).explain(what, &self.place));
                }
            }
        }
        Err(StoreError {
            what: format!("{} writes over objects that are there, so it can't keep two deploys apart", self.place),
            retry: false,
            hint: Some(OVERWRITES.to_owned()),
            source: None,
        })
    }
}

const ALLOW_HTTP_S3: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
const ALLOW_HTTP_BLOB: AzureConfigKey = AzureConfigKey::Client(ClientConfigKey::AllowHttp);

fn allows_http(setting: Option<String>) -> bool {
    setting.as_deref() == Some("true")
}

/// Variables with a prefix, named as the crate names its settings.
fn settings<'a>(variables: &'a [(String, String)], prefix: &'static str) -> impl Iterator<Item = (String, &'a str)> {
    let wanted = variables.iter().filter(move |(key, value)| key.starts_with(prefix) && !value.is_empty());
    wanted.map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
}

/// An endpoint without what may be secret in it, and whether it is plain http to this machine.
fn host(endpoint: &str, variable: &str, http: bool) -> Result<(String, bool), StoreError> {
    let refused = |what: &str, hint: &str| StoreError {
        what: format!("{variable} {what}"),
        retry: false,
        hint: Some(hint.to_owned()),
        source: None,
    };
    let example = "write it as https://HOST or https://HOST:PORT";
    let url = Url::parse(endpoint).map_err(|_| refused("is no URL", example))?;
    let Some(name) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(refused("names no host over http or https", example));
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(refused("holds a user or a query", "credentials have variables of their own"));
    }
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let plain = url.scheme() == "http";
    if plain && !here && !http {
        return Err(refused(
            "is plain http to another machine",
            "use https; where the network between is trusted, AWS_ALLOW_HTTP=true or AZURE_ALLOW_HTTP=true allows http",
        ));
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{}://{name}{port}", url.scheme()), plain && here))
}

fn client() -> Result<ClientOptions, StoreError> {
    tls::prepare();
    let mut options = ClientOptions::new()
        .with_connect_timeout(Duration::from_millis(CONNECT_MS))
        .with_timeout(Duration::from_millis(REQUEST_MS));
    for der in tls::authorities() {
        let certificate = Certificate::from_der(der).map_err(|e| StoreError {
            what: "a certificate of this program can't be read".to_owned(),
            retry: false,
            hint: None,
            source: Some(e.into()),
        })?;
        options = options.with_root_certificate(certificate);
    }
    Ok(options)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(1_000),
            base: 2.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: Duration::from_millis(CALL_MS),
    }
}
