//! What the ingester asks of the database that it moves records into. It decides nothing; a ledger is used by one process, and
//! only as long as that process owns its epoch.

use std::fmt;

use crate::leaders::Leader;
use crate::record::Record;

/// Opens the databases of a share.
pub trait Ledgers: Send {
    /// An open database.
    type Ledger: Ledger;

    /// Opens a database file of the share, with whatever its log holds, or makes one.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn open(&self, name: &str) -> Result<Self::Ledger, LedgerError>;

    /// Copies the database that was there before any epoch (or that a downgrade left), which may be an empty file, once
    /// nobody else uses it. It is not changed.
    ///
    /// # Errors
    /// [`LedgerError::Held`] while somebody uses it.
    fn adopt(&self, original: &str, to: &str) -> Result<(), LedgerError>;
}

/// An open database.
pub trait Ledger {
    /// Adds what is not there yet, durably: all or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn ingest(&mut self, records: &[&Record]) -> Result<Ingested, LedgerError>;
    /// The ten best.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn top(&mut self) -> Result<Vec<Leader>, LedgerError>;
    /// Looks at every page.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] with what is wrong.
    fn verify(&mut self) -> Result<(), LedgerError>;
    /// Copies the database, all that is committed, into another file of the share.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn copy(&mut self, to: &str) -> Result<(), LedgerError>;
    /// Leaves one durable file and no log. Nothing else empties or removes the log, however a ledger ends: who copies the
    /// database relies on it.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn close(self) -> Result<(), LedgerError>;
    /// Lets go without writing anything any more.
    fn abandon(self);
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Records that are new.
    pub added: u64,
    /// Repeats that say something else than the first.
    pub differing: u64,
}

/// Why a database can't be used now.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody who does not know the protocol uses it.
    #[error("{0}")]
    Held(String),
    /// Its content is not what it should be.
    #[error("{0}")]
    Damaged(String),
    /// There is no room; what was begun is undone, and it can be tried again.
    #[error("{0}")]
    Full(String),
    /// Anything else: what was begun may or may not be there, so the database must be opened anew, by a new epoch.
    #[error("{0}")]
    Failed(String),
}

impl LedgerError {
    /// An error of the database's library or of the system.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
