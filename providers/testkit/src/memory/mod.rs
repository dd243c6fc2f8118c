//! A whole provider in memory, deterministic, on a virtual clock that its polls move. It does what a real one promises,
//! unless it was made with a fault.

mod clock;
mod cloud;
mod document;
mod fixture;
mod journey;
mod rollout;
mod running;
mod steering;
mod tasks;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dbird_core::{
    Capabilities, Cloud as CloudName, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Preview,
    Progress, Provider, ProviderError, ReleaseId, Samples, Steer, Target, Window, Work,
    provider::{Driver, ErrorKind, Result},
};

pub use clock::VirtualClock;
pub use document::{Behaviour, Beside, Replicas, Serves, ServiceBody};
pub use fixture::MemoryFixture;

use crate::broken::Fault;
use cloud::{Cloud, error};

/// A poll waits this long for news.
const POLL_MS: u64 = 1_000;

/// The provider.
pub struct MemoryProvider {
    clock: Arc<VirtualClock>,
    fault: Option<Fault>,
    driver: Driver,
    clouds: Mutex<BTreeMap<String, Cloud>>,
    /// The last answer to a poll, by handle: the same answer again takes time.
    answered: Mutex<BTreeMap<String, Progress>>,
}

impl MemoryProvider {
    /// A provider that keeps its promises.
    pub fn new(clock: Arc<VirtualClock>) -> Self {
        MemoryProvider {
            clock,
            fault: None,
            driver: Driver::Dbird,
            clouds: Mutex::default(),
            answered: Mutex::default(),
        }
    }

    /// A provider that breaks one.
    pub fn broken(clock: Arc<VirtualClock>, fault: Fault) -> Self {
        MemoryProvider { fault: Some(fault), ..MemoryProvider::new(clock) }
    }

    /// The same, whose releases move by themselves: each service document has to say how.
    #[must_use]
    pub fn driving(self) -> Self {
        MemoryProvider { driver: Driver::Cloud, ..self }
    }

    /// Its clock.
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    /// True when no rollout, step or task of this target is under way.
    pub fn is_quiet(&self, target: &Target) -> bool {
        self.with(target, |cloud, _| {
            cloud.rollouts.values().all(rollout::Rollout::ended)
                && cloud.operations.values().all(|o| o.done)
                && cloud.tasks.values().all(|t| t.ended)
        })
    }

    fn with<T>(&self, target: &Target, act: impl FnOnce(&mut Cloud, u64) -> T) -> T {
        let key = match self.fault {
            Some(Fault::MixesTargets) => String::new(),
            _ => format!("{}/{}", target.service, target.environment),
        };
        let mut clouds = lock(&self.clouds);
        let cloud = clouds.entry(key).or_default();
        cloud.fault = self.fault;
        let now_ms = self.clock.now_ms();
        cloud.settle(now_ms);
        let result = act(cloud, now_ms);
        cloud.settle(now_ms);
        result
    }

    /// Every refusal passes here.
    fn said<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| match self.fault {
            Some(Fault::SaysRetry) if e.kind == ErrorKind::NotFound => ProviderError { retry: true, ..e },
            _ => e,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Provider for MemoryProvider {
    fn capabilities(&self) -> Capabilities {
        let names = ["all-at-once", "blue-green", "canary", "linear", "rolling", "recreate"];
        Capabilities {
            cloud: CloudName::Local,
            strategies: names.iter().map(|n| ((*n).to_owned(), self.driver)).collect(),
            any_weights: self.driver.is_dbird(),
            gates: true,
            test_traffic: false,
            swap: self.driver.is_dbird(),
            samples: true,
            one_off_tasks: true,
        }
    }

    async fn observe(&self, target: &Target) -> Result<Observed> {
        Ok(self.with(target, |cloud, now_ms| cloud.observe(now_ms)))
    }

    async fn preview(&self, target: &Target, _: &Documents) -> Result<Preview> {
        if self.fault == Some(Fault::LookingWrites) {
            self.with(target, |cloud, _| cloud.data.insert("looked".to_owned(), "memory:looked".to_owned()));
        }
        Ok(Preview::default())
    }

    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        self.said(self.with(target, |cloud, now_ms| cloud.apply(work, now_ms)))
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        let look = || self.said(self.with(target, |cloud, _| cloud.progress(handle)));
        let key = format!("{}/{}/{}", target.service, target.environment, handle.token);
        let mut progress = look()?;
        if self.fault == Some(Fault::ForgetsHandles) && lock(&self.answered).contains_key(&key) {
            return Err(error(ErrorKind::NotFound, "poll", "this handle was used up".to_owned()));
        }
        let before = lock(&self.answered).get(&key).cloned();
        if before.as_ref() == Some(&progress) {
            let now_ms = self.clock.now_ms();
            let next_ms = self.with(target, |cloud, _| cloud.next_ms());
            let wait_ms = next_ms.map_or(POLL_MS, |at| at.saturating_sub(now_ms)).min(POLL_MS);
            // Whoever waits lets others work.
            tokio::task::yield_now().await;
            self.clock.advance(wait_ms.max(1));
            progress = look()?;
        }
        lock(&self.answered).insert(key, progress.clone());
        Ok(progress)
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        self.said(self.with(target, |cloud, now_ms| {
            if cloud.tasks.contains_key(&handle.token) {
                return match steer {
                    Steer::Stop { .. } if self.fault == Some(Fault::StopsTheRollout) => {
                        cloud.stop_task(&handle.token);
                        cloud.steer(handle.release, &Steer::Stop { roll_back: true }, now_ms)
                    }
                    Steer::Stop { .. } => {
                        cloud.stop_task(&handle.token);
                        Ok(())
                    }
                    _ => Err(error(ErrorKind::Invalid, "steer", "a task can only be stopped".to_owned())),
                };
            }
            match cloud.rollouts.get(&handle.release) {
                Some(rollout) if rollout.handle == *handle => cloud.steer(handle.release, steer, now_ms),
                _ => Err(error(ErrorKind::NotFound, "steer", format!("no step `{}`", handle.token))),
            }
        }))
    }

    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>> {
        Ok(self.with(target, |cloud, now_ms| cloud.samples(releases, now_ms, window.length_ms)))
    }

    async fn run(&self, target: &Target, command: &Command) -> Result<Handle> {
        self.said(self.with(target, |cloud, now_ms| cloud.run(command, now_ms)))
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        self.said(self.with(target, |cloud, _| cloud.read_logs(query, cursor)))
    }
}
