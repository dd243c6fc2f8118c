//! How many copies of a release run while another one takes its place batch by batch. It decides the order, so that copies
//! are ready before traffic comes to them and have finished what they had before they stop; the numbers come from outside.

use std::sync::Arc;
use std::time::Duration;

use dataplane::supervise::{Slot, State as Copy};
use dbird_core::ReleaseId;

use super::course::{BURIAL, News, failure, is_at, raise_later};
use super::keeper::{Inner, Keeper};
use super::log;
use super::state::{Rollout, State};

/// After this long the copies that are ready take the traffic back, if at least one is.
const WHOLE_BY: Duration = Duration::from_secs(60);

/// Starts the copies that the shift under way asks for beyond those that run, and waits until they are ready.
pub(super) async fn grow(keeper: &Arc<Keeper>, rollout: &Rollout) -> News {
    let grown = |state: &State| -> Vec<(ReleaseId, u32)> {
        let more = |release: &ReleaseId, copies: u32| state.releases.get(release).is_some_and(|r| copies > r.wanted());
        rollout.copies.iter().filter(|(release, copies)| more(release, **copies)).map(|(r, n)| (*r, *n)).collect()
    };
    let grown = keeper.read(grown);
    if !grown.is_empty() {
        keeper.settle(|state| {
            for (release, copies) in &grown {
                if let Some(record) = state.releases.get_mut(release) {
                    record.want(*copies);
                }
            }
        });
        for (release, copies) in &grown {
            keeper.say(format!("{release} is to have {copies} copies"));
        }
    }
    // The candidate's were perhaps begun before a crash.
    let mut awaited: Vec<ReleaseId> = grown.into_iter().map(|(release, _)| release).collect();
    if rollout.copies.contains_key(&rollout.release) && !awaited.contains(&rollout.release) {
        awaited.push(rollout.release);
    }
    for release in &awaited {
        if let Err(error) = keeper.raise(*release).await {
            return News::Failed(format!("{release} can't get more copies: {}", error.causes.join(": ")), None);
        }
    }
    keeper
        .until(|inner| {
            if !is_at(inner, rollout) {
                return Some(News::Steered);
            }
            let candidate = inner.live.get(&rollout.release).map(|live| live.statuses()).unwrap_or_default();
            if let Some(news) = failure(&candidate) {
                return Some(news);
            }
            awaited.iter().all(|release| is_whole(inner, *release)).then_some(News::Ready { waits: false })
        })
        .await
}

/// Writes down that fewer copies are wanted where the shift under way asks for fewer.
pub(super) fn want_fewer(state: &mut State, rollout: &Rollout) {
    for (release, copies) in &rollout.copies {
        if let Some(record) = state.releases.get_mut(release)
            && *copies < record.wanted()
        {
            record.want(*copies);
        }
    }
}

/// Stops the copies of a release that are more than wanted, once they have finished what they had.
pub(super) async fn shrink(keeper: &Arc<Keeper>, release: ReleaseId) {
    let record =
        |state: &State| state.releases.get(&release).map(|record| (record.wanted(), record.body.stop_grace_ms));
    let Some((wanted, grace_ms)) = keeper.read(record) else { return };
    let leaving = keeper.take_requests_from(release, wanted);
    if leaving.is_empty() {
        // What is left has no address: it is stopped already, or between two tries.
        keeper.each_leaving(release, Slot::stop);
    } else {
        let grace = Duration::from_millis(grace_ms);
        let count = leaving.len();
        if !keeper.front.left(&release.to_string(), &leaving, grace).await {
            keeper.say(format!("{release} still had requests in {count} copies after {grace_ms} ms"));
        }
        keeper.each_leaving(release, Slot::stop);
        keeper.say(format!("{count} of the copies of {release} stop, {wanted} go on"));
    }
    if !keeper.have_left(release, Duration::from_millis(grace_ms) + BURIAL).await {
        log(format_args!("copies of {release} do not stop; their supervisors go on trying"));
    }
    keeper.dismiss_leaving(release);
}

/// Whether all copies of these releases are wanted again.
pub(super) fn are_wanted(state: &State, releases: &[ReleaseId]) -> bool {
    let whole =
        |release: &ReleaseId| state.releases.get(release).is_some_and(|record| record.wanted() == record.body.replicas);
    releases.iter().all(whole)
}

/// Starts all copies of these releases again, before they get their traffic back. Ends early once `given_up` says so.
pub(super) async fn restore(keeper: &Arc<Keeper>, releases: &[ReleaseId], given_up: impl Fn(&Inner) -> bool) {
    // A copy that is unwell is no reason to wait, one that has just been started is.
    let starts = |release: &ReleaseId| {
        keeper.statuses(*release).iter().any(|status| matches!(status.state, Copy::Starting | Copy::Waiting))
    };
    let there = releases.iter().all(|release| keeper.missing(*release).is_empty() && !starts(release));
    if there && keeper.read(|state| are_wanted(state, releases)) {
        return;
    }
    keeper.settle(|state| {
        for release in releases {
            if let Some(record) = state.releases.get_mut(release) {
                (record.up, record.copies) = (true, None);
            }
        }
    });
    for release in releases {
        let missing = keeper.missing(*release).len();
        if missing > 0 {
            keeper.say(format!("{missing} copies of {release} are started again"));
        }
        if let Err(error) = keeper.raise(*release).await {
            keeper.say(format!("{release} can't get its copies back: {}", error.causes.join(": ")));
            keeper.background(raise_later(Arc::clone(keeper), *release));
        }
    }
    let whole =
        |inner: &Inner| (given_up(inner) || releases.iter().all(|release| is_whole(inner, *release))).then_some(());
    if keeper.within(WHOLE_BY, whole).await.is_none() {
        let some = |inner: &Inner, release: &ReleaseId| {
            let live = inner.live.get(release);
            live.is_some_and(|live| live.statuses().iter().any(|status| status.state == Copy::Ready))
        };
        keeper
            .until(|inner| (given_up(inner) || releases.iter().all(|release| some(inner, release))).then_some(()))
            .await;
    }
}

/// Whether every copy of a release that is wanted is ready.
pub(super) fn is_whole(inner: &Inner, release: ReleaseId) -> bool {
    let wanted = inner.state.releases.get(&release).map_or(0, |record| record.wanted() as usize);
    let statuses = inner.live.get(&release).map(|live| live.statuses()).unwrap_or_default();
    statuses.iter().filter(|status| status.state == Copy::Ready).count() >= wanted
}
