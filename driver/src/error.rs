//! Why a driver stopped without a release to show for it. A release that failed is no error: it has a record.

use dbird_core::{ProviderError, ReleaseId};
use thiserror::Error;

use crate::{Held, StoreError};

/// Why a driver stopped.
#[derive(Debug, Error)]
pub enum Error {
    /// Another command is at work in this environment.
    #[error("{0}")]
    Held(Box<Held>),
    /// What is live, or the journal, is not what the plan was made from.
    #[error("the plan was made for something else than what is live now: {what}")]
    Moved {
        /// What moved.
        what: String,
    },
    /// Somebody took the lease over while this command did not move.
    #[error("another command took over while this one did not move; it stopped without touching anything more")]
    Fenced,
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider refused, before anything had begun.
    #[error("{}", sentence(.0))]
    Provider(Box<ProviderError>),
    /// The cloud could not be reached any more; the journal says how far it came.
    #[error("{release} is left unfinished: {why}")]
    Unfinished {
        /// The release.
        release: ReleaseId,
        /// Why.
        why: String,
        /// The last error.
        cause: Option<Box<ProviderError>>,
    },
    /// It waits at a gate, as it was told to, and nobody drives it any more.
    #[error("{release} waits at {weight} % for somebody to go on; nobody drives it meanwhile, and the weights stand")]
    Parked {
        /// The release.
        release: ReleaseId,
        /// Its share of the traffic.
        weight: u8,
    },
    /// Its cloud drives it and goes on; this command does not wait for the end.
    #[error("{release} is left to the cloud, which goes on with it")]
    Left {
        /// The release.
        release: ReleaseId,
    },
    /// Something else can't begin while a release waits at a gate.
    #[error("{release} still waits at {weight} % for somebody to go on")]
    AtGate {
        /// The release.
        release: ReleaseId,
        /// Its share of the traffic.
        weight: u8,
    },
    /// Nothing is under way that could be asked for anything.
    #[error("no rollout is under way here")]
    NoRollout,
    /// What was asked for makes no sense where the rollout stands.
    #[error("{0}")]
    Refused(String),
    /// A person wanted to stop before anything had begun.
    #[error("interrupted before anything was changed")]
    Interrupted,
    /// Nothing came of waiting.
    #[error("{what} within {after_ms} ms")]
    Late {
        /// What did not happen.
        what: String,
        /// The limit.
        after_ms: u64,
    },
    /// A one-off task was stopped, or could not be started.
    #[error("the task failed: {0}")]
    Task(String),
    /// The plan has nothing to do, or documents that are not its own: a fault of the caller.
    #[error("the plan can't be carried out: {0}")]
    Order(&'static str),
}

impl Error {
    /// True when giving the same command again may succeed without anything else being changed.
    pub fn retry(&self) -> bool {
        match self {
            Error::Held(_) | Error::Fenced | Error::Interrupted | Error::Unfinished { .. } | Error::Late { .. } => true,
            Error::Moved { .. } => true,
            Error::Parked { .. } | Error::AtGate { .. } | Error::Left { .. } => false,
            Error::NoRollout | Error::Refused(_) => false,
            Error::Store(e) => e.retry,
            Error::Provider(e) => e.retry,
            Error::Task(_) | Error::Order(_) => false,
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Held(_) => Some("wait for it with `dbird wait`, then give the command again".to_owned()),
            Error::Moved { .. } => Some("look at `dbird plan` again".to_owned()),
            Error::Parked { .. } | Error::AtGate { .. } => {
                Some("`dbird promote` goes on with it, `dbird abort` undoes it".to_owned())
            }
            Error::Left { .. } => {
                Some("`dbird wait` follows it to its end, `dbird abort` undoes it".to_owned())
            }
            Error::NoRollout => {
                Some("`dbird status` shows what is live, `dbird rollback` goes back to an earlier release".to_owned())
            }
            Error::Unfinished { .. } => Some("the next command that changes something finishes or undoes it, as `dbird deploy`, `promote` or `abort`".to_owned()),
            Error::Store(e) => e.hint.clone(),
            Error::Provider(e) => e.hint.clone(),
            _ => None,
        }
    }
}

impl From<ProviderError> for Error {
    fn from(e: ProviderError) -> Self {
        Error::Provider(Box::new(e))
    }
}

/// A provider's error with all its causes, in a sentence.
pub(crate) fn sentence(e: &ProviderError) -> String {
    let mut text = e.to_string();
    for cause in e.causes.iter().skip(1) {
        text += ": ";
        text += cause;
    }
    text
}
