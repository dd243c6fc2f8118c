//! Why there is no image, with the remedy of each case.

use std::{io, path::PathBuf};

use dbird_core::Digest;
use dbird_registry::RegistryError;
use thiserror::Error;

use crate::failure::io_hint;

/// An image could not be made or found. What was running still runs.
#[derive(Debug, Error)]
pub(crate) enum ImageError {
    #[error("the build command could not be started: {program}")]
    CommandMissing { program: String, source: io::Error },
    #[error("the build command failed: {command}: {status}")]
    CommandFailed { command: String, status: String, lines: Vec<String> },
    #[error("the build was interrupted")]
    Interrupted,
    #[error("the image could not be taken from its registry")]
    Registry { source: Box<RegistryError> },
    #[error("there is nothing to build: the configuration has no [service.build]")]
    NoBuild,
    #[error("{what} {} is not there", path.display())]
    Missing { what: &'static str, path: PathBuf, built: bool },
    #[error("{} is not {wanted}", path.display())]
    WrongKind { path: PathBuf, wanted: &'static str },
    #[error("{} can't be packed: it is {what}", path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error("{} changed while it was packed", path.display())]
    Changed { path: PathBuf },
    #[error("{} needs the host's libraries, which an image on an empty base does not have", path.display())]
    Dynamic { path: PathBuf },
    #[error("{text}: {why}")]
    Reference { text: String, why: String, hint: &'static str },
    #[error("there is no image {} in {}", digest.short(), place.display())]
    NotFound { digest: Digest, place: PathBuf },
    #[error("the image {} in {} can't be used: {why}", digest.short(), place.display())]
    Unusable { digest: Digest, place: PathBuf, why: String },
    #[error("could not {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl ImageError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| ImageError::Io { action, path, source }
    }

    /// The command line or the configuration has to change.
    pub(crate) fn is_usage(&self) -> bool {
        use ImageError as E;
        matches!(
            self,
            E::NoBuild
                | E::Reference { .. }
                | E::WrongKind { .. }
                | E::Special { .. }
                | E::Dynamic { .. }
                | E::NotFound { .. }
                | E::Unusable { .. }
        )
    }

    /// Whether the same command can succeed later without anybody doing anything.
    pub(crate) fn retry(&self) -> bool {
        matches!(self, ImageError::Registry { source } if source.is_retryable())
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        use ImageError as E;
        Some(match self {
            E::CommandMissing { .. } => {
                "install it or correct `command` in [service.build]; `dbird doctor` checks what the build needs".to_owned()
            }
            E::CommandFailed { .. } => "run it by hand in the project's folder until it passes; nothing was deployed".to_owned(),
            E::Registry { source } => source.hint().to_owned(),
            E::NoBuild => "add [service.build], or name an image with --image or --from".to_owned(),
            E::Missing { built: true, .. } => {
                "the build command ran but left nothing there: correct `binary` or `folder` in [service.build]".to_owned()
            }
            E::Missing { built: false, .. } => {
                "correct `binary` or `folder` in [service.build], or give the `command` that makes it".to_owned()
            }
            E::WrongKind { .. } => "`binary` names one file, `folder` names a folder".to_owned(),
            E::Special { .. } => "take it out of the folder: an image holds files, folders and symbolic links".to_owned(),
            E::Changed { .. } => "let whatever writes there finish, then run the same command again".to_owned(),
            E::Dynamic { .. } => {
                "link it statically (RUSTFLAGS='-C target-feature=+crt-static'), name a base image that has the loader, or, on this \
                 machine, set runtime = \"process\" in [cloud.local]"
                    .to_owned()
            }
            E::Reference { hint, .. } => (*hint).to_owned(),
            E::NotFound { .. } => "`dbird history` lists the images of past releases".to_owned(),
            E::Unusable { .. } => "build it again, or name another image".to_owned(),
            E::Io { source, .. } => return io_hint(source).map(str::to_owned),
            E::Interrupted => return None,
        })
    }

    /// The last lines of the build's output.
    pub(crate) fn into_lines(self) -> Vec<String> {
        match self {
            ImageError::CommandFailed { lines, .. } => lines,
            _ => Vec::new(),
        }
    }
}

impl From<RegistryError> for ImageError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Name { text, why } => ImageError::Reference {
                text,
                why: why.to_owned(),
                hint: "name it REGISTRY/REPOSITORY@sha256:DIGEST or REGISTRY/REPOSITORY:TAG, the registry included",
            },
            other => ImageError::Registry { source: Box::new(other) },
        }
    }
}
