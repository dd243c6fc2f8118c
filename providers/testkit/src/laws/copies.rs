//! What must hold for how many copies of which release run, and when.

use std::collections::BTreeMap;

use dbird_core::{
    Handle, Observed, Phase, Progress, ReleaseId, Start, Steer, StepKind, Target, TaskState, Weights, Work,
    provider::Driver,
};

use super::{ONE, TWO, apply, expect, observe, roll_back, steer, until, weights};
use crate::{Fixture, Kind};

/// Copies of a whole release.
const COPIES: u32 = 3;

fn knows(f: &dyn Fixture, strategy: &str) -> bool {
    f.provider().capabilities().strategies.get(strategy) == Some(&Driver::Dbird)
}

/// Makes a release of several copies, of which this much is started before it gets traffic.
async fn begin(
    f: &dyn Fixture,
    target: &Target,
    release: ReleaseId,
    kind: Kind,
    start: Start,
) -> Result<Handle, String> {
    for work in f.with_copies(f.works(target, release, kind), COPIES) {
        let work = if work.kind == StepKind::Service { Work { start, ..work } } else { work };
        let handle = apply(f, target, &work).await?;
        if work.kind == StepKind::Service {
            until(f, target, &handle, "a ready candidate", |p| p.phase == Phase::Ready).await?;
            return Ok(handle);
        }
        until(f, target, &handle, "a finished step", |p| p.phase == Phase::Finished).await?;
    }
    Err("the fixture has no service".into())
}

/// Makes a release of several copies and lets it take over.
async fn serve(f: &dyn Fixture, target: &Target, release: ReleaseId) -> Result<(), String> {
    let handle = begin(f, target, release, Kind::First, Start::All).await?;
    steer(f, target, &handle, Steer::shift(Weights::all(release))).await?;
    until(f, target, &handle, "the shift", |p| p.phase == Phase::Ready && p.weights == Weights::all(release)).await?;
    steer(f, target, &handle, Steer::Finish).await?;
    until(f, target, &handle, "the end of the rollout", |p| p.phase == Phase::Finished).await.map(drop)
}

/// Follows a step to where it is wanted, and looks at what is live all the way.
async fn watch(
    f: &dyn Fixture,
    target: &Target,
    handle: &Handle,
    wanted: impl Fn(&Progress) -> bool,
    fine: impl Fn(&Observed) -> Result<(), String>,
) -> Result<Progress, String> {
    let start = tokio::time::Instant::now();
    loop {
        fine(&observe(f, target).await?)?;
        let progress = until(f, target, handle, "any answer", |_| true).await?;
        if wanted(&progress) {
            fine(&observe(f, target).await?)?;
            return Ok(progress);
        }
        if u128::from(f.patience_ms()) < start.elapsed().as_millis() {
            return Err(format!("it is {:?}, waiting for {}", progress.phase, progress.waiting_for));
        }
        tokio::task::yield_now().await;
    }
}

fn ready(observed: &Observed, release: ReleaseId) -> usize {
    let tasks = observed.releases.iter().filter(|r| r.id == release).flat_map(|r| &r.tasks);
    tasks.filter(|task| task.state == TaskState::Ready).count()
}

/// Copies that run, ready or not.
fn running(observed: &Observed) -> BTreeMap<ReleaseId, usize> {
    let count = |r: &dbird_core::LiveRelease| r.tasks.iter().filter(|t| t.state != TaskState::Stopped).count();
    observed.releases.iter().map(|r| (r.id, count(r))).filter(|(_, count)| *count > 0).collect()
}

fn one_at_a_time(observed: &Observed) -> Result<(), String> {
    let running = running(observed);
    if running.len() > 1 { Err(format!("two releases run at the same time: {running:?}")) } else { Ok(()) }
}

pub(super) async fn cold_candidate_never_overlaps(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !knows(f, "recreate") {
        return Ok(());
    }
    serve(f, &target, ONE).await?;
    let all = COPIES as usize;
    let mut release = TWO;
    for (kind, ends) in [(Kind::Dies, ONE), (Kind::Second, ONE), (Kind::Second, TWO)] {
        let handle = begin(f, &target, release, kind, Start::Nothing).await?;
        expect("what runs beside a prepared candidate", &running(&observe(f, &target).await?), &[(ONE, all)].into())?;
        steer(f, &target, &handle, Steer::shift(Weights::all(release))).await?;
        if kind == Kind::Dies {
            watch_failure(f, &target, &handle).await?;
            expect("what serves after a failed start", &weights(&observe(f, &target).await?), &vec![(ONE, 100)])?;
        } else {
            let there = |p: &Progress| p.phase == Phase::Ready && p.weights == Weights::all(release);
            watch(f, &target, &handle, there, one_at_a_time).await?;
            expect("what runs after the shift", &running(&observe(f, &target).await?), &[(release, all)].into())?;
        }
        if ends == ONE {
            steer(f, &target, &handle, Steer::Stop { roll_back: true }).await?;
            watch(f, &target, &handle, |p| p.phase == Phase::RolledBack, one_at_a_time).await?;
            let live = observe(f, &target).await?;
            expect("what serves after the undo", &(weights(&live), ready(&live, ONE)), &(vec![(ONE, 100)], all))?;
        } else {
            steer(f, &target, &handle, Steer::Finish).await?;
            watch(f, &target, &handle, |p| p.phase == Phase::Finished, one_at_a_time).await?;
        }
        release.0 += 1;
    }
    Ok(())
}

/// As [`watch`], to a failure; `until` takes one for an error.
async fn watch_failure(f: &dyn Fixture, target: &Target, handle: &Handle) -> Result<(), String> {
    let start = tokio::time::Instant::now();
    loop {
        one_at_a_time(&observe(f, target).await?)?;
        match f.provider().poll(target, handle).await {
            Ok(progress) if matches!(progress.phase, Phase::Failed { .. }) => break,
            Ok(_) => tokio::task::yield_now().await,
            Err(e) if e.retry => tokio::task::yield_now().await,
            Err(e) => return Err(super::said("waiting for the failure", &e)),
        }
        if u128::from(f.patience_ms()) < start.elapsed().as_millis() {
            return Err("the failure did not come".into());
        }
    }
    // The previous release may still be on its way back.
    while ready(&observe(f, target).await?, ONE) < COPIES as usize {
        one_at_a_time(&observe(f, target).await?)?;
        if u128::from(f.patience_ms()) < start.elapsed().as_millis() {
            return Err("the previous release did not come back".into());
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Shifts to so many new copies, and as many old ones less.
async fn roll(f: &dyn Fixture, target: &Target, handle: &Handle, new: u32) -> Result<(), String> {
    let share = u8::try_from(new * 100 / COPIES).unwrap_or(100);
    let to = Weights([(ONE, 100 - share), (handle.release, share)].into_iter().filter(|(_, w)| *w > 0).collect());
    let copies: BTreeMap<_, _> = [(ONE, COPIES - new), (handle.release, new)].into();
    for _ in ["once", "twice"] {
        steer(f, target, handle, Steer::Shift { weights: to.clone(), copies: copies.clone() }).await?;
        watch(f, target, handle, |p| p.phase == Phase::Ready && p.weights == to, enough).await?;
    }
    let wanted = copies.into_iter().map(|(id, count)| (id, count as usize)).filter(|(_, count)| *count > 0).collect();
    expect(&format!("what runs with {new} new copies"), &running(&observe(f, target).await?), &wanted)
}

fn enough(observed: &Observed) -> Result<(), String> {
    let count: usize = observed.releases.iter().map(|r| ready(observed, r.id)).sum();
    if count < COPIES as usize { Err(format!("only {count} copies are ready, of {COPIES}")) } else { Ok(()) }
}

pub(super) async fn ready_copies_never_fall_below(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !knows(f, "rolling") {
        return Ok(());
    }
    serve(f, &target, ONE).await?;
    let handle = begin(f, &target, TWO, Kind::Second, Start::Copies { count: 1 }).await?;
    let first = [(ONE, COPIES as usize), (TWO, 1)].into();
    expect("what runs before the first shift", &running(&observe(f, &target).await?), &first)?;
    for new in 1..=COPIES {
        roll(f, &target, &handle, new).await?;
    }
    steer(f, &target, &handle, Steer::Finish).await?;
    watch(f, &target, &handle, |p| p.phase == Phase::Finished, enough).await?;
    expect("what runs at the end", &running(&observe(f, &target).await?), &[(TWO, COPIES as usize)].into())
}

pub(super) async fn scaled_down_parent_comes_back(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !knows(f, "rolling") {
        return Ok(());
    }
    serve(f, &target, ONE).await?;
    let mut release = TWO;
    for new in [COPIES - 1, COPIES] {
        let handle = begin(f, &target, release, Kind::Second, Start::Copies { count: 1 }).await?;
        for new in 1..=new {
            roll(f, &target, &handle, new).await?;
        }
        steer(f, &target, &handle, Steer::Stop { roll_back: true }).await?;
        let whole = |observed: &Observed| {
            let all = observed.releases.iter().any(|r| r.id == ONE && r.weight == 100);
            match ready(observed, ONE) {
                count if all && count < COPIES as usize => {
                    Err(format!("all traffic went back to {count} copies of {COPIES}"))
                }
                _ => enough(observed),
            }
        };
        watch(f, &target, &handle, |p| p.phase == Phase::RolledBack, whole).await?;
        roll_back(f, &target, &handle).await?;
        expect("what runs after the undo", &running(&observe(f, &target).await?), &[(ONE, COPIES as usize)].into())?;
        release.0 += 1;
    }
    Ok(())
}
