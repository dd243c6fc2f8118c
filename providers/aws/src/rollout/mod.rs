//! Following a release that is under way, and steering it where the cloud lets itself be steered. The cloud moves the
//! traffic; nothing here decides whether it should.

mod codedeploy;
mod failures;
mod follow;
mod native;
mod rolling;
mod seen;
mod standing;
mod steer;

use std::time::Duration;

use dbird_core::{Handle, Phase, Progress, ProviderError, Target, Weights};
use tokio::time::{Instant, sleep};

pub(crate) use failures::task_id;
pub(crate) use seen::Seen;
use standing::Standing;
pub(crate) use standing::unix_ms;
pub(crate) use steer::steer;

use crate::AwsProvider;
use crate::service::{self, Job, Way};

/// A poll returns within this, with what it knows by then.
const WAIT: Duration = Duration::from_millis(900);
/// A rollout is young for this long ...
const YOUNG: Duration = Duration::from_secs(120);
/// ... and asked for so often meanwhile ...
const YOUNG_EVERY: Duration = Duration::from_secs(1);
/// ... and so often later.
const LATER_EVERY: Duration = Duration::from_secs(5);

/// How a release stands. Asked more often than AWS should be, it waits a little, then says again what it knows.
pub(crate) async fn poll(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
) -> Result<Progress, ProviderError> {
    let now = Instant::now();
    let (due, known) = p.rollouts.with(&handle.token, |rollout| {
        let every = if now.duration_since(rollout.first) < YOUNG { YOUNG_EVERY } else { LATER_EVERY };
        (rollout.last.map(|last| last + every), rollout.progress.clone())
    });
    if let Some(due) = due.filter(|due| *due > now) {
        let over = known.as_ref().is_some_and(|known| is_over(&known.phase));
        if !over {
            sleep((due - now).min(WAIT)).await;
        }
        if let Some(known) = known.filter(|_| over || due > now + WAIT) {
            return Ok(known);
        }
    }
    p.rollouts.with(&handle.token, |rollout| rollout.last = Some(Instant::now()));
    let progress = look(p, target, handle, job).await?;
    p.rollouts.with(&handle.token, |rollout| rollout.progress = Some(progress.clone()));
    Ok(progress)
}

fn is_over(phase: &Phase) -> bool {
    matches!(phase, Phase::Finished | Phase::RolledBack)
}

async fn look(p: &AwsProvider, target: &Target, handle: &Handle, job: &Job) -> Result<Progress, ProviderError> {
    let (mut standing, told) = follow::stand(p, target, handle, job).await?;
    p.rollouts.with(&handle.token, |rollout| rollout.tell(told));
    if let Phase::Failed { why, logs } = &mut standing.phase {
        let found = failures::explain(p, target, handle, job).await.unwrap_or_default();
        if let Some(more) = found.why.filter(|more| !why.contains(more.as_str())) {
            *why = format!("{why}: {more}");
        }
        logs.extend(found.logs);
    } else if matches!(standing.phase, Phase::Working | Phase::Shifting) && !matches!(job.way, Way::Removing { .. }) {
        give_up(p, target, handle, job, &mut standing).await?;
    }
    settle(p, target, handle, job, &mut standing).await?;
    let events = p.rollouts.with(&handle.token, |rollout| rollout.events());
    let endpoints = match crate::stack::stack_of_cached(p, &service::document::base(target)).await {
        Ok(Some(stack)) => crate::observe::endpoints(&p.clock, &stack.outputs),
        // What is only told besides is no reason to fail.
        _ => Default::default(),
    };
    Ok(Progress {
        phase: standing.phase,
        waiting_for: standing.waiting_for,
        weights: standing.weights,
        gates: standing.gates,
        events,
        endpoints,
        ..Progress::in_phase(Phase::Working)
    })
}

/// Says early that a candidate never starts, instead of waiting for as long as the cloud would.
async fn give_up(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
    standing: &mut Standing,
) -> Result<(), ProviderError> {
    let known = p.rollouts.with(&handle.token, |rollout| rollout.given_up.clone());
    let found = match known {
        Some(known) => Some(known),
        None => failures::repeated(p, target, handle, job).await?,
    };
    if let Some((why, logs)) = found {
        p.rollouts.with(&handle.token, |rollout| rollout.given_up = Some((why.clone(), logs.clone())));
        standing.waiting_for.clone_from(&why);
        standing.phase = Phase::Failed { why, logs };
    }
    Ok(())
}

/// What follows the end of a rollout, before it is said to have ended.
async fn settle(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
    standing: &mut Standing,
) -> Result<(), ProviderError> {
    if !is_over(&standing.phase) || p.rollouts.with(&handle.token, |rollout| rollout.settled) {
        return Ok(());
    }
    match (&standing.phase, &job.way, &job.document) {
        (_, Way::Removing { .. }, _) => {}
        (Phase::Finished, Way::First, Some(document)) => service::create::finish(p, target, document).await?,
        (Phase::RolledBack, Way::First, _) => standing.weights = Weights::default(),
        (Phase::Finished, _, Some(document)) => service::scaling::ensure(p, target, document).await?,
        _ if job.suspended => {
            service::scaling::suspend(p, &job.cluster, &job.service, false).await?;
        }
        _ => {}
    }
    p.rollouts.with(&handle.token, |rollout| rollout.settled = true);
    Ok(())
}
