//! The copies that run, and those among them that get no more requests. It decides nothing: which are started and which
//! leave is for the course of a rollout.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::supervise::{self, Slot, Status};
use dbird_core::ReleaseId;
use tokio::task::AbortHandle;

use super::keeper::{Inner, Keeper};

/// A release's copies, by number.
#[derive(Default)]
pub(super) struct Live {
    copies: BTreeMap<u32, Kept>,
}

/// A copy that is looked after.
struct Kept {
    slot: Slot,
    watcher: AbortHandle,
    /// It gets no more requests and will be stopped.
    leaving: bool,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Live {
    /// How each copy is. One that leaves is as good as stopping, whatever its probes say.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let now = |kept: &Kept| {
            let mut status = kept.slot.now();
            if kept.leaving && status.state != supervise::State::Stopped {
                status.state = supervise::State::Stopping;
                "finishing what it has".clone_into(&mut status.detail);
            }
            status
        };
        self.copies.values().map(now).collect()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.copies.values().map(|kept| &kept.slot)
    }

    /// Whether there is a copy of this number.
    pub(super) fn has(&self, number: u32) -> bool {
        self.copies.contains_key(&number)
    }
}

impl Keeper {
    /// Looks after more of a release's copies from now on.
    pub(super) fn attend(self: &Arc<Self>, release: ReleaseId, slots: Vec<(u32, Slot)>) {
        if slots.is_empty() {
            return;
        }
        let kept = slots
            .into_iter()
            .map(|(number, slot)| {
                let mut status = slot.status();
                // Held weakly, so that what is watched does not keep its keeper.
                let keeper = Arc::downgrade(self);
                let watcher = tokio::spawn(async move {
                    while status.changed().await.is_ok() {
                        status.mark_unchanged();
                        let Some(keeper) = keeper.upgrade() else { return };
                        keeper.publish();
                        keeper.bump();
                    }
                })
                .abort_handle();
                (number, Kept { slot, watcher, leaving: false })
            })
            .collect::<Vec<_>>();
        self.lock().live.entry(release).or_default().copies.extend(kept);
        self.publish();
        self.bump();
    }

    /// The copies of a release, as they are.
    pub(super) fn statuses(&self, release: ReleaseId) -> Vec<Status> {
        self.lock().live.get(&release).map(Live::statuses).unwrap_or_default()
    }

    /// Does something with each copy of a release.
    pub(super) fn each(&self, release: ReleaseId, act: impl Fn(&Slot)) {
        if let Some(live) = self.lock().live.get(&release) {
            live.slots().for_each(act);
        }
    }

    /// Waits until a release's copies have stopped, as they were asked to; false if they take longer than this.
    pub(super) async fn stopped(&self, release: ReleaseId, time: Duration) -> bool {
        let gone = |inner: &Inner| {
            let live = inner.live.get(&release);
            live.is_none_or(|live| live.slots().all(|slot| slot.status().borrow().state == supervise::State::Stopped))
                .then_some(())
        };
        self.within(time, gone).await.is_some()
    }

    /// Takes the requests away from a release's copies from this number on, and tells where they listen. They go on with
    /// what they have.
    pub(super) fn take_requests_from(&self, release: ReleaseId, number: u32) -> Vec<SocketAddr> {
        let mut inner = self.lock();
        let copies = inner.live.get_mut(&release).map(|live| live.copies.range_mut(number..));
        let addresses = copies.into_iter().flatten().filter_map(|(_, kept)| {
            kept.leaving = true;
            kept.slot.now().address
        });
        let addresses = addresses.collect();
        drop(inner);
        self.publish();
        self.bump();
        addresses
    }

    /// Does something with each copy of a release that gets no more requests.
    pub(super) fn each_leaving(&self, release: ReleaseId, act: impl Fn(&Slot)) {
        if let Some(live) = self.lock().live.get(&release) {
            live.copies.values().filter(|kept| kept.leaving).for_each(|kept| act(&kept.slot));
        }
    }

    /// Waits until those copies have stopped, as they were asked to; false if they take longer than this.
    pub(super) async fn have_left(&self, release: ReleaseId, time: Duration) -> bool {
        let gone = |inner: &Inner| {
            let copies = inner.live.get(&release).map(|live| live.copies.values());
            let mut leaving = copies.into_iter().flatten().filter(|kept| kept.leaving);
            leaving.all(|kept| kept.slot.now().state == supervise::State::Stopped).then_some(())
        };
        self.within(time, gone).await.is_some()
    }

    /// Forgets those copies.
    pub(super) fn dismiss_leaving(&self, release: ReleaseId) {
        let mut inner = self.lock();
        let left: Vec<Kept> = match inner.live.get_mut(&release) {
            Some(live) => live.copies.extract_if(.., |_, kept| kept.leaving).map(|(_, kept)| kept).collect(),
            None => Vec::new(),
        };
        if inner.live.get(&release).is_some_and(|live| live.copies.is_empty()) {
            inner.live.remove(&release);
        }
        drop(inner);
        drop(left);
        self.bump();
    }

    /// Forgets a release's copies, which have stopped.
    pub(super) fn dismiss(&self, release: ReleaseId) {
        let live = self.lock().live.remove(&release);
        drop(live);
        self.publish();
        self.bump();
    }
}
