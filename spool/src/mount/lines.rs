//! The report as lines for people: each fact, how good it is, what it means and what to do. It decides nothing that the
//! program goes by; that is the verdict's part.

use std::fmt;

use serde::Serialize;

use super::facts::{DurableWrite, Exclusion, Facts, Failure, Room, Step};
use super::table::Mount;
use super::verdict::{Locking, Verdict, is_nfs, is_smb};

const FREE_BYTES_MIN: u64 = 16 << 20;
const FREE_FILES_MIN: u64 = 1024;
/// A score is answered after one durable write and the rest of another: beyond these, players notice.
const MEDIAN_GOOD_US: u64 = 20_000;
const MEDIAN_WARN_US: u64 = 200_000;
const LONGEST_GOOD_US: u64 = 1_000_000;

/// How good a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    Good,
    /// It works, with a drawback.
    Warn,
    /// It has to be changed.
    Bad,
}

/// A fact, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// How good it is.
    pub level: Level,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found and what it means.
    pub found: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

impl fmt::Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Good => "good",
            Level::Warn => "warn",
            Level::Bad => "bad ",
        };
        write!(to, "{level}  {:<13}  {}", self.subject, self.found)?;
        if self.advice.is_empty() { Ok(()) } else { write!(to, " -> {}", self.advice) }
    }
}

fn line(level: Level, subject: &'static str, found: impl Into<String>, advice: &str) -> Line {
    Line { level, subject, found: found.into(), advice: advice.to_owned() }
}

pub(super) fn lines(facts: &Facts, verdict: &Verdict) -> Vec<Line> {
    let mut lines = vec![file_system(facts.mount.as_ref())];
    if facts.read_only {
        lines.push(line(Level::Bad, "writing", "the mount is read-only", "mount it rw"));
    }
    lines.extend(facts.room.map(room));
    if facts.failures.is_empty() {
        lines.push(line(Level::Good, "files", "creating, renaming and removing exclude and replace as they must", ""));
    }
    lines.extend(facts.failures.iter().map(|failure| line(Level::Bad, "files", failure.to_string(), remedy(failure))));
    lines.extend(facts.mount.as_ref().and_then(unsynced));
    lines.extend(facts.durable_write.map(durable_write));
    if facts.exclusion != Exclusion::NotTested {
        lines.push(lock(&facts.exclusion));
        lines.push(locking(facts, verdict));
    }
    if facts.mount.as_ref().is_some_and(is_nfs) {
        lines.push(lost_locks(facts.recover_lost_locks));
    }
    lines.extend(
        facts.left_behind.as_ref().map(|left| line(Level::Warn, "leftovers", left.to_string(), "remove it by hand")),
    );
    let vfs = verdict.vfs.name().map_or_else(|| "opens as usual".to_owned(), |name| format!("opens with vfs={name}"));
    lines.push(line(Level::Good, "SQLite", vfs, ""));
    lines.push(match &verdict.ingest {
        Ok(locking) => line(Level::Good, "ingest", format!("scores can be ingested here, locking: {locking}"), ""),
        Err(reason) => {
            line(Level::Bad, "ingest", format!("refused: {reason}"), "mend what is bad above, then check again")
        }
    });
    lines
}

fn file_system(mount: Option<&Mount>) -> Line {
    const SUBJECT: &str = "file system";
    let Some(mount) = mount else {
        return line(
            Level::Warn,
            SUBJECT,
            "unknown: the table of mounts can't be read or doesn't list it",
            "mount /proc",
        );
    };
    let found = format!("{}, {} on {}", mount.kind, mount.source, mount.point.display());
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" => {
            let found = format!("{found}: memory, scores are gone after a restart");
            line(Level::Warn, SUBJECT, found, "mount a disk or a network share here")
        }
        "overlay" => {
            let found = format!("{found}: perhaps a container's own layer, which goes with the container");
            line(Level::Warn, SUBJECT, found, "mount a volume here")
        }
        _ => line(Level::Good, SUBJECT, found, ""),
    }
}

fn room(room: Room) -> Line {
    let files = room.free_files.map_or_else(String::new, |files| format!(", {files} files"));
    let found = format!("{} MiB{files} free", room.free_bytes >> 20);
    let low = room.free_bytes < FREE_BYTES_MIN || room.free_files.is_some_and(|files| files < FREE_FILES_MIN);
    if low {
        line(Level::Bad, "space", format!("low: {found}"), "make room: at least 16 MiB and 1024 files")
    } else {
        line(Level::Good, "space", found, "")
    }
}

/// Options under which a sync that succeeded means little.
fn unsynced(mount: &Mount) -> Option<Line> {
    let options = ["nostrictsync", "nobarrier", "barrier=0"];
    let option = options.into_iter().find(|option| mount.has(option))?;
    let found = format!("{option}: a write can be lost although its sync succeeded");
    Some(line(Level::Bad, "syncing", found, "mount without that option"))
}

fn durable_write(measured: DurableWrite) -> Line {
    let DurableWrite { count, median_us, longest_us } = measured;
    let found = format!("median {}, longest {} of {count}", milliseconds(median_us), milliseconds(longest_us));
    let level = match () {
        () if median_us > MEDIAN_WARN_US => Level::Bad,
        () if median_us > MEDIAN_GOOD_US || longest_us > LONGEST_GOOD_US => Level::Warn,
        () => Level::Good,
    };
    if level == Level::Good {
        return line(level, "durable write", found, "");
    }
    let found = format!("{found}; each score waits for one or two of them");
    line(level, "durable write", found, "use a faster disk or share, or a nearer one")
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

fn lock(exclusion: &Exclusion) -> Line {
    const SUBJECT: &str = "lock";
    match exclusion {
        Exclusion::Process => line(Level::Good, SUBJECT, "a second process was kept out", ""),
        Exclusion::OpenFile => {
            line(Level::Good, SUBJECT, "a second open file was kept out; a second process was not tried", "")
        }
        Exclusion::None => line(Level::Warn, SUBJECT, "a second one got it too", "mount with working byte-range locks"),
        Exclusion::Unsupported(failure) => line(Level::Warn, SUBJECT, failure.to_string(), remedy(failure)),
        Exclusion::Unanswered(problem) => line(Level::Warn, SUBJECT, problem.as_str(), "check again"),
        Exclusion::NotTested => line(Level::Warn, SUBJECT, "not tried", ""),
    }
}

fn locking(facts: &Facts, verdict: &Verdict) -> Line {
    const SUBJECT: &str = "locking";
    let reason = &verdict.locking_reason;
    match verdict.locking {
        Locking::Trusted => line(Level::Good, SUBJECT, format!("trusted: {reason}"), ""),
        Locking::Heartbeat => {
            let found = format!("not trusted: {reason}; a takeover waits for a still heartbeat");
            line(Level::Warn, SUBJECT, found, remedy_of_locking(facts))
        }
    }
}

fn lost_locks(recover: Option<bool>) -> Line {
    const SUBJECT: &str = "lost locks";
    match recover {
        Some(false) => line(Level::Good, SUBJECT, "noticed: recover_lost_locks is off", ""),
        Some(true) => {
            let found = "recover_lost_locks is on: a lock lost to another machine is taken again unnoticed";
            line(Level::Warn, SUBJECT, found, "set the parameter recover_lost_locks of the module nfs to 0")
        }
        None => line(Level::Good, SUBJECT, "recover_lost_locks is unknown here; it is off unless someone set it", ""),
    }
}

fn remedy(failure: &Failure) -> &'static str {
    match failure.step {
        Step::Find => "create the folder, or mount it",
        Step::Lock => "mount with byte-range locks, or leave it: the heartbeat works without",
        Step::SyncFile | Step::SyncFolder => "use a file system that can make files and names durable",
        Step::MakeFolderAgain | Step::RemoveFolderAgain | Step::CreateFileAgain | Step::RemoveFileAgain => {
            "use a file system where only one of two can create or remove a name"
        }
        _ => match failure.errno.map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => "make room",
            Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                "let this user write there (owner, mode, uid= of the mount)"
            }
            Some(rustix::io::Errno::ROFS) => "mount it rw",
            _ => "look at the mount and its server",
        },
    }
}

fn remedy_of_locking(facts: &Facts) -> &'static str {
    match &facts.mount {
        _ if !matches!(facts.exclusion, Exclusion::Process | Exclusion::OpenFile) => "",
        Some(mount) if is_smb(mount) => "for faster takeovers mount without nobrl",
        Some(mount) if mount.has("nolock") => "for faster takeovers mount with vers=4.1 and without nolock",
        Some(mount) if mount.value("local_lock").is_some_and(|kept| kept != "none") => {
            "for faster takeovers mount with local_lock=none"
        }
        Some(mount) if is_nfs(mount) && facts.recover_lost_locks == Some(true) => "see lost locks",
        Some(mount) if is_nfs(mount) => "for faster takeovers mount with vers=4.1",
        _ => "",
    }
}
