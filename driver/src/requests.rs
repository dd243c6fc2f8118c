//! What people ask of a rollout that another command drives: numbered objects, which the holder of the lease reads at every
//! poll. Asking takes nobody's lease, and each request names the release that it is for, so an old one can't hit a new one.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use dbird_core::{ReleaseId, rollout::Request};
use serde::{Deserialize, Serialize};

use crate::{
    Clock, Error, Series, Store,
    store::{create_own, decode, encode},
};

const FORMAT: u32 = 1;
/// Requests that are looked through when a rollout begins or is taken over.
const LOOK_BACK: usize = 64;
/// The store is not asked for new ones more often than this: a poll may come every few milliseconds.
const LOOK_MS: u64 = 500;
/// Others that ask at the same time, before it is called busy.
const TRIES_MAX: u32 = 100;

/// A request, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    format: u32,
    /// The release that it is for.
    pub(crate) release: ReleaseId,
    /// For what.
    pub(crate) request: Request,
    /// The candidate's share of the traffic that the asker saw; a request to go on is only meant from there.
    #[serde(default)]
    pub(crate) weight: Option<u8>,
    /// Who asks.
    pub(crate) by: String,
    /// Names this run among all others, so that equal bytes are its own.
    run: String,
    /// When, in Unix milliseconds by the asker's clock.
    at_unix_ms: u64,
}

/// Writes a request; its number.
pub(crate) async fn ask(
    store: &dyn Store,
    clock: &dyn Clock,
    (release, weight): (ReleaseId, Option<u8>),
    request: Request,
    by: &str,
    run: &str,
) -> Result<u64, Error> {
    let asked = Asked {
        format: FORMAT,
        release,
        weight,
        request,
        by: by.to_owned(),
        run: run.to_owned(),
        at_unix_ms: clock.unix_ms(),
    };
    let bytes = encode(&asked)?;
    let mut number = store.last(Series::Requests, 1).await?.pop().unwrap_or(0);
    for _ in 0..TRIES_MAX {
        number += 1;
        if create_own(store, Series::Requests, number, bytes.clone()).await? {
            return Ok(number);
        }
    }
    Err(Error::Late { what: "the request could not be written, since many others were,".to_owned(), after_ms: 0 })
}

/// The requests for one release, in order.
pub(crate) struct Inbox {
    store: Arc<dyn Store>,
    release: ReleaseId,
    /// The next number that may come.
    next: u64,
    found: VecDeque<(u64, Asked)>,
    looked_ms: Option<u64>,
}

impl Inbox {
    /// Those that were not taken up before.
    pub(crate) async fn open(store: Arc<dyn Store>, release: ReleaseId, taken: &BTreeSet<u64>) -> Result<Inbox, Error> {
        let numbers = store.last(Series::Requests, LOOK_BACK).await?;
        let next = numbers.last().map_or(1, |last| last + 1);
        let mut inbox = Inbox { store, release, next, found: VecDeque::new(), looked_ms: None };
        for number in numbers.into_iter().filter(|n| !taken.contains(n)) {
            inbox.read(number).await?;
        }
        Ok(inbox)
    }

    /// The numbers of all that wait to be taken up.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u64> {
        self.found.iter().map(|(number, _)| *number)
    }

    /// The next request that can be taken up now, if somebody has asked for something. `holds`: traffic stays at a
    /// weight. `open`: it is not being finished or undone yet; afterwards nobody is told that he was heard.
    pub(crate) async fn next(&mut self, now_ms: u64, holds: bool, open: bool) -> Result<Option<(u64, Asked)>, Error> {
        self.look(now_ms).await?;
        // There is nothing to go on from while traffic moves; whoever promotes means the next weight.
        let at = self.found.iter().position(|(_, asked)| open && (holds || asked.request != Request::Promote));
        Ok(at.and_then(|at| self.found.remove(at)))
    }

    /// The next wish to undo; returns once there is one.
    pub(crate) async fn abort(&mut self, clock: &dyn Clock) -> Result<(u64, Asked), Error> {
        loop {
            self.look(clock.boot_ms()).await?;
            let at = self.found.iter().position(|(_, asked)| matches!(asked.request, Request::Abort { .. }));
            if let Some(found) = at.and_then(|at| self.found.remove(at)) {
                return Ok(found);
            }
            clock.sleep(LOOK_MS).await;
        }
    }

    /// Reads what is new, unless that was done just now.
    async fn look(&mut self, now_ms: u64) -> Result<(), Error> {
        if self.looked_ms.is_none_or(|ms| now_ms.saturating_sub(ms) >= LOOK_MS) {
            self.looked_ms = Some(now_ms);
            // Requests are not worth stopping for; what the lease and the journal need says when the store is gone.
            loop {
                match self.read(self.next).await {
                    Ok(true) => self.next += 1,
                    Ok(false) => break,
                    Err(e) => {
                        tracing::warn!(error = %e, "requests can't be read for now");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, number: u64) -> Result<bool, Error> {
        let Some(bytes) = self.store.read(Series::Requests, number).await? else { return Ok(false) };
        match decode::<Asked>(&bytes, FORMAT, Series::Requests, number) {
            Ok(asked) if asked.release == self.release => self.found.push_back((number, asked)),
            Ok(_) => {}
            // No request is worth stopping a rollout for.
            Err(e) => tracing::warn!(error = %e, number, "a request can't be read, and is left out"),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specimen_is_read() {
        let bytes = br#"{"format":1,"release":5,"request":{"ask":"abort","why":"too slow"},"weight":10,"by":"ann@nest","run":"7-1","at_unix_ms":1700000000000}"#;
        let asked: Asked = decode(bytes, FORMAT, Series::Requests, 1).unwrap();
        assert_eq!((asked.release, &asked.request), (ReleaseId(5), &Request::Abort { why: "too slow".into() }));
        assert_eq!(encode(&asked).unwrap(), bytes);
    }
}
