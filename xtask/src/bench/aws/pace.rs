//! How often the same thing was asked for, and how late what happened was shown. Both are read from the record and from
//! the lines of `-o json`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{account::Call, requests::is_read};

/// A command is young for so long ...
const YOUNG_MS: f64 = 120_000.0;
/// ... and shows an event so soon ...
const LAG_YOUNG_MAX_MS: f64 = 2_000.0;
/// ... and later so soon.
const LAG_LATER_MAX_MS: f64 = 10_000.0;
/// Two polls are never closer; a little less, for requests that travel at different speeds.
const GAP_MIN_MS: f64 = 980.0;

/// How a command kept its pace.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// The shortest time between two polls of one API, and which.
    gap: Option<(f64, String)>,
    /// The latest event while young, and what it was.
    young: Option<(f64, String)>,
    /// The latest one later.
    later: Option<(f64, String)>,
    events: usize,
}

impl Pace {
    /// Of a command that began then, asked this, and wrote that.
    pub(super) fn of(began_ms: f64, calls: &[Call], output: &str) -> Pace {
        let mut pace = Pace { gap: shortest(calls), ..Pace::default() };
        for line in output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let (Some(happened), Some(shown)) = (line["happened_unix_ms"].as_f64(), line["at_unix_ms"].as_f64()) else {
                continue;
            };
            pace.events += 1;
            let text = line["text"].as_str().unwrap_or_default().to_owned();
            let slot = if happened - began_ms < YOUNG_MS { &mut pace.young } else { &mut pace.later };
            let lag = (shown - happened).max(0.0);
            if slot.as_ref().is_none_or(|(most, _)| lag > *most) {
                *slot = Some((lag, text));
            }
        }
        pace
    }

    /// The worst of several.
    pub(super) fn worst(paces: Vec<Pace>) -> Pace {
        let most = |a: Option<(f64, String)>, b: Option<(f64, String)>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        paces.into_iter().fold(Pace::default(), |a, b| Pace {
            gap: match (a.gap, b.gap) {
                (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
                (a, b) => a.or(b),
            },
            young: most(a.young, b.young),
            later: most(a.later, b.later),
            events: a.events + b.events,
        })
    }

    /// True where no API was polled more than once a second.
    pub(super) fn keeps_its_rate(&self) -> bool {
        self.gap.as_ref().is_none_or(|(gap, _)| *gap >= GAP_MIN_MS)
    }

    /// True where every event was shown in time, and there were some.
    pub(super) fn is_prompt(&self) -> bool {
        let within = |slot: &Option<(f64, String)>, most: f64| slot.as_ref().is_none_or(|(lag, _)| *lag <= most);
        self.events > 0 && within(&self.young, LAG_YOUNG_MAX_MS) && within(&self.later, LAG_LATER_MAX_MS)
    }

    /// True where something happened once it was no longer young.
    pub(super) fn saw_old_events(&self) -> bool {
        self.later.is_some()
    }

    pub(super) fn told_gaps(&self) -> String {
        match &self.gap {
            Some((gap, what)) => format!("{:.2} s ({what})", gap / 1000.0),
            None => "nothing was asked twice".to_owned(),
        }
    }

    pub(super) fn told_lags(&self) -> String {
        let told = |slot: &Option<(f64, String)>| {
            slot.as_ref().map_or_else(|| "-".to_owned(), |(lag, what)| format!("{:.2} s ({what})", lag / 1000.0))
        };
        format!("{} while young, {} later, the latest of {} events", told(&self.young), told(&self.later), self.events)
    }
}

/// The shortest time between a request and the same one before it, once something was begun: what is read anew before that,
/// under the lease, is no poll.
fn shortest(calls: &[Call]) -> Option<(f64, String)> {
    let mut last: BTreeMap<(&str, &str, &str), f64> = BTreeMap::new();
    let mut shortest: Option<(f64, String)> = None;
    let mut begun = false;
    for call in calls.iter().filter(|call| call.service != "s3") {
        begun |= !is_read(&call.operation);
        let before = last.insert((&call.service, &call.operation, &call.input), call.at_ms);
        let Some(before) = before.filter(|_| begun) else { continue };
        let gap = call.at_ms - before;
        if shortest.as_ref().is_none_or(|(least, _)| gap < *least) {
            shortest = Some((gap, format!("{}:{}", call.service, call.operation)));
        }
    }
    shortest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at_ms: f64, operation: &str) -> Call {
        Call { at_ms, service: "ecs".to_owned(), operation: operation.to_owned(), input: String::new() }
    }

    #[test]
    fn the_closest_polls_are_found() {
        let calls = [
            call(0.0, "GetA"),
            call(50.0, "GetA"),
            call(60.0, "Create"),
            call(1_100.0, "GetB"),
            call(1_200.0, "GetA"),
            call(2_000.0, "GetB"),
            call(2_500.0, "GetA"),
        ];
        let pace = Pace::of(0.0, &calls, "");
        assert_eq!(pace.gap, Some((900.0, "ecs:GetB".to_owned())));
        assert!(!pace.keeps_its_rate());
        assert!(Pace::of(0.0, &calls[..5], "").keeps_its_rate());
    }

    #[test]
    fn an_event_is_late_by_the_age_of_the_command() {
        let line = |happened: u64, shown: u64| {
            format!(r#"{{"at_unix_ms":{shown},"event":"happened","happened_unix_ms":{happened},"text":"x"}}"#)
        };
        for (lines, prompt, old) in [
            (vec![], false, false),
            (vec![line(1_000, 2_900)], true, false),
            (vec![line(1_000, 3_100)], false, false),
            (vec![line(1_000, 1_100), line(130_000, 139_000)], true, true),
            (vec![line(1_000, 1_100), line(130_000, 141_000)], false, true),
        ] {
            let pace = Pace::of(0.0, &[], &lines.join("\n"));
            assert_eq!((pace.is_prompt(), pace.saw_old_events()), (prompt, old), "{lines:?}");
        }
    }
}
