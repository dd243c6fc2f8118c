//! What a handle says to this provider: which operation of AWS a step became. Tokens are journalled, so what was once
//! written can be read for ever.

use std::collections::BTreeMap;

use dbird_core::provider::ErrorKind;
use dbird_core::{Handle, ProviderError, ReleaseId, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Adding, fault};

/// The version of the tokens. A newer one is refused with a sentence.
const FORMAT: u32 = 1;

/// What a handle stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Token {
    /// It was done when it was asked for.
    Done {
        /// What later steps may refer to.
        #[serde(default)]
        outputs: BTreeMap<String, Value>,
        /// What there is to say of it; may be empty.
        #[serde(default)]
        said: String,
    },
    /// An operation on a stack.
    Stack(crate::stack::Job),
    /// An image on its way to the repository.
    Image(crate::image::Job),
    /// A release of the service.
    Service(crate::service::Job),
    /// A one-off task.
    Task(crate::run::Job),
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    #[serde(flatten)]
    token: Token,
}

impl Token {
    /// The handle of a step that became this.
    pub(crate) fn handle(self, step: &StepId, release: ReleaseId) -> Handle {
        // A token holds no map with keys other than strings, so writing it can't fail.
        let token = serde_json::to_string(&Written { format: FORMAT, token: self }).unwrap_or_default();
        Handle { step: step.clone(), release, token }
    }

    /// What a handle stands for.
    pub(crate) fn of(handle: &Handle) -> Result<Token, ProviderError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let refused = |kind, why: &str| fault(kind, "read a handle", handle.step.to_string(), why);
        match serde_json::from_str::<Format>(&handle.token) {
            Ok(Format { format }) if format > FORMAT => {
                Err(refused(ErrorKind::Invalid, "a newer dbird began this step").hint("go on with that dbird"))
            }
            Ok(_) => serde_json::from_str::<Written>(&handle.token)
                .map(|written| written.token)
                .map_err(|e| refused(ErrorKind::Invalid, "its handle can't be read").because(&e)),
            // Nothing here was ever known by it.
            Err(e) => Err(refused(ErrorKind::NotFound, "its handle is not one of AWS's").because(&e)),
        }
    }
}
