//! Which release a rollback goes to. It reads records only; planning from one is `planning`'s.

use thiserror::Error;

use crate::{Outcome, Reason, Release, ReleaseId};

/// There is no release to roll back to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoTarget {
    /// Nothing serves, so there is no "previous".
    #[error("nothing serves here, so there is nothing to roll back; name a release to bring it back")]
    NothingLive,
    /// Nothing that succeeded before was different.
    #[error("no earlier release succeeded with anything else than what serves now ({live})")]
    NoEarlier {
        /// What serves.
        live: ReleaseId,
    },
    /// No record of it.
    #[error("there is no release {id} here{}", known_releases(.known))]
    Unknown {
        /// What was asked for.
        id: ReleaseId,
        /// What can be rolled back to, newest first.
        known: Vec<ReleaseId>,
    },
    /// It never served.
    #[error("{id} can't be rolled back to: it {}", ended(.outcome))]
    NotSucceeded {
        /// What was asked for.
        id: ReleaseId,
        /// How it ended.
        outcome: Outcome,
    },
    /// It has faults on purpose.
    #[error("{id} can't be rolled back to: it was a drill, with faults on purpose")]
    Drill {
        /// What was asked for.
        id: ReleaseId,
    },
    /// It serves already.
    #[error("{id} is what serves now")]
    Live {
        /// What was asked for.
        id: ReleaseId,
    },
}

/// The release to roll back to. Without a number: the last one before what serves that succeeded and was something else. What
/// serves may itself be a rollback; then the way back goes on from the release that it brought back, so that rolling back
/// twice goes back twice.
pub fn rollback_target(
    history: &[Release],
    live: Option<ReleaseId>,
    to: Option<ReleaseId>,
) -> Result<&Release, NoTarget> {
    let find = |id: ReleaseId| history.iter().find(|r| r.id == id);
    if let Some(id) = to {
        let release = find(id).ok_or_else(|| NoTarget::Unknown { id, known: served(history, live) })?;
        return match release.outcome {
            _ if live == Some(id) => Err(NoTarget::Live { id }),
            _ if release.reason == Reason::Drill => Err(NoTarget::Drill { id }),
            Outcome::Succeeded => Ok(release),
            outcome => Err(NoTarget::NotSucceeded { id, outcome }),
        };
    }
    let live = live.ok_or(NoTarget::NothingLive)?;
    let digest = find(live).map(|r| &r.digest);
    let mut from = live;
    // Each turn goes to an older release, so it ends.
    while let Some(Reason::Rollback { to }) = find(from).map(|r| &r.reason) {
        if *to >= from {
            break;
        }
        from = *to;
    }
    let earlier = history.iter().filter(|r| r.id < from && can_serve(r) && Some(&r.digest) != digest);
    earlier.max_by_key(|r| r.id).ok_or(NoTarget::NoEarlier { live })
}

/// It served before, and not with faults on purpose.
fn can_serve(release: &Release) -> bool {
    release.outcome == Outcome::Succeeded && release.reason != Reason::Drill
}

fn served(history: &[Release], live: Option<ReleaseId>) -> Vec<ReleaseId> {
    let mut ids: Vec<_> = history.iter().filter(|r| can_serve(r)).map(|r| r.id).collect();
    ids.retain(|id| Some(*id) != live);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

fn known_releases(known: &[ReleaseId]) -> String {
    if known.is_empty() {
        return String::new();
    }
    let names: Vec<_> = known.iter().take(10).map(ToString::to_string).collect();
    format!("; these can be rolled back to: {}", names.join(", "))
}

fn ended(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::RolledBack => "failed and was rolled back",
        Outcome::Removed => "failed and was removed",
        Outcome::Failed => "failed",
        Outcome::Destroyed => "took the service away",
    }
}
