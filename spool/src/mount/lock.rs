//! Whether the writer's lock of a folder keeps a second process out, told by its exit code. It decides nothing about what
//! that is worth across machines, and never waits for longer than its bounds.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Second;
use super::facts::{Exclusion, Failure, Step};
use crate::folder::Folder;
use crate::share::Share;

/// The hidden argument before the folder by which a program is asked for [`probe_lock`].
pub const LOCK_PROBE: &str = "__lock-probe";

/// Exit codes that no shell, test runner or panic uses, so that a program that doesn't know the argument answers nothing.
const HELD: u8 = 81;
const FREE: u8 = 82;
const FAULT: u8 = 83;

const ANSWER_MAX: Duration = Duration::from_secs(5);
const END_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// What the second process does: tries the lock of a folder and returns what to exit with.
#[must_use]
pub fn probe_lock(folder: &Path) -> u8 {
    match Folder::new(folder).try_lock() {
        Ok(None) => HELD,
        Ok(Some(_)) => FREE,
        Err(_) => FAULT,
    }
}

/// The command that runs the current program again as the second process, even if its file was replaced meanwhile.
#[must_use]
pub fn this_program(folder: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(LOCK_PROBE).arg(folder);
    command
}

/// Locks a folder of this check's own, then lets somebody else try.
pub(super) fn exclusion(folder: &Path, second: Option<Second<'_>>) -> Exclusion {
    let share = Folder::new(folder);
    let fault = |error: &io::Error| Exclusion::Unsupported(Failure::of_system(Step::Lock, folder, error));
    let _first = match share.try_lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            return Exclusion::Unsupported(Failure::unexpected(Step::Lock, folder, "a new file is locked already"));
        }
        Err(error) => return fault(&error),
    };
    match second {
        Some(second) => match ask(second(folder), ANSWER_MAX) {
            Ok(true) => Exclusion::Process,
            Ok(false) => Exclusion::None,
            Err(problem) => Exclusion::Unanswered(problem),
        },
        None => match share.try_lock() {
            Ok(None) => Exclusion::OpenFile,
            Ok(Some(_)) => Exclusion::None,
            Err(error) => fault(&error),
        },
    }
}

/// Whether the second process found the lock held.
pub(super) fn ask(mut command: Command, answer_max: Duration) -> Result<bool, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("the second process did not start: {error}"))?;
    match wait(&mut child, answer_max) {
        Ok(Some(status)) => match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(HELD) => Ok(true),
            Some(FREE) => Ok(false),
            Some(FAULT) => Err("the second process could not try the lock".to_owned()),
            _ => Err(format!("the second process gave no answer: {status}")),
        },
        Ok(None) => {
            end(child);
            Err(format!("the second process gave no answer within {} ms", answer_max.as_millis()))
        }
        Err(error) => {
            end(child);
            Err(format!("the second process can't be waited for: {error}"))
        }
    }
}

/// A process that hangs in the file system can't be killed before that lets go of it: a thread then waits for it.
fn end(mut child: Child) {
    drop(child.kill());
    if !matches!(wait(&mut child, END_MAX), Ok(Some(_))) {
        drop(thread::Builder::new().name("lock-probe".to_owned()).spawn(move || child.wait()));
    }
}

fn wait(child: &mut Child, wait_max: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || started.elapsed() >= wait_max {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}
