//! Watches a drill's rollout: when traffic came and went, what each look said, and which scores the service says it has. It
//! remembers and decides nothing.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use dbird_core::{ReleaseId, analysis::Check};
use dbird_driver::Event as Told;

use crate::{
    output::{
        drill::{DoorView, MomentView},
        events::LookView,
    },
    teller,
};

/// Moments that are kept: a drill of ten minutes that is looked at every second has fewer.
const MOMENTS_MAX: usize = 5_000;
/// Lines of the error stream that are kept.
const LINES_MAX: usize = 20;

/// Listens to the driver.
pub(crate) struct Watch {
    started: Instant,
    prefix: String,
    seen: Mutex<Seen>,
}

/// What was seen. Times are milliseconds since the drill began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The release with the faults.
    pub(crate) release: Option<ReleaseId>,
    /// It got its first traffic.
    pub(crate) traffic_ms: Option<u64>,
    /// It had none any more.
    pub(crate) back_ms: Option<u64>,
    /// The first look that found something bad: when it ended, how long its window was, and what it found.
    pub(crate) bad: Option<(u64, u64, Check)>,
    /// Its requests, in all looks.
    pub(crate) candidate: DoorView,
    /// Everybody's requests, in all looks.
    pub(crate) door: DoorView,
    /// What happened.
    pub(crate) moments: Vec<MomentView>,
    /// The identities that the service says it has stored.
    pub(crate) stored: HashSet<String>,
    /// What a one-off task wrote last to its error stream.
    pub(crate) complaints: Vec<String>,
}

impl Watch {
    /// Of scores whose identities begin with this.
    pub(crate) fn new(prefix: String) -> Self {
        Watch { started: Instant::now(), prefix, seen: Mutex::default() }
    }

    /// Since the drill began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Takes note; true where a person at the terminal should hear it as well.
    pub(crate) fn hear(&self, told: &Told) -> bool {
        let now_ms = self.elapsed_ms();
        let mut seen = self.lock();
        match told {
            Told::Started { release, .. } => {
                seen.release = Some(*release);
                seen.note(now_ms, format!("{release} is made, with the faults"));
            }
            Told::Shifted { weights } => {
                let share = seen.release.map_or(0, |release| weights.of(release));
                if share > 0 && seen.traffic_ms.is_none() {
                    seen.traffic_ms = Some(now_ms);
                } else if share == 0 && seen.traffic_ms.is_some() && seen.back_ms.is_none() {
                    seen.back_ms = Some(now_ms);
                }
                let shares: Vec<_> = weights.0.iter().map(|(release, w)| format!("{release} {w} %")).collect();
                seen.note(now_ms, format!("traffic: {}", shares.join(", ")));
            }
            Told::Looked { check, window_ms, candidate, current, probes, .. } => {
                if let (Some(check), None) = (check, seen.bad) {
                    seen.bad = Some((now_ms, *window_ms, *check));
                }
                // Requests that dbird made itself were nobody's.
                for (side, is_candidate) in
                    [(candidate.as_ref().filter(|_| *probes == 0), true), (current.as_ref(), false)]
                {
                    let Some(side) = side else { continue };
                    let Seen { candidate, door, .. } = &mut *seen;
                    for count in [Some(door), is_candidate.then_some(candidate)].into_iter().flatten() {
                        count.requests = count.requests.saturating_add(side.requests);
                        count.failed = count.failed.saturating_add(side.errors);
                    }
                }
                if let Some(look) = teller::look(told) {
                    let text = if look.text.is_empty() {
                        look.verdict.clone()
                    } else {
                        format!("{}: {}", look.verdict, look.text)
                    };
                    seen.moment(now_ms, format!("look {}: {text}", look.look), Some(look));
                }
            }
            Told::RollingBack { why } => seen.note(now_ms, format!("undoing it: {why}")),
            Told::Requested { by, .. } => seen.note(now_ms, format!("{by} asked for something")),
            Told::Finished { outcome, .. } => {
                if seen.traffic_ms.is_some() && seen.back_ms.is_none() {
                    seen.back_ms = Some(now_ms);
                }
                seen.note(
                    now_ms,
                    format!(
                        "ended: {}",
                        if *outcome == dbird_core::Outcome::RolledBack { "rolled back" } else { "not rolled back" }
                    ),
                );
            }
            Told::TaskOutput { stderr: false, text, .. } => {
                let stored: Vec<String> =
                    text.split_whitespace().filter(|word| word.starts_with(&self.prefix)).map(str::to_owned).collect();
                seen.stored.extend(stored);
                return false;
            }
            Told::TaskOutput { text, .. } => {
                if seen.complaints.len() < LINES_MAX {
                    seen.complaints.push(text.clone());
                }
                return false;
            }
            // Nobody is to go on with it.
            Told::PersonNeeded { .. } => return false,
            _ => {}
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, after_ms: u64, text: String) {
        self.moment(after_ms, text, None);
    }

    fn moment(&mut self, after_ms: u64, text: String, look: Option<LookView>) {
        if self.moments.len() < MOMENTS_MAX {
            self.moments.push(MomentView { after_ms, text, look });
        }
    }
}
