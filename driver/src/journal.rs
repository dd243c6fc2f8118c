//! Reads and writes the journal. Entries are numbered like the lease, so whoever was overtaken can't write another one.

use std::sync::Arc;

use dbird_core::journal::{Entry, JOURNAL_FORMAT, Unfinished, What};
use futures::future::try_join_all;

use crate::{
    Clock, Error, Series, Store,
    store::{create_own, decode, encode},
};

/// One plan never has more entries than this.
const TAIL_MAX: usize = 4_000;
/// Entries that are looked through for one that was just written.
const LATELY: usize = 64;
/// Entries read at a time, going back.
const CHUNK: u64 = 32;

/// The journal of one environment, open for writing by the holder of the lease.
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    run: String,
    number: u64,
}

impl Journal {
    /// Opens it at its end, and says what was left unfinished there.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        run: String,
    ) -> Result<(Journal, Option<Unfinished>), Error> {
        let (number, unfinished) = tail(&*store).await?;
        Ok((Journal { store, clock, run, number }, unfinished))
    }

    /// Opens it where this entry was its last, and nothing was left unfinished there; as [`Journal::open`] where it has grown.
    pub(crate) async fn reopen(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        run: String,
        last: u64,
    ) -> Result<(Journal, Option<Unfinished>), Error> {
        match store.read(Series::Journal, last + 1).await? {
            None => Ok((Journal { store, clock, run, number: last }, None)),
            Some(_) => Journal::open(store, clock, run).await,
        }
    }

    /// The number of the last entry.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Writes an entry, durably.
    pub(crate) async fn write(&mut self, what: What) -> Result<(), Error> {
        let at_unix_ms = self.clock.unix_ms();
        let entry = Entry { format: JOURNAL_FORMAT, run: self.run.clone(), at_unix_ms, what };
        if !create_own(&*self.store, Series::Journal, self.number + 1, encode(&entry)?).await? {
            return Err(Error::Fenced);
        }
        self.number += 1;
        Ok(())
    }
}

/// The last number, and what was left unfinished there. Changes nothing.
pub(crate) async fn tail(store: &dyn Store) -> Result<(u64, Option<Unfinished>), Error> {
    let Some(last) = store.last(Series::Journal, 1).await?.pop() else { return Ok((0, None)) };
    let mut newest_first = vec![read(store, last).await?];
    let mut next = last;
    while !matches!(newest_first.last(), Some(What::Begin(_) | What::End { .. })) && newest_first.len() < TAIL_MAX {
        let first = next.saturating_sub(CHUNK).max(1);
        if first == next {
            break;
        }
        let mut chunk = try_join_all((first..next).rev().map(|n| read(store, n))).await?;
        if let Some(at) = chunk.iter().position(|w| matches!(w, What::Begin(_) | What::End { .. })) {
            chunk.truncate(at + 1);
        }
        newest_first.append(&mut chunk);
        next = first;
    }
    Ok((last, Unfinished::from_tail(newest_first.iter().rev())))
}

/// True when a request of this number was taken up lately.
pub(crate) async fn requested(store: &dyn Store, number: u64) -> Result<bool, Error> {
    for at in store.last(Series::Journal, LATELY).await?.into_iter().rev() {
        if matches!(read(store, at).await?, What::Requested { number: n, .. } if n == number) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read(store: &dyn Store, number: u64) -> Result<What, Error> {
    let bytes = store.read(Series::Journal, number).await?.unwrap_or_default();
    let entry: Entry = decode(&bytes, JOURNAL_FORMAT, Series::Journal, number)?;
    Ok(entry.what)
}
