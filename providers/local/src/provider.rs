//! The provider: every call of the boundary, handed to the part that carries it out.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use dbird_core::provider::{Driver, ErrorKind, Result};
use dbird_core::{
    Capabilities, Cloud, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Preview, Progress, Provider,
    ProviderError, ReleaseId, Samples, Steer, Target, Window, Work,
};

use crate::config::{Config, Paths};
use crate::fault::fault;
use crate::wire::Answer;

/// This machine as a cloud.
#[derive(Debug)]
pub struct LocalProvider {
    pub(crate) config: Config,
    /// What was last seen of each step, so that a poll waits for news.
    seen: Mutex<HashMap<(ReleaseId, String), u64>>,
}

impl LocalProvider {
    /// A provider for one project. Nothing is read or started yet.
    pub fn new(config: Config) -> Self {
        LocalProvider { config, seen: Mutex::default() }
    }

    /// The files of an environment.
    pub(crate) fn paths(&self, target: &Target) -> Result<Paths> {
        let name = &target.environment;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let why = format!("`{name}` is no name for an environment: letters, digits, `-`, `_`, `.`");
            return Err(fault(ErrorKind::Invalid, "find the environment", name, why));
        }
        if !self.config.project.is_absolute() {
            let path = self.config.project.display().to_string();
            return Err(fault(
                ErrorKind::Invalid,
                "find the project",
                path,
                "the project's folder must be an absolute path",
            ));
        }
        Ok(Paths::new(&self.config.project, name))
    }

    pub(crate) fn seen(&self, handle: &Handle) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the first poll there is no news to wait for.
        seen.get(&(handle.release, handle.token.clone())).copied().unwrap_or(u64::MAX)
    }

    pub(crate) fn have_seen(&self, handle: &Handle, version: u64) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((handle.release, handle.token.clone()), version);
    }

    pub(crate) fn odd(&self, operation: &str, answer: &Answer) -> ProviderError {
        let what = format!("the agent answered something else than was asked: {answer:?}");
        fault(ErrorKind::Internal, operation, "", what.chars().take(300).collect::<String>())
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn capabilities(&self) -> Capabilities {
        let strategies = ["all-at-once", "blue-green", "canary", "linear", "rolling", "recreate"];
        Capabilities {
            cloud: Cloud::Local,
            strategies: strategies.map(|name| (name.to_owned(), Driver::Dbird)).into_iter().collect::<BTreeMap<_, _>>(),
            any_weights: true,
            gates: false,
            test_traffic: true,
            swap: true,
            samples: true,
            one_off_tasks: true,
        }
    }

    async fn observe(&self, target: &Target) -> Result<Observed> {
        self.do_observe(target).await
    }

    async fn preview(&self, target: &Target, documents: &Documents) -> Result<Preview> {
        self.do_preview(target, documents).await
    }

    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        self.do_apply(target, work).await
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        self.do_poll(target, handle).await
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        self.do_steer(target, handle, steer).await
    }

    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>> {
        self.do_sample(target, releases, window).await
    }

    async fn run(&self, target: &Target, command: &Command) -> Result<Handle> {
        self.do_run(target, command).await
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        self.do_logs(target, query, cursor)
    }
}
