//! The ingester: takes the database over, moves records into it, and hands it over. It decides the order that keeps every
//! acknowledged score: commit, check the epoch, publish, and only then delete what is sealed and was read to its end.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use super::standby::{BEAT, Watch};
use super::{Keeper, ListState, Locking, Next, State};
use crate::append::SPOOL;
use crate::claim::{self, Base, Epoch};
use crate::leaders::Leader;
use crate::ledger::{Ledger, LedgerError, Ledgers};
use crate::numbered;
use crate::share::{File, Share};
use crate::tail::{Damage, Found, Tail};
use crate::takeover::{self, TakeoverError, database};
use crate::top::{self, Top};
use crate::{backup, share};

const ASIDE: &str = "aside";
/// The pause before another epoch is claimed after the database failed: twice this, then twice as long each time.
const FAILURE_PAUSE: Duration = Duration::from_millis(125);
/// So the pause is at most 32 s.
const FAILURES_COUNTED_MAX: u32 = 8;
/// Longest time between two checks of the epoch while there is nothing to do.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Active<S: Share, L: Ledgers> {
    lock: Option<S::Lock>,
    epoch: Epoch,
    /// `None` until it is opened.
    ledger: Option<L::Ledger>,
    tail: Tail,
    list: Vec<Leader>,
    published: Option<Top>,
    checked: Duration,
    beat: u64,
    beaten: Duration,
}

impl<S: Share, L: Ledgers> Active<S, L> {
    /// Lets go of the database without writing to it any more.
    fn abandon(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.abandon();
        }
    }
}

/// What was found out about the base before something failed, and what failed.
type Hindered = (Option<Base>, String);

/// Why a piece of work broke off.
enum Stop {
    /// Another process has a later epoch.
    Overtaken,
    /// To be tried again.
    Trouble(String),
    /// What the database has is not known any more.
    Failed(String),
}

impl Stop {
    fn at(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Trouble(format!("{what}: {error}"))
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        let text = format!("the database: {error}");
        if matches!(error, LedgerError::Full(_)) { Self::Trouble(text) } else { Self::Failed(text) }
    }
}

impl<S: Share, L: Ledgers> Keeper<S, L> {
    pub(super) fn take_over(&mut self, lock: Option<S::Lock>, epoch: Epoch, base: Option<Base>) -> Next<S, L> {
        if self.shared.is_released() {
            // Should that fail, a successor does it.
            drop(claim::give_up(&*self.share, &epoch));
            return Next::Later(State::Released);
        }
        let (base, trouble) = match self.prepare(&epoch, base) {
            Ok(Some(active)) => {
                self.status.trouble = None;
                let active = Active { lock, ..active };
                return Next::Now(State::Active(active));
            }
            Ok(None) => return self.overtaken(lock),
            Err((base, error)) => (base, error),
        };
        self.status.trouble = Some(trouble);
        match claim::check(&*self.share, &epoch) {
            Ok(false) => self.overtaken(lock),
            Ok(true) | Err(_) => Next::Later(State::Claiming { lock, epoch, base }),
        }
    }

    /// `None` if a successor barred this epoch.
    fn prepare(&mut self, epoch: &Epoch, base: Option<Base>) -> Result<Option<Active<S, L>>, Hindered> {
        let share = &*self.share;
        let base = match base {
            Some(base) => base,
            None => claim::settle(share, epoch).map_err(|error| (None, format!("earlier epochs: {error}")))?,
        };
        let failed = |error: TakeoverError| error.to_string();
        let replacement = self.config.replacement.as_ref();
        let begun = takeover::take_over(share, &self.ledgers, epoch, &base, &self.config.original, replacement)
            .map_err(failed)
            .and_then(|adopted| {
                claim::begin(share, epoch).map(|begun| begun.then_some(adopted)).map_err(|e| e.to_string())
            });
        match begun {
            Ok(Some(adopted)) => {
                if adopted {
                    self.retire_original(epoch);
                }
            }
            Ok(None) => return Ok(None),
            Err(error) => return Err((Some(base), error)),
        }
        let now = self.share.now();
        Ok(Some(Active {
            lock: None,
            epoch: epoch.clone(),
            ledger: None,
            tail: Tail::default(),
            list: Vec::new(),
            published: None,
            checked: now,
            beat: 0,
            beaten: now.saturating_sub(CHECK_EVERY),
        }))
    }

    /// Its scores are in the epoch's database; it is kept, under a name that nobody takes for the database.
    fn retire_original(&self, epoch: &Epoch) {
        let (original, kept) =
            (&self.config.original, format!("{}.before-epoch-{}", self.config.original, epoch.number));
        let empty = self.share.open(original).and_then(|file| file.size()).is_ok_and(|size| size == 0);
        let retired = if empty { self.share.remove(original) } else { self.share.rename(original, &kept) };
        match retired {
            Ok(()) if !empty => tracing::info!(kept, "the database that was here before was taken over; it is kept"),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, original, "the database that was taken over could not be renamed"),
        }
    }

    fn overtaken(&mut self, lock: Option<S::Lock>) -> Next<S, L> {
        drop(lock);
        tracing::warn!(epoch = self.status.epoch, "another process has a later epoch");
        Next::Later(State::Standby { tail: Tail::default(), watch: Watch::default() })
    }

    pub(super) fn ingest(&mut self, mut active: Active<S, L>) -> Next<S, L> {
        let released = self.shared.is_released();
        match self.cycle(&mut active) {
            Ok(more) if released && !more => self.hand_over(active),
            Ok(more) => {
                self.status.trouble = None;
                let state = State::Active(active);
                if more || released { Next::Now(state) } else { Next::Later(state) }
            }
            Err(Stop::Overtaken) => {
                active.abandon();
                self.overtaken(active.lock)
            }
            Err(Stop::Trouble(trouble)) => {
                // What was read may not be in the database.
                active.tail = Tail::default();
                self.status.trouble = Some(trouble);
                if released {
                    active.abandon();
                    return Next::Later(State::Released);
                }
                Next::Later(State::Active(active))
            }
            Err(Stop::Failed(trouble)) => {
                // What memory and the system's cache say of the file is not to be trusted: a new epoch copies what is durable.
                active.abandon();
                drop(active.lock);
                tracing::error!(trouble, epoch = active.epoch.number, "the database failed; another epoch copies it");
                self.failures = (self.failures + 1).min(FAILURES_COUNTED_MAX);
                self.rests_until = self.share.now() + FAILURE_PAUSE * 2_u32.pow(self.failures);
                self.failed = Some(trouble.clone());
                self.status.trouble = Some(trouble);
                if released {
                    return Next::Later(State::Released);
                }
                Next::Later(State::Standby { tail: Tail::default(), watch: Watch::default() })
            }
        }
    }

    /// One round; says whether there is more to do at once.
    fn cycle(&mut self, active: &mut Active<S, L>) -> Result<bool, Stop> {
        if active.ledger.is_none() {
            self.check(active)?;
            let mut ledger = self.ledgers.open(&database(active.epoch.number))?;
            active.list = ledger.top()?;
            active.ledger = Some(ledger);
        }
        self.beat(active)?;
        let requests = backup::requests(&*self.share);
        let found = active.tail.poll(&*self.share, self.config.batch_records_max);
        let found = found.map_err(Stop::at("the segments can't be read"))?;
        self.status.segments = active.tail.len();
        self.status.newer_segments = active.tail.newer();
        for damage in &found.damages {
            self.set_aside(damage)?;
        }
        self.store(active, &found)?;
        let (covered, complete) = (active.tail.offsets(), active.tail.complete());
        let news = active.published.as_ref().is_none_or(|top| top.covered != covered || top.list != active.list);
        let due = self.share.now().saturating_sub(active.checked) >= CHECK_EVERY;
        if news || due || !complete.is_empty() || !requests.is_empty() {
            self.check(active)?;
        }
        if news {
            self.publish(active, covered)?;
            self.failures = 0;
        }
        for segment in complete {
            match self.share.remove(&format!("{SPOOL}/{segment}")) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Stop::at("a segment that was moved can't be deleted")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(ledger) = active.ledger.as_mut().filter(|_| !found.more) {
            backup::answer(&*self.share, ledger, &active.epoch, &requests);
        }
        Ok(found.more)
    }

    fn check(&self, active: &mut Active<S, L>) -> Result<(), Stop> {
        match claim::check(&*self.share, &active.epoch) {
            Ok(true) => {
                active.checked = self.share.now();
                Ok(())
            }
            Ok(false) => Err(Stop::Overtaken),
            Err(error) => Err(Stop::at("the epoch can't be checked")(error)),
        }
    }

    fn store(&self, active: &mut Active<S, L>, found: &Found) -> Result<(), Stop> {
        let Some(ledger) = active.ledger.as_mut().filter(|_| !found.records.is_empty()) else { return Ok(()) };
        let mut records: Vec<_> = found.records.iter().map(|tailed| &tailed.record).collect();
        // The index of identities is appended to rather than written all over; which of two repeats is first stays.
        records.sort_by(|a, b| a.run_id.cmp(&b.run_id));
        let ingested = ledger.ingest(&records)?;
        let oldest = records.iter().map(|record| record.created_ms).min();
        self.shared.observer.ingested(ingested, oldest);
        let last = active.list.last().filter(|_| active.list.len() == crate::LEADERS_LEN).map(|leader| leader.score);
        if ingested.differing > 0 || records.iter().any(|record| last.is_none_or(|last| record.score >= last)) {
            active.list = ledger.top()?;
        }
        self.shared.update(|leaders| found.records.iter().fold(false, |changed, one| leaders.tailed(one) | changed));
        Ok(())
    }

    fn publish(&mut self, active: &mut Active<S, L>, covered: BTreeMap<String, u64>) -> Result<(), Stop> {
        let top = Top { epoch: active.epoch.number, list: active.list.clone(), covered };
        top.publish(&*self.share, &active.epoch.nonce).map_err(Stop::at("the list can't be published"))?;
        if active.published.is_none() {
            self.forget_old(active.epoch.number);
        }
        active.published = Some(top.clone());
        self.status.list = ListState::Published;
        let offsets = active.tail.offsets();
        self.shared.update(|leaders| leaders.published(top, |segment| offsets.contains_key(segment)));
        Ok(())
    }

    /// Removes what earlier epochs left, their databases too: everything in them is in this one, which began and is the
    /// last. Whatever can't be removed now is removed by the next ingester.
    fn forget_old(&self, epoch: u64) {
        for name in self.share.list("").unwrap_or_default() {
            let old = |prefix| numbered(&name, prefix).is_some_and(|number| number < epoch);
            if old(top::PREFIX) || old(BEAT) || takeover::epoch_of(&name).is_some_and(|number| number < epoch) {
                drop(self.share.remove(&name));
            }
        }
    }

    fn set_aside(&self, damage: &Damage) -> Result<(), Stop> {
        let at = Stop::at("damaged bytes can't be kept aside");
        let keep = || {
            match self.share.make_dir(ASIDE) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let name = format!("{ASIDE}/{}.{}", damage.segment, damage.offset);
            if self.share.open(&name).is_ok() {
                return Ok(false);
            }
            share::publish(&*self.share, &name, &format!("{name}.{}.tmp", self.config.node), &damage.bytes)?;
            self.share.sync_dir(ASIDE).map(|()| true)
        };
        if keep().map_err(at)? {
            let (segment, offset, bytes) = (&damage.segment, damage.offset, damage.bytes.len());
            tracing::error!(segment, offset, bytes, "bytes that are no record were kept aside, in the folder {ASIDE}");
            self.shared.observer.set_aside(damage.bytes.len());
        }
        Ok(())
    }

    fn beat(&self, active: &mut Active<S, L>) -> Result<(), Stop> {
        let Ok(Locking::Heartbeat(patience)) = self.shared.ingest() else { return Ok(()) };
        let now = self.share.now();
        if now.saturating_sub(active.beaten) < patience / 10 {
            return Ok(());
        }
        active.beat += 1;
        active.beaten = now;
        let name = format!("{BEAT}.{}", active.epoch.number);
        let written = self.share.open_or_create(&name).and_then(|mut file| {
            file.write_at(0, format!("{:020}", active.beat).as_bytes())?;
            file.sync()
        });
        written.map_err(Stop::at("the heartbeat can't be written"))
    }

    /// The database is closed and handed to whoever comes next; if that fails, the successor copies it instead.
    fn hand_over(&mut self, mut active: Active<S, L>) -> Next<S, L> {
        let closed = self.check(&mut active).and_then(|()| {
            let Some(ledger) = active.ledger.take() else { return Ok(()) };
            ledger.close()?;
            claim::leave_clean(&*self.share, &active.epoch).map_err(Stop::at("the epoch can't be left clean"))
        });
        active.abandon();
        match closed {
            Ok(()) => tracing::info!(epoch = active.epoch.number, "the database is handed over"),
            Err(Stop::Overtaken) => tracing::warn!(epoch = active.epoch.number, "another process has a later epoch"),
            Err(Stop::Trouble(trouble) | Stop::Failed(trouble)) => {
                tracing::warn!(trouble, "the database could not be handed over cleanly");
            }
        }
        drop(active.lock);
        Next::Later(State::Released)
    }
}
