//! What must hold for one-off tasks and logs.

use dbird_core::{Command, Handle, LogPage, LogQuery, Phase, ReleaseId, Steer, StepId, provider::ErrorKind};
use tokio::time::Instant;

use super::{ONE, TWO, candidate, command, expect, observe, refused, roll_back, said, serve, steer, until, weights};
use crate::{Fixture, Kind};

/// Lines that the chatty task writes.
const LINES: u32 = 500;

pub(super) async fn exit_code_is_real(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !f.provider().capabilities().one_off_tasks {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    for code in [0, 7, 255] {
        let what = command(ONE, f.exits_with(code), &format!("exit-{code}"));
        let handle = f.provider().run(&target, &what).await.map_err(|e| said("run", &e))?;
        let ended = until(f, &target, &handle, "the end of the task", |p| p.exit_code.is_some()).await?;
        expect("the exit code", &ended.exit_code, &Some(i32::from(code)))?;
        expect("the phase of a task that ended", &ended.phase, &Phase::Finished)?;
    }
    Ok(())
}

pub(super) async fn stopping_stops_the_task_alone(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !f.provider().capabilities().one_off_tasks {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let rollout = candidate(f, &target, TWO, Kind::Second).await?;
    let before = weights(&observe(f, &target).await?);
    let what = Command { timeout_ms: None, ..command(TWO, f.takes_long(), "long") };
    let handle = f.provider().run(&target, &what).await.map_err(|e| said("run", &e))?;
    steer(f, &target, &handle, Steer::Stop { roll_back: false }).await?;
    let start = Instant::now();
    loop {
        let progress = f.provider().poll(&target, &handle).await.map_err(|e| said("poll a stopped task", &e))?;
        match progress.phase {
            Phase::Finished | Phase::Failed { .. } => break,
            _ if start.elapsed().as_millis() > u128::from(f.patience_ms()) => {
                return Err("a task that was told to stop goes on".to_owned());
            }
            _ => tokio::task::yield_now().await,
        }
    }
    // Once more: what has ended stays ended.
    steer(f, &target, &handle, Steer::Stop { roll_back: false }).await?;
    let progress = f.provider().poll(&target, &rollout).await.map_err(|e| said("poll the rollout", &e))?;
    expect("the rollout's phase after its task was stopped", &progress.phase, &Phase::Ready)?;
    expect("the traffic after a task was stopped", &weights(&observe(f, &target).await?), &before)?;
    roll_back(f, &target, &rollout).await
}

pub(super) async fn starts_once(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !f.provider().capabilities().one_off_tasks {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let what = command(ONE, f.writes_lines(3), "same-key");
    let handle = f.provider().run(&target, &what).await.map_err(|e| said("run", &e))?;
    let again = f.provider().run(&target, &what).await.map_err(|e| said("run again", &e))?;
    expect("the handle of a repeated task", &again, &handle)?;
    until(f, &target, &handle, "the end of the task", |p| p.exit_code.is_some()).await?;
    expect("the lines of a task that was started twice", &read(f, &handle).await?.len(), &3)
}

pub(super) async fn pages_neither_lose_nor_repeat(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    if !f.provider().capabilities().one_off_tasks {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let what = command(ONE, f.writes_lines(LINES), "chatty");
    let handle = f.provider().run(&target, &what).await.map_err(|e| said("run", &e))?;
    let wanted: Vec<String> = (1..=LINES).map(|n| format!("line {n}")).collect();
    // Read while it writes, then again from the start.
    expect("the lines read while they are written", &read(f, &handle).await?, &wanted)?;
    expect("the lines read afterwards", &read(f, &handle).await?, &wanted)?;
    let query = LogQuery { release: None, task: Some(handle.token.clone()), tail_lines: 5 };
    let page = f.provider().logs(&target, &query, None).await.map_err(|e| said("logs", &e))?;
    let last: Vec<String> = page.lines.into_iter().map(|l| l.text).collect();
    expect("the last five lines", &last, &wanted[wanted.len() - 5..].to_vec())
}

/// Every line of a task from its first, page by page, until no more can come.
async fn read(f: &dyn Fixture, handle: &Handle) -> Result<Vec<String>, String> {
    let (target, start) = (f.target(), Instant::now());
    let query = LogQuery { release: None, task: Some(handle.token.clone()), tail_lines: 10_000 };
    let (mut lines, mut cursor) = (Vec::new(), None);
    loop {
        let page: LogPage = f.provider().logs(&target, &query, cursor.as_ref()).await.map_err(|e| said("logs", &e))?;
        lines.extend(page.lines.into_iter().map(|l| l.text));
        if !page.more {
            return Ok(lines);
        }
        if u128::from(f.patience_ms()) < start.elapsed().as_millis() {
            return Err(format!("the log has no end; {} lines so far", lines.len()));
        }
        cursor = Some(page.next);
        // Virtual clocks move by polling, real ones need the processor.
        let _ = f.provider().poll(&target, handle).await;
        tokio::task::yield_now().await;
    }
}

pub(super) async fn unknown_is_not_found(f: &dyn Fixture) -> Result<(), String> {
    let (target, p) = (f.target(), f.provider());
    let stranger = Handle { step: StepId::new("service"), release: ReleaseId(77), token: "no-such-token".into() };
    for round in ["in a fresh target", "beside a release"] {
        let not_found = [ErrorKind::NotFound];
        refused(&format!("polling an unknown handle {round}"), p.poll(&target, &stranger).await, &not_found)?;
        refused(
            &format!("steering an unknown handle {round}"),
            p.steer(&target, &stranger, &Steer::Finish).await,
            &not_found,
        )?;
        let what = command(ReleaseId(77), f.exits_with(0), "unknown");
        refused(&format!("a task of an unknown release {round}"), p.run(&target, &what).await, &not_found)?;
        if round == "in a fresh target" {
            serve(f, &target, ONE, Kind::First).await?;
        }
    }
    Ok(())
}
