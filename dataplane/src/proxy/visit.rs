//! One request from its head to the last byte of its answer. It decides nothing; it sees to it that a request is counted
//! once, at the release that had it last, however it ends.

use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use http::StatusCode;

use super::counts::{Failed, Shard};
use super::link::Link;
use super::pool::Lane;
use super::release::Release;
use super::worker::Worker;

/// A request that is being served. Counted when it is dropped.
pub(super) struct Visit {
    pub(super) worker: Rc<Worker>,
    pub(super) link: Rc<Link>,
    lane: Option<Rc<Lane>>,
    started: Instant,
    status: Option<StatusCode>,
    upgraded: bool,
    held: bool,
}

impl Visit {
    pub(super) fn new(worker: Rc<Worker>, link: Rc<Link>) -> Self {
        let started = worker.clock.read();
        Self { worker, link, lane: None, started, status: None, upgraded: false, held: false }
    }

    /// The request is in flight to a release; the worker already counted it in.
    pub(super) fn enter(&mut self, lane: Rc<Lane>) {
        self.leave();
        self.lane = Some(lane);
    }

    /// The request will be sent on anew.
    pub(super) fn leave(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.release.leave(self.worker.shard);
        }
    }

    pub(super) fn decided(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(super) fn failed(&self, why: Failed) {
        self.shard().failed(why);
    }

    pub(super) fn retried(&self) {
        self.shard().retries.fetch_add(1, Relaxed);
    }

    /// It waits in a hold; counted once, at the release that it goes to then.
    pub(super) fn held(&mut self) {
        self.held = true;
    }

    /// The connection goes on as another protocol: no request any more, but still a user of the release.
    pub(super) fn upgrade(&mut self) {
        if let Some(lane) = &self.lane
            && !self.upgraded
        {
            self.upgraded = true;
            self.shard().upgraded.fetch_add(1, SeqCst);
            lane.release.leave(self.worker.shard);
        }
    }

    fn shard(&self) -> &Shard {
        let release: &Release = self.lane.as_ref().map_or(self.worker.unrouted(), |lane| &lane.release);
        release.shard(self.worker.shard)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        match self.status {
            Some(status) => self.shard().answered(status, self.started.elapsed()),
            None => self.shard().abandoned(),
        }
        if self.held {
            self.shard().held.fetch_add(1, Relaxed);
        }
        if self.upgraded {
            self.shard().upgraded.fetch_sub(1, SeqCst);
            self.lane = None;
        }
        self.leave();
    }
}
