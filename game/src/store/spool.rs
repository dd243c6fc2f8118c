//! Keeps scores in the spool: an engine that appends what is accepted to this process's own segments, and beside it a
//! thread that follows the list and ingests when it is this process's turn. It decides nothing of the protocol.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spool::mount::{self, Verdict};
use spool::{
    AppendError, Appender, Config, Folder, Ingested, Keeper, Leader, ListState, Locking, Observer, Record, Role,
    Shared, Status,
};
use tracing::{error, info, warn};

use super::ledger::SqliteLedgers;
use super::{Engine, EngineError, Kept, NewScore, OpenError, Opener, Part, View};
use crate::board::{Board, Entry};
use crate::clock;
use crate::folder::folder_of;
use crate::metrics::Metrics;
use crate::run_ids::RunIds;
use crate::score::Score;

/// A third of the processor's time that others get, when there is too little.
const KEEPER_NICE: i32 = 5;
/// Time between two self-tests of a mount that may not be used for ingesting.
const RECHECK_REFUSED: Duration = Duration::from_secs(2);
/// The same of one whose locks can't be trusted.
const RECHECK_LOCKS: Duration = Duration::from_secs(30);
/// How long a stop waits for the hand-over.
const HAND_OVER_MAX: Duration = Duration::from_secs(20);
/// A file system that hangs in the self-test is told of after this time.
const MOUNT_CHECK_MAX: Duration = Duration::from_secs(30);

pub(crate) struct SpoolOpener {
    path: PathBuf,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    silence: Duration,
    running: Mutex<Option<Running>>,
}

/// What goes on while the process lives, however often the engine is opened.
struct Running {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

impl SpoolOpener {
    pub(crate) fn new(path: PathBuf, silence: Duration, view: Arc<View>, metrics: Arc<Metrics>) -> Self {
        Self { path, view, metrics, silence, running: Mutex::default() }
    }

    /// Ends even if the file system hangs.
    fn check_mount(folder: &Path) -> Result<Verdict, String> {
        let (tell, told) = std::sync::mpsc::channel();
        let place = folder.to_owned();
        std::thread::Builder::new()
            .name("mount check".to_owned())
            .spawn(move || tell.send(mount::check(&place, Some(&mount::this_program)).verdict))
            .map_err(|error| format!("no thread for the mount's self-test: {error}"))?;
        told.recv_timeout(MOUNT_CHECK_MAX).map_err(|_| format!("{}: the file system does not answer", folder.display()))
    }

    /// What was wrong at the start may get right, a full disk for one; what is right stays so.
    fn watch_mount(folder: PathBuf, verdict: Verdict, silence: Duration, shared: &Arc<Shared>) {
        let shared = Arc::downgrade(shared);
        let mut said = verdict;
        let watch = move || {
            while said.ingest != Ok(mount::Locking::Trusted) {
                std::thread::sleep(if said.ingest.is_ok() { RECHECK_LOCKS } else { RECHECK_REFUSED });
                let Some(shared) = shared.upgrade() else { return };
                let Ok(verdict) = Self::check_mount(&folder) else { continue };
                if verdict.ingest != said.ingest {
                    Self::say(&verdict);
                    shared.allow(Self::locking(&verdict, silence));
                    said = verdict;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("mount watch".to_owned()).spawn(watch) {
            warn!(%error, "no thread to try the mount again");
        }
    }

    fn say(verdict: &Verdict) {
        match &verdict.ingest {
            Ok(locking) => info!(%locking, reason = verdict.locking_reason, "the mount can hold the scores"),
            Err(refused) => error!(refused, "this process does not ingest"),
        }
    }

    fn locking(verdict: &Verdict, silence: Duration) -> Result<Locking, String> {
        verdict.ingest.clone().map(|locking| match locking {
            mount::Locking::Trusted => Locking::Lock,
            mount::Locking::Heartbeat => Locking::Heartbeat(silence),
        })
    }

    fn run(&self, folder: &Path) -> Result<Arc<Shared>, OpenError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running
            && !running.keeper.is_finished()
        {
            return Ok(running.shared.clone());
        }
        let verdict = Self::check_mount(folder).map_err(OpenError::Unusable)?;
        Self::say(&verdict);
        let watcher = Watcher { view: self.view.clone(), metrics: self.metrics.clone() };
        let shared = Shared::new(Self::locking(&verdict, self.silence), Box::new(watcher));
        Self::watch_mount(folder.to_owned(), verdict.clone(), self.silence, &shared);
        let share = Arc::new(Folder::new(folder));
        let original = self.path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            OpenError::Unusable(format!("SCORE_DB_PATH={} is not the name of a file", self.path.display()))
        })?;
        let original = original.to_owned();
        let ledgers = SqliteLedgers::new(folder, verdict.vfs.name());
        let mut keeper = Keeper::new(share, ledgers, Config::new(original), shared.clone());
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                // Whoever is accepted comes first, also while a large database is being copied and looked through.
                if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), KEEPER_NICE) {
                    warn!(%error, "the ingester runs with the same priority as everything else");
                }
                while let Some(pause) = keeper.step() {
                    std::thread::park_timeout(pause);
                }
            })
            .map_err(|error| OpenError::Unusable(format!("no thread for the ingester: {error}")))?;
        self.view
            .keeper
            .store(Some(Arc::new(KeeperHandle { shared: shared.clone(), thread: thread.thread().clone() })));
        *running = Some(Running { shared: shared.clone(), keeper: thread });
        Ok(shared)
    }
}

/// How to ask the keeper to let go.
pub(crate) struct KeeperHandle {
    shared: Arc<Shared>,
    thread: std::thread::Thread,
}

impl KeeperHandle {
    /// From now on it is another process's turn to ingest.
    pub(crate) fn release(&self) {
        self.shared.release();
        self.thread.unpark();
    }
}

impl Opener for SpoolOpener {
    fn open(&self) -> Result<Box<dyn Engine>, OpenError> {
        let folder = folder_of(&self.path);
        if !folder.is_dir() {
            let (path, folder) = (self.path.display(), folder.display());
            return Err(OpenError::Unusable(format!("{path}: folder {folder} does not exist")));
        }
        let shared = self.run(folder)?;
        let appender = Appender::new(Arc::new(Folder::new(folder)), format!("{:016x}", fastrand::u64(..)));
        Ok(Box::new(Spool { appender, shared, run_ids: RunIds::default() }))
    }

    fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { shared, keeper }) = running else { return };
        shared.release();
        keeper.thread().unpark();
        let until = Instant::now() + HAND_OVER_MAX;
        while !keeper.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !keeper.is_finished() {
            warn!("the database was not handed over in time; whoever comes next copies it");
        }
    }
}

/// Tells everyone else of the process what the keeper does.
struct Watcher {
    view: Arc<View>,
    metrics: Arc<Metrics>,
}

impl Observer for Watcher {
    fn leaders(&self, list: &[Leader]) {
        let entries = list.iter().filter_map(|leader| {
            let score = Score::new(leader.score)?;
            Some(Entry { player: leader.player.to_string(), score, created_at: clock::rfc3339(leader.created_ms) })
        });
        let board = Board::load(entries.collect());
        self.metrics.high_score.set(board.high_score().map_or(0.0, Score::get));
        self.view.board.store(Arc::new(board.publish()));
    }

    fn status(&self, status: &Status) {
        let role = match status.role {
            Role::Standby | Role::Claiming => "standby",
            Role::Active => "active",
            Role::Released => "draining",
        };
        self.metrics.show_role(role);
        self.metrics.epoch.set(i64::try_from(status.epoch).unwrap_or(i64::MAX));
        self.metrics.segments.set(i64::try_from(status.segments).unwrap_or(i64::MAX));
        self.metrics.segments_newer.set(i64::try_from(status.newer_segments).unwrap_or(i64::MAX));
        let was = self.view.part.load();
        if was.role != role {
            info!(role, epoch = status.epoch, "part in the spool");
        }
        if was.trouble != status.trouble {
            match &status.trouble {
                Some(trouble) => warn!(trouble, role, "the spool"),
                None => info!(role, "the spool works again"),
            }
        }
        self.view.part.store(Arc::new(Part {
            storage: "spool",
            role,
            epoch: Some(status.epoch),
            listed: match status.list {
                ListState::Wanted => None,
                ListState::None => Some(false),
                ListState::Published => Some(true),
            },
            locking: status.locking.map(|locking| match locking {
                Locking::Lock => "trusted",
                Locking::Heartbeat(_) => "heartbeat",
            }),
            trouble: status.trouble.clone(),
        }));
    }

    fn ingested(&self, what: Ingested, oldest_created_ms: Option<i64>) {
        self.metrics.ingested.inc_by(what.added);
        self.metrics.differing.inc_by(what.differing);
        if let Some(oldest) = oldest_created_ms {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a day at most matter")]
            let lag = (clock::now_ms() - oldest).max(0) as f64 / 1000.0;
            self.metrics.ingest_lag_seconds.set(lag);
        }
    }

    fn set_aside(&self, _bytes: usize) {
        self.metrics.set_aside.inc();
    }
}

struct Spool {
    appender: Appender<Folder>,
    shared: Arc<Shared>,
    run_ids: RunIds,
}

impl Spool {
    fn fault(error: &AppendError) -> EngineError {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let fenced = matches!(error, AppendError::Fenced { .. });
        EngineError { message: format!("{error}{cause}"), lost: fenced, fenced }
    }
}

impl Engine for Spool {
    fn mode(&self) -> &'static str {
        "sqlite"
    }

    fn keeps_list(&self) -> bool {
        true
    }

    fn high_score(&self) -> Option<Score> {
        self.shared.high_score().and_then(Score::new)
    }

    fn top(&mut self) -> Result<Vec<Entry>, EngineError> {
        Ok(Vec::new())
    }

    fn store(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, EngineError> {
        let mut records: Vec<Record> = Vec::with_capacity(batch.len());
        let mut kept: Vec<Kept> = Vec::with_capacity(batch.len());
        let created_at = clock::rfc3339(now_ms);
        let mut first_of: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        for new in batch {
            let run_id = match &new.run_id {
                Some(run_id) => {
                    if let Some(first) = first_of.get(run_id.as_str()).and_then(|at| kept.get(*at)) {
                        let repeat = Kept { repeated: true, ..first.clone() };
                        kept.push(repeat);
                        continue;
                    }
                    first_of.insert(run_id.as_str(), kept.len());
                    run_id.clone()
                }
                None => self.run_ids.next(now_ms).ok_or_else(EngineError::no_run_id)?,
            };
            records.push(Record {
                run_id: run_id.as_str().into(),
                player: new.player.as_str().into(),
                score: new.score.get(),
                created_ms: now_ms,
            });
            let entry = Entry { player: new.player.clone(), score: new.score, created_at: created_at.clone() };
            kept.push(Kept { entry, run_id, repeated: false });
        }
        self.appender.append(&records).map_err(|error| Self::fault(&error))?;
        self.shared.accepted(&records);
        Ok(kept)
    }

    fn probe(&mut self) -> Result<(), EngineError> {
        self.appender.prepare().map_err(|error| Self::fault(&error))
    }

    fn close(mut self: Box<Self>) -> Result<(), EngineError> {
        self.appender.seal().map_err(|error| Self::fault(&error))
    }
}
