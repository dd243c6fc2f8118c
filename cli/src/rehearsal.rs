//! The folder of a rehearsal: everything of its simulated account lies in it and goes with it. What a rehearsal that was killed
//! has left behind, the next one takes away: its folder, and the tasks that still run from there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, getuid, kill_process},
};

/// How the folders are called, below the machine's folder for what is temporary.
const PREFIX: &str = "dbird-rehearsal-";
/// Whoever holds this file's lock is the rehearsal that the folder belongs to.
const LOCK: &str = "lock";

/// A folder of one's own.
pub(crate) struct Rehearsal {
    folder: tempfile::TempDir,
    /// Held for as long as this process lives, however it ends.
    _lock: File,
}

impl Rehearsal {
    /// Makes one, and takes away what others left.
    pub(crate) fn begin() -> io::Result<Rehearsal> {
        sweep(&std::env::temp_dir());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let lock = File::create(folder.path().join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Rehearsal { folder, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Takes away what nobody holds any more. What can't be looked at or removed stays: it is somebody else's.
fn sweep(temporary: &Path) {
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    let folders = entries.map(|e| e.path()).filter(|path| {
        let ours = |m: &fs::Metadata| m.is_dir() && m.uid() == getuid().as_raw();
        let named = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        named && fs::symlink_metadata(path).as_ref().is_ok_and(ours)
    });
    for folder in folders {
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            for pid in running_from(&folder) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// The processes whose command line names something in this folder.
fn running_from(folder: &Path) -> Vec<Pid> {
    let needle = format!("{}/", folder.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = |path: PathBuf| {
        let pid = Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?;
        let words = fs::read(path.join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.any(|word| word.starts_with(&needle)).then_some(pid)
    };
    entries.filter_map(|entry| names(entry.path())).filter(|pid| *pid != rustix::process::getpid()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_killed_rehearsal_left_is_taken_away_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = |name: &str, held: bool| {
            let path = temporary.path().join(name);
            fs::create_dir(&path).unwrap();
            let lock = File::create(path.join(LOCK)).unwrap();
            if held {
                flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
            }
            (path, lock)
        };
        let (held, lock) = folder("dbird-rehearsal-held", true);
        let (left, _) = folder("dbird-rehearsal-left", false);
        let (other, _) = folder("something-else", false);
        // A task that outlived its rehearsal: its command line names the folder, as those of tasks do.
        let sleep = |folder: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", "read line"]).arg(folder.join("task")).stdin(Stdio::piped());
            command.spawn().unwrap()
        };
        let (mut outlived, mut lives) = (sleep(&left), sleep(&held));
        sweep(temporary.path());
        assert!(!left.exists() && held.exists() && other.exists());
        assert!(!outlived.wait().unwrap().success(), "it was killed");
        assert!(lives.try_wait().unwrap().is_none(), "it belongs to a rehearsal that goes on");
        lives.kill().unwrap();
        lives.wait().unwrap();
        drop(lock);
    }
}
