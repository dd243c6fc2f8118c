//! Where the scores are: the share, and how its mount can be used. It decides whether there is anything to work on; it changes
//! nothing there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spool::mount::{self, Verdict};
use spool::{Config, Folder, Locking, Replacement, Survey};

use super::{Failure, failed};
use crate::folder::folder_of;
use crate::settings::Settings;
use crate::store::SqliteLedgers;

/// Time between two looks of a keeper: somebody waits.
const PACE: Duration = Duration::from_millis(20);

/// The folder of `SCORE_DB_PATH`.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// Name of the database that a release without a spool uses.
    pub(super) original: String,
    pub(super) share: Arc<Folder>,
    pub(super) verdict: Verdict,
    silence: Duration,
}

impl Place {
    /// Finds it in the environment.
    pub(super) fn open() -> Result<Self, Failure> {
        // Only these matter: others may be wrong, or another release's.
        let matters = |name: &str| matches!(name, "SCORE_DB_PATH" | "SPOOL_SILENCE_MS");
        let only = |name: &str| matters(name).then(|| std::env::var(name).ok()).flatten();
        let (settings, _) = Settings::read(only).map_err(|fault| Failure::usage(fault.to_string()))?;
        let path = settings.score_db_path;
        let folder = folder_of(&path);
        if !folder.is_dir() {
            let what = format!("SCORE_DB_PATH={}: folder {} does not exist", path.display(), folder.display());
            return Err(Failure::new(what)
                .advise("set SCORE_DB_PATH as the service has it, and look whether the share is mounted"));
        }
        let original = path.file_name().and_then(|name| name.to_str());
        let original =
            original.ok_or_else(|| Failure::usage(format!("SCORE_DB_PATH={} is no file's name", path.display())))?;
        Ok(Self {
            folder: folder.to_owned(),
            original: original.to_owned(),
            share: Arc::new(Folder::new(folder)),
            silence: settings.spool_silence,
            verdict: mount::check(folder, Some(&mount::this_program)).verdict,
        })
    }

    /// For what would turn a database of another kind into a spool's.
    pub(super) fn must_be_spool(&self) -> Result<(), Failure> {
        match std::env::var("SCORE_STORAGE").ok().as_deref().map(str::trim) {
            None | Some("" | "spool") => Ok(()),
            Some(other) => Err(Failure::usage(format!(
                "SCORE_STORAGE={other}: this command works on a spool's scores"
            ))
            .advise(format!(
                "for the file of direct: stop the service and copy {}",
                self.path(&self.original).display()
            ))),
        }
    }

    /// Where a name on the share is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What is there.
    pub(super) fn survey(&self) -> Result<Survey, Failure> {
        Survey::of(&*self.share).map_err(failed(format!("{} can't be read", self.folder.display())))
    }

    /// Bytes of what a release without a spool uses; 0 if there is nothing.
    pub(super) fn original_len(&self) -> u64 {
        std::fs::metadata(self.path(&self.original)).map_or(0, |found| found.len())
    }

    /// Refuses what needs this process to ingest.
    pub(super) fn must_ingest(&self) -> Result<(), Failure> {
        match &self.verdict.ingest {
            Ok(_) => Ok(()),
            Err(why) => Err(Failure::new(why.clone())
                .advise(format!("drafty-bird check-mount {} says more", self.folder.display()))),
        }
    }

    pub(super) fn ingest(&self) -> Result<Locking, String> {
        self.verdict.ingest.clone().map(|locking| match locking {
            mount::Locking::Trusted => Locking::Lock,
            mount::Locking::Heartbeat => Locking::Heartbeat(self.silence),
        })
    }

    pub(super) fn config(&self, replacement: Option<Replacement>) -> Config {
        Config { pace: PACE, replacement, ..Config::new(self.original.clone()) }
    }

    pub(super) fn ledgers(&self) -> SqliteLedgers {
        SqliteLedgers::new(&self.folder, self.verdict.vfs.name())
    }
}

/// A name that nobody else has.
pub(super) fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}
