//! Errors as the boundary to the driver has them. It decides which kind a failure of this machine is, and what is to be
//! done about it.

use std::error::Error;
use std::io;

use dataplane::image::ImageError;
use dataplane::runtime::RuntimeError;
use dbird_core::provider::ErrorKind;
use dbird_core::{Cloud, ProviderError};

/// An error of this provider that asking again does not cure.
pub(crate) fn fault(
    kind: ErrorKind,
    operation: &str,
    object: impl Into<String>,
    what: impl Into<String>,
) -> ProviderError {
    ProviderError {
        kind,
        retry: false,
        cloud: Cloud::Local,
        operation: operation.to_owned(),
        object: object.into(),
        causes: vec![what.into()],
        hint: None,
    }
}

/// Adds to an error.
pub(crate) trait Adding {
    /// What to do next.
    fn hint(self, hint: impl Into<String>) -> Self;
    /// What it came from, outermost first.
    fn because(self, error: &dyn Error) -> Self;
    /// Asking again may help.
    fn retry(self) -> Self;
}

impl Adding for ProviderError {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn because(mut self, error: &dyn Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.causes.push(error.to_string());
            cause = error.source();
        }
        self
    }

    fn retry(mut self) -> Self {
        self.retry = true;
        self
    }
}

/// A file or folder that can't be read or written.
pub(crate) fn disk(
    operation: &str,
    object: impl Into<String>,
    what: impl Into<String>,
    error: &io::Error,
) -> ProviderError {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Exhausted, Some("free some space on that disk, then run the same command again"))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, Some("make the project's `.dbird` folder writable for this user"))
        }
        _ => (ErrorKind::Internal, None),
    };
    let mut fault = fault(kind, operation, object, what).because(error);
    fault.hint = hint.map(str::to_owned);
    fault
}

/// An image that can't be unpacked.
pub(crate) fn image(operation: &str, error: &ImageError) -> ProviderError {
    let (kind, hint) = match error {
        ImageError::Missing { .. } => {
            (ErrorKind::NotFound, "build it: run the deploy without `--image`, or `dbird image build`")
        }
        ImageError::Damaged { .. } => (
            ErrorKind::Invalid,
            "remove the project's `.dbird/images` folder and deploy again: the image is built anew",
        ),
        ImageError::Malformed { .. } | ImageError::Refused(_) => (ErrorKind::Invalid, "build the image anew"),
        ImageError::Io { path, source } => {
            return disk(operation, path.display().to_string(), error.to_string(), source);
        }
    };
    fault(kind, operation, "", error.to_string()).hint(hint)
}

/// A task that can't be started as it is described.
pub(crate) fn runtime(operation: &str, error: &RuntimeError) -> ProviderError {
    let hint = match error {
        RuntimeError::NoEntryPoint(_) => {
            "say in [service.build] what is started: `binary`, or `folder` with `entrypoint`"
        }
        RuntimeError::NoProgram { .. } | RuntimeError::NotExecutable { .. } => {
            "check [service.build]; a program of a base image needs runtime = \"podman\""
        }
        RuntimeError::NoFolder { .. } => "check the image's working folder",
        RuntimeError::Podman(_) => "check `podman info`, or set runtime = \"process\"",
    };
    fault(ErrorKind::Invalid, operation, "", error.to_string()).hint(hint)
}
