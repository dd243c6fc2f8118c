//! What to do with a plan whose driver died: go on with it or undo it, decided from what was written down and what the
//! provider says. It never guesses: a release that does not have all traffic is undone, unless its cloud goes on with it.

use crate::{Outcome, Phase, Progress, Reason, ReleaseId, journal::Unfinished, rollout::Course};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Go on with the steps that are not done: nothing was left half-way that users see.
    Resume,
    /// The candidate has all traffic: finish the service step, then go on.
    Finish,
    /// The cloud drives it and goes on: go with it to its end.
    Follow,
    /// Give all traffic back and take the candidate away.
    Undo {
        /// Why, for the record.
        why: String,
    },
    /// Traffic is moving right now: ask again when it has settled.
    Settle,
    /// Nothing is left to be done; only the record is missing.
    Record {
        /// How it ended.
        outcome: Outcome,
        /// Why.
        why: String,
    },
}

/// What the provider says of a service step that may have been asked for.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// It was never asked for, or refused: nothing was made.
    Nothing,
    /// How it stands.
    Progress(&'a Progress),
    /// The provider knows no such step.
    Unknown {
        /// The candidate's share of the traffic; none when it has no tasks.
        candidate: Option<u8>,
        /// What gets the most traffic.
        serving: Option<ReleaseId>,
    },
}

/// What to do, given what the provider says.
pub fn decide(found: &Unfinished, seen: Seen<'_>) -> Recovery {
    let begun = &found.begun;
    let Some(service) = begun.service_step() else { return Recovery::Resume };
    if begun.plan.reason == Reason::Destroy || found.is_done(&service.id) {
        return Recovery::Resume;
    }
    let undone = || if begun.plan.parent.is_some() { Outcome::RolledBack } else { Outcome::Removed };
    let why = || match &found.undoing {
        Some((why, _)) if !why.is_empty() => why.clone(),
        _ => "the command that made it died before it had all traffic".to_owned(),
    };
    match seen {
        Seen::Nothing => Recovery::Record { outcome: undone(), why: why() },
        Seen::Unknown { candidate: Some(100), .. } => Recovery::Resume,
        Seen::Unknown { candidate: None, serving } if serving == begun.plan.parent => {
            Recovery::Record { outcome: undone(), why: why() }
        }
        Seen::Unknown { serving, .. } => {
            let serving = serving.map_or_else(|| "nothing".to_owned(), |r| r.to_string());
            let why = format!("{}; the cloud does not know it any more, and {serving} serves", why());
            Recovery::Record { outcome: Outcome::Failed, why }
        }
        Seen::Progress(progress) if begun.plan.course.as_ref().is_some_and(Course::is_cloud_driven) => {
            let everything = progress.weights.of(begun.release) == 100;
            match (&progress.phase, &found.undoing) {
                (Phase::RolledBack, Some(_)) => Recovery::Record { outcome: undone(), why: why() },
                (Phase::Finished, Some(_)) if everything => {
                    let why = format!("{}; it was too late to undo it", why());
                    Recovery::Record { outcome: Outcome::Failed, why }
                }
                (Phase::Finished, _) if !everything => {
                    let why = "the cloud calls it finished, but it does not have all traffic".to_owned();
                    Recovery::Record { outcome: Outcome::Failed, why }
                }
                (_, Some(_)) => Recovery::Undo { why: why() },
                (_, None) => Recovery::Follow,
            }
        }
        Seen::Progress(progress) => {
            let everything = progress.weights.of(begun.release) == 100;
            match &progress.phase {
                Phase::RolledBack => Recovery::Record { outcome: undone(), why: why() },
                Phase::Finished if everything => Recovery::Resume,
                Phase::Failed { why: failed, .. } if found.undoing.is_none() => Recovery::Undo { why: failed.clone() },
                _ if found.undoing.is_some() => Recovery::Undo { why: why() },
                Phase::Finishing if everything => Recovery::Finish,
                Phase::Ready if everything => Recovery::Finish,
                Phase::Shifting => Recovery::Settle,
                _ => Recovery::Undo { why: why() },
            }
        }
    }
}
