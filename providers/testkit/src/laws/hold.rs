//! What must hold around releases: looking is harmless, data stays, targets are apart.

use dbird_core::{Documents, Phase};

use super::{ONE, TWO, apply, candidate, expect, observe, roll_back, said, serve, until, weights};
use crate::{Fixture, Kind};

pub(super) async fn looking_changes_nothing(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    let before = observe(f, &target).await?;
    expect("what is live in a fresh target", &before.releases.len(), &0)?;
    let capabilities = f.provider().capabilities();
    let documents = Documents {
        service: target.service.clone(),
        environment: target.environment.clone(),
        cloud: capabilities.cloud,
        steps: Vec::new(),
    };
    f.provider().preview(&target, &documents).await.map_err(|e| said("preview", &e))?;
    expect("what is live after looking", &observe(f, &target).await?.digest(), &before.digest())?;
    serve(f, &target, ONE, Kind::First).await?;
    let before = observe(f, &target).await?;
    f.provider().preview(&target, &documents).await.map_err(|e| said("preview", &e))?;
    expect("what is live after looking again", &observe(f, &target).await?.digest(), &before.digest())
}

pub(super) async fn destroying_keeps_the_data(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    serve(f, &target, ONE, Kind::First).await?;
    let data = observe(f, &target).await?.data;
    for round in ["once", "twice"] {
        for work in f.removal(&target, TWO) {
            let handle = apply(f, &target, &work).await?;
            until(f, &target, &handle, "the end of the removal", |p| p.phase == Phase::Finished).await?;
        }
        let left = observe(f, &target).await?;
        expect(&format!("what is live, removed {round}"), &weights(&left), &Vec::new())?;
        expect(&format!("the data, removed {round}"), &left.data, &data)?;
    }
    Ok(())
}

pub(super) async fn targets_do_not_see_each_other(f: &dyn Fixture) -> Result<(), String> {
    let (target, other) = (f.target(), f.other_target());
    serve(f, &target, ONE, Kind::First).await?;
    expect("the other target", &weights(&observe(f, &other).await?), &Vec::new())?;
    serve(f, &other, ONE, Kind::First).await?;
    let before = observe(f, &other).await?.digest();
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    expect("the other target during a rollout", &observe(f, &other).await?.digest(), &before)?;
    roll_back(f, &target, &handle).await?;
    for work in f.removal(&target, TWO) {
        let handle = apply(f, &target, &work).await?;
        until(f, &target, &handle, "the end of the removal", |p| p.phase == Phase::Finished).await?;
    }
    expect("the other target after a removal", &observe(f, &other).await?.digest(), &before)
}
