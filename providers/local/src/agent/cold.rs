//! One release after the other: new requests are held, the old release stops completely, and only then the new one is
//! started. It decides when the old one is started again instead; at no instant do processes of both exist.
//!
//! Requests are held all the time; one that waits longer than a hold allows is told to come back. Whose turn it is is
//! written down after the one has gone and before the other is started, so whoever goes on after a crash finds at most one
//! of them running.

use std::sync::Arc;
use std::time::Duration;

use dataplane::proxy::HoldLimits;
use dataplane::supervise::{Slot, State as Copy, Status};
use dbird_core::{ReleaseId, Weights};
use tokio::time::Instant;

use super::course::{BURIAL, News, failure, is_at, last_lines, raise_later};
use super::keeper::{Inner, Keeper};
use super::log;
use super::scale::is_whole;
use super::state::{Rollout, Stage, State};
use super::swap::{self, Else};

/// A release is ready so long after it was started, or it has failed.
const START_MAX: Duration = Duration::from_secs(60);

/// Stops a release completely, starts the other one and gives it all traffic. May begin anywhere in the middle of an
/// earlier try that a crash ended. What went wrong is the stage then, unless the rollout was steered elsewhere.
pub(super) async fn change(
    keeper: &Arc<Keeper>,
    rollout: &Rollout,
    from: Option<ReleaseId>,
    to: ReleaseId,
    otherwise: Else,
) {
    let held = match from {
        Some(from) => swap::drain(keeper, from).await,
        None => {
            keeper.front.hold(HoldLimits::default());
            Instant::now()
        }
    };
    if let Some(from) = from {
        stop_completely(keeper, from).await;
    }
    keeper.evicted().await;
    let stopped = Instant::now();
    let turn = |state: &mut State| take_turn(state, from, to);
    if let Err(error) = keeper.intend(turn) {
        if otherwise == Else::Undo {
            let why = format!("it can't be written down that {to} is to be started: {error}");
            return undo(keeper, rollout, from, to, held, Some((why, None))).await;
        }
        keeper.settle(turn);
    }
    // Begun while the other one was stopped, by somebody who did not know.
    if let Some(from) = from.filter(|from| !keeper.statuses(*from).is_empty()) {
        stop_completely(keeper, from).await;
    }
    let news = match keeper.raise(to).await {
        Ok(()) => until_ready(keeper, rollout, to, otherwise).await,
        Err(error) if otherwise == Else::Undo => News::Failed(error.causes.join(": "), None),
        Err(error) => {
            keeper.say(format!("{to} can't be started again: {}; trying again", error.causes.join(": ")));
            keeper.background(raise_later(Arc::clone(keeper), to));
            News::Ready { waits: true }
        }
    };
    match news {
        News::Ready { .. } => {
            let waiting = keeper.front.waiting();
            keeper.hold_true(|state| state.weights = Weights::all(to));
            keeper.publish();
            keeper.front.resume();
            let (took, stop) = (held.elapsed().as_millis(), (stopped - held).as_millis());
            let old = from.map(|from| format!("{from} stopped in {stop} ms, then ")).unwrap_or_default();
            keeper.say(format!("{old}{to} was started; {took} ms in all, {waiting} requests waited"));
            keeper.save_what_is_behind();
        }
        News::Steered => undo(keeper, rollout, from, to, held, None).await,
        News::Failed(why, task) => undo(keeper, rollout, from, to, held, Some((why, task))).await,
    }
}

fn take_turn(state: &mut State, from: Option<ReleaseId>, to: ReleaseId) {
    if let Some(record) = from.and_then(|from| state.releases.get_mut(&from)) {
        record.up = false;
    }
    if let Some(record) = state.releases.get_mut(&to) {
        (record.up, record.copies) = (true, None);
    }
}

/// Returns when none of its processes is left, however long that takes; it is killed once its grace is over.
async fn stop_completely(keeper: &Arc<Keeper>, release: ReleaseId) {
    keeper.front.forget(&release.to_string());
    keeper.each(release, Slot::stop);
    let grace = keeper.read(|state| state.releases.get(&release).map_or(0, |record| record.body.stop_grace_ms));
    if !keeper.stopped(release, Duration::from_millis(grace) + BURIAL).await {
        log(format_args!("{release} does not stop, so it is killed"));
    }
    kill_completely(keeper, release).await;
}

async fn kill_completely(keeper: &Arc<Keeper>, release: ReleaseId) {
    keeper.each(release, Slot::kill);
    while !keeper.stopped(release, BURIAL).await {
        log(format_args!("processes of {release} do not go, and nothing else is started before"));
    }
    keeper.dismiss(release);
}

async fn until_ready(keeper: &Arc<Keeper>, rollout: &Rollout, release: ReleaseId, otherwise: Else) -> News {
    let look = |inner: &Inner| {
        if otherwise == Else::Undo && !is_at(inner, rollout) {
            return Some(News::Steered);
        }
        let statuses = inner.live.get(&release).map(|live| live.statuses()).unwrap_or_default();
        if otherwise == Else::Undo
            && let Some(news) = failure(&statuses)
        {
            return Some(news);
        }
        (!statuses.is_empty() && is_whole(inner, release)).then_some(News::Ready { waits: false })
    };
    match keeper.within(START_MAX, look).await {
        Some(news) => news,
        None if otherwise == Else::Undo => late(&keeper.statuses(release), release),
        None => {
            // Clients are better off with an answer than with a wait without end.
            keeper.front.resume();
            keeper.until(look).await
        }
    }
}

fn late(statuses: &[Status], release: ReleaseId) -> News {
    let slow = statuses.iter().find(|status| status.state != Copy::Ready);
    let detail = slow.map(|status| status.detail.as_str()).filter(|detail| !detail.is_empty());
    let why =
        format!("{release} was not ready within {} s ({})", START_MAX.as_secs(), detail.unwrap_or("no answer yet"));
    News::Failed(why, slow.and_then(|status| status.task.clone()))
}

/// Takes the new release away and starts the old one again, with the requests still held.
async fn undo(
    keeper: &Arc<Keeper>,
    rollout: &Rollout,
    from: Option<ReleaseId>,
    to: ReleaseId,
    held: Instant,
    failed: Option<(String, Option<String>)>,
) {
    let failed = failed.map(|(why, task)| {
        let logs = task.map(|task| last_lines(keeper, &task)).unwrap_or_default();
        keeper.say(format!("{to} failed: {why}"));
        Stage::Failed { why, logs }
    });
    kill_completely(keeper, to).await;
    // In one, so that after a crash nobody takes this for a rollout that is still to move on.
    keeper.settle(|state| {
        if let Some(from) = from {
            take_turn(state, Some(to), from);
        } else if let Some(record) = state.releases.get_mut(&to) {
            record.up = false;
        }
        if let (Some(stage), Some(now)) = (failed, &mut state.rollout)
            && now.stage == rollout.stage
        {
            now.stage = stage;
        }
    });
    if let Some(from) = from {
        match swap::raise(keeper, from).await {
            Ok(()) => {
                let ready = |inner: &Inner| is_whole(inner, from).then_some(());
                let back = keeper.within(START_MAX, ready).await.is_some();
                let took = held.elapsed().as_millis();
                keeper.say(if back {
                    format!("{from} was started again and serves; that took {took} ms")
                } else {
                    format!("{from} was started again but is not ready yet")
                });
            }
            Err(error) => {
                keeper.say(format!("{from} could not be started again: {}; trying again", error.why));
                keeper.background(raise_later(Arc::clone(keeper), from));
            }
        }
    }
    keeper.publish();
    keeper.front.resume();
}
