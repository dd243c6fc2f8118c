//! Tries out the folder of a share at start and decides how far its locks can be trusted, whether scores can be ingested
//! there, and how SQLite should open its database. It never changes how the folder is mounted and leaves nothing in it.

mod exercise;
mod facts;
mod lines;
mod lock;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

pub(crate) use exercise::SCRATCH_PREFIX;
pub use facts::{DurableWrite, Exclusion, Facts, Failure, Room, Step};
pub use lines::{Level, Line};
pub use lock::{LOCK_PROBE, probe_lock, this_program};
pub use table::Mount;
pub use verdict::{Locking, Verdict, Vfs, judge};

/// Makes the command of a second process that tries the lock of a folder by [`probe_lock`] and exits with its code.
pub type Second<'a> = &'a dyn Fn(&Path) -> Command;

/// What was found in a folder and what follows.
///
/// Displayed, it is a report for people: a line per fact, and what to do where it is not good.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was found.
    pub facts: Facts,
    /// What follows, at this moment: a full disk may have room later.
    pub verdict: Verdict,
}

/// Tries out a folder. Ends within seconds, unless the file system itself hangs: then so does this, as any use would.
///
/// `second` is usually `Some(&this_program)`; without it no second process tries the lock, only this one a second time.
#[must_use]
pub fn check(folder: &Path, second: Option<Second<'_>>) -> Report {
    let facts = exercise::exercise(folder, second);
    let verdict = judge(&facts);
    Report { facts, verdict }
}

impl Report {
    /// The report, fact by fact.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        lines::lines(&self.facts, &self.verdict)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}", self.facts.folder)?;
        self.lines().iter().try_for_each(|line| writeln!(to, "{line}"))
    }
}
