//! Backups, which only the ingester can make: who wants one leaves a request on the share. It decides when a request is
//! answered; where the copy goes then is the asker's business.

use serde::{Deserialize, Serialize};

use crate::claim::Epoch;
use crate::ledger::Ledger;
use crate::share::{Share, publish};

const PREFIX: &str = "backup.";
const REQUEST: &str = ".request";
const ANSWER: &str = ".answer";

/// What the ingester answers to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The epoch whose database was copied.
    pub epoch: u64,
    /// Name of the copy on the share; `None` if there is none.
    pub copy: Option<String>,
    /// Why there is none.
    pub fault: Option<String>,
}

/// Answers all requests, unless records wait that they should have.
pub(crate) fn answer<S: Share, L: Ledger>(share: &S, ledger: &mut L, epoch: &Epoch, more: bool) {
    if more {
        return;
    }
    let Ok(names) = share.list("") else { return };
    for name in names {
        let Some(id) = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(REQUEST)) else { continue };
        let copy = format!("{PREFIX}{id}.db");
        drop(share.remove(&copy));
        let answer = match ledger.copy(&copy) {
            Ok(()) => Answer { epoch: epoch.number, copy: Some(copy), fault: None },
            Err(error) => Answer { epoch: epoch.number, copy: None, fault: Some(error.to_string()) },
        };
        let answered = serde_json::to_vec(&answer).map_err(std::io::Error::other).and_then(|bytes| {
            let name = format!("{PREFIX}{id}{ANSWER}");
            publish(share, &name, &format!("{name}.{}.tmp", epoch.nonce), &bytes)?;
            share.remove(&format!("{PREFIX}{id}{REQUEST}"))
        });
        if let Err(error) = answered {
            tracing::warn!(id, %error, "a request for a backup can't be answered");
        }
    }
}
