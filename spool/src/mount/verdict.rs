//! Decides what the facts about a folder mean: the locking mode, whether to ingest, SQLite's VFS. A pure function; when
//! in doubt it trusts no lock, which costs time at a takeover and never a score.

use std::fmt;

use serde::{Serialize, Serializer};

use super::facts::{Exclusion, Facts};
use super::table::Mount;

/// File systems of one machine: whoever shares the folder shares the kernel that keeps the locks.
const LOCAL: [&str; 19] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "msdos", "nilfs2", "ntfs3",
    "overlay", "ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs",
];

/// How an ingester knows that another one is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Locking {
    /// By the writer's lock.
    Trusted,
    /// By a counter that moves.
    Heartbeat,
}

impl fmt::Display for Locking {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Trusted => "trusted",
            Self::Heartbeat => "heartbeat",
        })
    }
}

/// How SQLite opens its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vfs {
    /// As it does by itself.
    Default,
    /// Without locks of its own, which would fail here; the protocol's exclusion is enough.
    UnixNone,
}

impl Vfs {
    /// The name to open a database with; `None` for the default.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::UnixNone => Some("unix-none"),
        }
    }
}

/// What follows from the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// With which locking to ingest, or why not to.
    #[serde(serialize_with = "by_name")]
    pub ingest: Result<Locking, String>,
    /// How far locks can be trusted, whether or not to ingest.
    pub locking: Locking,
    /// Why: one line.
    pub locking_reason: String,
    /// How SQLite opens its database.
    pub vfs: Vfs,
}

/// `{"locking": "trusted"}` or `{"refused": "…"}`.
fn by_name<S: Serializer>(ingest: &Result<Locking, String>, to: S) -> Result<S::Ok, S::Error> {
    match ingest {
        Ok(locking) => to.collect_map([("locking", locking.to_string())]),
        Err(reason) => to.collect_map([("refused", reason)]),
    }
}

/// Decides.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let (locking, locking_reason) = locking(facts);
    let refusal = if facts.read_only {
        Some(format!("{} is mounted read-only", facts.folder))
    } else {
        facts.failures.first().map(ToString::to_string)
    };
    Verdict { ingest: refusal.map_or(Ok(locking), Err), locking, locking_reason, vfs: vfs(facts) }
}

/// SQLite's own locks fail over SMB, where a client takes its own shared lock for a conflict, and where no lock can be taken.
fn vfs(facts: &Facts) -> Vfs {
    let smb = facts.mount.as_ref().is_some_and(is_smb);
    if smb || matches!(facts.exclusion, Exclusion::Unsupported(_)) { Vfs::UnixNone } else { Vfs::Default }
}

pub(super) fn is_smb(mount: &Mount) -> bool {
    matches!(mount.kind.as_str(), "cifs" | "smb3")
}

pub(super) fn is_nfs(mount: &Mount) -> bool {
    matches!(mount.kind.as_str(), "nfs" | "nfs4")
}

/// Whether an NFS mount is version 4, where a lock ends with its holder's lease.
fn has_leases(mount: &Mount) -> bool {
    mount.value("vers").map_or(mount.kind == "nfs4", |version| version.starts_with('4'))
}

fn locking(facts: &Facts) -> (Locking, String) {
    let no_trust = match &facts.exclusion {
        Exclusion::Process | Exclusion::OpenFile => distrust(facts),
        Exclusion::None => Some("a second one got the lock too".to_owned()),
        Exclusion::Unsupported(failure) => Some(format!("no lock can be taken: {failure}")),
        Exclusion::Unanswered(problem) => Some(problem.clone()),
        Exclusion::NotTested => Some("the lock was not tried".to_owned()),
    };
    let kind = facts.mount.as_ref().map_or("this file system", |mount| mount.kind.as_str());
    match no_trust {
        Some(reason) => (Locking::Heartbeat, reason),
        None => (Locking::Trusted, format!("locks of {kind} keep others out")),
    }
}

/// Why a lock that keeps others out on this machine may not do so on another.
fn distrust(facts: &Facts) -> Option<String> {
    let Some(mount) = &facts.mount else { return Some("what is mounted here is unknown".to_owned()) };
    if is_smb(mount) {
        return mount.has("nobrl").then(|| "nobrl: locks don't leave this machine".to_owned());
    }
    if is_nfs(mount) {
        return distrust_nfs(mount, facts.recover_lost_locks);
    }
    if LOCAL.contains(&mount.kind.as_str()) {
        None
    } else {
        Some(format!("locks of {} may not leave this machine", mount.kind))
    }
}

fn distrust_nfs(mount: &Mount, recover_lost_locks: Option<bool>) -> Option<String> {
    if mount.has("nolock") {
        return Some("nolock: locks don't leave this machine".to_owned());
    }
    if let Some(kept @ ("all" | "flock" | "posix")) = mount.value("local_lock") {
        return Some(format!("local_lock={kept}: locks don't leave this machine"));
    }
    if !has_leases(mount) {
        return Some("before NFSv4 a machine that dies keeps its locks".to_owned());
    }
    (recover_lost_locks == Some(true)).then(|| "recover_lost_locks: a lost lock is taken again unnoticed".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};

    use super::{Locking, Vfs, judge};
    use crate::mount::facts::{DurableWrite, Exclusion, Facts, Failure, Room, Step};
    use crate::mount::table::Mount;

    /// A folder where all is well.
    pub(in crate::mount) fn facts(kind: &str, options: &str) -> Facts {
        Facts {
            folder: "/data".to_owned(),
            mount: Some(Mount {
                id: 1,
                point: PathBuf::from("/data"),
                kind: kind.to_owned(),
                source: "somewhere".to_owned(),
                options: options.split(',').map(str::to_owned).collect(),
            }),
            read_only: false,
            room: Some(Room { free_bytes: 1 << 30, free_files: Some(1 << 20) }),
            recover_lost_locks: None,
            durable_write: Some(DurableWrite { count: 64, median_us: 900, longest_us: 2_500 }),
            exclusion: Exclusion::Process,
            failures: Vec::new(),
            left_behind: None,
        }
    }

    pub(in crate::mount) fn failure(step: Step, errno: i32) -> Failure {
        Failure::of_system(step, Path::new("/data/x"), &std::io::Error::from_raw_os_error(errno))
    }

    const EROFS: i32 = 30;
    const ENOLCK: i32 = 37;
    const ENOTSUP: i32 = 95;
    const EINVAL: i32 = 22;

    #[test]
    fn locking_by_mount() {
        use Locking::{Heartbeat, Trusted};
        use Vfs::{Default, UnixNone};
        // (type, options, recover_lost_locks, locking, its reason says, VFS)
        let cases = [
            ("ext4", "rw", None, Trusted, "ext4", Default),
            ("overlay", "rw", None, Trusted, "overlay", Default),
            ("tmpfs", "rw", Some(true), Trusted, "tmpfs", Default),
            ("nfs4", "rw,vers=4.1,local_lock=none", Some(false), Trusted, "nfs4", Default),
            ("nfs4", "rw,vers=4.2,local_lock=none", None, Trusted, "nfs4", Default),
            ("nfs4", "rw", None, Trusted, "nfs4", Default),
            ("nfs4", "rw,vers=4.1,local_lock=none", Some(true), Heartbeat, "recover_lost_locks", Default),
            ("nfs4", "rw,vers=4.1,local_lock=all", Some(false), Heartbeat, "local_lock=all", Default),
            ("nfs4", "rw,vers=4.1,local_lock=flock", None, Heartbeat, "local_lock=flock", Default),
            ("nfs4", "rw,vers=4.1,local_lock=posix", None, Heartbeat, "local_lock=posix", Default),
            ("nfs", "rw,vers=3,nolock,local_lock=all", None, Heartbeat, "nolock", Default),
            ("nfs", "rw,vers=3,local_lock=none", Some(false), Heartbeat, "dies", Default),
            ("nfs", "rw", None, Heartbeat, "dies", Default),
            ("nfs", "rw,vers=4.0,local_lock=none", None, Trusted, "nfs", Default),
            ("cifs", "rw,vers=3.1.1,nobrl", None, Heartbeat, "nobrl", UnixNone),
            ("cifs", "rw,vers=3.1.1", Some(true), Trusted, "cifs", UnixNone),
            ("smb3", "rw,nobrl", None, Heartbeat, "nobrl", UnixNone),
            ("smb3", "rw", None, Trusted, "smb3", UnixNone),
            ("fuse.someone", "rw", None, Heartbeat, "fuse.someone", Default),
            ("9p", "rw", None, Heartbeat, "9p", Default),
        ];
        for (kind, options, recover_lost_locks, locking, reason, vfs) in cases {
            let verdict = judge(&Facts { recover_lost_locks, ..facts(kind, options) });
            assert_eq!(
                (&verdict.ingest, verdict.locking, verdict.vfs),
                (&Ok(locking), locking, vfs),
                "{kind} {options}"
            );
            assert!(verdict.locking_reason.contains(reason), "{kind} {options}: {}", verdict.locking_reason);
        }
        assert_eq!(judge(&Facts { mount: None, ..facts("", "") }).ingest, Ok(Heartbeat));
    }

    #[test]
    fn locking_by_what_the_lock_did() {
        use Locking::{Heartbeat, Trusted};
        use Vfs::{Default, UnixNone};
        let cases = [
            (Exclusion::Process, Trusted, Default),
            (Exclusion::OpenFile, Trusted, Default),
            (Exclusion::None, Heartbeat, Default),
            (Exclusion::Unsupported(failure(Step::Lock, ENOTSUP)), Heartbeat, UnixNone),
            (Exclusion::Unsupported(failure(Step::Lock, ENOLCK)), Heartbeat, UnixNone),
            (Exclusion::Unanswered("it hung".to_owned()), Heartbeat, Default),
            (Exclusion::NotTested, Heartbeat, Default),
        ];
        for (exclusion, locking, vfs) in cases {
            let verdict = judge(&Facts { exclusion: exclusion.clone(), ..facts("ext4", "rw") });
            assert_eq!((verdict.ingest, verdict.vfs), (Ok(locking), vfs), "{exclusion:?}");
        }
    }

    #[test]
    fn ingest_is_refused_with_step_path_and_words() {
        let again = Failure::unexpected(Step::CreateFileAgain, Path::new("/data/x"), "succeeded, and must not");
        // (failures, read-only, what the refusal says)
        let cases = [
            (vec![], true, vec!["/data", "read-only"]),
            (vec![failure(Step::MakeFolder, EROFS)], true, vec!["read-only"]),
            (vec![failure(Step::MakeFolder, EROFS)], false, vec!["mkdir", "/data/x", "Read-only file system"]),
            (
                vec![failure(Step::SyncFile, EINVAL)],
                false,
                vec!["fdatasync", "/data/x", "Invalid argument (os error 22)"],
            ),
            (vec![failure(Step::SyncFolder, EINVAL)], false, vec!["fsync of the folder", "Invalid argument"]),
            (vec![again], false, vec!["O_EXCL", "must not"]),
        ];
        for (failures, read_only, wanted) in cases {
            let verdict = judge(&Facts { failures, read_only, ..facts("ext4", "rw") });
            let refusal = verdict.ingest.unwrap_err();
            assert!(wanted.iter().all(|words| refusal.contains(words)), "{refusal}: {wanted:?}");
            assert_eq!(verdict.locking, Locking::Trusted);
        }
    }

    #[test]
    fn little_room_and_leftovers_refuse_nothing() {
        let room = Some(Room { free_bytes: 0, free_files: Some(0) });
        let left_behind = Some(failure(Step::CleanUp, EINVAL));
        assert_eq!(judge(&Facts { room, left_behind, ..facts("ext4", "rw") }).ingest, Ok(Locking::Trusted));
    }
}
