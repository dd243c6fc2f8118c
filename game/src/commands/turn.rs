//! This process as a candidate for the ingester, for as long as a command needs one. It decides when to let go, which is always,
//! however the command ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spool::{Ingested, Keeper, Leader, Lock, Locking, Observer, Replacement, Role, Share, Shared, Status};

use super::place::Place;
use super::{Failure, failed};

/// How long a command waits for its own hand-over.
const HAND_OVER_MAX: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A keeper of this process.
pub(super) struct Turn {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    seen: Seen,
}

impl Turn {
    /// Begins to wait for the turn to ingest.
    pub(super) fn take(place: &Place, replacement: Option<Replacement>) -> Result<Self, Failure> {
        Self::begin(place, place.ingest(), replacement)
    }

    /// Waits for nobody: whoever ingests is taken for silent at once. It costs epochs, and no score.
    pub(super) fn overtake(place: &Place, replacement: Option<Replacement>) -> Result<Self, Failure> {
        let ingest = place.ingest().map(|_| Locking::Heartbeat(Duration::ZERO));
        Self::begin(place, ingest, replacement)
    }

    fn begin(
        place: &Place,
        ingest: Result<Locking, String>,
        replacement: Option<Replacement>,
    ) -> Result<Self, Failure> {
        let seen = Seen::default();
        let shared = Shared::new(ingest, Box::new(seen.clone()));
        let mut keeper = Keeper::new(place.share.clone(), place.ledgers(), place.config(replacement), shared.clone());
        let keeper = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            while let Some(pause) = keeper.step() {
                std::thread::park_timeout(pause);
            }
        });
        Ok(Self { shared, keeper: Some(keeper.map_err(failed("no thread for the ingester"))?), seen })
    }

    /// How it is doing.
    pub(super) fn status(&self) -> Status {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this process ingests, and says in which epoch.
    pub(super) async fn active(&self, deadline: Instant) -> Result<u64, Failure> {
        let active = || Ok((self.status().role == Role::Active).then(|| self.status().epoch));
        match until(deadline, active).await? {
            Some(epoch) => Ok(epoch),
            None => Err(self.refused()),
        }
    }

    /// Takes the writer's lock from whoever was overtaken and notices it, where locks exclude.
    pub(super) async fn lock(&self, place: &Place, deadline: Instant) -> Result<Option<Lock>, Failure> {
        if !matches!(place.ingest(), Ok(Locking::Lock)) {
            return Ok(None);
        }
        let look = || {
            place
                .share
                .try_lock()
                .map_err(failed(format!("the writer's lock in {} can't be asked for", place.folder.display())))
        };
        match until(deadline, look).await? {
            Some(lock) => Ok(Some(lock)),
            None => Err(Failure::new("whoever writes the scores did not notice in time that it was overtaken")
                .advise("a process that is paused or hangs has the lock; give it more with --timeout, or end it")),
        }
    }

    /// Waits until this process ingests over the database of that epoch; none when another process began one meanwhile.
    pub(super) async fn active_over(
        &self,
        place: &Place,
        over: u64,
        deadline: Instant,
    ) -> Result<Option<u64>, Failure> {
        let look = || {
            let status = self.status();
            if status.role == Role::Active {
                return Ok(Some(Some(status.epoch)));
            }
            Ok((status.trouble.is_some() && place.survey()?.begun > over).then_some(None))
        };
        until(deadline, look).await?.ok_or_else(|| self.refused())
    }

    /// Why it does not ingest.
    pub(super) fn refused(&self) -> Failure {
        let status = self.status();
        match status.trouble {
            Some(trouble) => Failure::new(format!("the database can't be taken over: {trouble}")),
            None => Failure::new(format!("another process still writes the scores (epoch {})", status.epoch))
                .advise("stop the service first, all of its processes, and try again"),
        }
    }

    /// Lets go; whatever was read is in the database then, which is handed over.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        self.shared.release();
        keeper.thread().unpark();
        let until = Instant::now() + HAND_OVER_MAX;
        while !keeper.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if keeper.is_finished() { Ok(()) } else { Err(Failure::new("the database was not handed over in time")) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Who comes next copies what is not handed over.
        drop(self.end());
    }
}

/// Looks again and again, until there is something or the time is over.
pub(super) async fn until<T>(
    deadline: Instant,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the keeper said last.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Status>>);

impl Observer for Seen {
    fn leaders(&self, _list: &[Leader]) {}

    fn status(&self, status: &Status) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(status);
    }

    fn ingested(&self, _what: Ingested, _oldest_created_ms: Option<i64>) {}

    fn set_aside(&self, _bytes: usize) {}
}
