//! The agent: the processes that outlive the command. It decides nothing by itself; each part says what it does.

mod channel;
mod cold;
mod control;
mod course;
pub(crate) mod doors;
mod keeper;
mod line;
mod live;
mod releases;
mod runs;
mod sampling;
mod scale;
pub(crate) mod state;
mod steering;
pub(crate) mod steps;
mod swap;
mod targets;
pub(crate) mod watchdog;
mod worker;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{FlockOperation, flock};

pub(crate) use line::{read_line, write_line};
pub(crate) use worker::make_folder;

/// A longer log is put aside.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// For which environment an agent works.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) project: PathBuf,
    pub(crate) environment: String,
    /// The worker that a new watchdog takes over.
    pub(crate) adopt: Option<u32>,
}

/// Runs this process as watchdog or worker, if that is what its arguments (program's name first) ask for.
pub(crate) fn entry(args: &[OsString]) -> Option<ExitCode> {
    let word = |at: usize| args.get(at).and_then(|arg| arg.to_str());
    if word(1) != Some("__agent") {
        return None;
    }
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let options = Options {
        project: value("--project").map(PathBuf::from)?,
        environment: value("--environment")?.to_str()?.to_owned(),
        adopt: value("--adopt").and_then(|pid| pid.to_str()?.parse().ok()),
    };
    let code = match word(2)? {
        "watchdog" => watchdog::run(options),
        "worker" => worker::run(options),
        _ => 2,
    };
    Some(ExitCode::from(code))
}

/// Takes a lock that lasts as long as the file is held, if nobody has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    trim_log(path);
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Puts a log aside that grew too long. It is open for appending in several processes, so it is emptied, not replaced.
fn trim_log(path: &Path) {
    if fs::metadata(path).is_ok_and(|file| file.len() > LOG_BYTES_MAX) {
        // What is not kept is only what this process said of itself.
        let _ = fs::copy(path, path.with_extension("log.1"));
        let _ = OpenOptions::new().write(true).truncate(true).open(path);
    }
}

/// A line of the agent's own log, which is its error stream.
fn log(text: fmt::Arguments<'_>) {
    let now_ms = now_ms();
    let line = format!("{}.{:03} {} {text}\n", now_ms / 1000, now_ms % 1000, std::process::id());
    // There is nowhere else to say that it can't be said.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
