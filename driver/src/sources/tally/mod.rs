//! Turns counters into what came in since. Several processes may answer behind one address, one at a time: it tells them
//! apart by their start times, or by the rule that counters only grow, and says so where neither is enough. It never counts a
//! request that may have been counted before.
//!
//! Without start times, of the processes whose counters a reading may follow, that one is taken that may follow all the
//! others. As long as every process behind the address was seen once, the sum of what is counted is then never more than what
//! happened, whoever is mistaken for whom: each counter that is taken for another's past is at most its own past.

#[cfg(test)]
mod tests;

use super::reading::{Counts, Reading};

/// Processes behind one address.
const PROCESSES_MAX: usize = 64;
/// A start time may be rounded to whole seconds; one that is closer to the window's begin than this may lie before it.
const ROUNDED_MS: u64 = 1_000;

/// The counters behind one address.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// When the window began, by the clock of those that answer. What was started later began at zero within it.
    since_ms: u64,
    /// Who is there is still being found out; nothing counts yet.
    opening: bool,
    processes: Vec<Process>,
}

#[derive(Debug, Clone)]
struct Process {
    started_ms: Option<u64>,
    /// Where the window began.
    base: Counts,
    last: Counts,
    /// In this round.
    seen: bool,
}

/// Who gave a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A process that was known.
    Known,
    /// One that was not.
    New,
}

impl Tally {
    /// An address that appeared within a window.
    pub(super) fn new(since_ms: u64) -> Self {
        Tally { since_ms, opening: false, processes: Vec::new() }
    }

    /// One whose processes are found out first, until [`Tally::opened`]: nothing is counted so far.
    pub(super) fn opening() -> Self {
        Tally { since_ms: 0, opening: true, processes: Vec::new() }
    }

    /// The window begins now, where the counters are.
    pub(super) fn opened(&mut self, now_ms: u64) {
        self.opening = false;
        self.next(now_ms);
    }

    /// True while nothing is counted.
    pub(super) fn is_opening(&self) -> bool {
        self.opening
    }

    /// Takes a reading.
    ///
    /// # Errors
    /// Why it can't be told whose it is, as a sentence. What was counted in this window can't be trusted then.
    pub(super) fn see(&mut self, reading: Reading) -> Result<Who, String> {
        let Reading { started_ms, counts } = reading;
        let alike = || self.processes.iter().enumerate().filter(|(_, p)| p.started_ms == started_ms);
        let possible = || alike().filter(|(_, p)| counts.may_follow(&p.last));
        let nearest = possible().find(|(_, one)| possible().all(|(_, other)| one.last.may_follow(&other.last)));
        let is_new = match (nearest.map(|(at, _)| at), possible().next()) {
            (Some(at), _) => {
                let process = &mut self.processes[at];
                process.last = counts;
                process.seen = true;
                return Ok(Who::Known);
            }
            (None, None) => alike().next().is_none(),
            (None, Some(_)) => return Err(UNCLEAR.to_owned()),
        };
        if !is_new && !self.opening {
            return Err(match started_ms {
                Some(_) => UNCLEAR.to_owned(),
                None => BACKWARDS.to_owned(),
            });
        }
        if self.processes.len() >= PROCESSES_MAX {
            return Err(format!("more than {PROCESSES_MAX} processes answer there"));
        }
        let within = started_ms.is_some_and(|at_ms| at_ms >= self.since_ms.saturating_add(ROUNDED_MS));
        let base = if within { Counts::default() } else { counts.clone() };
        self.processes.push(Process { started_ms, base, last: counts, seen: true });
        Ok(Who::New)
    }

    /// How many processes are known.
    pub(super) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// How many of them did not answer in this round yet.
    pub(super) fn unseen(&self) -> usize {
        self.processes.iter().filter(|p| !p.seen).count()
    }

    /// True when somebody else may be there who can't be told from these, or nobody was looked for yet.
    pub(super) fn may_hide_others(&self) -> bool {
        self.opening || self.processes.iter().any(|p| p.started_ms.is_none())
    }

    /// Adds what came in within the window, and begins the next one. Who did not answer in this round is taken for gone.
    pub(super) fn take(&mut self, now_ms: u64, sum: &mut Counts) {
        for process in &self.processes {
            sum.add_between(&process.base, &process.last);
        }
        self.next(now_ms);
    }

    fn next(&mut self, now_ms: u64) {
        self.since_ms = now_ms;
        self.processes.retain(|p| p.seen);
        for process in &mut self.processes {
            process.base.clone_from(&process.last);
            process.seen = false;
        }
    }
}

const BACKWARDS: &str = "its counters went backwards, so it was restarted, or several processes answer there";
const UNCLEAR: &str = "several processes answer there that can't be told apart";
