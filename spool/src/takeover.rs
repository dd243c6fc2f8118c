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
    #[error("the database of epoch {base} changed during each of {COPIES_MAX} copies")]
    Restless { base: u64 },
}

/// Name of an epoch's database.
pub(crate) fn database(epoch: u64) -> String {
    format!("drafty.{epoch}.db")
}

/// Name of a database's log.
pub(crate) fn log(database: &str) -> String {
    format!("{database}-wal")
}

/// Publishes the database of `epoch`, with everything that is durable in the base's.
pub(crate) fn take_over<S: Share, L: Ledgers>(
    share: &S,
    ledgers: &L,
    epoch: &Epoch,
    base: &Base,
) -> Result<(), TakeoverError> {
    let target = database(epoch.number);
    if share.open(&target).is_ok() {
        // An earlier try got this far; nobody else publishes under this epoch's name.
        return Ok(share.sync_dir("")?);
    }
    if base.epoch == 0 || share.open(&format!("{FOLDED}.{}", base.epoch)).is_ok() {
        let adopted = ledgers.adopt(&target)?;
        if adopted || renamed_before(share, &target, base)? {
            return Ok(share.sync_dir("")?);
        }
        if base.epoch == 0 {
            return make(share, ledgers, epoch);
        }
        // The downgrade did not get as far as moving it.
    }
    let source = database(base.epoch);
    if is_clean(share, base.epoch) {
        if rename(share, &source, &target)? || renamed_before(share, &target, base)? {
            return Ok(share.sync_dir("")?);
        }
    } else if copy(share, ledgers, epoch, base.epoch)? {
        return Ok(());
    } else if renamed_before(share, &target, base)? {
        return Ok(share.sync_dir("")?);
    }
    Err(TakeoverError::Missing { base: base.epoch })
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

fn make<S: Share, L: Ledgers>(share: &S, ledgers: &L, epoch: &Epoch) -> Result<(), TakeoverError> {
    let temporary = temporary(epoch);
    forget(share, &temporary);
    ledgers.open(&temporary)?.close()?;
    share.rename(&temporary, &database(epoch.number))?;
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
        let mut ledger = ledgers.open(&temporary)?;
        if let Err(error) = ledger.verify() {
            ledger.abandon();
            return Err(error.into());
        }
        ledger.close()?;
        share.open_or_create(&temporary)?.sync()?;
        share.rename(&temporary, &database(epoch.number))?;
        share.sync_dir("")?;
        return Ok(true);
    }
    Err(TakeoverError::Restless { base })
}

/// The log, then the database, then the log again: if that is the same, byte for byte, nothing was committed between, and
/// whatever was moved from the log into the database meanwhile is in both copies.
fn copy_once<S: Share>(share: &S, source: &str, temporary: &str) -> io::Result<bool> {
    let (from_log, to_log) = (log(source), log(temporary));
    let had_log = copy_file(share, &from_log, &to_log)?;
    if !copy_file(share, source, temporary)? {
        return Err(ErrorKind::NotFound.into());
    }
    let same = match share.open(&from_log) {
        Ok(file) if had_log => same(&file, &share.open(&to_log)?)?,
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NotFound => !had_log,
        Err(error) => return Err(error),
    };
    Ok(same)
}

fn copy_file<S: Share>(share: &S, from: &str, to: &str) -> io::Result<bool> {
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
        offset += bytes.len() as u64;
        if bytes.len() < CHUNK_BYTES {
            target.sync()?;
            return Ok(true);
        }
    }
}

fn same<F: File>(one: &F, other: &F) -> io::Result<bool> {
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
