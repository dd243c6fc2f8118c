//! What must hold of a cloud that moves traffic by itself.

use dbird_core::{Handle, Phase, Progress, ReleaseId, Steer, Target, Weights};

use super::{ONE, TWO, begin, drives, expect, finish, observe, roll_back, serve, steer, take_over, until, weights};
use crate::{Fixture, Kind};

/// Looks at something that must not move.
const LOOKS: u32 = 5;

/// A release that waits on its way, or is met there, with the gate that it was let past before.
async fn on_the_way(
    f: &dyn Fixture,
    target: &Target,
    release: ReleaseId,
) -> Result<(Handle, String, Progress), String> {
    let works = f.waiting(f.works(target, release, Kind::Second), true);
    let handle = begin(f, target, works).await?;
    let first = until(f, target, &handle, "the first gate", |p| p.phase == Phase::Ready && !p.gates.is_empty()).await?;
    expect("the traffic at the first gate", &first.weights.of(release), &0)?;
    let gate = first.gates.first().cloned().unwrap_or_default();
    steer(f, target, &handle, Steer::Continue { gate: gate.clone() }).await?;
    let rests = if f.waits_on_the_way() { Phase::Ready } else { Phase::Shifting };
    let is_there = |p: &Progress| p.phase == rests && p.weights.of(release) > 0;
    let there = until(f, target, &handle, "a share on the way", is_there).await?;
    if there.weights.of(release) == 100 || there.gates.is_empty() == f.waits_on_the_way() {
        return Err(format!("it did not wait on the way, but at {:?}", there.weights));
    }
    Ok((handle, gate, there))
}

pub(super) async fn gate_is_passed_once(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !drives(f) || !f.waits_on_the_way() {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let (handle, gate, there) = on_the_way(f, &target, TWO).await?;
    for _ in 0..LOOKS {
        // Whether a gate that was passed is refused or not is nobody's business; it is not worth repeating.
        if let Err(e) = f.provider().steer(&target, &handle, &Steer::Continue { gate: gate.clone() }).await
            && e.retry
        {
            return Err(format!("a gate that was passed is said to be worth passing again: {e}"));
        }
        let now = until(f, &target, &handle, "any answer", |_| true).await?;
        expect("the phase after a late word", &now.phase, &Phase::Ready)?;
        expect("the traffic after a late word", &now.weights, &there.weights)?;
        expect("the gate after a late word", &now.gates, &there.gates)?;
    }
    roll_back(f, &target, &handle).await
}

pub(super) async fn shares_on_the_way_are_told(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !drives(f) {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let handle = begin(f, &target, f.works(&target, TWO, Kind::Second)).await?;
    let mut shares: Vec<u8> = Vec::new();
    loop {
        let told = shares.last().copied().unwrap_or(0);
        let progress =
            until(f, &target, &handle, "another share", |p| p.weights.of(TWO) != told || p.phase == Phase::Finished)
                .await?;
        let (share, sum) = (progress.weights.of(TWO), progress.weights.0.values().map(|w| u32::from(*w)).sum::<u32>());
        expect("the sum of the traffic", &sum, &100)?;
        if share < told {
            return Err(format!("the share fell to {share} % after {shares:?}"));
        }
        shares.push(share);
        match (share, &progress.phase) {
            (100, _) => break,
            (_, Phase::Ready | Phase::Shifting) => {}
            (_, phase) => return Err(format!("at {share} % it is {phase:?}")),
        }
    }
    if shares.len() < 2 {
        return Err(format!("no share on the way was told: {shares:?}"));
    }
    steer(f, &target, &handle, Steer::Finish).await?;
    until(f, &target, &handle, "the end", |p| p.phase == Phase::Finished).await?;
    expect("what serves", &weights(&observe(f, &target).await?), &vec![(TWO, 100)])
}

pub(super) async fn stopping_on_the_way_gives_all_back(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !drives(f) {
        return Ok(());
    }
    // How a release takes over is said of the service, and no cloud takes that back: it is the same for both.
    let first = begin(f, &target, f.waiting(f.works(&target, ONE, Kind::First), true)).await?;
    take_over(f, &target, &first, &Weights::all(ONE)).await?;
    finish(f, &target, &first).await?;
    let before = observe(f, &target).await?;
    let (handle, gate, _) = on_the_way(f, &target, TWO).await?;
    roll_back(f, &target, &handle).await?;
    let after = observe(f, &target).await?;
    expect("what serves after the stop", &weights(&after), &vec![(ONE, 100)])?;
    expect("the live documents", &after.documents, &before.documents)?;
    // A word that comes late moves nothing.
    drop(f.provider().steer(&target, &handle, &Steer::Continue { gate }).await);
    let progress = until(f, &target, &handle, "any answer", |_| true).await?;
    expect("the phase after a late word", &progress.phase, &Phase::RolledBack)?;
    expect("what serves after a late word", &weights(&observe(f, &target).await?), &vec![(ONE, 100)])
}
