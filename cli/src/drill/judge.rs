//! Whether a drill went as it should: each part from numbers alone. A part that nothing can be said of is skipped and says why;
//! it never counts as passed.

use std::collections::HashSet;

use dbird_core::{
    Outcome,
    analysis::{Check, percent},
};

use super::{Faults, Seen, Tally};
use crate::output::{
    drill::{DrillPart, LimitsView, LoadView, PartState},
    time,
};

/// Scores that are named where some are missing.
const NAMED_MAX: usize = 3;

/// What a drill is judged by.
pub(crate) struct Facts<'a> {
    pub(crate) faults: Faults,
    pub(crate) limits: &'a LimitsView,
    pub(crate) seen: &'a Seen,
    pub(crate) outcome: Outcome,
    pub(crate) load: Option<&'a LoadView>,
    pub(crate) tally: &'a Tally,
    /// What serves at the end, in words where that is not the previous release with all traffic.
    pub(crate) previous: Result<String, String>,
    /// Whether the service could say what it stored; why not, and whether that is all right.
    pub(crate) stored: Stored,
}

/// Whether the service said what it stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It did.
    Told,
    /// It was not asked, since there is nothing to ask about.
    NotAsked(String),
    /// It was asked and did not answer.
    NoAnswer(String),
}

/// The parts, in order.
pub(crate) fn parts(facts: &Facts<'_>) -> Vec<DrillPart> {
    let made = [
        ("undone", undone(facts)),
        ("alarm", alarm(facts)),
        ("users", users(facts)),
        ("previous", previous(facts)),
        ("scores", scores(facts)),
    ];
    made.into_iter().map(|(name, (state, detail))| DrillPart { name: name.to_owned(), state, detail }).collect()
}

/// Everything was looked at that has to be, and nothing was wrong.
pub(crate) fn passed(parts: &[DrillPart]) -> bool {
    parts.iter().all(|part| match part.state {
        PartState::Passed => true,
        PartState::Failed => false,
        PartState::Skipped => part.name == "scores",
    })
}

type Judged = (PartState, String);

fn judged(good: bool, detail: String) -> Judged {
    (if good { PartState::Passed } else { PartState::Failed }, detail)
}

fn undone(facts: &Facts<'_>) -> Judged {
    let Facts { seen, limits, .. } = facts;
    let (Some(traffic_ms), Some(back_ms)) = (seen.traffic_ms, seen.back_ms) else {
        return (PartState::Failed, "it never got traffic, so there was nothing to notice".to_owned());
    };
    if facts.outcome != Outcome::RolledBack {
        return (PartState::Failed, "it was not rolled back".to_owned());
    }
    let took_ms = back_ms.saturating_sub(traffic_ms);
    let Some((bad_ms, window_ms, _)) = seen.bad else {
        let detail = format!("nothing was found in {}; it was taken away then", time::length(took_ms));
        return (PartState::Failed, detail);
    };
    let after_ms = back_ms.saturating_sub(bad_ms.saturating_sub(window_ms));
    let detail = format!(
        "{} after its first traffic, {} after the first bad window began; allowed are {}",
        time::length(took_ms),
        time::length(after_ms),
        time::length(limits.undone_within_ms)
    );
    judged(took_ms <= limits.undone_within_ms, detail)
}

fn alarm(facts: &Facts<'_>) -> Judged {
    let Facts { seen, faults, .. } = facts;
    let mut wanted = Vec::new();
    if faults.error_rate > 0.0 {
        wanted.extend([Check::ErrorRate, Check::ErrorRateAgainstCurrent]);
    }
    if faults.latency_ms > 0 {
        wanted.extend([Check::P99, Check::P99AgainstCurrent]);
    }
    match seen.bad {
        Some((bad_ms, _, check)) => {
            let after_ms = bad_ms.saturating_sub(seen.traffic_ms.unwrap_or(bad_ms));
            let detail = format!("{} fired {} after its first traffic", check.name(), time::length(after_ms));
            if wanted.contains(&check) {
                return (PartState::Passed, detail);
            }
            let names: Vec<_> = wanted.iter().map(|c| c.name()).collect();
            (PartState::Failed, format!("{detail}, not {}", names.join(" or ")))
        }
        None if wanted.is_empty() => (PartState::Failed, "no check fired, and no fault was injected".to_owned()),
        None if seen.candidate.requests == 0 => {
            (PartState::Failed, "no check fired: the candidate got no requests".to_owned())
        }
        None if seen.candidate.failed == 0 && faults.error_rate > 0.0 => {
            let detail = format!(
                "no check fired: the candidate did not fail in {} requests; does it honour CHAOS_ENABLED and \
                 CHAOS_ERROR_RATE?",
                seen.candidate.requests
            );
            (PartState::Failed, detail)
        }
        None if faults.error_rate == 0.0 => {
            let detail = format!(
                "no check fired in {} requests of the candidate; does it honour CHAOS_ENABLED and CHAOS_LATENCY_MS_P99, and \
                 is that above [analysis] p99_ms_max?",
                seen.candidate.requests
            );
            (PartState::Failed, detail)
        }
        None => {
            let share = seen.candidate.failed as f64 / seen.candidate.requests as f64;
            let detail = format!(
                "no check fired, though {} of the candidate's {} requests failed",
                percent(share),
                seen.candidate.requests
            );
            (PartState::Failed, detail)
        }
    }
}

fn users(facts: &Facts<'_>) -> Judged {
    let Facts { seen, limits, .. } = facts;
    let share = |failed: u64, requests: u64| if requests == 0 { 0.0 } else { failed as f64 / requests as f64 };
    let door = share(seen.door.failed, seen.door.requests);
    let allowed = percent(limits.errors_max);
    let by_door = format!("{} of {} requests at the front door", percent(door), seen.door.requests);
    match facts.load {
        Some(load) if load.requests_shared > 0 => {
            // Whenever it was that they failed: nobody but the drill was at work.
            let own = share(load.failed, load.requests_shared);
            let detail = format!(
                "{} of the drill's {} requests failed, {by_door}; allowed are {allowed}",
                percent(own),
                load.requests_shared
            );
            judged(own <= limits.errors_max && door <= limits.errors_max, detail)
        }
        _ if seen.door.requests > 0 => {
            judged(door <= limits.errors_max, format!("{by_door} failed; allowed are {allowed}"))
        }
        _ => (PartState::Failed, "nobody asked for anything while it had traffic".to_owned()),
    }
}

fn previous(facts: &Facts<'_>) -> Judged {
    match &facts.previous {
        Ok(text) => (PartState::Passed, text.clone()),
        Err(text) => (PartState::Failed, text.clone()),
    }
}

fn scores(facts: &Facts<'_>) -> Judged {
    let acknowledged = &facts.tally.acknowledged;
    match &facts.stored {
        Stored::NotAsked(why) => (PartState::Skipped, why.clone()),
        Stored::NoAnswer(why) => (PartState::Failed, why.clone()),
        Stored::Told => {
            let missing = missing(acknowledged, &facts.seen.stored);
            let all = acknowledged.len();
            if missing.is_empty() {
                return (PartState::Passed, format!("all {all} that were acknowledged are stored"));
            }
            let named = missing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            (PartState::Failed, format!("{} of {all} that were acknowledged are not stored: {named}", missing.len()))
        }
    }
}

fn missing<'a>(acknowledged: &'a [String], stored: &HashSet<String>) -> Vec<&'a str> {
    acknowledged.iter().filter(|run| !stored.contains(*run)).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::drill::DoorView;

    /// What was injected, seen, met and found; and which parts that fails, with a part of what is said.
    type Case<'a> = (Faults, Seen, Outcome, &'a LoadView, Result<String, String>, Stored, &'a [(&'a str, &'a str)]);

    /// A drill that went well.
    fn seen() -> Seen {
        Seen {
            traffic_ms: Some(1_000),
            back_ms: Some(4_000),
            bad: Some((3_800, 1_000, Check::ErrorRate)),
            candidate: DoorView { requests: 30, failed: 6 },
            door: DoorView { requests: 300, failed: 6 },
            stored: HashSet::from(["a".to_owned(), "b".to_owned()]),
            ..Seen::default()
        }
    }

    #[test]
    fn each_part_can_fail() {
        let limits = LimitsView { undone_within_ms: 5_000, errors_max: 0.03, for_ms: 60_000 };
        let load = LoadView {
            rate: 100,
            requests: 500,
            failed: 8,
            refused: 0,
            requests_shared: 300,
            failed_shared: 8,
            left_out: 0,
            p99_shared_ms: None,
            acknowledged: 2,
        };
        let errors = Faults { error_rate: 0.2, latency_ms: 0 };
        let slow = Faults { error_rate: 0.0, latency_ms: 2_000 };
        let good = || Ok("r1".to_owned());
        let told = || Stored::Told;
        let bad = |check| Seen { bad: Some((3_800, 1_000, check)), ..seen() };
        let none = |failed| Seen { bad: None, candidate: DoorView { requests: 30, failed }, ..seen() };
        let lost = Seen { stored: HashSet::from(["a".to_owned()]), ..seen() };
        let late = Seen { back_ms: Some(6_001), ..seen() };
        let hurt = LoadView { failed: 10, ..load.clone() };
        let door = Seen { door: DoorView { requests: 300, failed: 10 }, ..seen() };
        let cases: Vec<Case<'_>> = vec![
            (errors, seen(), Outcome::RolledBack, &load, good(), told(), &[]),
            (slow, bad(Check::P99), Outcome::RolledBack, &load, good(), told(), &[]),
            (slow, bad(Check::P99AgainstCurrent), Outcome::RolledBack, &load, good(), told(), &[]),
            (errors, late, Outcome::RolledBack, &load, good(), told(), &[("undone", "5.0s after its first traffic")]),
            (errors, seen(), Outcome::Succeeded, &load, good(), told(), &[("undone", "not rolled back")]),
            (
                errors,
                Seen { traffic_ms: None, ..seen() },
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("undone", "never got traffic")],
            ),
            (
                errors,
                bad(Check::Readiness),
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("alarm", "readiness fired 2.8s after its first traffic, not error-rate")],
            ),
            (
                slow,
                seen(),
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("alarm", "error-rate fired 2.8s after its first traffic, not p99")],
            ),
            (
                errors,
                none(0),
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("undone", "nothing was found"), ("alarm", "does it honour CHAOS_ENABLED")],
            ),
            (
                errors,
                none(6),
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("undone", "nothing was found"), ("alarm", "20 % of the candidate's 30")],
            ),
            (
                slow,
                none(0),
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("undone", "nothing was found"), ("alarm", "CHAOS_LATENCY_MS_P99")],
            ),
            (
                errors,
                seen(),
                Outcome::RolledBack,
                &hurt,
                good(),
                told(),
                &[("users", "3.33 % of the drill's 300 requests failed")],
            ),
            (
                errors,
                door,
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("users", "3.33 % of 300 requests at the front door")],
            ),
            (
                errors,
                seen(),
                Outcome::RolledBack,
                &load,
                Err("r2 serves".to_owned()),
                told(),
                &[("previous", "r2 serves")],
            ),
            (
                errors,
                lost,
                Outcome::RolledBack,
                &load,
                good(),
                told(),
                &[("scores", "1 of 2 that were acknowledged are not stored: b")],
            ),
            (
                errors,
                seen(),
                Outcome::RolledBack,
                &load,
                good(),
                Stored::NoAnswer("no answer".to_owned()),
                &[("scores", "no answer")],
            ),
            (errors, seen(), Outcome::RolledBack, &load, good(), Stored::NotAsked("none".to_owned()), &[]),
        ];
        let tally = Tally { acknowledged: vec!["a".to_owned(), "b".to_owned()], ..Tally::default() };
        for (n, (faults, seen, outcome, load, previous, stored, wrong)) in cases.into_iter().enumerate() {
            let facts = Facts {
                faults,
                limits: &limits,
                seen: &seen,
                outcome,
                load: Some(load),
                tally: &tally,
                previous,
                stored,
            };
            let parts = parts(&facts);
            let failed: Vec<_> = parts.iter().filter(|p| p.state == PartState::Failed).collect();
            assert_eq!(
                failed.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
                wrong.iter().map(|w| w.0).collect::<Vec<_>>(),
                "{n}: {parts:?}"
            );
            for (part, (_, said)) in failed.iter().zip(wrong) {
                assert!(part.detail.contains(said), "{n}: {}", part.detail);
            }
            assert_eq!(passed(&parts), wrong.is_empty(), "{n}");
        }
    }

    #[test]
    fn without_any_request_nobody_can_say_how_users_fared() {
        let limits = LimitsView { undone_within_ms: 5_000, errors_max: 0.03, for_ms: 60_000 };
        let seen = Seen { door: DoorView::default(), ..seen() };
        let facts = Facts {
            faults: Faults { error_rate: 0.2, latency_ms: 0 },
            limits: &limits,
            seen: &seen,
            outcome: Outcome::RolledBack,
            load: None,
            tally: &Tally::default(),
            previous: Ok(String::new()),
            stored: Stored::NotAsked(String::new()),
        };
        assert!(!passed(&parts(&facts)));
    }
}
