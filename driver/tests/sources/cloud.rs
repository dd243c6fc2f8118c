//! A cloud that knows numbers of releases, or fails for a while, over the one in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dbird_core::{
    Capabilities, Cloud, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Preview, Progress, Provider,
    ProviderError, ReleaseId, Samples, Steer, Target, Window, Work,
    provider::{ErrorKind, Result},
};
use dbird_testkit::memory::{MemoryProvider, VirtualClock};

/// The cloud.
pub(crate) struct Counting {
    rest: MemoryProvider,
    samples: bool,
    /// The windows that were asked for.
    pub(crate) asked_ms: Mutex<Vec<u64>>,
    /// Questions that fail first.
    failing: Mutex<u32>,
}

impl Counting {
    pub(crate) fn new(samples: bool, failing: u32) -> Arc<Counting> {
        let rest = MemoryProvider::new(Arc::new(VirtualClock::new()));
        Arc::new(Counting { rest, samples, asked_ms: Mutex::default(), failing: Mutex::new(failing) })
    }
}

#[async_trait]
impl Provider for Counting {
    fn capabilities(&self) -> Capabilities {
        Capabilities { samples: self.samples, ..self.rest.capabilities() }
    }

    async fn observe(&self, target: &Target) -> Result<Observed> {
        self.rest.observe(target).await
    }

    async fn preview(&self, target: &Target, documents: &Documents) -> Result<Preview> {
        self.rest.preview(target, documents).await
    }

    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        self.rest.apply(target, work).await
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        self.rest.poll(target, handle).await
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        self.rest.steer(target, handle, steer).await
    }

    /// One request of the last release that was asked for, and nothing of others.
    async fn sample(&self, _: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>> {
        self.asked_ms.lock().unwrap().push(window.length_ms);
        if window.length_ms == 0 {
            // Only a mark of when a window begins.
            return Ok(Vec::new());
        }
        let mut failing = self.failing.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(ProviderError {
                kind: ErrorKind::Unavailable,
                retry: true,
                cloud: Cloud::Local,
                operation: "sample".into(),
                object: "agent".into(),
                causes: vec!["it does not answer".into(), "connection refused".into()],
                hint: Some("start it".into()),
            });
        }
        Ok(releases.last().map(|last| Samples { requests: 1, ..Samples::none(*last) }).into_iter().collect())
    }

    async fn run(&self, target: &Target, command: &Command) -> Result<Handle> {
        self.rest.run(target, command).await
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        self.rest.logs(target, query, cursor).await
    }
}
