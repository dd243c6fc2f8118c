//! The course of a rollout: a candidate gets ready, gets traffic, stays or goes. It decides when a candidate has failed and
//! in which order traffic and tasks move, so that no request is lost; what it should get is steered from outside.

use std::sync::Arc;
use std::time::Duration;

use dataplane::logs;
use dataplane::supervise::{Slot, State as Copy, Status};
use dbird_core::{ReleaseId, Weights};
use tokio::time::Instant;

use super::keeper::{Inner, Keeper};
use super::state::{Rollout, Stage, State};
use super::{cold, log, scale, swap};

/// A candidate whose tasks died so often has failed.
const DEATHS_MAX: u32 = 3;
/// Requests that come in while tasks are taken over wait so long for them to be seen ready.
const TAKE_OVER_HOLD: Duration = Duration::from_secs(1);
/// A release that can't be started again is tried this often.
const RAISE_EVERY: Duration = Duration::from_secs(5);
/// Of a failed task.
const LOG_LINES_MAX: usize = 50;
/// Beyond its own grace a task that was killed needs this long to be gone.
pub(super) const BURIAL: Duration = Duration::from_secs(30);

/// Follows a release's rollout until it has ended.
pub(super) async fn run(keeper: Arc<Keeper>, release: ReleaseId) {
    loop {
        let Some(rollout) = keeper.read(|state| state.rollout.clone()).filter(|rollout| rollout.release == release)
        else {
            return;
        };
        match &rollout.stage {
            Stage::Starting => starting(&keeper, &rollout).await,
            Stage::Ready => watching(&keeper, &rollout).await,
            Stage::Shifting(weights) => shifting(&keeper, &rollout, weights).await,
            Stage::Finishing => finishing(&keeper, &rollout).await,
            Stage::RollingBack => rolling_back(&keeper, &rollout).await,
            Stage::Failed { .. } => given_up(&keeper, &rollout).await,
            Stage::Finished | Stage::RolledBack => return,
        }
    }
}

/// Waits until the rollout is somewhere else.
async fn steered(keeper: &Keeper, rollout: &Rollout) {
    keeper.until(|inner| (!is_at(inner, rollout)).then_some(())).await;
}

pub(super) fn is_at(inner: &Inner, rollout: &Rollout) -> bool {
    inner.state.rollout.as_ref().is_some_and(|now| now.release == rollout.release && now.stage == rollout.stage)
}

/// Moves the rollout on, unless it was steered elsewhere meanwhile.
fn advance(keeper: &Keeper, rollout: &Rollout, stage: Stage) {
    keeper.settle(|state| {
        if let Some(now) = &mut state.rollout
            && now.stage == rollout.stage
        {
            now.stage = stage;
        }
    });
}

pub(super) enum News {
    Steered,
    Failed(String, Option<String>),
    Ready { waits: bool },
}

async fn starting(keeper: &Arc<Keeper>, rollout: &Rollout) {
    let begun = Instant::now();
    let release = rollout.release;
    let exclusive = keeper.read(State::takes_turns);
    // A candidate waits for the store only as long as somebody else serves from it.
    let may_wait = exclusive && rollout.parent().is_some();
    let news = keeper
        .until(|inner| {
            if !is_at(inner, rollout) {
                return Some(News::Steered);
            }
            let statuses = inner.live.get(&release)?.statuses();
            if let Some(news) = failure(&statuses) {
                return Some(news);
            }
            let prepared = |status: &Status| status.state == Copy::Ready || (may_wait && status.state == Copy::Waiting);
            let all = !statuses.is_empty() && statuses.iter().all(prepared);
            all.then(|| News::Ready { waits: statuses.iter().any(|status| status.state == Copy::Waiting) })
        })
        .await;
    match news {
        News::Steered => {}
        News::Failed(why, task) => fail(keeper, rollout, &why, task).await,
        News::Ready { waits } => {
            let took = begun.elapsed().as_millis();
            keeper.say(if waits {
                format!("{release} has started and waits for the store ({took} ms)")
            } else {
                format!("{release} is ready ({took} ms)")
            });
            advance(keeper, rollout, Stage::Ready);
        }
    }
}

/// A candidate that was ready once may still turn out to be broken.
async fn watching(keeper: &Arc<Keeper>, rollout: &Rollout) {
    let news = keeper
        .until(|inner| {
            if !is_at(inner, rollout) {
                return Some(News::Steered);
            }
            failure(&inner.live.get(&rollout.release)?.statuses())
        })
        .await;
    if let News::Failed(why, task) = news {
        fail(keeper, rollout, &why, task).await;
    }
}

pub(super) fn failure(statuses: &[Status]) -> Option<News> {
    let task = |status: &Status| status.died.as_ref().map(|(task, _)| task.clone());
    if let Some(status) = statuses.iter().find(|status| status.hopeless.is_some()) {
        return Some(News::Failed(status.hopeless.clone().unwrap_or_default(), task(status)));
    }
    let status = statuses.iter().find(|status| status.deaths >= DEATHS_MAX)?;
    let how = status
        .died
        .as_ref()
        .map_or_else(|| status.detail.clone(), |(task, exit)| format!("task {task} {}", exit.describe()));
    Some(News::Failed(format!("{how}, for the {}. time", status.deaths), task(status)))
}

/// Gives up on the candidate: traffic goes back where that takes no more than moving it.
async fn fail(keeper: &Arc<Keeper>, rollout: &Rollout, why: &str, task: Option<String>) {
    let release = rollout.release;
    let logs = task.map(|task| last_lines(keeper, &task)).unwrap_or_default();
    let back = keeper.read(|state| {
        let up = |release: &ReleaseId| state.releases.get(release).is_some_and(|record| record.up);
        let before = served_before(rollout);
        before.iter().all(up) && scale::are_wanted(state, &before)
    });
    keeper.say(format!("{release} failed: {why}"));
    keeper.settle(|state| {
        if back && state.weights != rollout.before {
            state.weights = rollout.before.clone();
        }
        if let Some(now) = &mut state.rollout
            && now.stage == rollout.stage
        {
            now.stage = Stage::Failed { why: why.to_owned(), logs };
        }
    });
    keeper.publish();
    if keeper.read(|state| state.weights.of(release) == 0) {
        stop(keeper, release, Slot::kill).await;
    }
}

fn served_before(rollout: &Rollout) -> Vec<ReleaseId> {
    rollout.before.0.iter().filter(|(_, weight)| **weight > 0).map(|(release, _)| *release).collect()
}

/// A candidate that failed while it took over batch by batch loses its traffic once the others have their copies back.
async fn given_up(keeper: &Arc<Keeper>, rollout: &Rollout) {
    let before = served_before(rollout);
    let scaled = |state: &State| !state.takes_turns() && state.weights != rollout.before && !before.is_empty();
    if keeper.read(scaled) {
        scale::restore(keeper, &before, |inner| !is_at(inner, rollout)).await;
        if !is_at(&keeper.lock(), rollout) {
            return;
        }
        give_back(keeper, rollout);
        stop(keeper, rollout.release, Slot::kill).await;
    }
    steered(keeper, rollout).await;
}

/// Moves all traffic to where it was before.
fn give_back(keeper: &Keeper, rollout: &Rollout) {
    keeper.settle(|state| state.weights = rollout.before.clone());
    keeper.publish();
    let before = if rollout.before.0.is_empty() { "none".to_owned() } else { describe(&rollout.before) };
    keeper.say(format!("traffic: {before}"));
}

/// The last lines of a task's log.
pub(super) fn last_lines(keeper: &Keeper, task: &str) -> Vec<String> {
    let lines = logs::tail(&keeper.paths.tasks().join(task), LOG_LINES_MAX).map(|(lines, _)| lines);
    lines.unwrap_or_default().into_iter().map(|line| line.text).collect()
}

async fn shifting(keeper: &Arc<Keeper>, rollout: &Rollout, weights: &Weights) {
    let exclusive = keeper.read(State::takes_turns);
    let from = keeper.read(State::current);
    let to = weights.0.iter().find(|(_, weight)| **weight == 100).map(|(release, _)| *release);
    match (exclusive, from, to) {
        (true, from, Some(to)) if from != Some(to) && keeper.read(State::is_cold) => {
            cold::change(keeper, rollout, from, to, swap::Else::Undo).await;
            advance(keeper, rollout, Stage::Ready);
        }
        (true, Some(from), Some(to)) if from != to => match swap::swap(keeper, from, to, swap::Else::Undo).await {
            Ok(()) => advance(keeper, rollout, Stage::Ready),
            Err(failed) => {
                keeper.say(format!("{to} failed: {}", failed.why));
                advance(keeper, rollout, Stage::Failed { why: failed.why, logs: failed.logs });
            }
        },
        _ => {
            match scale::grow(keeper, rollout).await {
                News::Steered => return,
                News::Failed(why, task) => return fail(keeper, rollout, &why, task).await,
                News::Ready { .. } => {}
            }
            let change = |state: &mut State| {
                state.weights = weights.clone();
                scale::want_fewer(state, rollout);
            };
            if rollout.copies.is_empty() {
                keeper.hold_true(change)
            } else {
                keeper.settle(change)
            }
            keeper.publish();
            keeper.say(format!("traffic: {}", describe(weights)));
            for release in rollout.copies.keys() {
                scale::shrink(keeper, *release).await;
            }
            advance(keeper, rollout, Stage::Ready);
            serve_on(keeper).await;
        }
    }
}

fn describe(weights: &Weights) -> String {
    let parts: Vec<_> = weights.0.iter().map(|(release, weight)| format!("{release} {weight} %")).collect();
    parts.join(", ")
}

async fn finishing(keeper: &Arc<Keeper>, rollout: &Rollout) {
    let release = rollout.release;
    let all = Weights::all(release);
    if keeper.read(|state| state.weights != all) {
        keeper.settle(|state| state.weights = all.clone());
        keeper.publish();
        keeper.say(format!("traffic: {}", describe(&all)));
    }
    if !keeper.read(|state| scale::are_wanted(state, &[release])) {
        scale::restore(keeper, &[release], |_| false).await;
    }
    let others =
        keeper.read(|state| state.releases.keys().copied().filter(|other| *other != release).collect::<Vec<_>>());
    for other in &others {
        retire(keeper, *other).await;
    }
    keeper.settle(|state| {
        state.releases.retain(|id, _| *id == release);
        state.end_rollout(Stage::Finished);
    });
    settle_down(keeper).await;
}

async fn rolling_back(keeper: &Arc<Keeper>, rollout: &Rollout) {
    let release = rollout.release;
    let parent = rollout.parent();
    let exclusive = keeper.read(State::takes_turns);
    let swapped = exclusive && keeper.read(State::current) == Some(release);
    let before = served_before(rollout);
    // A crash may have come between the end of the one and the start of the other.
    let changed = keeper.read(|state| {
        let up = |id: ReleaseId| state.releases.get(&id).is_some_and(|record| record.up);
        state.is_cold() && (up(release) || parent.is_some_and(|parent| !up(parent)))
    });
    match parent.filter(|_| swapped || changed) {
        Some(parent) if keeper.read(State::is_cold) => {
            cold::change(keeper, rollout, Some(release), parent, swap::Else::GoOn).await;
        }
        Some(parent) => {
            // There is no way but back: it goes on until the previous release serves.
            if let Err(failed) = swap::swap(keeper, release, parent, swap::Else::GoOn).await {
                log(format_args!("{parent} does not come back: {}", failed.why));
            }
        }
        None => {
            if !exclusive {
                scale::restore(keeper, &before, |_| false).await;
            }
            if keeper.read(|state| state.weights != rollout.before) {
                give_back(keeper, rollout);
            } else {
                keeper.publish();
            }
        }
    }
    serve_on(keeper).await;
    retire(keeper, release).await;
    keeper.settle(|state| {
        state.releases.remove(&release);
        state.end_rollout(Stage::RolledBack);
    });
    settle_down(keeper).await;
}

/// After a crash in the middle of a swap that was over already, the door is still held, and if whoever serves was killed as
/// well, nobody has started it again.
async fn serve_on(keeper: &Arc<Keeper>) {
    let serving = keeper
        .read(|state| state.weights.0.iter().filter(|(_, weight)| **weight > 0).map(|(id, _)| *id).collect::<Vec<_>>());
    for release in serving {
        if keeper.raise(release).await.is_err() {
            keeper.background(raise_later(Arc::clone(keeper), release));
        }
    }
    keeper.background(let_in(Arc::clone(keeper)));
}

/// Tries to start a release again until that works.
pub(super) async fn raise_later(keeper: Arc<Keeper>, release: ReleaseId) {
    loop {
        tokio::time::sleep(RAISE_EVERY).await;
        let wanted = |state: &State| state.releases.get(&release).is_some_and(|record| record.up);
        if !keeper.read(wanted) || keeper.raise(release).await.is_ok() {
            return;
        }
    }
}

/// Lets requests in as soon as whoever serves was seen ready.
pub(super) async fn let_in(keeper: Arc<Keeper>) {
    keeper
        .within(TAKE_OVER_HOLD, |inner| {
            let serving = inner.state.weights.0.iter().filter(|(_, weight)| **weight > 0);
            let ready = |release: &ReleaseId| {
                inner
                    .live
                    .get(release)
                    .is_some_and(|live| live.statuses().iter().all(|status| status.state == Copy::Ready))
            };
            serving.map(|(release, _)| release).all(ready).then_some(())
        })
        .await;
    keeper.publish();
    keeper.front.resume();
}

/// After a rollout: doors, images and secrets that only the others needed go.
async fn settle_down(keeper: &Arc<Keeper>) {
    keeper.publish();
    keeper.align_doors().await;
    let tidying = Arc::clone(keeper);
    tokio::task::spawn_blocking(move || tidying.tidy());
}

/// Lets a release that gets no new requests finish those that it has, and stops it.
pub(super) async fn retire(keeper: &Arc<Keeper>, release: ReleaseId) {
    let grace = keeper.read(|state| state.releases.get(&release).map_or(0, |record| record.body.stop_grace_ms));
    if keeper.statuses(release).iter().any(|status| status.state != Copy::Stopped) {
        let name = release.to_string();
        let until = Instant::now() + Duration::from_millis(grace);
        let begun = Instant::now();
        let mut drained = keeper.front.drained(&name, Duration::from_millis(grace)).await;
        // Upgraded connections end with their backend, so they get the same time to end by themselves.
        while drained && keeper.front.upgraded(&name) > 0 {
            drained = Instant::now() < until;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keeper.front.forget(&name);
        let left = keeper.front.in_flight(&name) + keeper.front.upgraded(&name);
        if !drained && left > 0 {
            keeper.say(format!("{release} still had {left} requests or streams after {grace} ms"));
        }
        let drained_after = begun.elapsed().as_millis();
        stop(keeper, release, Slot::stop).await;
        keeper.say(format!(
            "{release} drained in {drained_after} ms and stopped in {} ms",
            begun.elapsed().as_millis() - drained_after
        ));
    } else {
        keeper.dismiss(release);
    }
}

/// Stops a release's copies and waits until they are gone.
pub(super) async fn stop(keeper: &Arc<Keeper>, release: ReleaseId, how: impl Fn(&Slot)) {
    keeper.each(release, how);
    let grace = keeper.read(|state| state.releases.get(&release).map_or(0, |record| record.body.stop_grace_ms));
    if !keeper.stopped(release, Duration::from_millis(grace) + BURIAL).await {
        log(format_args!("{release} does not stop; its supervisor goes on trying"));
    }
    keeper.dismiss(release);
}
