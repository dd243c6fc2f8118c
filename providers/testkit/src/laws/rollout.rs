//! What must hold while one release replaces another.

use std::collections::BTreeMap;

use dbird_core::{Phase, Steer, Weights, provider::ErrorKind};

use super::{
    ONE, TWO, apply, candidate, could_serve, drives, expect, observe, refused, roll_back, serve, service, shift, start,
    steer, until, weights,
};
use crate::{Fixture, Kind};

pub(super) async fn candidate_gets_no_traffic(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    let progress = until(f, &target, &handle, "readiness", |p| p.phase == Phase::Ready).await?;
    expect(
        "the traffic beside a candidate, by poll",
        &(progress.weights.of(ONE), progress.weights.of(TWO)),
        &(100, 0),
    )?;
    expect(
        "the traffic beside a candidate, by observe",
        &weights(&observe(f, &target).await?),
        &vec![(ONE, 100), (TWO, 0)],
    )
}

pub(super) async fn applying_twice_makes_one(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let handle = start(f, &target, TWO, Kind::Second).await?;
    let work = service(f, &target, TWO, Kind::Second)?;
    expect("the handle of a repeated step", &apply(f, &target, &work).await?, &handle)?;
    until(f, &target, &handle, "readiness", |p| p.phase == Phase::Ready).await?;
    let tasks = |o: &dbird_core::Observed| o.releases.iter().map(|r| (r.id, r.tasks.len())).collect::<Vec<_>>();
    let once = tasks(&observe(f, &target).await?);
    expect("the handle of a step repeated late", &apply(f, &target, &work).await?, &handle)?;
    until(f, &target, &handle, "readiness", |p| p.phase == Phase::Ready).await?;
    expect("the tasks after a repeated step", &tasks(&observe(f, &target).await?), &once)?;
    let one = once.first().map_or(0, |(_, n)| *n);
    expect("the tasks of the candidate", &once.last().map_or(0, |(_, n)| *n), &one)
}

pub(super) async fn handle_survives_serialisation(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    let handle = start(f, &target, ONE, Kind::First).await?;
    let text = serde_json::to_string(&handle).map_err(|e| e.to_string())?;
    let handle = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    until(f, &target, &handle, "readiness by a handle read back", |p| could_serve(p, drives(f))).await?;
    shift(f, &target, &handle, Weights::all(ONE)).await
}

pub(super) async fn weights_are_exact(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !f.provider().capabilities().any_weights {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    for percent in [1, 37, 99, 50] {
        shift(f, &target, &handle, Weights(BTreeMap::from([(ONE, 100 - percent), (TWO, percent)]))).await?;
        expect("the traffic", &weights(&observe(f, &target).await?), &vec![(ONE, 100 - percent), (TWO, percent)])?;
    }
    Ok(())
}

pub(super) async fn steering_twice_is_steering_once(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    shift(f, &target, &handle, Weights::all(TWO)).await?;
    shift(f, &target, &handle, Weights::all(TWO)).await?;
    steer(f, &target, &handle, Steer::Finish).await?;
    steer(f, &target, &handle, Steer::Finish).await?;
    until(f, &target, &handle, "the end", |p| p.phase == Phase::Finished).await?;
    steer(f, &target, &handle, Steer::Finish).await?;
    expect("what serves", &weights(&observe(f, &target).await?), &vec![(TWO, 100)])
}

pub(super) async fn rolling_back_restores(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let before = observe(f, &target).await?;
    let any = f.provider().capabilities().any_weights;
    let mut release = TWO;
    for share in [0, 20, 100] {
        if share == 20 && !any {
            continue;
        }
        let handle = candidate(f, &target, release, Kind::Second).await?;
        if share == 100 {
            shift(f, &target, &handle, Weights::all(release)).await?;
        } else if share > 0 {
            shift(f, &target, &handle, Weights(BTreeMap::from([(ONE, 100 - share), (release, share)]))).await?;
        }
        roll_back(f, &target, &handle).await?;
        let after = observe(f, &target).await?;
        expect(&format!("what serves after {share} % were taken back"), &weights(&after), &vec![(ONE, 100)])?;
        expect("the live documents", &after.documents, &before.documents)?;
        expect("the readiness of what serves", &after.releases.iter().all(|r| r.ready), &true)?;
        roll_back(f, &target, &handle).await?;
        expect("what serves after a repeated undo", &weights(&observe(f, &target).await?), &vec![(ONE, 100)])?;
        release.0 += 1;
    }
    Ok(())
}

pub(super) async fn rolling_back_the_first_leaves_nothing(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    // A cloud that moves traffic by itself gives it to the first as soon as it is ready, and that is its end.
    let handle = match drives(f) {
        true => start(f, &target, ONE, Kind::First).await?,
        false => candidate(f, &target, ONE, Kind::First).await?,
    };
    roll_back(f, &target, &handle).await?;
    expect("what serves", &weights(&observe(f, &target).await?), &Vec::new())
}

pub(super) async fn finishing_leaves_only_the_candidate(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let first = observe(f, &target).await?;
    serve(f, &target, TWO, Kind::Second).await?;
    let second = observe(f, &target).await?;
    expect("what serves", &weights(&second), &vec![(TWO, 100)])?;
    if first.documents == second.documents {
        return Err("the live documents are still those of the first release".into());
    }
    let wanted = service(f, &target, TWO, Kind::Second)?;
    expect("the live document", &second.documents.get(&wanted.step), &Some(&wanted.body))
}

pub(super) async fn dead_candidate_hurts_nobody(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let handle = start(f, &target, TWO, Kind::Dies).await?;
    let progress = until(f, &target, &handle, "the failure", |p| matches!(p.phase, Phase::Failed { .. })).await?;
    if let Phase::Failed { why, logs } = progress.phase {
        if why.is_empty() {
            return Err("the failure has no reason".into());
        }
        if !logs.iter().any(|l| l.contains(f.last_words())) {
            return Err(format!("the failing task's last lines lack `{}`: {logs:?} ({why})", f.last_words()));
        }
    }
    let live = observe(f, &target).await?;
    expect(
        "what serves beside a dead candidate",
        &live.current().map(|r| (r.id, r.weight, r.ready)),
        &Some((ONE, 100, true)),
    )?;
    roll_back(f, &target, &handle).await?;
    expect("what serves after the undo", &weights(&observe(f, &target).await?), &vec![(ONE, 100)])
}

pub(super) async fn late_call_changes_nothing(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    roll_back(f, &target, &handle).await?;
    let work = service(f, &target, TWO, Kind::Second)?;
    match f.provider().apply(&target, &work).await {
        Ok(again) => expect("the handle of a step repeated after its undo", &again, &handle)?,
        refusal => refused("a step repeated after its undo", refusal, &[ErrorKind::Conflict, ErrorKind::NotFound])?,
    }
    for late in [Steer::shift(Weights::all(TWO)), Steer::Finish] {
        if let Err(e) = f.provider().steer(&target, &handle, &late).await
            && e.retry
        {
            return Err(format!("a late {late:?} is said to be worth repeating: {e}"));
        }
    }
    let progress = until(f, &target, &handle, "any answer", |_| true).await?;
    expect("the phase after late calls", &progress.phase, &Phase::RolledBack)?;
    expect("what serves after late calls", &weights(&observe(f, &target).await?), &vec![(ONE, 100)])
}
