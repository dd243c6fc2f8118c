//! Why a command ended without doing what was asked, and the only place where that becomes an exit code. It prints
//! nothing itself.

use std::{error::Error, io, path::Path};

use dbird_core::{ProviderError, provider::ErrorKind};

use crate::{image::ImageError, output::events::Live};

/// A result of a command or of a part of one.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A failed command: what happened, why, and what to do next.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Picks the exit code.
    pub(crate) kind: FailureKind,
    /// What happened, a sentence without a full stop.
    pub(crate) message: String,
    /// Why, outermost cause first.
    pub(crate) causes: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The failing task's (or build's) last lines.
    pub(crate) logs: Vec<String>,
    /// The same command may succeed when it is tried again.
    pub(crate) retry: bool,
    /// What is live all the same, where that is known.
    pub(crate) live: Option<Box<Live>>,
}

/// How a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It failed; what is live is stated.
    Failed,
    /// The command line, the configuration or the image can't be used as it is.
    Usage,
    /// The release failed and the previous one serves again.
    RolledBack,
    /// Another deploy holds the lease.
    Busy,
    /// The release waits at a gate, and nobody drives it.
    Parked,
    /// The user interrupted it.
    Interrupted,
}

impl FailureKind {
    /// The exit code, as documented in the design and in `dbird --help`.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            FailureKind::Failed => 1,
            FailureKind::Usage => 2,
            FailureKind::RolledBack => 3,
            FailureKind::Busy => 5,
            FailureKind::Parked => 6,
            FailureKind::Interrupted => 130,
        }
    }

    /// The word that the `finished` event uses.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            FailureKind::Failed => "failed",
            FailureKind::Usage => "refused",
            FailureKind::RolledBack => "rolled-back",
            FailureKind::Busy => "busy",
            FailureKind::Parked => "parked",
            FailureKind::Interrupted => "interrupted",
        }
    }
}

impl Failure {
    /// A failure of some kind with nothing but its message.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let (message, retry) = (message.into(), matches!(kind, FailureKind::Busy));
        Failure { kind, message, causes: Vec::new(), hint: None, logs: Vec::new(), retry, live: None }
    }

    /// Something that was tried did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    /// The command line or the configuration asks for something that can't be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// A file operation did not work: what was done, to what, and the remedy where one is known.
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::failed(format!("could not {action} {}", path.display())).because(error);
        match io_hint(error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Adds an error and all its sources as causes.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(e) = next {
            let text = e.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = e.source();
        }
        self
    }

    /// Adds what is live all the same.
    pub(crate) fn live(mut self, live: Live) -> Self {
        self.live = Some(Box::new(live));
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The remedy for an error of the file system.
pub(crate) fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space on that disk, then run the same command again: nothing was half done")
        }
        io::ErrorKind::PermissionDenied => {
            Some("make it readable and writable for you, or run as the user it belongs to")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("the project must lie on a file system that can be written"),
        _ => None,
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let kind = match error.kind {
            ErrorKind::Invalid | ErrorKind::Unsupported => FailureKind::Usage,
            _ => FailureKind::Failed,
        };
        let mut failure = Failure::new(kind, error.to_string());
        failure.causes = error.causes.into_iter().skip(1).collect();
        failure.hint = error.hint;
        failure.retry = error.retry;
        failure
    }
}

impl From<dbird_templates::TemplateError> for Failure {
    fn from(error: dbird_templates::TemplateError) -> Self {
        use dbird_templates::TemplateError as E;
        let message = error.to_string();
        match error {
            E::Cloud { .. } => Failure::usage(message).hint("`dbird validate` checks an environment for every cloud"),
            E::Template { line, column, source_line, .. } => {
                let mut failure = Failure::usage(message);
                let caret = format!("{:width$}^", "", width = column.saturating_sub(1));
                failure.causes = vec![format!("line {line} of the template is\n      {source_line}\n      {caret}")];
                failure.hint("`spec` in a template is the specification: `dbird schema environment` describes it")
            }
            E::NotJson { source_line, .. } => {
                let mut failure = Failure::usage(message);
                failure.causes = vec![format!("that line of the output is: {source_line}")];
                failure.hint("write every value as {{ value | json }}, without quotes of your own")
            }
            E::Twice { .. } => Failure::usage(message),
            E::Values { .. } => Failure::failed(message),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let kind = match &error {
            ImageError::Interrupted => FailureKind::Interrupted,
            e if e.is_usage() => FailureKind::Usage,
            _ => FailureKind::Failed,
        };
        let mut failure = Failure::new(kind, error.to_string());
        if let Some(source) = error.source() {
            failure = failure.because(source);
        }
        failure.hint = error.hint();
        failure.retry = error.retry();
        failure.logs = error.into_lines();
        failure
    }
}

impl From<dbird_driver::Error> for Failure {
    fn from(error: dbird_driver::Error) -> Self {
        use dbird_driver::Error as E;
        let (retry, hint, message) = (error.retry(), error.hint(), error.to_string());
        let mut failure = match error {
            E::Provider(error) => Failure::from(*error),
            E::Held(_) => Failure::new(FailureKind::Busy, message),
            E::Parked { .. } | E::Left { .. } => Failure::new(FailureKind::Parked, message),
            E::Interrupted => Failure::new(FailureKind::Interrupted, message),
            other => match other.source() {
                Some(source) => Failure::failed(message).because(source),
                None => Failure::failed(message),
            },
        };
        failure.retry = retry;
        failure.hint = hint.or(failure.hint);
        failure
    }
}
