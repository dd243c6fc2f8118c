//! One thread's connections to one backend. It decides which idle one is used next and which is too old; it never opens
//! one.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::clock::millis;
use super::release::Release;
use super::table::{Backend, Plan};
use super::upstream::Upstream;
use super::worker::Worker;

/// How long a new connection that does not answer keeps its place among those.
const SETTLE: Duration = Duration::from_millis(50);

/// A backend and the idle connections to it.
pub(super) struct Target {
    backend: Arc<Backend>,
    release: Arc<Release>,
    /// The backend's address, for requests without a Host field.
    pub(super) host: HeaderValue,
    #[expect(clippy::vec_box, reason = "one goes in and out for each request, and it is large")]
    idle: RefCell<Vec<Box<Upstream>>>,
}

impl Target {
    pub(super) fn new(backend: &Arc<Backend>, release: &Arc<Release>) -> Rc<Self> {
        let host = HeaderValue::from_str(&backend.address.to_string());
        Rc::new(Self {
            backend: Arc::clone(backend),
            release: Arc::clone(release),
            host: host.unwrap_or(HeaderValue::from_static("localhost")),
            idle: RefCell::default(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    pub(super) fn epoch(&self) -> u64 {
        self.release.epoch()
    }

    /// The connection that was used last; so those that are not needed get old.
    pub(super) fn take(&self) -> Option<Box<Upstream>> {
        let epoch = self.epoch();
        let mut idle = self.idle.borrow_mut();
        while let Some(mut upstream) = idle.pop() {
            if upstream.epoch == epoch {
                upstream.reused = true;
                return Some(upstream);
            }
        }
        None
    }

    /// Waits for a place to open a connection in; many held requests that go on together must not overrun a backend.
    pub(super) async fn opening(&self) -> Option<Opening> {
        // An error is a closed semaphore, and this one never is.
        let place = Arc::clone(&self.backend.opening).acquire_owned().await.ok()?;
        Some(Opening(Rc::new(Cell::new(Some(place)))))
    }

    pub(super) fn put(&self, mut upstream: Box<Upstream>, worker: &Worker) {
        let mut idle = self.idle.borrow_mut();
        if upstream.epoch == self.epoch() && !self.is_leaving() && idle.len() < worker.limits.pool_idle_max {
            upstream.mute();
            upstream.idle_since_ms = worker.clock.now_ms();
            idle.push(upstream);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    fn is_leaving(&self) -> bool {
        self.backend.leaving.load(Relaxed)
    }

    /// Other backends are tried first for a while.
    pub(super) fn pause(&self, now_ms: u64, pause: Duration) {
        self.backend.paused_until_ms.store(now_ms.saturating_add(millis(pause)), Relaxed);
    }

    /// Closes what is too old, forgotten or closed by the backend; true if something is left.
    pub(super) fn sweep(&self, worker: &Worker) -> bool {
        let epoch = self.epoch();
        let oldest_ms = worker.clock.now_ms().saturating_sub(millis(worker.limits.pool_idle));
        let leaving = self.is_leaving();
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|upstream| {
            upstream.epoch == epoch && !leaving && upstream.idle_since_ms >= oldest_ms && upstream.is_alive()
        });
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        !idle.is_empty()
    }
}

/// A new connection's place, given back at its first answer or after a while.
pub(super) struct Opening(Rc<Cell<Option<OwnedSemaphorePermit>>>);

impl Opening {
    /// The connection is open: from now on its place is kept for a while only.
    pub(super) fn settle(&self) {
        let place = Rc::clone(&self.0);
        spawn_local(async move {
            sleep(SETTLE).await;
            drop(place.take());
        });
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// What a request on its way keeps of the release that counts it: not the lane, and with it backends that left.
pub(super) struct Counted(Arc<Release>);

impl Deref for Counted {
    type Target = Release;

    fn deref(&self) -> &Release {
        &self.0
    }
}

/// A release as one thread sees it: its turn-taking is shared with the other threads, its pools are not.
pub(super) struct Lane {
    pub(super) release: Rc<Counted>,
    plan: Arc<Plan>,
    portion: usize,
    targets: Vec<Rc<Target>>,
}

impl Lane {
    pub(super) fn new(plan: &Arc<Plan>, portion: usize, targets: Vec<Rc<Target>>) -> Rc<Self> {
        let release = Rc::new(Counted(Arc::clone(&plan.portions[portion].release)));
        Rc::new(Self { release, plan: Arc::clone(plan), portion, targets })
    }

    /// The backend whose turn it is; not `failed` if there is another.
    pub(super) fn target(&self, now_ms: u64, failed: Option<&Target>) -> &Rc<Target> {
        let failed_id = failed.map(|target| target.backend.id);
        let paused = |backend: &Backend| {
            backend.paused_until_ms.load(Relaxed) > now_ms || failed_id.is_some_and(|failed| failed == backend.id)
        };
        &self.targets[self.plan.portions[self.portion].turn(paused)]
    }
}
