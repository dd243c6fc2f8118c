//! What a process does beside accepting: it watches the share, and moves records into the database while it is the
//! ingester. It decides when to claim, when records may be deleted and when to let go; [`step`](Keeper::step) does one
//! bounded piece of it, so that time and threads are the caller's.

mod active;
mod standby;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::claim::{Base, Epoch};
use crate::leaders::{Leader, Leaders};
use crate::ledger::{Ingested, Ledgers};
use crate::record::Record;
use crate::share::Share;
use crate::tail::Tail;
use crate::takeover::Replacement;

use active::Active;
use standby::Watch;

/// How a process makes sure that no other one ingests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// By the writer's lock: whoever has it is alone, and a dead process has none.
    Lock,
    /// By watching the ingester's counter: one that did not change for this long is a dead ingester's. Wrong guesses cost
    /// nothing but a change of epochs.
    Heartbeat(Duration),
}

/// What a keeper is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// 16 hexadecimal digits that no other process has ever had.
    pub node: String,
    /// Name of the database that was there before any epoch.
    pub original: String,
    /// Time between two looks at the share when there is nothing to do.
    pub pace: Duration,
    /// Time after which a process without any published list calls itself ready all the same.
    pub top_wait: Duration,
    /// Most records that are moved at once.
    pub batch_records_max: usize,
    /// What its epochs' database is instead of the one that is there; all that is still in segments is moved into it.
    pub replacement: Option<Replacement>,
}

impl Config {
    /// The usual times, with a new node's name.
    #[must_use]
    pub fn new(original: String) -> Self {
        Self {
            node: format!("{:016x}", fastrand::u64(..)),
            original,
            pace: Duration::from_millis(100),
            top_wait: Duration::from_secs(5),
            batch_records_max: 8192,
            replacement: None,
        }
    }
}

/// A process's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Accepts, and would ingest.
    #[default]
    Standby,
    /// Claimed an epoch and takes the database over.
    Claiming,
    /// Accepts and ingests.
    Active,
    /// Let go for good.
    Released,
}

/// How a keeper is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its part.
    pub role: Role,
    /// Its epoch, or the last one it saw.
    pub epoch: u64,
    /// Whether the list is that of an ingester, or there is none for so long that the process serves without.
    pub list: ListState,
    /// How other ingesters are kept out; `None` if this process may not ingest.
    pub locking: Option<Locking>,
    /// What keeps it from its work.
    pub trouble: Option<String>,
    /// Segments on the share.
    pub segments: usize,
    /// Segments of a newer version, which wait for it.
    pub newer_segments: usize,
}

/// Where the list comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListState {
    /// None was found yet.
    #[default]
    Wanted,
    /// None was found for a while: only what was read from segments is in it.
    None,
    /// An ingester published it.
    Published,
}

/// Who is told what a keeper does. Called from its thread, and from the accepter's.
pub trait Observer: Send + Sync {
    /// The list changed.
    fn leaders(&self, list: &[Leader]);
    /// Something changed.
    fn status(&self, status: &Status);
    /// Records were moved; the oldest was accepted at that time.
    fn ingested(&self, what: Ingested, oldest_created_ms: Option<i64>);
    /// Bytes that are no record were kept aside.
    fn set_aside(&self, bytes: usize);
}

/// What the accepter and the keeper of a process share.
pub struct Shared {
    ingest: std::sync::Mutex<Result<Locking, String>>,
    leaders: std::sync::Mutex<Leaders>,
    observer: Box<dyn Observer>,
    released: AtomicBool,
}

impl Shared {
    /// Nobody has accepted anything yet. `ingest` says whether and how this process may ingest, or why not.
    #[must_use]
    pub fn new(ingest: Result<Locking, String>, observer: Box<dyn Observer>) -> Arc<Self> {
        let ingest = std::sync::Mutex::new(ingest);
        Arc::new(Self { ingest, leaders: std::sync::Mutex::default(), observer, released: AtomicBool::new(false) })
    }

    /// Changes the list, and tells of it in the order of the changes.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Leaders) -> bool) {
        let mut leaders = self.leaders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if change(&mut leaders) {
            self.observer.leaders(leaders.list());
        }
    }

    /// Takes note of records that this process made durable.
    pub fn accepted<'a>(&self, records: impl IntoIterator<Item = &'a Record>) {
        self.update(|leaders| records.into_iter().fold(false, |changed, record| leaders.accepted(record) | changed));
    }

    /// The best score now.
    #[must_use]
    pub fn high_score(&self) -> Option<f64> {
        let leaders = self.leaders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        leaders.list().first().map(|leader| leader.score)
    }

    /// Says anew whether and how this process may ingest.
    pub fn allow(&self, ingest: Result<Locking, String>) {
        *self.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ingest;
    }

    fn ingest(&self) -> Result<Locking, String> {
        self.ingest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Asks the keeper to finish what it has and let go: another process's turn.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }
}

/// One process's keeper.
pub struct Keeper<S: Share, L: Ledgers> {
    share: Arc<S>,
    ledgers: L,
    config: Config,
    shared: Arc<Shared>,
    state: State<S, L>,
    status: Status,
    told: Option<Status>,
    /// Epochs that were lost to a database that does not work, one after another.
    failures: u32,
    /// Why the last one was.
    failed: Option<String>,
    /// No epoch is claimed before.
    rests_until: Duration,
    /// When it began to look for a list.
    since: Duration,
}

enum State<S: Share, L: Ledgers> {
    Standby { tail: Tail, watch: Watch },
    Claiming { lock: Option<S::Lock>, epoch: Epoch, base: Option<Base> },
    Active(Active<S, L>),
    Released,
}

/// What a step came to.
enum Next<S: Share, L: Ledgers> {
    /// Go on at once.
    Now(State<S, L>),
    /// Go on after the usual pause.
    Later(State<S, L>),
}

/// Time between two tries of what failed.
const TROUBLE_PAUSE: Duration = Duration::from_millis(250);

impl<S: Share, L: Ledgers> Keeper<S, L> {
    /// Does nothing yet.
    pub fn new(share: Arc<S>, ledgers: L, config: Config, shared: Arc<Shared>) -> Self {
        let since = share.now();
        let state = State::Standby { tail: Tail::default(), watch: Watch::default() };
        Self {
            share,
            ledgers,
            config,
            shared,
            state,
            status: Status::default(),
            told: None,
            failures: 0,
            failed: None,
            rests_until: since,
            since,
        }
    }

    /// Does one piece of work, and says how long to wait before the next; `None` after it let go.
    pub fn step(&mut self) -> Option<Duration> {
        let state = std::mem::replace(&mut self.state, State::Released);
        self.status.locking = self.shared.ingest().ok();
        let next = match state {
            State::Standby { tail, watch } => self.stand_by(tail, watch),
            State::Claiming { lock, epoch, base } => self.take_over(lock, epoch, base),
            State::Active(active) => self.ingest(active),
            State::Released => Next::Later(State::Released),
        };
        let (state, mut pause) = match next {
            Next::Now(state) => (state, Duration::ZERO),
            Next::Later(state) => (state, self.config.pace),
        };
        self.state = state;
        if self.status.trouble.is_some() && pause > Duration::ZERO {
            pause = pause.max(TROUBLE_PAUSE);
        }
        self.status.role = match &self.state {
            State::Standby { .. } => Role::Standby,
            State::Claiming { .. } => Role::Claiming,
            State::Active(_) => Role::Active,
            State::Released => Role::Released,
        };
        if self.told.as_ref() != Some(&self.status) {
            self.shared.observer.status(&self.status);
            self.told = Some(self.status.clone());
        }
        (!matches!(self.state, State::Released)).then_some(pause)
    }

    /// How it is doing.
    pub fn status(&self) -> &Status {
        &self.status
    }

    fn trouble(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.status.trouble = Some(format!("{what}: {error}"));
    }

    fn waits_too_long_for_a_list(&self) -> bool {
        self.share.now().saturating_sub(self.since) >= self.config.top_wait
    }
}

/// An error of the share that says nothing but that the share is not there now.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
