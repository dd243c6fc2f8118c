//! The boundary between the game and where scores are kept: a writer thread that owns an [`Engine`], a bounded queue in
//! front of it, and what readers see. Which engine there is, is decided by the settings alone.

mod answers;
mod gathering;
mod ledger;
mod memory;
mod run_key;
pub(crate) use run_key::text as run_identity;
mod schema;
mod spool;
mod sqlite;
#[cfg(test)]
mod tests;
mod top_index;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{oneshot, watch};

use crate::board::{Board, Entry, Published};
use crate::metrics::Metrics;
use crate::score::{RunId, Score};
use crate::settings::{Settings, Storage};

pub(crate) use ledger::{SqliteLedgers, user_of};
pub(crate) use memory::MemoryOpener;
pub(crate) use sqlite::SqliteOpener;

/// Scores that may wait for a commit. At the bound of one commit per 10 ms this is under a second of work.
const QUEUE_SCORES_MAX: usize = 1024;

/// A score that is not stored yet.
#[derive(Clone, Debug)]
pub(crate) struct NewScore {
    pub(crate) player: String,
    pub(crate) score: Score,
    /// Chosen by the client; the engine makes one if there is none.
    pub(crate) run_id: Option<RunId>,
}

/// A score as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    pub(crate) run_id: RunId,
    /// The run identity was stored before: nothing was added, and the entry is the first one.
    pub(crate) repeated: bool,
}

/// What a submitter is told once its score is durable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) kept: Kept,
    pub(crate) high_score: Score,
}

/// Why a score was not acknowledged. It may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many scores are waiting")]
    QueueFull,
    #[error("the score store is not open")]
    NotOpen,
    #[error("the score could not be made durable")]
    NotDurable,
    #[error("the score store did not answer in time")]
    TimedOut,
}

/// Keeps scores. Called from the writer thread only.
pub(crate) trait Engine: Send {
    /// `sqlite` or `memory`, as `/readyz` says it.
    fn mode(&self) -> &'static str;
    /// The best ten of all time.
    fn top(&mut self) -> Result<Vec<Entry>, EngineError>;
    /// Whether the list that readers see is published by somebody else than the writer: then it is told nothing of it.
    fn keeps_list(&self) -> bool {
        false
    }
    /// The best score, where the engine keeps the list.
    fn high_score(&self) -> Option<Score> {
        None
    }
    /// Makes all scores durable or none. A run identity that is known already adds nothing.
    fn store(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, EngineError>;
    /// Proves with a durable write that `store` would work.
    fn probe(&mut self) -> Result<(), EngineError>;
    /// Leaves nothing for a successor to recover.
    fn close(self: Box<Self>) -> Result<(), EngineError>;
}

/// Makes an engine; called again and again until it succeeds.
pub(crate) trait Opener: Send {
    fn open(&self) -> Result<Box<dyn Engine>, OpenError>;
    /// Ends what goes on beside the engine; the engine is closed already.
    fn close(&self) {}
}

/// Why the store can't be opened now.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Another process has it: wait.
    Held,
    /// It will not get better by itself soon; the text says what and where.
    Unusable(String),
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct EngineError {
    pub(crate) message: String,
    /// The engine has to be opened again before it can work.
    pub(crate) lost: bool,
    /// Nothing that this process writes can be trusted any more.
    pub(crate) fenced: bool,
}

/// What the store is doing.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Not tried yet, or being prepared.
    Opening,
    /// Another process holds it.
    Held,
    Unusable {
        reason: String,
    },
    Open {
        mode: &'static str,
        /// Writes fail for a while now; they are still tried.
        failing: Option<String>,
    },
    /// A sync failed: this process accepts nothing any more and ends.
    Fenced {
        reason: String,
    },
    Closed,
}

impl Condition {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("the score store is being opened"),
            Self::Held => f.write_str("another process holds the score store"),
            Self::Unusable { reason } => write!(f, "the score store is unusable: {reason}"),
            Self::Open { failing: Some(reason), .. } => write!(f, "scores can't be made durable: {reason}"),
            Self::Open { failing: None, .. } => f.write_str("the score store is open"),
            Self::Fenced { reason } => write!(f, "this process stopped for good: {reason}"),
            Self::Closed => f.write_str("the score store is closed"),
        }
    }
}

/// What the writer thread publishes for everyone else.
pub(crate) struct View {
    pub(crate) condition: ArcSwap<Condition>,
    pub(crate) board: ArcSwap<Published>,
    /// This process's part in keeping the scores.
    pub(crate) part: ArcSwap<Part>,
    keeper: ArcSwapOption<spool::KeeperHandle>,
    /// Whether the process has to end.
    fenced: watch::Sender<bool>,
}

/// What `/readyz` says beside ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// As `SCORE_STORAGE` names it.
    pub(crate) storage: &'static str,
    pub(crate) role: &'static str,
    pub(crate) epoch: Option<u64>,
    /// Whether the list is an ingester's; `None` while one is looked for.
    pub(crate) listed: Option<bool>,
    /// How other writers are kept out.
    pub(crate) locking: Option<&'static str>,
    /// What keeps it from its work.
    pub(crate) trouble: Option<String>,
}

impl View {
    pub(crate) fn new(storage: Storage) -> Self {
        let storage = storage.name();
        let part = Part { storage, role: "waiting", epoch: None, listed: None, locking: None, trouble: None };
        Self {
            condition: ArcSwap::from_pointee(Condition::Opening),
            board: ArcSwap::from_pointee(Board::default().publish()),
            part: ArcSwap::from_pointee(part),
            keeper: ArcSwapOption::empty(),
            fenced: watch::Sender::new(false),
        }
    }

    /// Whether the list can be shown: an ingester's, or after a while what this process knows by itself.
    pub(crate) fn is_listed(&self) -> bool {
        let part = self.part.load();
        part.storage != "spool" || part.listed.is_some()
    }
}

enum Message {
    Score { score: NewScore, arrived: Instant, reply: oneshot::Sender<Result<Answer, Refusal>> },
    Close,
}

/// The game's end of the queue.
pub(crate) struct Store {
    queue: SyncSender<Message>,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    timeout: Duration,
    writer: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Starts the writer thread, which begins to open the store.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(settings: &Settings, metrics: &Arc<Metrics>) -> std::io::Result<Self> {
        let view = Arc::new(View::new(settings.storage));
        let path = settings.score_db_path.clone();
        let opener: Box<dyn Opener> = match settings.storage {
            Storage::Spool => {
                Box::new(spool::SpoolOpener::new(path, settings.spool_silence, view.clone(), metrics.clone()))
            }
            Storage::Direct => Box::new(SqliteOpener::new(path)),
            Storage::Memory => Box::new(MemoryOpener),
        };
        Self::start_with(opener, view, settings, metrics)
    }

    pub(crate) fn start_with(
        opener: Box<dyn Opener>,
        view: Arc<View>,
        settings: &Settings,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (queue, inbox) = sync_channel(QUEUE_SCORES_MAX);
        let writer = writer::Writer::new(opener, inbox, view.clone(), metrics.clone(), settings.fallback_to_memory);
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || writer.run())?;
        Ok(Self {
            queue,
            view,
            metrics: metrics.clone(),
            timeout: settings.limits.store_timeout,
            writer: std::sync::Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Lets another process have the database, while this one still accepts.
    pub(crate) fn release(&self) {
        if let Some(keeper) = &*self.view.keeper.load() {
            keeper.release();
        }
    }

    /// Waits until this process has to end by itself, which is seldom.
    pub(crate) async fn fenced(&self) {
        let mut fenced = self.view.fenced.subscribe();
        if fenced.wait_for(|fenced| *fenced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Answers once the score is durable. A refusal leaves open whether it was stored only for [`Refusal::TimedOut`] and
    /// [`Refusal::NotDurable`]; with the same run identity it can be sent again in any case.
    pub(crate) async fn submit(&self, score: NewScore) -> Result<Answer, Refusal> {
        if !self.view.condition.load().is_open() {
            return Err(Refusal::NotOpen);
        }
        let (reply, answer) = oneshot::channel();
        // Counted before it is sent, so that the writer can't count it down first.
        self.metrics.queue_depth.inc();
        if let Err(fault) = self.queue.try_send(Message::Score { score, arrived: Instant::now(), reply }) {
            self.metrics.queue_depth.dec();
            return Err(match fault {
                TrySendError::Full(_) => Refusal::QueueFull,
                TrySendError::Disconnected(_) => Refusal::NotOpen,
            });
        }
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::NotDurable),
            Err(_) => Err(Refusal::TimedOut),
        }
    }

    /// Stores what is queued, closes the database and ends the thread; `false` if that took longer than `patience`.
    pub(crate) async fn close(&self, patience: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(1);
        let thread = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(thread) = thread else { return true };
        let deadline = Instant::now() + patience;
        let mut told = false;
        while Instant::now() < deadline {
            if !told {
                told = !matches!(self.queue.try_send(Message::Close), Err(TrySendError::Full(_)));
            }
            if thread.is_finished() {
                return thread.join().is_ok();
            }
            tokio::time::sleep(STEP).await;
        }
        false
    }
}

impl EngineError {
    /// The generator of run identities makes valid ones only; this says so without a panic.
    fn no_run_id() -> Self {
        Self { message: "no run identity could be made".to_owned(), lost: false, fenced: false }
    }
}
