//! Proves that a folder can hold the score store: files can be created, made durable, renamed and removed there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{} can't hold scores: {step}: {source}", .path.display())]
pub(crate) struct MountError {
    path: PathBuf,
    step: &'static str,
    source: io::Error,
}

/// Returns a line to print. Nothing is left behind.
pub(crate) fn check_mount(folder: &Path) -> Result<String, MountError> {
    let started = Instant::now();
    let name = format!(".drafty-bird-check-{:016x}", fastrand::u64(..));
    let (first, second) = (folder.join(&name), folder.join(format!("{name}.renamed")));
    let outcome = prove(folder, &first, &second);
    // Whatever step failed, either name may be there.
    drop((fs::remove_file(&first), fs::remove_file(&second)));
    match outcome {
        Ok(()) => Ok(format!("{} can hold scores ({} ms)\n", folder.display(), started.elapsed().as_millis())),
        Err((step, source)) => Err(MountError { path: folder.to_owned(), step, source }),
    }
}

fn prove(folder: &Path, first: &Path, second: &Path) -> Result<(), (&'static str, io::Error)> {
    let mut file = File::create_new(first).map_err(|fault| ("create a file", fault))?;
    file.write_all(&[0; 4096]).map_err(|fault| ("write", fault))?;
    file.sync_all().map_err(|fault| ("fsync", fault))?;
    fs::rename(first, second).map_err(|fault| ("rename", fault))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|fault| ("fsync the folder", fault))?;
    fs::remove_file(second).map_err(|fault| ("remove", fault))
}

#[cfg(test)]
mod tests {
    use super::check_mount;

    #[test]
    fn leaves_nothing_behind_and_names_the_step() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_mount(folder.path()).unwrap().contains("can hold scores"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let fault = check_mount(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(fault.contains("create a file"), "{fault}");
    }
}
