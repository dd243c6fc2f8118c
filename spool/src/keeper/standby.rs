//! A process that does not ingest: it follows the list, and looks whether it is its turn. It decides when to claim; it
//! writes nothing before that.

use std::time::Duration;

use super::{Keeper, ListState, Locking, Next, State, is_absent};
use crate::claim::{self, last_epoch};
use crate::ledger::Ledgers;
use crate::share::{Share, read_small};
use crate::tail::Tail;
use crate::top::Top;

pub(super) const BEAT: &str = "beat";
/// How much more patience there is with an epoch that has not begun yet.
const TAKEOVER_PATIENCE: u32 = 3;
/// Epochs that others may claim while this process looks, if it is the only one that may.
const CLAIM_TRIES_MAX: u64 = 10_000;
/// Records read at one look.
const TAIL_RECORDS_MAX: usize = 8192;

/// What a candidate saw of the ingester, where locks can't be trusted.
#[derive(Debug, Default)]
pub(super) struct Watch {
    epoch: u64,
    beat: Vec<u8>,
    since: Option<Duration>,
}

impl Watch {
    /// Whether the ingester of this epoch gave no sign for too long, by this machine's clock alone.
    fn is_silent<S: Share>(&mut self, share: &S, epoch: u64, patience: Duration) -> bool {
        if epoch == 0 || claim::is_clean(share, epoch) {
            return true;
        }
        let beat = read_small(share, &format!("{BEAT}.{epoch}"), 64).unwrap_or_default();
        let now = share.now();
        if self.epoch != epoch || self.beat != beat || self.since.is_none() {
            *self = Self { epoch, beat, since: Some(now) };
        }
        // Who takes a large database over has no time to beat now and then.
        let patience = match claim::has_begun(share, epoch) {
            Some(true) => patience,
            Some(false) => return true,
            None => patience * TAKEOVER_PATIENCE,
        };
        self.since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }
}

impl<S: Share, L: Ledgers> Keeper<S, L> {
    pub(super) fn stand_by(&mut self, mut tail: Tail, mut watch: Watch) -> Next<S, L> {
        if self.shared.is_released() {
            return Next::Later(State::Released);
        }
        self.status.trouble = None;
        let names = match self.share.list("") {
            Ok(names) => names,
            Err(error) => {
                let what = if is_absent(&error) { "the share is not there" } else { "the share can't be listed" };
                self.trouble(what, &error);
                return Next::Later(State::Standby { tail, watch });
            }
        };
        let more = self.follow(&mut tail, &names);
        if self.share.now() < self.rests_until {
            self.status.trouble.clone_from(&self.failed);
            return Self::idle(more, tail, watch);
        }
        let last = last_epoch(&names);
        self.status.epoch = last;
        let locking = match self.shared.ingest() {
            Ok(locking) => locking,
            Err(why) => {
                self.status.trouble = Some(format!("this process does not ingest: {why}"));
                return Next::Later(State::Standby { tail, watch });
            }
        };
        let (lock, tries) = match locking {
            Locking::Lock => match self.share.try_lock() {
                // Whoever claimed what is not listed yet has no lock any more.
                Ok(Some(lock)) => (Some(lock), CLAIM_TRIES_MAX),
                Ok(None) => return Self::idle(more, tail, watch),
                Err(error) => {
                    self.trouble("the writer's lock can't be asked for", &error);
                    return Next::Later(State::Standby { tail, watch });
                }
            },
            Locking::Heartbeat(patience) if watch.is_silent(&*self.share, last, patience) => (None, 1),
            Locking::Heartbeat(_) => return Self::idle(more, tail, watch),
        };
        match claim::claim(&*self.share, last, &self.config.node, tries) {
            Ok(Some(epoch)) => {
                self.status.epoch = epoch.number;
                Next::Now(State::Claiming { lock, epoch, base: None })
            }
            Ok(None) => Next::Later(State::Standby { tail, watch }),
            Err(error) => {
                self.trouble("no epoch can be claimed", &error);
                Next::Later(State::Standby { tail, watch })
            }
        }
    }

    fn idle(more: bool, tail: Tail, watch: Watch) -> Next<S, L> {
        let state = State::Standby { tail, watch };
        if more { Next::Now(state) } else { Next::Later(state) }
    }

    /// Takes over what is published and reads on in the segments; says whether there is more.
    fn follow(&mut self, tail: &mut Tail, names: &[String]) -> bool {
        let found = tail.poll(&*self.share, TAIL_RECORDS_MAX);
        self.status.segments = tail.len();
        self.status.newer_segments = tail.newer();
        // After the segments: what was deleted before they were listed is in this list.
        let top = Top::newest(&*self.share, names);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.trouble("the segments can't be read", &error);
                return false;
            }
        };
        let offsets = tail.offsets();
        let published = top.is_some();
        self.shared.update(|leaders| {
            let mut changed = false;
            for tailed in &found.records {
                changed |= leaders.tailed(tailed);
            }
            if let Some(top) = top {
                changed |= leaders.published(top, |segment| offsets.contains_key(segment));
            }
            changed
        });
        if published {
            self.status.list = ListState::Published;
        } else if self.status.list == ListState::Wanted && self.waits_too_long_for_a_list() {
            self.status.list = ListState::None;
        }
        found.more
    }
}
