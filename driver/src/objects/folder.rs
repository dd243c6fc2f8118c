//! State in a folder of this machine. It decides when the folder is made and what is forced to disk; it knows nothing of what
//! the objects mean.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use object_store::{Error as ObjectError, ObjectStore, local::LocalFileSystem};

use super::innermost;
use crate::store::{Series, StoreError};

/// A folder, which is made by the first write. Objects are forced to disk, those of the lease apart: no power failure leaves a
/// process behind that could hold one.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    opened: OnceLock<(LocalFileSystem, LocalFileSystem)>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Folder { path, opened: OnceLock::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// None: the folder does not exist yet, and it is not to be made.
    pub(super) fn objects(&self, series: Series, make: bool) -> Result<Option<&dyn ObjectStore>, StoreError> {
        if self.opened.get().is_none() {
            if !make && !self.path.exists() {
                return Ok(None);
            }
            let fail = |what: &str, e: Box<dyn std::error::Error + Send + Sync>| StoreError {
                what: format!("the state's folder {} can't be {what}", self.path.display()),
                retry: false,
                hint: Some("it must be a folder that you may write; `[state] url` names it".to_owned()),
                source: Some(e),
            };
            if make {
                std::fs::create_dir_all(&self.path).map_err(|e| fail("made", e.into()))?;
            }
            let files = LocalFileSystem::new_with_prefix(&self.path).map_err(|e| fail("opened", e.into()))?;
            let _ = self.opened.set((files.clone(), files.with_fsync(true)));
        }
        let stores = self.opened.get().map(|(quick, durable)| if series == Series::Lease { quick } else { durable });
        Ok(stores.map(|s| s as &dyn ObjectStore))
    }
}

/// What a failure in a folder, or in any store that answers like one, means.
pub(super) fn explain(what: String, e: &ObjectError) -> StoreError {
    let mut kind = None;
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(c) = cause {
        kind = c.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
        cause = c.source();
    }
    let hint = match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Some("the disk is full: free some space and give the command again".to_owned())
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            Some("the state's folder must be writable for whoever deploys".to_owned())
        }
        _ => None,
    };
    StoreError {
        what,
        retry: kind.is_some_and(|k| matches!(k, ErrorKind::Interrupted | ErrorKind::TimedOut)),
        hint,
        source: Some(innermost(e).into()),
    }
}
