//! One command at a time in an environment. The lease is a sequence of numbered records: whoever creates the next number owns
//! it, so a holder that was overtaken learns it at its next one and stops. Two machines' clocks are never compared.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Clock, Error, Event, Machine, Reporter, Series, Store,
    store::{create_own, decode, encode},
};

/// A holder that shows no sign of life for this long may be overtaken, and is given the same time again to notice.
pub const TAKEOVER_MS: u64 = 10_000;
/// A sign of life younger than this is good enough.
const RENEW_AFTER_MS: u64 = TAKEOVER_MS / 4;
/// Looks at a holder that can't be looked up, within one takeover time.
const LOOKS: u64 = 20;
const FORMAT: u32 = 1;
/// Claims that somebody else was quicker with, before it is called busy.
const CLAIMS_MAX: u32 = 100;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `user@host`, or what CI says of itself.
    pub actor: String,
    /// The command: `deploy`, `rollback`.
    pub command: String,
    /// The process.
    pub machine: Machine,
    /// Since when, in Unix milliseconds by the holder's clock; for people.
    pub since_unix_ms: u64,
    /// Names this run among all others.
    pub run: String,
}

/// Somebody else holds the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub by: Holder,
    /// For how long, as far as this machine's clock can tell.
    pub since_ms: u64,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { actor, command, machine, .. } = &self.by;
        let since_s = self.since_ms / 1000;
        write!(
            f,
            "`dbird {command}` of {actor} is at work here since {since_s} s (process {} on {})",
            machine.pid, machine.host
        )
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    what: Kind,
    holder: Holder,
    /// When it was written, on the boot clock of the holder's machine; compared on that machine only.
    boot_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Claim,
    Heartbeat,
    Release,
}

/// The last record of the sequence.
enum Last {
    /// Nobody holds it.
    Free,
    /// Somebody does, or did when they died.
    Taken(Record),
    /// A record that a power failure cut short: whoever wrote it can't be looked up.
    Unreadable,
}

/// A lease that is held.
pub(crate) struct Lease {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    holder: Holder,
    number: u64,
    /// A record whose writing was broken off, and which may have been written all the same.
    broken_off: Option<Vec<u8>>,
    renewed_boot_ms: u64,
    /// It was taken from somebody who may still be inside a call.
    pub(crate) overtaken: bool,
}

impl Lease {
    /// Takes the lease, or says who holds it. A holder on this machine that does not run any more is overtaken at once; one
    /// that can't be looked up from here is watched first.
    pub(crate) async fn take(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        holder: Holder,
        reporter: &dyn Reporter,
    ) -> Result<Lease, Error> {
        for _ in 0..CLAIMS_MAX {
            let (number, last) = last(&*store).await?;
            let overtaken = match &last {
                Last::Free => false,
                Last::Taken(other) => match standing(other, &holder.machine, &*clock) {
                    Standing::Dead => false,
                    Standing::Alive => return Err(held(other, &*clock)),
                    Standing::Stuck => true,
                    Standing::OutOfSight => {
                        watch(&*store, &*clock, number, Some(&other.holder), reporter).await?;
                        true
                    }
                },
                Last::Unreadable => {
                    watch(&*store, &*clock, number, None, reporter).await?;
                    true
                }
            };
            let renewed_boot_ms = clock.boot_ms();
            let mut lease = Lease {
                store: store.clone(),
                clock: clock.clone(),
                holder: holder.clone(),
                number,
                broken_off: None,
                renewed_boot_ms,
                overtaken,
            };
            if lease.write(Kind::Claim).await? {
                return Ok(lease);
            }
            // Somebody was quicker: look again at who that is.
        }
        Err(Error::Fenced)
    }

    /// The name of this run among all others.
    pub(crate) fn run(&self) -> &str {
        &self.holder.run
    }

    /// Shows a sign of life, unless there was one just now. Fails once somebody has overtaken this holder.
    pub(crate) async fn renew(&mut self) -> Result<(), Error> {
        let now_ms = self.clock.boot_ms();
        if now_ms.saturating_sub(self.renewed_boot_ms) < RENEW_AFTER_MS {
            return Ok(());
        }
        if !self.write(Kind::Heartbeat).await? {
            return Err(Error::Fenced);
        }
        self.renewed_boot_ms = now_ms;
        Ok(())
    }

    /// Until when a call that changes something must have ended, on the boot clock.
    pub(crate) fn call_until_boot_ms(&self) -> u64 {
        self.renewed_boot_ms + TAKEOVER_MS / 2
    }

    /// Lets everything end that whoever was overtaken may have begun.
    pub(crate) async fn let_the_other_end(&mut self) -> Result<(), Error> {
        let until_ms = self.clock.boot_ms() + TAKEOVER_MS;
        while self.clock.boot_ms() < until_ms {
            self.clock.sleep(TAKEOVER_MS / LOOKS).await;
            self.renew().await?;
        }
        self.overtaken = false;
        Ok(())
    }

    /// Gives the lease back. Somebody who has overtaken it has it then already.
    pub(crate) async fn give_back(mut self) -> Result<(), Error> {
        self.write(Kind::Release).await.map(drop)
    }

    async fn write(&mut self, what: Kind) -> Result<bool, Error> {
        // A poll that is given up in favour of an interruption may be in the middle of this.
        if self.broken_off.is_some() && !self.write_on().await? {
            return Ok(false);
        }
        let record = Record { format: FORMAT, what, holder: self.holder.clone(), boot_ms: self.clock.boot_ms() };
        self.broken_off = Some(encode(&record)?);
        self.write_on().await
    }

    async fn write_on(&mut self) -> Result<bool, Error> {
        let Some(bytes) = self.broken_off.clone() else { return Ok(true) };
        let own = create_own(&*self.store, Series::Lease, self.number + 1, bytes).await?;
        self.broken_off = None;
        if own {
            self.number += 1;
        }
        Ok(own)
    }
}

/// Who holds the lease, unless that is known to be dead. Changes nothing.
pub(crate) async fn holder(store: &dyn Store, here: &Machine, clock: &dyn Clock) -> Result<Option<Held>, Error> {
    let Last::Taken(record) = last(store).await?.1 else { return Ok(None) };
    match standing(&record, here, clock) {
        Standing::Dead => Ok(None),
        _ => Ok(Some(held_by(&record, clock))),
    }
}

enum Standing {
    Alive,
    /// It runs, but has shown no sign of life for far too long: stopped, or hanging.
    Stuck,
    Dead,
    OutOfSight,
}

fn standing(record: &Record, here: &Machine, clock: &dyn Clock) -> Standing {
    if !here.sees(&record.holder.machine) {
        Standing::OutOfSight
    } else if !record.holder.machine.runs() {
        Standing::Dead
    } else if clock.boot_ms().saturating_sub(record.boot_ms) > 2 * TAKEOVER_MS {
        Standing::Stuck
    } else {
        Standing::Alive
    }
}

/// Looks on for one takeover time; fails as soon as there is a sign of life.
async fn watch(
    store: &dyn Store,
    clock: &dyn Clock,
    number: u64,
    holder: Option<&Holder>,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let who = holder
        .map_or_else(|| "a command that was cut off".to_owned(), |h| format!("{} on {}", h.actor, h.machine.host));
    reporter
        .report(&Event::Note { text: format!("waiting for a sign of life of {who}, for {} s", TAKEOVER_MS / 1000) });
    for _ in 0..LOOKS {
        clock.sleep(TAKEOVER_MS / LOOKS).await;
        let (now, last) = last(store).await?;
        match last {
            _ if now == number => {}
            Last::Taken(record) => return Err(held(&record, clock)),
            // Given back, or cut short again: the caller looks again.
            _ => return Ok(()),
        }
    }
    Ok(())
}

async fn last(store: &dyn Store) -> Result<(u64, Last), Error> {
    let Some(number) = store.last(Series::Lease, 1).await?.pop() else { return Ok((0, Last::Free)) };
    let bytes = store.read(Series::Lease, number).await?.unwrap_or_default();
    let cut_short = serde_json::from_slice::<serde_json::Value>(&bytes).is_err();
    if cut_short {
        return Ok((number, Last::Unreadable));
    }
    let record: Record = decode(&bytes, FORMAT, Series::Lease, number)?;
    Ok((number, if record.what == Kind::Release { Last::Free } else { Last::Taken(record) }))
}

fn held(record: &Record, clock: &dyn Clock) -> Error {
    Error::Held(Box::new(held_by(record, clock)))
}

fn held_by(record: &Record, clock: &dyn Clock) -> Held {
    Held { by: record.holder.clone(), since_ms: clock.unix_ms().saturating_sub(record.holder.since_unix_ms) }
}
