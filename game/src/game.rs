//! One running game: what its handlers share. It owns the parts and their order of stopping, and decides nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::chaos::Chaos;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::Store;

/// A cheap handle; all clones are the same game.
#[derive(Clone)]
pub struct Game(Arc<Shared>);

struct Shared {
    settings: Settings,
    metrics: Arc<Metrics>,
    store: Store,
    chaos: Option<Chaos>,
    life: Life,
}

/// Why a game could not be made. Nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GameError {
    /// A fault of this program.
    #[error("metrics can't be registered")]
    Metrics(#[from] prometheus::Error),
    /// Memory or process limits.
    #[error("the writer thread can't be started")]
    Thread(#[from] std::io::Error),
}

impl Game {
    /// Starts to open the store, in a thread of its own, and returns at once: `/readyz` tells how that goes.
    ///
    /// # Errors
    /// [`GameError`]; an unusable store is none.
    pub fn start(settings: Settings) -> Result<Self, GameError> {
        let metrics = Arc::new(Metrics::new(settings.release.as_deref().unwrap_or_default(), settings.storage.name())?);
        let store = Store::start(&settings, &metrics)?;
        Ok(Self::assemble(settings, metrics, store))
    }

    pub(crate) fn assemble(settings: Settings, metrics: Arc<Metrics>, store: Store) -> Self {
        let chaos = settings.chaos.clone().map(Chaos::new);
        Self(Arc::new(Shared { settings, metrics, store, chaos, life: Life::default() }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn chaos(&self) -> Option<&Chaos> {
        self.0.chaos.as_ref()
    }

    pub(crate) fn life(&self) -> &Life {
        &self.0.life
    }

    /// Whether scores can be stored and the list can be read: what `/readyz` answers while the game isn't stopping.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.store.view().condition.load().is_open()
    }

    /// Ends a drain delay early: whoever asks a second time doesn't want to wait for load balancers.
    pub fn hurry(&self) {
        if self.0.life.stage() == Stage::Draining {
            self.0.life.enter(Stage::Closing);
        }
    }

    /// Stores what is queued and closes the database; `false` if that took longer than `patience`.
    pub async fn close(&self, patience: Duration) -> bool {
        self.0.store.close(patience).await
    }
}

impl std::fmt::Debug for Game {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Game").field("life", &self.0.life.stage()).finish_non_exhaustive()
    }
}

/// The stages of stopping, in order; a stage is never left backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Not ready, but still accepting.
    Draining,
    /// The listener is closed; what is in flight is finished.
    Closing,
    /// What is still open is dropped.
    Ending,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Serving, Self::Draining, Self::Closing, Self::Ending];
}

/// The current stage: one relaxed load for whoever only looks, a channel for whoever waits.
pub(crate) struct Life {
    stage: AtomicU8,
    changes: watch::Sender<Stage>,
}

impl Default for Life {
    fn default() -> Self {
        Self { stage: AtomicU8::new(0), changes: watch::Sender::new(Stage::Serving) }
    }
}

impl Life {
    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed))).copied().unwrap_or(Stage::Ending)
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
        self.changes.send_if_modified(|current| {
            let later = stage > *current;
            *current = stage.max(*current);
            later
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Stage> {
        self.changes.subscribe()
    }
}
