//! Where a backup goes or comes from: a file, or an object in a store. It decides what a target's text means and how a store is
//! reached; it moves no bytes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::turn::until;
use super::{Failure, failed};
use crate::folder::folder_of;
use crate::tls;

/// For as long as a store that answers with errors is asked again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Target {
    File(PathBuf),
    Object { store: Arc<dyn ObjectStore>, path: ObjectPath, url: String },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object { url, .. } => url.fmt(f),
        }
    }
}

impl Target {
    /// The target that a text means; a folder stands for the file `name` in it.
    pub(super) fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        if !is_url(text) {
            let path = PathBuf::from(text);
            return Ok(Self::File(if text.ends_with('/') || path.is_dir() { path.join(name) } else { path }));
        }
        let mut url = Url::parse(text).map_err(|error| Failure::usage(format!("{text} is no URL: {error}")))?;
        if url.path().is_empty() || url.path().ends_with('/') {
            url.set_path(&format!("{}{name}", if url.path().is_empty() { "/" } else { url.path() }));
        }
        let unknown = || {
            Failure::usage(format!("{text}: this version writes to file://, s3://, az:// and gs:// URLs, and to paths"))
        };
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
        let reach = format!("{text} can't be used");
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new().with_fsync(true)),
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::new().with_client_options(client()?);
                let builder = variables("AWS_").fold(builder, |builder, (key, value)| match key.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                Arc::new(builder.with_url(url.as_str()).with_retry(retry()).build().map_err(failed(reach))?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::new().with_client_options(client()?);
                let mut builder = variables("AZURE_").fold(builder, |builder, (key, value)| match key.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                // Where the platform itself says who this container is.
                if let Ok(endpoint) = std::env::var("IDENTITY_ENDPOINT") {
                    builder = builder.with_msi_endpoint(endpoint);
                }
                Arc::new(builder.with_url(url.as_str()).with_retry(retry()).build().map_err(failed(reach))?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::new().with_client_options(client()?);
                let builder = variables("GOOGLE_").fold(builder, |builder, (key, value)| match key.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
                Arc::new(builder.with_url(url.as_str()).with_retry(retry()).build().map_err(failed(reach))?)
            }
            _ => return Err(unknown()),
        };
        Ok(Self::Object { store, path, url: url.to_string() })
    }

    /// The manifest of this backup.
    pub(super) fn manifest(&self) -> Self {
        match self {
            Self::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(".json");
                Self::File(name.into())
            }
            Self::Object { store, path, url } => Self::Object {
                store: store.clone(),
                path: ObjectPath::from(format!("{path}.json")),
                url: format!("{url}.json"),
            },
        }
    }

    /// Makes the folder of what is to be replaced, waits until nobody else replaces anything there, where locks work, and takes
    /// away what a killed process left of its tries. The file that comes back is the lock.
    pub(super) async fn make_room(&self, deadline: Instant) -> Result<Option<File>, Failure> {
        let Self::File(path) = self else { return Ok(None) };
        let folder = folder_of(path);
        let cannot = || format!("{self}: folder {} can't be used", folder.display());
        let made = || -> io::Result<File> {
            if !folder.is_dir() {
                fs::create_dir_all(folder)?;
                File::open(folder_of(folder))?.sync_all()?;
            }
            File::open(folder)
        };
        let lock = made().map_err(failed(cannot()))?;
        let locked = until(deadline, || match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // A share without locks; then it is only the manifest that tells.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(())),
        });
        locked.await?.ok_or_else(|| {
            Failure::new(format!("another backup is written to {} all the time", folder.display()))
                .advise("wait for it, or give it more with --timeout")
        })?;
        let cleared = || -> io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let left = path.file_name().zip(entry.file_name().to_str()).is_some_and(|(own, name)| {
                    let rest = own.to_str().and_then(|own| name.strip_prefix(own));
                    rest.is_some_and(|rest| is_unfinished(rest.strip_prefix(".json").unwrap_or(rest)))
                });
                if left {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        cleared().map_err(failed(cannot()))?;
        Ok(Some(lock))
    }

    /// Refuses what is there already, and what can't be written to as far as that shows now.
    pub(super) async fn must_be_free(&self) -> Result<(), Failure> {
        let taken = match self {
            Self::File(path) => {
                let folder = folder_of(path);
                if !folder.is_dir() {
                    return Err(Failure::new(format!("{self}: folder {} does not exist", folder.display())));
                }
                path.symlink_metadata().is_ok()
            }
            Self::Object { store, path, .. } => match store.head(path).await {
                Ok(_) => true,
                Err(object_store::Error::NotFound { .. }) => false,
                Err(error) => return Err(failed(format!("{self} can't be reached"))(error)),
            },
        };
        if taken {
            return Err(Failure::new(format!("{self} is there already")).advise("choose another name, or a folder"));
        }
        Ok(())
    }
}

/// The end of the name of a file that is being written: `.0123456789abcdef.tmp`.
fn is_unfinished(end: &str) -> bool {
    let nonce = end.strip_prefix('.').and_then(|end| end.strip_suffix(".tmp"));
    nonce.is_some_and(|nonce| nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// `s3://bucket/x` and `file:/x`, but not `c:x` nor `a/b:c`.
fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && (rest.starts_with("//") || scheme.eq_ignore_ascii_case("file"))
    })
}

/// Variables with a prefix, named as object stores name their settings.
fn variables(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let texts =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    texts
        .filter(move |(key, value)| key.starts_with(prefix) && !value.is_empty())
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
}

/// A container's image has no certificates, so this program brings the usual ones; those of the system count as well.
fn client() -> Result<ClientOptions, Failure> {
    tls::prepare();
    let mut options = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let certificate = Certificate::from_der(root).map_err(failed("a certificate of this program"))?;
        options = options.with_root_certificate(certificate);
    }
    Ok(options)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::{Target, is_url};

    #[test]
    fn targets() {
        for (text, meant) in [
            ("/x/y.db", "/x/y.db"),
            ("x", "x"),
            ("/tmp", "/tmp/n.db"),
            ("/nowhere/", "/nowhere/n.db"),
            ("file:///x/y.db", "file:///x/y.db"),
            ("file:///x/", "file:///x/n.db"),
            ("a:b", "a:b"),
        ] {
            let target = Target::parse(text, "n.db").unwrap();
            assert_eq!(
                (target.to_string(), target.manifest().to_string()),
                (meant.to_owned(), format!("{meant}.json"))
            );
        }
        for text in ["ftp://host/x", "http://host/x", "memory:///x", "file://host/x", "s3://", "://x"] {
            if is_url(text) {
                assert_eq!(Target::parse(text, "n.db").unwrap_err().code, 2, "{text}");
            }
        }
    }

    #[test]
    fn stores_are_set_up_without_being_asked() {
        for (text, meant) in [("s3://bucket/a/b.db", "a/b.db"), ("s3://bucket", "n.db"), ("gs://bucket/", "n.db")] {
            match Target::parse(text, "n.db") {
                Ok(Target::Object { path, .. }) => assert_eq!(path.as_ref(), meant),
                // No credentials on this machine.
                other => assert!(other.is_err() && text.starts_with("gs"), "{text}: {other:?}"),
            }
        }
    }
}
