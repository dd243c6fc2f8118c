//! The copies of one release, as they are at any time.

use std::collections::BTreeMap;

use dbird_core::{Digest, LiveRelease, ReleaseId, StepId, TaskState, TaskStatus};
use serde_json::Value;

use super::document::{Behaviour, ServiceBody};

/// A release that is known, with the copies of it that run.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) step: StepId,
    pub(super) body: Value,
    pub(super) service: ServiceBody,
    pub(super) image: Digest,
    pub(super) since_ms: u64,
    pub(super) first_traffic_ms: Option<u64>,
    pub(super) copies: Vec<Copy>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    Starting,
    Ready,
    Leaving,
}

impl Running {
    pub(super) fn replicas(&self) -> usize {
        self.service.replicas.0 as usize
    }

    /// Copies that run and stay.
    pub(super) fn staying(&self) -> usize {
        self.copies.iter().filter(|copy| **copy != Copy::Leaving).count()
    }

    /// Starts what is missing up to so many; true if something was.
    pub(super) fn grow(&mut self, count: usize) -> bool {
        let missing = count.min(self.replicas()).saturating_sub(self.staying());
        self.copies.extend(std::iter::repeat_n(Copy::Starting, missing));
        missing > 0
    }

    /// Those that are more than so many get no more requests; true if there are any.
    pub(super) fn shrink(&mut self, count: usize) -> bool {
        let staying = self.copies.iter_mut().filter(|copy| **copy != Copy::Leaving);
        let leaving = staying.skip(count).map(|copy| *copy = Copy::Leaving).count();
        leaving > 0
    }

    /// Those that got no more requests are gone.
    pub(super) fn drop_leaving(&mut self) {
        self.copies.retain(|copy| *copy != Copy::Leaving);
    }

    /// Those that were started are ready.
    pub(super) fn settle(&mut self) {
        self.copies.iter_mut().filter(|copy| **copy == Copy::Starting).for_each(|copy| *copy = Copy::Ready);
    }

    /// None of them is ready any more.
    pub(super) fn die(&mut self) {
        self.copies.iter_mut().for_each(|copy| *copy = Copy::Starting);
    }

    pub(super) fn live(&self, id: ReleaseId, weight: u8, now_ms: u64) -> LiveRelease {
        let under_traffic_ms = self.first_traffic_ms.map(|since| now_ms.saturating_sub(since));
        let (mut restarts, mut unready) = (0, false);
        match (&self.service.behaves, under_traffic_ms) {
            (Behaviour::Restarts { every_ms }, Some(ms)) => {
                restarts = u32::try_from(ms / (*every_ms).max(1)).unwrap_or(u32::MAX);
            }
            (Behaviour::Unready { after_ms }, Some(ms)) => unready = ms >= *after_ms,
            _ => {}
        }
        let task = |(n, copy): (usize, &Copy)| TaskStatus {
            id: format!("{id}-task-{n}"),
            state: match copy {
                Copy::Starting => TaskState::Starting,
                Copy::Ready if unready => TaskState::Unready,
                Copy::Ready => TaskState::Ready,
                Copy::Leaving => TaskState::Draining,
            },
            detail: String::new(),
            restarts,
            address: None,
            pid: None,
            reported: BTreeMap::new(),
        };
        let tasks: Vec<_> = self.copies.iter().enumerate().map(task).collect();
        LiveRelease {
            id,
            weight,
            image: self.image.clone(),
            ready: !tasks.is_empty() && tasks.iter().all(|task| task.state == TaskState::Ready),
            since_unix_ms: self.since_ms,
            tasks,
        }
    }
}
