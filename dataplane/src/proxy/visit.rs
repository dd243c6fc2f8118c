//! One request from its head to the last byte of its answer. It decides nothing; it sees to it that a request is counted
//! once, at the release that had it last, however it ends.

use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::body::Upload;
use super::counts::{Failed, Shard};
use super::failing::Failing;
use super::link::Link;
use super::pool::{Counted, Lane};
use super::release::Release;
use super::worker::Worker;

/// A request that is being served. Counted when it is dropped.
pub(super) struct Visit {
    pub(super) worker: Rc<Worker>,
    pub(super) link: Rc<Link>,
    release: Option<Rc<Counted>>,
    started: Instant,
    status: Option<StatusCode>,
    cut_off: bool,
    upgraded: bool,
    held: bool,
}

impl Visit {
    pub(super) fn new(worker: Rc<Worker>, link: Rc<Link>) -> Self {
        let started = worker.clock.read();
        Self { worker, link, release: None, started, status: None, cut_off: false, upgraded: false, held: false }
    }

    /// The request is in flight to a release; the worker already counted it in.
    #[expect(clippy::needless_pass_by_value, reason = "the lane is not to be kept any longer")]
    pub(super) fn enter(&mut self, lane: Rc<Lane>) {
        self.leave();
        self.release = Some(Rc::clone(&lane.release));
    }

    /// The request will be sent on anew.
    pub(super) fn leave(&mut self) {
        if let Some(release) = self.release.take() {
            release.leave(self.worker.shard);
        }
    }

    pub(super) fn decided(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(super) fn failed(&self, why: Failed) {
        self.shard().failed(why);
    }

    /// The answer breaks off. Where the client's own request was broken, that is why.
    pub(super) fn cut_off(&mut self) {
        if !matches!(self.link.upload.get(), Upload::Broken | Upload::TooLarge) {
            self.cut_off = true;
            self.failed(Failed::Reset);
        }
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
        if let Some(release) = &self.release
            && !self.upgraded
        {
            self.upgraded = true;
            self.shard().upgraded.fetch_add(1, SeqCst);
            release.leave(self.worker.shard);
        }
    }

    /// Notes what failed; nobody else takes a lock or allocates anything for it.
    fn note_failure(&self, status: u16, took: Duration) {
        if let Some(release) = &self.release {
            let request = self.link.asked.borrow().name();
            release.fail(Failing { request, status, count: 1, slowest: took });
        }
    }

    fn shard(&self) -> &Shard {
        let release: &Release = self.release.as_ref().map_or(self.worker.unrouted(), |release| release);
        release.shard(self.worker.shard)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        match self.status {
            Some(status) => {
                let took = self.started.elapsed();
                self.shard().answered(status, took);
                if status.as_u16() >= 500 {
                    self.note_failure(status.as_u16(), took);
                } else if self.cut_off {
                    self.shard().cut_off();
                    self.note_failure(0, took);
                }
            }
            None => self.shard().abandoned(),
        }
        if self.held {
            self.shard().held.fetch_add(1, Relaxed);
        }
        if self.upgraded {
            self.shard().upgraded.fetch_sub(1, SeqCst);
            self.release = None;
        }
        self.leave();
    }
}
