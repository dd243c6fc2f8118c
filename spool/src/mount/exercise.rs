//! Does in a folder what the protocol does there and notes what happened. It decides nothing, and removes what it made
//! whatever failed; only a process that is killed in between leaves a folder of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statvfs, statx};

use super::Second;
use super::facts::{DurableWrite, Exclusion, Facts, Failure, Room, Step};
use super::lock::exclusion;
use super::table::{Mount, mount_of};

const MOUNTS: &str = "/proc/self/mountinfo";
const MOUNTS_LEN_MAX: u64 = 16 << 20;
const RECOVER_LOST_LOCKS: &str = "/sys/module/nfs/parameters/recover_lost_locks";
const PARAMETER_LEN_MAX: u64 = 16;

/// Begins the name of the folder that a check makes for itself, as in `.spool-check-00f3…`.
pub(crate) const SCRATCH_PREFIX: &str = ".spool-check-";

const WRITE_LEN: usize = 4096;
const WRITES_MAX: usize = 64;
/// No write begins after this, so that slow ones don't hold up the start.
const WRITES_TIME_MAX: Duration = Duration::from_secs(1);

pub(super) fn exercise(folder: &Path, second: Option<Second<'_>>) -> Facts {
    let found = fs::canonicalize(folder);
    let path = found.as_deref().unwrap_or(folder);
    let space = statvfs(path);
    let mount = mount_below(path);
    let mut facts = Facts {
        folder: path.display().to_string(),
        read_only: space.as_ref().is_ok_and(|space| space.f_flag.contains(StatVfsMountFlags::RDONLY))
            || mount.as_ref().is_some_and(|mount| mount.has("ro")),
        room: space.ok().map(|space| Room {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            free_files: (space.f_files > 0).then_some(space.f_favail),
        }),
        mount,
        recover_lost_locks: read_bounded(RECOVER_LOST_LOCKS, PARAMETER_LEN_MAX).ok().and_then(|text| flag(&text)),
        durable_write: None,
        exclusion: Exclusion::NotTested,
        failures: Vec::new(),
        left_behind: None,
    };
    if let Err(error) = &found {
        facts.failures.push(Failure::of_system(Step::Find, folder, error));
        return facts;
    }
    match Scratch::make(path) {
        Ok(scratch) => {
            attempt(path, &scratch.0, second, &mut facts);
            facts.left_behind = scratch.remove().err();
        }
        Err(failure) => facts.failures.push(failure),
    }
    facts
}

/// Each part uses names of its own, so that one that fails says nothing about the others.
fn attempt(folder: &Path, scratch: &Path, second: Option<Second<'_>>, facts: &mut Facts) {
    let parts = [
        folders_exclude(&scratch.join("folder")),
        files_exclude(&scratch.join("file")),
        renames_replace(&scratch.join("new"), &scratch.join("old")),
        system(Step::SyncFolder, scratch, sync_folder),
        system(Step::SyncFolder, folder, sync_folder),
    ];
    facts.failures.extend(parts.into_iter().filter_map(Result::err));
    match durable_writes(&scratch.join("durable")) {
        Ok(measured) => facts.durable_write = Some(measured),
        Err(failure) => facts.failures.push(failure),
    }
    facts.exclusion = exclusion(scratch, second);
}

/// A folder of this check's own, whose name nobody else has.
struct Scratch(PathBuf);

impl Scratch {
    fn make(folder: &Path) -> Result<Self, Failure> {
        let scratch = Self(folder.join(format!("{SCRATCH_PREFIX}{:016x}", fastrand::u64(..))));
        // After an error it may be there nevertheless: a server's answer can get lost. Then it is removed again.
        system(Step::MakeFolder, &scratch.0, |path| fs::create_dir(path))?;
        Ok(scratch)
    }

    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::of_system(Step::CleanUp, &self.0, &error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a panic or a failed step; after `remove`, there is nothing left to do.
        drop(self.remove());
    }
}

fn system<T>(step: Step, path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, Failure> {
    act(path).map_err(|error| Failure::of_system(step, path, &error))
}

/// For what must fail: a success is the failure, and so is any other error.
fn refused<T>(
    step: Step,
    path: &Path,
    due: ErrorKind,
    act: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<(), Failure> {
    match act(path) {
        Err(error) if error.kind() == due => Ok(()),
        Err(error) => Err(Failure::of_system(step, path, &error)),
        Ok(_) => Err(Failure::unexpected(step, path, "succeeded, and must not")),
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn folders_exclude(path: &Path) -> Result<(), Failure> {
    system(Step::MakeFolder, path, make_folder)?;
    refused(Step::MakeFolderAgain, path, ErrorKind::AlreadyExists, make_folder)?;
    refused(Step::CreateFileAgain, path, ErrorKind::AlreadyExists, create_new)?;
    system(Step::RemoveFolder, path, remove_folder)?;
    refused(Step::RemoveFolderAgain, path, ErrorKind::NotFound, remove_folder)
}

fn files_exclude(path: &Path) -> Result<(), Failure> {
    // Closed at once: some network file systems keep a removed file under another name while it is open.
    drop(system(Step::CreateFile, path, create_new)?);
    refused(Step::CreateFileAgain, path, ErrorKind::AlreadyExists, create_new)?;
    refused(Step::MakeFolderAgain, path, ErrorKind::AlreadyExists, make_folder)?;
    refused(Step::RemoveFolderAgain, path, ErrorKind::NotADirectory, remove_folder)?;
    system(Step::RemoveFile, path, remove_file)?;
    refused(Step::RemoveFileAgain, path, ErrorKind::NotFound, remove_file)
}

fn renames_replace(new: &Path, old: &Path) -> Result<(), Failure> {
    for (path, text) in [(old, "old"), (new, "new")] {
        let mut file = system(Step::CreateFile, path, create_new)?;
        system(Step::Write, path, |_| file.write_all(text.as_bytes()))?;
        system(Step::SyncFile, path, |_| file.sync_data())?;
    }
    system(Step::Rename, new, |new| fs::rename(new, old))?;
    let text = system(Step::Read, old, |old| fs::read(old))?;
    if text != b"new" {
        return Err(Failure::unexpected(Step::Read, old, "the file has its old content"));
    }
    refused(Step::RemoveFileAgain, new, ErrorKind::NotFound, remove_file)
}

/// Appends, as accepters do: the length changes too, and has to be durable with the bytes.
fn durable_writes(path: &Path) -> Result<DurableWrite, Failure> {
    let mut file = system(Step::CreateFile, path, create_new)?;
    let mut taken_us = Vec::with_capacity(WRITES_MAX);
    let began = Instant::now();
    while taken_us.len() < WRITES_MAX && (taken_us.is_empty() || began.elapsed() < WRITES_TIME_MAX) {
        let started = Instant::now();
        system(Step::Write, path, |_| file.write_all(&[0x5a; WRITE_LEN]))?;
        system(Step::SyncFile, path, |_| file.sync_data())?;
        taken_us.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(measure(taken_us))
}

/// Of at least one time; of an even number the median is the upper one.
fn measure(mut taken_us: Vec<u64>) -> DurableWrite {
    taken_us.sort_unstable();
    DurableWrite {
        count: taken_us.len(),
        median_us: taken_us.get(taken_us.len() / 2).copied().unwrap_or_default(),
        longest_us: taken_us.last().copied().unwrap_or_default(),
    }
}

fn mount_below(folder: &Path) -> Option<Mount> {
    // Old kernels leave the number out.
    let known = statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok();
    let known = known.filter(|known| known.stx_mask & StatxFlags::MNT_ID.bits() != 0);
    let table = read_bounded(MOUNTS, MOUNTS_LEN_MAX).ok()?;
    mount_of(folder, known.map(|known| known.stx_mnt_id), &table)
}

fn read_bounded(path: &str, len_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(len_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn flag(text: &[u8]) -> Option<bool> {
    match text.trim_ascii() {
        b"Y" | b"y" | b"1" => Some(true),
        b"N" | b"n" | b"0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, ErrorKind};
    use std::path::Path;

    use super::{DurableWrite, Exclusion, Step, attempt, flag, measure, refused};
    use crate::mount::verdict::tests::facts;

    #[test]
    fn every_part_that_fails_is_noted_and_none_stops_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        let in_the_way = ["folder", "file", "new", "durable"];
        for name in in_the_way {
            fs::create_dir_all(scratch.join(name)).unwrap();
        }
        let mut facts = facts("ext4", "rw");
        attempt(folder.path(), &scratch, None, &mut facts);
        let noted: Vec<_> = facts.failures.iter().map(|failure| (failure.step, failure.path.clone())).collect();
        let steps = [Step::MakeFolder, Step::CreateFile, Step::CreateFile, Step::CreateFile];
        let wanted: Vec<_> = steps.into_iter().zip(in_the_way.map(|name| scratch.join(name))).collect();
        assert_eq!(noted, wanted);
        assert_eq!(facts.exclusion, Exclusion::OpenFile);
        // Without its folder, nothing works.
        fs::remove_dir_all(&scratch).unwrap();
        facts.failures.clear();
        attempt(folder.path(), &scratch, None, &mut facts);
        let steps: Vec<_> = facts.failures.iter().map(|failure| failure.step).collect();
        assert_eq!(steps, [Step::MakeFolder, Step::CreateFile, Step::CreateFile, Step::SyncFolder, Step::CreateFile]);
        assert!(matches!(facts.exclusion, Exclusion::Unsupported(_)));
    }

    #[test]
    fn what_must_fail_has_to_fail_as_it_must() {
        let cases = [
            (Err(io::Error::from_raw_os_error(17)), None),
            (Err(io::Error::from_raw_os_error(5)), Some(Some(5))),
            (Ok(()), Some(None)),
        ];
        for (outcome, errno) in cases {
            let judged = refused(Step::CreateFileAgain, Path::new("/x"), ErrorKind::AlreadyExists, |_| outcome);
            assert_eq!(judged.err().map(|failure| failure.errno), errno);
        }
    }

    #[test]
    fn medians_and_flags() {
        let cases =
            [(vec![7], (1, 7, 7)), (vec![9, 1], (2, 9, 9)), (vec![5, 900, 1], (3, 5, 900)), (vec![], (0, 0, 0))];
        for (taken_us, (count, median_us, longest_us)) in cases {
            assert_eq!(measure(taken_us), DurableWrite { count, median_us, longest_us });
        }
        for (text, wanted) in [("Y\n", Some(true)), ("1", Some(true)), ("N\n", Some(false)), ("", None), ("2", None)] {
            assert_eq!(flag(text.as_bytes()), wanted, "{text:?}");
        }
    }
}
