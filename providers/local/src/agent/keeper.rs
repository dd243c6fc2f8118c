//! What the agent knows and keeps: the written state, the copies that run, the routes of both doors. It decides who gets
//! traffic from the weights and from who is ready; when weights change is decided by the course of a rollout.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane::proxy::{Route, Share};
use dataplane::supervise::{self, Status};
use dbird_core::{Progress, ReleaseId};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::doors::Doors;
use super::live::Live;
use super::sampling::Ring;
use super::state::{Stage, State};
use super::{Options, log, now_ms};
use crate::config::Paths;
use crate::wire::Build;

/// Notes about what the agent found or did by itself.
const NOTES_MAX: usize = 50;
/// Where to find the agent's own program.
const PROGRAM: &str = crate::config::OWN_PROGRAM;

/// Shared by everything that the agent does at once.
pub(super) struct Keeper {
    pub(super) options: Options,
    pub(super) paths: Paths,
    pub(super) build: Build,
    pub(super) since_unix_ms: u64,
    pub(super) front: Arc<Route>,
    pub(super) test: Arc<Route>,
    pub(super) doors: tokio::sync::Mutex<Doors>,
    /// One step is begun at a time.
    pub(super) begins: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
}

pub(super) struct Inner {
    pub(super) state: State,
    pub(super) live: BTreeMap<ReleaseId, Live>,
    /// Work that goes on by itself and ends with this agent.
    background: Vec<AbortHandle>,
    /// Steps that are no service, by their handle's token.
    pub(super) jobs: BTreeMap<String, Progress>,
    pub(super) runs: BTreeMap<String, AbortHandle>,
    /// Tasks that belong to nobody and have not ended yet.
    pub(super) evicted: usize,
    pub(super) ring: Ring,
    pub(super) notes: Vec<String>,
    pub(super) watchdog_pid: Option<u32>,
    /// Why the state on the disk is behind, if it is.
    behind: Option<String>,
    /// Another agent takes over: nothing is begun any more.
    frozen: bool,
}

impl Keeper {
    pub(super) fn new(options: Options, state: State, doors: Doors) -> Arc<Self> {
        let paths = Paths::new(&options.project, &options.environment);
        Arc::new(Keeper {
            build: Build::of(std::path::Path::new(PROGRAM)),
            since_unix_ms: now_ms(),
            front: Route::new(),
            test: Route::new(),
            doors: tokio::sync::Mutex::new(doors),
            begins: tokio::sync::Mutex::new(()),
            inner: Mutex::new(Inner {
                state,
                live: BTreeMap::new(),
                background: Vec::new(),
                jobs: BTreeMap::new(),
                runs: BTreeMap::new(),
                evicted: 0,
                ring: Ring::beginning(tokio::time::Instant::now()),
                notes: Vec::new(),
                watchdog_pid: None,
                behind: None,
                frozen: false,
            }),
            version: watch::channel(0).0,
            options,
            paths,
        })
    }

    pub(super) fn program(&self) -> PathBuf {
        PathBuf::from(PROGRAM)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the written state.
    pub(super) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Changes the state, on the disk first: for what is about to be done.
    pub(super) fn intend<R>(&self, change: impl FnOnce(&mut State) -> R) -> io::Result<R> {
        let mut inner = self.lock();
        if inner.frozen {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "another agent is taking over"));
        }
        let mut next = inner.state.clone();
        let result = change(&mut next);
        next.save(&self.paths.state())?;
        inner.state = next;
        inner.behind = None;
        drop(inner);
        self.bump();
        Ok(result)
    }

    /// Changes the state for what has happened already. If it can't be written it is tried again later, and a crash
    /// until then finds the same facts again.
    pub(super) fn settle<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = self.hold_true(change);
        self.save_what_is_behind();
        result
    }

    /// As [`settle`](Self::settle), written only with the next change: for what a crash may forget.
    pub(super) fn hold_true<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.state);
        inner.behind.get_or_insert_with(String::new);
        drop(inner);
        self.bump();
        result
    }

    /// Writes the state if the disk has an older one.
    pub(super) fn save_what_is_behind(&self) {
        let mut inner = self.lock();
        if inner.frozen || inner.behind.is_none() {
            return;
        }
        let saved = inner.state.save(&self.paths.state()).map_err(|error| error.to_string());
        if let Err(why) = &saved
            && inner.behind.as_ref() != Some(why)
        {
            log(format_args!("can't write {}: {why}; trying again", self.paths.state().display()));
        }
        inner.behind = saved.err();
    }

    /// Nothing is changed or written from now on.
    pub(super) fn freeze(&self) {
        self.save_what_is_behind();
        self.lock().frozen = true;
    }

    /// Changes are allowed again.
    pub(super) fn thaw(&self) {
        self.lock().frozen = false;
    }

    /// Does something besides, until it is done or this agent makes room for another.
    pub(super) fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(work).abort_handle();
        let mut inner = self.lock();
        inner.background.retain(|work| !work.is_finished());
        inner.background.push(handle);
    }

    /// Adds to the story of the rollout under way.
    pub(super) fn say(&self, text: impl Into<String>) {
        let text = text.into();
        log(format_args!("{text}"));
        self.hold_true(|state| {
            if let Some(rollout) = &mut state.rollout {
                rollout.say(now_ms(), text);
            }
        });
    }

    /// Something that the next command should be told.
    pub(super) fn note(&self, text: impl Into<String>) {
        let text = text.into();
        log(format_args!("{text}"));
        let mut inner = self.lock();
        inner.notes.push(text);
        let surplus = inner.notes.len().saturating_sub(NOTES_MAX);
        inner.notes.drain(..surplus);
    }

    pub(super) fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Waits until `look` finds something; it is asked again whenever anything changes.
    pub(super) async fn until<R>(&self, mut look: impl FnMut(&Inner) -> Option<R>) -> R {
        let mut version = self.version.subscribe();
        loop {
            version.mark_unchanged();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            if version.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`until`](Self::until), for so long at most.
    pub(super) async fn within<R>(&self, time: Duration, look: impl FnMut(&Inner) -> Option<R>) -> Option<R> {
        tokio::time::timeout(time, self.until(look)).await.ok()
    }

    /// The number of the last change.
    pub(super) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Waits for a change after this one, for so long at most.
    pub(super) async fn changed_since(&self, seen: u64, wait: Duration) {
        let mut version = self.version.subscribe();
        // Time that is up is an answer as well.
        let _ = tokio::time::timeout(wait, version.wait_for(|version| *version != seen)).await;
    }

    /// Gives both routes what follows from the weights and from who is ready. Where no copy of a release is ready,
    /// those get its traffic that were ready before and still run.
    pub(super) fn publish(&self) {
        let inner = self.lock();
        let share = |release: &ReleaseId, weight: u8| {
            let statuses = inner.live.get(release).map(Live::statuses).unwrap_or_default();
            Share { release: release.to_string(), weight: u32::from(weight), backends: backends(&statuses) }
        };
        let shares = inner.state.weights.0.iter().map(|(release, weight)| share(release, *weight)).collect();
        let candidate = inner.state.rollout.as_ref().filter(|rollout| !matches!(rollout.stage, Stage::RollingBack));
        let tested = candidate.and_then(|rollout| {
            let live = inner.live.get(&rollout.release)?;
            let backends = live.statuses().iter().filter_map(|status| status.address).collect();
            Some(Share { release: rollout.release.to_string(), weight: 100, backends })
        });
        self.front.set(shares);
        self.test.set(tested.into_iter().collect());
    }

    /// Lets go of every copy; each goes on by itself.
    pub(super) fn let_go(&self) {
        let mut inner = self.lock();
        let live = std::mem::take(&mut inner.live);
        let runs = std::mem::take(&mut inner.runs);
        let background = std::mem::take(&mut inner.background);
        drop(inner);
        runs.values().chain(&background).for_each(AbortHandle::abort);
        drop(live);
    }
}

/// Who gets a release's requests.
fn backends(statuses: &[Status]) -> Vec<SocketAddr> {
    let those = |wanted: &dyn Fn(&Status) -> bool| -> Vec<SocketAddr> {
        statuses.iter().filter(|status| wanted(status)).filter_map(|status| status.address).collect()
    };
    let ready = those(&|status| status.state == supervise::State::Ready);
    if ready.is_empty() {
        those(&|status| status.was_ready && status.state == supervise::State::Unready)
    } else {
        ready
    }
}
