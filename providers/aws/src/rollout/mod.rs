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

use dbird_core::provider::ErrorKind;
use dbird_core::{Handle, Phase, Progress, ProviderError, Target, Weights};
use tokio::time::{Instant, sleep};

pub(crate) use failures::task_id;
pub(crate) use follow::deployment_lately;
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
/// ... twice as often where two APIs tell the same ...
const YOUNG_BY_TWO: Duration = Duration::from_millis(500);
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
        let every = match &job.way {
            _ if now.duration_since(rollout.first) >= YOUNG => LATER_EVERY,
            Way::Codedeploy { .. } => YOUNG_BY_TWO,
            _ => YOUNG_EVERY,
        };
        (rollout.last.map(|last| last + every), rollout.progress.clone())
    });
    if let Some(due) = due.filter(|due| *due > now) {
        let over = known.as_ref().is_some_and(|known| is_over(&known.phase));
        if !over {
            sleep((due - now).min(WAIT)).await;
        }
        if let Some(known) = known.as_ref().filter(|_| over || due > now + WAIT) {
            return Ok(known.clone());
        }
    }
    let asked = Instant::now();
    let answer = look(p, target, handle, job).await;
    p.rollouts.with(&handle.token, |rollout| {
        // Only now: a call that is given up half-way is made again at once.
        rollout.last = Some(asked);
        if let Ok(progress) = &answer {
            rollout.progress = Some(progress.clone());
        }
    });
    let stands = |progress: &Progress| (progress.phase.clone(), progress.weights.clone(), progress.gates.clone());
    if let (Some(known), Ok(progress)) = (&known, &answer)
        && stands(known) != stands(progress)
    {
        p.rollouts.moved(&service::document::base(target), &job.cluster, &job.service);
    }
    answer
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
    } else if matches!(standing.phase, Phase::Working | Phase::Shifting)
        && !matches!(job.way, Way::Removing { .. })
        && !p.rollouts.with(&handle.token, |rollout| rollout.stopped)
    {
        give_up(p, target, handle, job, &mut standing).await?;
    } else if matches!(standing.phase, Phase::RollingBack | Phase::RolledBack) {
        say_why(p, target, handle, job, &mut standing).await;
    }
    settle(p, target, handle, job, &mut standing).await.map_err(not_the_rollout)?;
    let mut events = p.rollouts.with(&handle.token, |rollout| rollout.events());
    events.iter_mut().for_each(|event| event.at_unix_ms = p.clock.here_unix_ms(event.at_unix_ms));
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
    let events = p.rollouts.with(&handle.token, |rollout| rollout.events());
    let found = match (known, failures::unplaced(&events, p.clock.now_unix_ms())) {
        (Some(known), _) => Some(known),
        (None, Some((why, true))) => Some((format!("{why}. The same command may find room later"), Vec::new())),
        (None, Some((why, false))) => {
            standing.waiting_for = format!("{} ({why})", standing.waiting_for);
            None
        }
        (None, None) => failures::repeated(p, target, handle, job).await?,
    };
    if let Some((why, logs)) = found {
        p.rollouts.with(&handle.token, |rollout| rollout.given_up = Some((why.clone(), logs.clone())));
        standing.waiting_for.clone_from(&why);
        standing.phase = Phase::Failed { why, logs };
    }
    Ok(())
}

/// Adds why tasks failed to the reason for which the cloud undoes a release. Whoever stopped it knows better.
async fn say_why(p: &AwsProvider, target: &Target, handle: &Handle, job: &Job, standing: &mut Standing) {
    let (known, stopped) = p.rollouts.with(&handle.token, |rollout| (rollout.cause.clone(), rollout.stopped));
    if stopped {
        return;
    }
    let more = match known {
        Some(known) => known,
        // Without it the reason is the cloud's alone.
        None => failures::explain(p, target, handle, job).await.unwrap_or_default().why.unwrap_or_default(),
    };
    p.rollouts.with(&handle.token, |rollout| rollout.cause = Some(more.clone()));
    if !more.is_empty() && !standing.waiting_for.contains(&more) {
        standing.waiting_for = format!("{}: {more}", standing.waiting_for);
    }
}

/// Something that is missing once it is over is not the rollout, which whoever drives would look for in what is live.
fn not_the_rollout(error: ProviderError) -> ProviderError {
    let kind = if error.kind == ErrorKind::NotFound { ErrorKind::Internal } else { error.kind };
    ProviderError { kind, ..error }
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
