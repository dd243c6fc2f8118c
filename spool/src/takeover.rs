//! How a new epoch gets its database: the last one renamed if its holder closed it well, else a copy that is proved to be
//! whole. It never writes to another epoch's files.

use std::io::{self, ErrorKind};

use crate::claim::{Base, Epoch, FOLDED, is_clean};
use crate::ledger::{Ledger, LedgerError, Ledgers};
use crate::share::{File, Share};

/// Bytes copied at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Copies that a writer which does not know yet that it was overtaken may spoil.
const COPIES_MAX: u32 = 20;

/// Why a take-over did not succeed; trying again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    #[error("the share: {0}")]
    Share(#[from] io::Error),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the database of epoch {base} is nowhere to be found")]
    Missing { base: u64 },
    #[error("epoch {base} began after the database of epoch {over} was copied: replacing it would lose scores")]
    Overtaken { base: u64, over: u64 },
    #[error("the database of epoch {base} changed during each of {COPIES_MAX} copies")]
    Restless { base: u64 },
}

/// A database that a take-over publishes instead of the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its name on the share. It stays there.
    pub file: String,
    /// The last epoch whose database may be replaced by it.
    pub over: u64,
}

/// Name of an epoch's database.
pub(crate) fn database(epoch: u64) -> String {
    format!("drafty.{epoch}.db")
}

/// The epoch of a database, its log, or a copy that was not finished.
pub(crate) fn epoch_of(name: &str) -> Option<u64> {
    let (number, rest) = name.strip_prefix("drafty.")?.split_once('.')?;
    let ours = matches!(rest, "db" | "db-wal" | "db-journal") || rest.ends_with(".tmp") || rest.ends_with(".tmp-wal");
    ours.then(|| number.parse().ok())?
}

/// Name of a database's log.
pub(crate) fn log(database: &str) -> String {
    format!("{database}-wal")
}

/// Publishes the database of `epoch`, with everything that is durable in the base's; says whether that was the original one.
pub(crate) fn take_over<S: Share, L: Ledgers>(
    share: &S,
    ledgers: &L,
    epoch: &Epoch,
    base: &Base,
    original: &str,
    replacement: Option<&Replacement>,
) -> Result<bool, TakeoverError> {
    let target = database(epoch.number);
    let folded = base.epoch > 0 && share.open(&format!("{FOLDED}.{}", base.epoch)).is_ok();
    let from_original = base.epoch == 0 || folded;
    if share.open(&target).is_ok() {
        // An earlier try got this far; nobody else publishes under this epoch's name.
        share.sync_dir("")?;
        return Ok(from_original);
    }
    if let Some(Replacement { file, over }) = replacement {
        if base.epoch > *over {
            return Err(TakeoverError::Overtaken { base: base.epoch, over: *over });
        }
        let temporary = temporary(epoch);
        forget(share, &temporary);
        if !copy_file(share, file, &temporary)? {
            return Err(TakeoverError::Share(ErrorKind::NotFound.into()));
        }
        publish(share, ledgers, epoch, &temporary)?;
        return Ok(from_original);
    }
    if from_original {
        adopt(share, ledgers, epoch, original)?;
        return Ok(true);
    }
    let source = database(base.epoch);
    let renamed = if is_clean(share, base.epoch) {
        rename(share, &source, &target)? || renamed_before(share, &target, base)?
    } else {
        copy(share, ledgers, epoch, base.epoch)? || renamed_before(share, &target, base)?
    };
    if !renamed {
        return Err(TakeoverError::Missing { base: base.epoch });
    }
    share.sync_dir("")?;
    Ok(false)
}

/// An epoch that never began may have renamed the base's database as this one would have.
fn renamed_before<S: Share>(share: &S, target: &str, base: &Base) -> io::Result<bool> {
    for barred in &base.barred {
        if rename(share, &database(*barred), target)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rename<S: Share>(share: &S, from: &str, to: &str) -> io::Result<bool> {
    match share.rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The original is copied and left where it is: several processes may be about to take it over, and none knows yet whether its
/// epoch will begin.
fn adopt<S: Share, L: Ledgers>(share: &S, ledgers: &L, epoch: &Epoch, original: &str) -> Result<(), TakeoverError> {
    // "There is none" is no answer of a server. Having made it is one, and an empty database is one as well.
    match share.create_new(original) {
        Ok(_) => share.sync_dir("")?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let temporary = temporary(epoch);
    forget(share, &temporary);
    ledgers.adopt(original, &temporary)?;
    publish(share, ledgers, epoch, &temporary)
}

/// Opens a copy, which recovers what its log holds, proves it to be whole, and gives it its name.
fn publish<S: Share, L: Ledgers>(share: &S, ledgers: &L, epoch: &Epoch, temporary: &str) -> Result<(), TakeoverError> {
    let mut ledger = ledgers.open(temporary)?;
    if let Err(error) = ledger.verify() {
        ledger.abandon();
        return Err(error.into());
    }
    ledger.close()?;
    share.open_or_create(temporary)?.sync()?;
    share.rename(temporary, &database(epoch.number))?;
    Ok(share.sync_dir("")?)
}

fn temporary(epoch: &Epoch) -> String {
    format!("drafty.{}.{}.tmp", epoch.number, epoch.nonce)
}

/// Left by an earlier try of this process.
fn forget<S: Share>(share: &S, temporary: &str) {
    drop((share.remove(temporary), share.remove(&log(temporary))));
}

/// `false` if there is no such database.
fn copy<S: Share, L: Ledgers>(share: &S, ledgers: &L, epoch: &Epoch, base: u64) -> Result<bool, TakeoverError> {
    let (source, temporary) = (database(base), temporary(epoch));
    for _ in 0..COPIES_MAX {
        forget(share, &temporary);
        match copy_once(share, &source, &temporary) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        publish(share, ledgers, epoch, &temporary)?;
        return Ok(true);
    }
    Err(TakeoverError::Restless { base })
}

/// The log, then the database, then the log again: if that is the same, byte for byte, nothing was committed between, and
/// whatever was moved from the log into the database meanwhile is in both copies.
fn copy_once<S: Share>(share: &S, source: &str, temporary: &str) -> io::Result<bool> {
    let (from_log, to_log) = (log(source), log(temporary));
    // A client may believe that there is no log although there is one. Having made it, or failed to, is the server's word.
    match share.create_new(&from_log) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if !copy_file(share, &from_log, &to_log)? {
        // It was there a moment ago: its holder closes the database.
        return Ok(false);
    }
    if !copy_file(share, source, temporary)? {
        return Err(ErrorKind::NotFound.into());
    }
    match share.open(&from_log) {
        Ok(file) => same(&file, &share.open(&to_log)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn copy_file<S: Share>(share: &S, from: &str, to: &str) -> io::Result<bool> {
    let source = match share.open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut target = share.create_new(to)?;
    let mut offset = 0;
    loop {
        let bytes = source.read_at(offset, CHUNK_BYTES)?;
        target.write_at(offset, &bytes)?;
        // Piece by piece: one sync of a whole database would hold up those of everyone who accepts meanwhile.
        target.sync()?;
        offset += bytes.len() as u64;
        if bytes.len() < CHUNK_BYTES {
            return Ok(true);
        }
    }
}

pub(crate) fn same<F: File>(one: &F, other: &F) -> io::Result<bool> {
    let mut offset = 0;
    loop {
        let (a, b) = (one.read_at(offset, CHUNK_BYTES)?, other.read_at(offset, CHUNK_BYTES)?);
        if a != b {
            return Ok(false);
        }
        if a.len() < CHUNK_BYTES {
            return Ok(true);
        }
        offset += a.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaders::Leader;
    use crate::ledger::Ingested;
    use crate::record::Record;

    /// Databases that are whatever bytes they are.
    struct Files;

    impl Ledgers for Files {
        type Ledger = Self;

        fn open(&self, _name: &str) -> Result<Self, LedgerError> {
            Ok(Self)
        }

        fn adopt(&self, _original: &str, _to: &str) -> Result<(), LedgerError> {
            Err(LedgerError::Held("somebody has it".to_owned()))
        }
    }

    impl Ledger for Files {
        fn ingest(&mut self, _records: &[&Record]) -> Result<Ingested, LedgerError> {
            Ok(Ingested::default())
        }

        fn top(&mut self) -> Result<Vec<Leader>, LedgerError> {
            Ok(Vec::new())
        }

        fn verify(&mut self) -> Result<(), LedgerError> {
            Ok(())
        }

        fn copy(&mut self, _to: &str) -> Result<(), LedgerError> {
            Ok(())
        }

        fn close(self) -> Result<(), LedgerError> {
            Ok(())
        }

        fn abandon(self) {}
    }

    #[test]
    fn a_database_is_replaced_only_if_it_is_the_one_that_was_kept() {
        for (begun, over, replaced) in [(1, 1, true), (2, 2, true), (2, 1, false), (0, 0, true), (1, 0, false)] {
            let folder = tempfile::tempdir().unwrap();
            let share = crate::Folder::new(folder.path());
            std::fs::write(folder.path().join(database(begun)), "old").unwrap();
            std::fs::write(folder.path().join("new.db"), "new").unwrap();
            let epoch = Epoch { number: 3, nonce: "n".to_owned() };
            let base = Base { epoch: begun, barred: Vec::new() };
            let replacement = Replacement { file: "new.db".to_owned(), over };
            let taken = take_over(&share, &Files, &epoch, &base, "db.sqlite", Some(&replacement));
            let found = std::fs::read(folder.path().join(database(3))).ok();
            if replaced {
                assert!(taken.is_ok() && found.as_deref() == Some(b"new"), "{begun} {over}: {taken:?}");
            } else {
                assert!(matches!(taken, Err(TakeoverError::Overtaken { .. })) && found.is_none(), "{begun} {over}");
            }
            assert!(folder.path().join("new.db").exists() && folder.path().join(database(begun)).exists());
        }
    }
}
