//! The swap of a service whose store takes one process: hold new requests, let the old release finish, checkpoint and go,
//! let the new one open the store, and give it the requests. It decides when there is no time left and the old release is
//! started again; either way the requests were held, not failed.
//!
//! Times are counted from the beginning of the hold. A request may wait 1,500 ms. Up to 300 ms are for requests in
//! flight. The new release has until 1,000 ms to be ready (and 400 ms after the old one's end in any case); what remains
//! is for starting the old one again. An old release that has nothing in flight may take its whole grace to stop, since
//! killing it is for its owner to allow; the swap goes on when it has ended, and requests that waited too long are told to
//! come back. One that is kept by streams that would not end is killed after 700 ms.

use std::sync::Arc;
use std::time::Duration;

use dataplane::probe;
use dataplane::proxy::HoldLimits;
use dataplane::supervise::{Slot, State as Copy, Status};
use dbird_core::{ReleaseId, Weights};
use tokio::time::{Instant, sleep, timeout};

use super::course::last_lines;
use super::keeper::Keeper;
use super::log;

/// For requests in flight, in each try.
const DRAIN: Duration = Duration::from_millis(300);
/// Tries, with the door open between them, before streams that never end are cut off.
const TRIES_MAX: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// For an old release that streams keep from ending, before it is killed.
const STREAMS_CUT: Duration = Duration::from_millis(700);
/// The new release must be ready by then ...
const READY_BY: Duration = Duration::from_millis(1000);
/// ... or so long after the old one's end.
const READY_AFTER: Duration = Duration::from_millis(400);
/// A release that is started to be swapped in gets this long to be prepared while the other one still serves.
const PREPARE: Duration = Duration::from_secs(60);
/// A door is held no longer than this, whatever happens.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// What is done if the new release does not come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Else {
    /// The old one is started again and serves.
    Undo,
    /// There is nothing else: wait for it.
    GoOn,
}

/// The old release serves again, or the new one does not serve yet.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) logs: Vec<String>,
}

/// Swaps all traffic. May begin anywhere in the middle of an earlier try that a crash ended.
pub(super) async fn swap(keeper: &Arc<Keeper>, from: ReleaseId, to: ReleaseId, otherwise: Else) -> Result<(), Failed> {
    let is_up = keeper.read(|state| state.releases.get(&to).is_some_and(|record| record.up));
    if otherwise == Else::GoOn || !is_up {
        prepare(keeper, from, to).await?;
    }
    let held = drain(keeper, from).await;
    let in_flight = streams(keeper, from);
    let asked = Instant::now();
    stop_old(keeper, from, in_flight > 0).await;
    let gone = Instant::now();
    if in_flight > 0 {
        keeper.say(format!("{in_flight} streams to {from} had not ended and were cut off"));
    }
    // Long ago only where a crash interrupted an earlier try.
    if otherwise == Else::GoOn {
        raise(keeper, to).await?;
    }
    let deadline = (held + READY_BY).max(gone + READY_AFTER);
    let ready = match otherwise {
        Else::Undo => until_ready(keeper, to, Some(deadline)).await,
        Else::GoOn => {
            let ready = until_ready(keeper, to, Some(held + HOLD_MAX)).await;
            if ready.is_err() {
                // Clients are better off with an answer than with a wait without end.
                keeper.front.resume();
                until_ready(keeper, to, None).await
            } else {
                ready
            }
        }
    };
    match ready {
        Ok(()) => {
            let waiting = keeper.front.waiting();
            keeper.hold_true(|state| {
                state.weights = Weights::all(to);
                for (release, up) in [(from, false), (to, true)] {
                    if let Some(record) = state.releases.get_mut(&release) {
                        record.up = up;
                    }
                }
            });
            keeper.publish();
            keeper.front.resume();
            let (took, stop, open) =
                (held.elapsed().as_millis(), (gone - asked).as_millis(), gone.elapsed().as_millis());
            keeper.say(format!("swapped {from} for {to} in {took} ms ({stop} ms to stop, {open} ms to open the store; {waiting} requests waited)"));
            keeper.save_what_is_behind();
            keeper.dismiss(from);
            Ok(())
        }
        Err(failed) => {
            undo(keeper, from, to, held).await;
            Err(failed)
        }
    }
}

/// Holds new requests and waits for those in flight. Returns when the hold began.
pub(super) async fn drain(keeper: &Arc<Keeper>, from: ReleaseId) -> Instant {
    let name = from.to_string();
    for attempt in 1.. {
        keeper.front.hold(HoldLimits::default());
        let held = Instant::now();
        let gone = statuses(keeper, from)
            .iter()
            .all(|status| matches!(status.state, Copy::Stopping | Copy::Stopped | Copy::BackingOff));
        if gone || keeper.front.drained(&name, DRAIN).await || attempt >= TRIES_MAX {
            return held;
        }
        keeper.front.resume();
        log(format_args!("{} requests to {from} are still in flight; trying again", streams(keeper, from)));
        sleep(PAUSE).await;
    }
    Instant::now()
}

fn streams(keeper: &Keeper, release: ReleaseId) -> usize {
    let name = release.to_string();
    keeper.front.in_flight(&name) + keeper.front.upgraded(&name)
}

async fn stop_old(keeper: &Arc<Keeper>, from: ReleaseId, cut_streams: bool) {
    keeper.front.forget(&from.to_string());
    keeper.each(from, Slot::stop);
    if cut_streams && !keeper.stopped(from, STREAMS_CUT).await {
        keeper.each(from, Slot::kill);
    }
    let grace = keeper.read(|state| state.releases.get(&from).map_or(0, |record| record.body.stop_grace_ms));
    if !keeper.stopped(from, Duration::from_millis(grace) + HOLD_MAX).await {
        log(format_args!("{from} does not stop"));
    }
}

/// Starts a release that is to be swapped in, and waits until it waits for the store.
async fn prepare(keeper: &Arc<Keeper>, from: ReleaseId, to: ReleaseId) -> Result<(), Failed> {
    // First, so that after a crash its tasks are taken over rather than taken for leftovers.
    keeper.settle(|state| {
        if let Some(record) = state.releases.get_mut(&to) {
            record.up = true;
        }
    });
    raise(keeper, to).await?;
    let prepared = |status: &Status| matches!(status.state, Copy::Ready | Copy::Waiting);
    let alive = |status: &Status| !matches!(status.state, Copy::BackingOff | Copy::Stopped | Copy::Stopping);
    keeper
        .within(PREPARE, |inner| {
            let of = |release: &ReleaseId| inner.live.get(release).map(|live| live.statuses()).unwrap_or_default();
            let nobody_serves = !of(&from).iter().any(alive);
            (nobody_serves || of(&to).iter().all(prepared)).then_some(())
        })
        .await;
    // In time or not: it will be given the store, and waited for.
    Ok(())
}

pub(super) async fn raise(keeper: &Arc<Keeper>, release: ReleaseId) -> Result<(), Failed> {
    keeper.raise(release).await.map_err(|error| Failed { why: error.causes.join(": "), logs: Vec::new() })
}

fn statuses(keeper: &Keeper, release: ReleaseId) -> Vec<Status> {
    keeper.statuses(release)
}

/// Waits until every copy is ready, seen after the store became free.
async fn until_ready(keeper: &Arc<Keeper>, release: ReleaseId, deadline: Option<Instant>) -> Result<(), Failed> {
    keeper.each(release, Slot::hurry);
    let path = keeper
        .read(|state| state.releases.get(&release).map(|record| record.body.health.ready.clone()))
        .unwrap_or_default();
    let ready = async {
        loop {
            let news = keeper
                .until(|inner| {
                    let statuses = inner.live.get(&release).map(|live| live.statuses()).unwrap_or_default();
                    let died = |status: &Status| {
                        matches!(status.state, Copy::BackingOff | Copy::Stopped) || status.hopeless.is_some()
                    };
                    if statuses.is_empty() || (deadline.is_some() && statuses.iter().any(died)) {
                        return Some(Err(statuses));
                    }
                    let ready = statuses.iter().all(|status| status.state == Copy::Ready);
                    ready.then(|| Ok(statuses.iter().filter_map(|status| status.address).collect::<Vec<_>>()))
                })
                .await;
            let addresses = match news {
                Ok(addresses) => addresses,
                Err(statuses) => return Err(failed(keeper, release, &statuses)),
            };
            // It may have been called ready while it had no store yet.
            let mut all = true;
            for address in addresses {
                all &= probe::ask(address, &path, Duration::from_millis(250)).await.is_good();
            }
            if all {
                return Ok(());
            }
            sleep(Duration::from_millis(4)).await;
        }
    };
    match deadline {
        None => ready.await,
        Some(deadline) => match timeout(deadline.saturating_duration_since(Instant::now()), ready).await {
            Ok(ended) => ended,
            Err(_) => {
                let statuses = statuses(keeper, release);
                let detail = statuses.iter().map(|status| status.detail.as_str()).find(|detail| !detail.is_empty());
                let mut failed = failed(keeper, release, &statuses);
                failed.why = format!(
                    "{release} was not ready in time once it could have the store ({})",
                    detail.unwrap_or("it had just become ready")
                );
                Err(failed)
            }
        },
    }
}

fn failed(keeper: &Keeper, release: ReleaseId, statuses: &[Status]) -> Failed {
    let died = statuses.iter().find_map(|status| status.died.as_ref());
    let why = match died {
        Some((task, exit)) => format!("task {task} {} when it could have the store", exit.describe()),
        None => format!("{release} was gone when it could have the store"),
    };
    let task = died.map(|(task, _)| task.clone()).or_else(|| statuses.iter().find_map(|status| status.task.clone()));
    Failed { why, logs: task.map(|task| last_lines(keeper, &task)).unwrap_or_default() }
}

/// Takes the new release away and starts the old one again, with the requests still held.
async fn undo(keeper: &Arc<Keeper>, from: ReleaseId, to: ReleaseId, held: Instant) {
    keeper.each(to, Slot::kill);
    keeper.stopped(to, HOLD_MAX).await;
    keeper.dismiss(to);
    keeper.dismiss(from);
    match keeper.raise(from).await {
        Ok(()) => {
            let back = until_ready(keeper, from, Some(held + HOLD_MAX)).await;
            let took = held.elapsed().as_millis();
            keeper.say(match back {
                Ok(()) => format!("{from} was started again and serves; requests waited {took} ms"),
                Err(failed) => format!("{from} was started again but is not ready yet: {}", failed.why),
            });
        }
        Err(error) => keeper.say(format!("{from} could not be started again: {error}")),
    }
    keeper.publish();
    keeper.front.resume();
}
