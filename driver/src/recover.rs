//! Goes on with, or undoes, what an earlier command left when it died. What is to be done `core` decides; this asks the
//! provider for what that needs, and does it.

use dbird_core::{
    Action, Handle, Outcome, Phase, Progress, Step,
    journal::{Unfinished, What},
    provider::ErrorKind,
    recovery::{Recovery, Seen, decide},
    rollout::{Course, Engine, Event as Happened},
};

use crate::{
    Ended, Error, Event, Operator, Recovered,
    error::sentence,
    follow::Watched,
    history,
    journal::Journal,
    lease::Lease,
    run::{Run, Stay, Verdict},
};

/// Traffic that moves is given this long to settle.
const SETTLE_MS: u64 = 60_000;

/// What was found of the service step.
enum Standing {
    Nothing,
    Progress(Handle, Box<Progress>),
    Unknown { candidate: Option<u8>, serving: Option<dbird_core::ReleaseId> },
}

/// Deals with what was left. The lease comes back in any case but that it was lost.
pub(crate) async fn recover(
    operator: &Operator,
    lease: Lease,
    journal: Journal,
    found: Unfinished,
    stay: Stay,
) -> (Lease, Result<Recovered, Error>) {
    let mut run = Run { stay, ..Run::taking_over(operator, lease, journal, &found) };
    let result = go_on(&mut run, &found).await;
    (run.lease, result)
}

async fn go_on(run: &mut Run<'_>, found: &Unfinished) -> Result<Recovered, Error> {
    let operator = run.operator;
    run.journal.write(What::TakenOver { by: operator.who.actor.clone() }).await?;
    if run.lease.overtaken {
        run.lease.let_the_other_end().await?;
    }
    let begun = &found.begun;
    let age_s = operator.clock.unix_ms().saturating_sub(begun.started_unix_ms) / 1000;
    let was = format!("{}, begun by {} {age_s} s ago, was left unfinished", begun.release, begun.actor);
    let tell = |found: &str, did: &str| {
        operator.report(&Event::Recovered { release: begun.release, found: found.to_owned(), did: did.to_owned() });
        format!("{found}; {did}")
    };
    if let Some(record) = history::get(&*operator.store, begun.release).await? {
        let text =
            tell(&format!("{}, begun by {}, had ended", begun.release, begun.actor), "only its journal was closed");
        let logs = found.undoing.clone().map(|(_, logs)| logs).unwrap_or_default();
        let ended = run.close(record, logs).await?;
        return Ok(Recovered { text, ended });
    }
    let standing = look(run, found).await?;
    let decision = settled(run, found, standing).await?;
    let (text, verdict) = match decision {
        (Recovery::Record { outcome, why }, _) => {
            let did = match outcome {
                Outcome::Failed => "what is live has to be looked at",
                _ => "nothing of it was left to be undone",
            };
            let logs = found.undoing.clone().map(|(_, logs)| logs).unwrap_or_default();
            (tell(&was, did), Verdict { outcome, why, logs })
        }
        (Recovery::Resume, standing) => {
            let text = tell(&was, "going on with it");
            // A service step that ended well without anybody writing that down.
            if let (Standing::Progress(..) | Standing::Unknown { .. }, Some(step)) = (standing, begun.service_step())
                && !found.is_done(&step.id)
            {
                run.step_done(step, Default::default(), 0).await?;
            }
            (text, run.steps().await?)
        }
        (Recovery::Finish, Standing::Progress(handle, seen)) => {
            let (course, now_ms) = (course(found)?, operator.clock.boot_ms());
            // Nobody has judged it to its end: that begins anew, with the way back still open.
            let judges = course.analysis.is_some() && course.bake_ms > 0 && begun.plan.parent.is_some();
            let (text, engine) = if judges && !found.finishing && seen.phase == Phase::Ready {
                let last = course.weights.len().saturating_sub(1);
                let text = tell(&was, "it has all traffic: judging it for its bake time");
                (text, Engine::holding(course, begun.release, begun.plan.parent, last, now_ms))
            } else {
                let text = tell(&was, "it has all traffic: finishing it");
                (text, Engine::finishing(course, begun.release, begun.plan.parent, now_ms))
            };
            let verdict = run.drive(operator.decider(engine), &handle, Happened::Tick).await?;
            match begun.service_step() {
                Some(step) => (text, run.after_service(step, verdict).await?),
                None => (text, verdict),
            }
        }
        (Recovery::Follow, Standing::Progress(handle, seen)) => {
            let text = tell(&was, "the cloud goes on with it: following it");
            let (course, now_ms) = (course(found)?, operator.clock.boot_ms());
            let engine = Engine::following(course, begun.release, begun.plan.parent, found.continued, now_ms);
            let verdict = run.drive(operator.decider(engine), &handle, Happened::Progress(*seen)).await?;
            match begun.service_step() {
                Some(step) => (text, run.after_service(step, verdict).await?),
                None => (text, verdict),
            }
        }
        (Recovery::Undo { why }, Standing::Progress(handle, _)) => {
            let text = tell(&was, "it had not taken over: undoing it");
            let now_ms = operator.clock.boot_ms();
            let engine = Engine::undoing(course(found)?, begun.release, begun.plan.parent, now_ms, why);
            let mut verdict = run.drive(operator.decider(engine), &handle, Happened::Tick).await?;
            if let (true, Some((_, logs))) = (verdict.logs.is_empty(), &found.undoing) {
                verdict.logs.clone_from(logs);
            }
            (text, verdict)
        }
        (Recovery::Finish | Recovery::Follow | Recovery::Undo { .. } | Recovery::Settle, _) => {
            return Err(Error::Order("its recovery asks for a step that the provider does not know"));
        }
    };
    let ended: Ended = run.end(verdict).await?;
    Ok(Recovered { text, ended })
}

/// Decides, and lets traffic that moves settle first.
async fn settled(run: &mut Run<'_>, found: &Unfinished, mut standing: Standing) -> Result<(Recovery, Standing), Error> {
    let until_ms = run.operator.clock.boot_ms() + SETTLE_MS;
    let mut watched = Watched::default();
    loop {
        let seen = match &standing {
            Standing::Nothing => Seen::Nothing,
            Standing::Progress(_, progress) => Seen::Progress(progress),
            Standing::Unknown { candidate, serving } => Seen::Unknown { candidate: *candidate, serving: *serving },
        };
        match (decide(found, seen), standing) {
            (Recovery::Settle, Standing::Progress(handle, _)) => {
                match run.poll(&handle, &mut watched, Some(until_ms), false).await? {
                    Some(Ok(progress)) => standing = Standing::Progress(handle, Box::new(progress)),
                    Some(Err(e)) if e.kind == ErrorKind::NotFound => standing = unknown(run).await?,
                    Some(Err(e)) => return Err(run.unfinished(e)),
                    None => {
                        let why = "traffic was still moving when its command had died".to_owned();
                        let progress = Box::new(Progress::in_phase(Phase::Shifting));
                        return Ok((Recovery::Undo { why }, Standing::Progress(handle, progress)));
                    }
                }
            }
            decided => return Ok(decided),
        }
    }
}

/// What the provider says of the service step.
async fn look(run: &mut Run<'_>, found: &Unfinished) -> Result<Standing, Error> {
    let Some(step) = found.begun.service_step() else { return Ok(Standing::Nothing) };
    if step.action == Action::Delete || found.is_done(&step.id) || !found.intended.contains(&step.id) {
        return Ok(Standing::Nothing);
    }
    let handle = match found.handles.get(&step.id) {
        Some(handle) => handle.clone(),
        None => match ask_again(run, step).await? {
            Some(handle) => handle,
            None => return unknown_or_nothing(run).await,
        },
    };
    let (provider, target) = (run.operator.provider.clone(), run.operator.target.clone());
    match run.caller().ask("poll", || provider.poll(&target, &handle)).await? {
        Ok(progress) => Ok(Standing::Progress(handle, Box::new(progress))),
        Err(e) if e.kind == ErrorKind::NotFound => unknown(run).await,
        Err(e) => Err(run.unfinished(e)),
    }
}

/// It was asked for, and the answer was not written down: asking again gives the same one, and makes sure that a request that
/// is still on its way finds it done. None when the provider refuses.
async fn ask_again(run: &mut Run<'_>, step: &Step) -> Result<Option<Handle>, Error> {
    let Ok(body) = run.body(step, step.action) else { return Ok(None) };
    match run.ask_for(step, step.action, body).await? {
        Ok(handle) => {
            run.journal.write(What::Applied { handle: handle.clone() }).await?;
            Ok(Some(handle))
        }
        Err(e) if e.retry => Err(run.unfinished(e)),
        Err(e) => {
            tracing::debug!(error = sentence(&e), "refused when asked for again");
            Ok(None)
        }
    }
}

async fn unknown(run: &mut Run<'_>) -> Result<Standing, Error> {
    let live = run.live().await?;
    let candidate = live.iter().find(|r| r.id == run.begun.release).map(|r| r.weight);
    let serving = live.iter().filter(|r| r.weight > 0).max_by_key(|r| (r.weight, r.id)).map(|r| r.id);
    Ok(Standing::Unknown { candidate, serving })
}

async fn unknown_or_nothing(run: &mut Run<'_>) -> Result<Standing, Error> {
    match unknown(run).await? {
        Standing::Unknown { candidate: None, .. } => Ok(Standing::Nothing),
        other => Ok(other),
    }
}

pub(crate) fn course(found: &Unfinished) -> Result<Course, Error> {
    found.begun.plan.course.clone().ok_or(Error::Order("it makes a release without a course"))
}
