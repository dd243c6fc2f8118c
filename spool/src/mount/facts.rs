//! What can be known of a folder by trying it out. Plain values: nothing is looked up or decided here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::table::Mount;

/// Everything that [`judge`](super::judge) goes by.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The folder as it was named, made absolute where possible.
    pub folder: String,
    /// What is mounted there, if the system says.
    pub mount: Option<Mount>,
    /// Whether the mount or its file system refuses writes.
    pub read_only: bool,
    /// Space left, if the system says.
    pub room: Option<Room>,
    /// The NFS client's parameter `recover_lost_locks`; `None` if there is no NFS client or it doesn't say.
    pub recover_lost_locks: Option<bool>,
    /// How long a durable write took, if any succeeded.
    pub durable_write: Option<DurableWrite>,
    /// Whether the byte-range lock kept others out.
    pub exclusion: Exclusion,
    /// Steps that did not do what they must.
    pub failures: Vec<Failure>,
    /// Files of this check that could not be removed.
    pub left_behind: Option<Failure>,
}

/// Space left for a process without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Bytes.
    pub free_bytes: u64,
    /// Files; `None` where the file system doesn't count them.
    pub free_files: Option<u64>,
}

/// Appends of 4 KiB, each made durable by `fdatasync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DurableWrite {
    /// How many were measured.
    pub count: usize,
    /// The middle one, in microseconds.
    pub median_us: u64,
    /// The slowest, in microseconds.
    pub longest_us: u64,
}

/// What became of the attempt to lock a file twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "detail")]
pub enum Exclusion {
    /// A second process was kept out.
    Process,
    /// A second open file of this process was kept out; no second process was given.
    OpenFile,
    /// The second one got the lock too.
    None,
    /// The file can't be locked at all.
    Unsupported(Failure),
    /// The second process gave no answer; this is why.
    Unanswered(String),
    /// An earlier step failed.
    NotTested,
}

/// Something that the protocol does in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Find the folder.
    Find,
    /// `mkdir`.
    MakeFolder,
    /// `mkdir` where there is something.
    MakeFolderAgain,
    /// `rmdir`.
    RemoveFolder,
    /// `rmdir` of a folder that is gone, or of a file.
    RemoveFolderAgain,
    /// `open` with `O_CREAT | O_EXCL`.
    CreateFile,
    /// The same where there is something.
    CreateFileAgain,
    /// `write`.
    Write,
    /// `fdatasync`.
    SyncFile,
    /// `fsync` of a folder.
    SyncFolder,
    /// `rename` over another file.
    Rename,
    /// `read`.
    Read,
    /// `unlink`.
    RemoveFile,
    /// `unlink` of a file that is gone.
    RemoveFileAgain,
    /// `fcntl` with `F_OFD_SETLK`.
    Lock,
    /// Removal of what the check made.
    CleanUp,
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Find => "find the folder",
            Self::MakeFolder => "make a folder (mkdir)",
            Self::MakeFolderAgain => "make a folder where something is (mkdir)",
            Self::RemoveFolder => "remove a folder (rmdir)",
            Self::RemoveFolderAgain => "remove a folder where none is (rmdir)",
            Self::CreateFile => "create a file (O_EXCL)",
            Self::CreateFileAgain => "create a file where something is (O_EXCL)",
            Self::Write => "write",
            Self::SyncFile => "make a write durable (fdatasync)",
            Self::SyncFolder => "make names durable (fsync of the folder)",
            Self::Rename => "rename over a file",
            Self::Read => "read back what was renamed",
            Self::RemoveFile => "remove a file (unlink)",
            Self::RemoveFileAgain => "remove a file where none is (unlink)",
            Self::Lock => "lock a byte (F_OFD_SETLK)",
            Self::CleanUp => "remove what the check made",
        })
    }
}

/// A step that failed, or that succeeded where it must not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{step}: {}: {problem}", .path.display())]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// Where.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// The system's words, or what happened instead of the error that was due.
    pub problem: String,
    /// The system's number, if it was an error of the system.
    pub errno: Option<i32>,
}

impl Failure {
    pub(super) fn of_system(step: Step, path: &Path, error: &io::Error) -> Self {
        Self { step, path: path.to_owned(), problem: error.to_string(), errno: error.raw_os_error() }
    }

    pub(super) fn unexpected(step: Step, path: &Path, problem: &str) -> Self {
        Self { step, path: path.to_owned(), problem: problem.to_owned(), errno: None }
    }
}

/// A path may hold bytes that are no text, which a serializer would refuse.
pub(super) fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}
