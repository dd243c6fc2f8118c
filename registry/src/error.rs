//! Why an image did not get there, with what to do next and whether trying again can help.

use std::{error::Error as StdError, io, path::PathBuf};

use oci_client::errors::{OciDistributionError, OciErrorCode};
use thiserror::Error;

/// What a registry says is shown up to here.
const MESSAGE_CHARS_MAX: usize = 300;

/// An image could not be pushed, pulled or tagged. What was there already still is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name of an image is not one.
    #[error("{text} does not name an image in a registry: {why}")]
    Name {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No connection, or one that was cut.
    #[error("{registry} could not be reached to {action}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It took too long.
    #[error("{registry} took longer than {limit_s} s to {action}")]
    TimedOut {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
        /// How long it may take.
        limit_s: u64,
    },
    /// Wrong credentials, or not enough rights.
    #[error("{registry} refuses these credentials to {action}")]
    Denied {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
    },
    /// The repository or image does not exist.
    #[error("{registry} has nothing there to {action}")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
    },
    /// Another refusal.
    #[error("{registry} answered {status} when asked to {action}: {message}")]
    Answer {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
        /// The HTTP status, 0 where the answer made no sense.
        status: u16,
        /// What it said, shortened.
        message: String,
    },
    /// What arrived is not what its digest says.
    #[error("what {registry} sent or received to {action} is not what its digest says")]
    Damaged {
        /// The registry.
        registry: String,
        /// What was being done.
        action: String,
    },
    /// The image in the layout can't be used.
    #[error("the image in {} can't be used: {why}", path.display())]
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The image is for other machines.
    #[error("{name} has no image for linux/amd64, only for {found}")]
    Platform {
        /// The image.
        name: String,
        /// What there is.
        found: String,
    },
    /// This machine's disk.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether the same call can succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        use RegistryError as E;
        match self {
            E::Unreachable { .. } | E::TimedOut { .. } | E::Damaged { .. } => true,
            E::Answer { status, .. } => *status == 429 || *status >= 500,
            E::Name { .. }
            | E::Denied { .. }
            | E::NotFound { .. }
            | E::Layout { .. }
            | E::Platform { .. }
            | E::Io { .. } => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        use RegistryError as E;
        match self {
            E::Name { .. } => "name it REGISTRY/REPOSITORY@sha256:DIGEST or REGISTRY/REPOSITORY:TAG",
            E::Unreachable { .. } => {
                "check the registry's address and this machine's network, then run the same command again"
            }
            E::TimedOut { .. } => "run the same command again: what has arrived is not sent again",
            E::Denied { .. } => {
                "check that these credentials may read and write this repository; tokens are valid for hours only"
            }
            E::NotFound { .. } => "check the repository's name and the image's tag or digest",
            E::Answer { status, .. } if *status == 429 || *status >= 500 => {
                "wait a minute, then run the same command again"
            }
            E::Answer { .. } => "the registry says why; nothing that was there has changed",
            E::Damaged { .. } => {
                "run the same command again; if it stays, something between here and the registry changes what is sent"
            }
            E::Layout { .. } => "build the image again, or name another one",
            E::Platform { .. } => "name an image that is built for linux/amd64",
            E::Io { .. } => "check that the folder can be written to and that the disk is not full",
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| RegistryError::Io { action, path, source }
    }

    /// From the client's own error, told in our words.
    pub(crate) fn of(registry: &str, action: &str, error: OciDistributionError) -> Self {
        use OciDistributionError as O;
        let (registry, action) = (registry.to_owned(), action.to_owned());
        let by_status = |status: u16, message: String| match status {
            401 | 403 => RegistryError::Denied { registry: registry.clone(), action: action.clone() },
            404 => RegistryError::NotFound { registry: registry.clone(), action: action.clone() },
            _ if message.contains("DIGEST_INVALID") || message.contains("SIZE_INVALID") => {
                RegistryError::Damaged { registry: registry.clone(), action: action.clone() }
            }
            _ => RegistryError::Answer {
                registry: registry.clone(),
                action: action.clone(),
                status,
                message: shortened(&message),
            },
        };
        match error {
            O::AuthenticationFailure(_) | O::UnauthorizedError { .. } => RegistryError::Denied { registry, action },
            O::ImageManifestNotFoundError(_) => RegistryError::NotFound { registry, action },
            O::ServerError { code, message, .. } => by_status(code, message),
            O::RegistryError { envelope, .. } => {
                use OciErrorCode as C;
                let status = match envelope.errors.first().map(|e| &e.code) {
                    Some(C::Unauthorized | C::Denied) => 401,
                    Some(C::ManifestUnknown | C::NameUnknown | C::BlobUnknown | C::NotFound) => 404,
                    Some(C::Toomanyrequests) => 429,
                    Some(C::DigestInvalid | C::SizeInvalid) => return RegistryError::Damaged { registry, action },
                    _ => 400,
                };
                by_status(status, envelope.to_string())
            }
            O::DigestError(_) => RegistryError::Damaged { registry, action },
            O::RequestError(error) => match error.status() {
                Some(status) => by_status(status.as_u16(), String::new()),
                None => RegistryError::Unreachable { registry, action, source: Box::new(error) },
            },
            // The network's failures have no number of this machine's; its disk's have.
            O::IoError(error) if error.raw_os_error().is_some() => RegistryError::Io {
                action: "read or write a part of the image in",
                path: "the layout".into(),
                source: error,
            },
            O::IoError(error) => RegistryError::Unreachable { registry, action, source: Box::new(error) },
            other => {
                let message = shortened(&other.to_string());
                RegistryError::Answer { registry, action, status: 0, message }
            }
        }
    }
}

fn shortened(text: &str) -> String {
    let mut words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MESSAGE_CHARS_MAX) {
        words.truncate(end);
        words.push_str("...");
    }
    if words.is_empty() { "no reason given".to_owned() } else { words }
}
