//! A task's log: numbered files in its folder, written by one process and read by others while it grows. It decides when
//! a file is full and which is dropped; it never waits for a reader and never holds up the task.
//!
//! A line is `<unix ms> <o|e> <text>`. Files are `log.1`, `log.2`, ...; a file is never touched again once the next one
//! exists, and the oldest goes when there are more than [`LogLimits::files_max`]. So a file's number and an offset say
//! exactly where a reader is, across any rotation.

mod read;
mod write;

use std::path::{Path, PathBuf};

use crate::files;

pub use read::{Line, Position, read, tail};
pub use write::{LogLimits, LogWriter, Stream};

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("log.{number}"))
}

/// The numbers of the files that are there, ascending.
fn numbers(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> =
        files::names(folder)?.iter().filter_map(|name| name.strip_prefix("log.")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
