//! What is known of one release while any request, count or connection refers to it. It decides when a release is
//! drained; it never decides who gets a request.

use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::counts::{Counts, Shard};
use super::failing::{Failing, Failures};

/// Threads beyond this many share their part of the totals.
pub(super) const SHARDS: usize = 8;

#[derive(Debug)]
pub(super) struct Release {
    pub(super) name: String,
    shards: [Shard; SHARDS],
    /// Since they were last taken; only a request that failed waits for this lock.
    failures: Mutex<Failures>,
    /// Grows at each [`forget`](Self::forget); a pooled connection of an older epoch is not used again.
    epoch: AtomicU64,
    /// The route's version when a plan last named it.
    pub(super) last_named: AtomicU64,
    waiters: AtomicUsize,
    left: Notify,
}

impl Release {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            shards: Default::default(),
            failures: Mutex::default(),
            epoch: AtomicU64::new(0),
            last_named: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            left: Notify::new(),
        })
    }

    pub(super) fn shard(&self, at: usize) -> &Shard {
        &self.shards[at % SHARDS]
    }

    /// A request is sent on. Sequentially consistent, as is the route's version: either this thread then reads the
    /// new version, or whoever changed it reads this request.
    pub(super) fn enter(&self, shard: usize) {
        self.shard(shard).in_flight.fetch_add(1, SeqCst);
    }

    pub(super) fn leave(&self, shard: usize) {
        self.shard(shard).in_flight.fetch_sub(1, SeqCst);
        if self.waiters.load(SeqCst) > 0 {
            self.left.notify_waiters();
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| shard.in_flight.load(SeqCst)).sum()
    }

    pub(super) fn upgraded(&self) -> usize {
        self.shards.iter().map(|shard| shard.upgraded.load(SeqCst)).sum()
    }

    pub(super) async fn drained(&self, deadline: Duration) -> bool {
        struct Waiter<'a>(&'a AtomicUsize);
        impl Drop for Waiter<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        self.waiters.fetch_add(1, SeqCst);
        let _waiter = Waiter(&self.waiters);
        let empty = async {
            loop {
                let mut left = std::pin::pin!(self.left.notified());
                left.as_mut().enable();
                if self.in_flight() == 0 {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(deadline, empty).await.is_ok()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    pub(super) fn forget(&self) {
        self.epoch.fetch_add(1, SeqCst);
    }

    pub(super) fn fail(&self, failing: Failing) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).add(failing);
    }

    pub(super) fn take_failures(&self) -> Failures {
        mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.shards.iter().for_each(|shard| counts.add(shard));
        counts
    }
}
