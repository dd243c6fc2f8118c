//! Backups, which only the ingester can make: who wants one leaves a request on the share. It decides when a request is
//! answered; where the copy goes then is the asker's business.

use std::io;

use serde::{Deserialize, Serialize};

use crate::claim::Epoch;
use crate::ledger::Ledger;
use crate::share::{File, Share, publish, read_small};

const PREFIX: &str = "backup.";
const REQUEST: &str = ".request";
const ANSWER: &str = ".answer";
/// An answer is a line; what is longer is none.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

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

/// Asks whoever ingests for a copy of the database with every score that was acknowledged before this call.
///
/// # Errors
/// Whatever the system says: nothing can be written there, say.
pub fn ask<S: Share>(share: &S, id: &str) -> io::Result<()> {
    share.create_new(&name(id, REQUEST))?.sync()?;
    share.sync_dir("")
}

/// The answer, once there is one.
///
/// # Errors
/// Whatever the system says, and an answer that can't be understood.
pub fn answered<S: Share>(share: &S, id: &str) -> io::Result<Option<Answer>> {
    match read_small(share, &name(id, ANSWER), ANSWER_BYTES_MAX) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the request and all that came of it, as far as that is possible.
pub fn forget<S: Share>(share: &S, id: &str) {
    // The request first: then nobody begins to answer it.
    for end in [REQUEST, ANSWER, ".db", ".db-journal"] {
        drop(share.remove(&name(id, end)));
    }
}

/// Whether a name on the share belongs to a request.
#[must_use]
pub fn is_of_request(name: &str) -> bool {
    name.starts_with(PREFIX)
        && ([REQUEST, ANSWER, ".db", ".db-journal"].iter().any(|end| name.ends_with(end)) || name.ends_with(".tmp"))
}

fn name(id: &str, end: &str) -> String {
    format!("{PREFIX}{id}{end}")
}

/// Whose requests are there. To be asked before the segments are read: then what the answer has is what was
/// acknowledged before.
pub(crate) fn requests<S: Share>(share: &S) -> Vec<String> {
    let names = share.list("").unwrap_or_default();
    names.iter().filter_map(|name| Some(name.strip_prefix(PREFIX)?.strip_suffix(REQUEST)?.to_owned())).collect()
}

/// Answers requests. Everything that was on the share when they were listed must be in the database, and the epoch checked
/// after it was read: an overtaken ingester does not find what its successor moved and deleted.
pub(crate) fn answer<S: Share, L: Ledger>(share: &S, ledger: &mut L, epoch: &Epoch, requests: &[String]) {
    for id in requests {
        let copy = name(id, ".db");
        drop(share.remove(&copy));
        let answer = match ledger.copy(&copy) {
            Ok(()) => Answer { epoch: epoch.number, copy: Some(copy), fault: None },
            Err(error) => Answer { epoch: epoch.number, copy: None, fault: Some(error.to_string()) },
        };
        let answered = serde_json::to_vec(&answer).map_err(io::Error::other).and_then(|bytes| {
            let name = name(id, ANSWER);
            publish(share, &name, &format!("{name}.{}.tmp", epoch.nonce), &bytes)
        });
        match answered.and_then(|()| share.remove(&name(id, REQUEST))) {
            Ok(()) => {}
            // Who asked gave up, and waits for nothing any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => forget(share, id),
            Err(error) => tracing::warn!(id, %error, "a request for a backup can't be answered"),
        }
    }
}
