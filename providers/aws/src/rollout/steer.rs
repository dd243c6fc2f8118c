//! Steering: going on at a gate, ending a bake, stopping. Every call is harmless when it is repeated, or comes too late.

use aws_sdk_codedeploy::types::DeploymentWaitType;
use aws_sdk_ecs::types::{DeploymentLifecycleHookAction, ServiceDeploymentStatus, StopServiceDeploymentStopType};
use dbird_core::provider::ErrorKind;
use dbird_core::{Handle, ProviderError, Steer, Target};

use super::{codedeploy, follow, native};
use crate::AwsProvider;
use crate::error::{Answer, code, fault};
use crate::service::{Job, Way, apply, group, remove, scaling};

pub(crate) async fn steer(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
    steer: &Steer,
) -> Result<(), ProviderError> {
    // What it changes is to be seen at the next poll.
    p.rollouts.with(&handle.token, |rollout| {
        rollout.last = None;
        rollout.stopped |= matches!(steer, Steer::Stop { .. });
    });
    match (steer, &job.way) {
        (Steer::Shift { .. }, _) => Err(fault(
            ErrorKind::Unsupported,
            "steer service",
            handle.release.to_string(),
            "AWS moves the traffic of this release by itself; it can only be gone on with, or stopped",
        )),
        (Steer::Continue { gate }, Way::Codedeploy { deployment }) => {
            let wait = if gate == codedeploy::TERMINATION {
                DeploymentWaitType::TerminationWait
            } else {
                DeploymentWaitType::ReadyWait
            };
            go_on(p, deployment, wait).await
        }
        (Steer::Finish, Way::Codedeploy { deployment }) => {
            go_on(p, deployment, DeploymentWaitType::TerminationWait).await
        }
        (Steer::Continue { gate }, Way::Native { deployment }) => pass(p, deployment, gate).await,
        (Steer::Stop { roll_back }, Way::Codedeploy { deployment }) => stop(p, deployment, *roll_back).await,
        (Steer::Stop { roll_back }, Way::Native { deployment }) => stop_native(p, deployment, *roll_back).await,
        (Steer::Stop { roll_back: true }, Way::Rolling { deployment }) => go_back(p, job, deployment).await,
        (Steer::Stop { .. }, Way::First) => undo_first(p, target, handle, job).await,
        // Nothing waits there, or nothing can be kept half-way.
        (Steer::Continue { .. } | Steer::Finish | Steer::Stop { .. }, _) => Ok(()),
    }
}

async fn go_on(p: &AwsProvider, deployment: &str, wait: DeploymentWaitType) -> Result<(), ProviderError> {
    let client = p.clients.codedeploy().await;
    let answer = client.continue_deployment().deployment_id(deployment).deployment_wait_type(wait).send().await;
    match answer {
        // It does not wait there any more, or has ended.
        Err(error)
            if matches!(
                code(&error),
                "DeploymentIsNotInReadyStateException"
                    | "DeploymentAlreadyCompletedException"
                    | "InvalidDeploymentStatusException"
            ) =>
        {
            Ok(())
        }
        answer => answer.or_fault("go on with the deployment", deployment).map(|_| ()),
    }
}

async fn stop(p: &AwsProvider, deployment: &str, roll_back: bool) -> Result<(), ProviderError> {
    let client = p.clients.codedeploy().await;
    let answer = client.stop_deployment().deployment_id(deployment).auto_rollback_enabled(roll_back).send().await;
    match answer {
        Err(error) if code(&error) == "DeploymentAlreadyCompletedException" => Ok(()),
        answer => answer.or_fault("stop the deployment", deployment).map(|_| ()),
    }
}

/// Passes a hook at which ECS waits. One that was passed before is not there any more, and another is not this gate.
async fn pass(p: &AwsProvider, deployment: &str, gate: &str) -> Result<(), ProviderError> {
    let found = follow::service_deployment(p, deployment).await?;
    let Some(hook) = native::waiting_at(&found, gate) else { return Ok(()) };
    p.clients
        .ecs()
        .await
        .continue_service_deployment()
        .service_deployment_arn(deployment)
        .hook_id(hook)
        .action(DeploymentLifecycleHookAction::Continue)
        .send()
        .await
        .or_fault("go on with the deployment", deployment)
        .map(|_| ())
}

async fn stop_native(p: &AwsProvider, deployment: &str, roll_back: bool) -> Result<(), ProviderError> {
    let found = follow::service_deployment(p, deployment).await?;
    let stoppable =
        matches!(found.status(), None | Some(ServiceDeploymentStatus::Pending | ServiceDeploymentStatus::InProgress));
    if !stoppable {
        return Ok(());
    }
    let how = if roll_back { StopServiceDeploymentStopType::Rollback } else { StopServiceDeploymentStopType::Abort };
    p.clients
        .ecs()
        .await
        .stop_service_deployment()
        .service_deployment_arn(deployment)
        .stop_type(how)
        .send()
        .await
        .or_fault("stop the deployment", deployment)
        .map(|_| ())
}

/// Brings the previous task definition back, as long as nobody else's deployment took over.
async fn go_back(p: &AwsProvider, job: &Job, deployment: &str) -> Result<(), ProviderError> {
    let Some(previous) = &job.previous else { return Ok(()) };
    let Some(live) = apply::found(p, &job.cluster, &job.service).await? else { return Ok(()) };
    let primary = live.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
    if primary.and_then(|primary| primary.id()) != Some(deployment) {
        return Ok(());
    }
    // A rollout that is over is not undone by a late call: another release is the way back then.
    let completed = aws_sdk_ecs::types::DeploymentRolloutState::Completed;
    if live.deployments().len() == 1 && primary.and_then(|primary| primary.rollout_state()) == Some(&completed) {
        return Ok(());
    }
    p.clients
        .ecs()
        .await
        .update_service()
        .cluster(&job.cluster)
        .service(&job.service)
        .task_definition(&previous.task_definition)
        .send()
        .await
        .or_fault("go back to the previous release", &job.service)
        .map(|_| ())
}

/// A first release has nothing to go back to: it is removed again.
async fn undo_first(p: &AwsProvider, target: &Target, handle: &Handle, job: &Job) -> Result<(), ProviderError> {
    if p.rollouts.with(&handle.token, |rollout| rollout.settled) {
        return Ok(());
    }
    let Some(live) = apply::found(p, &job.cluster, &job.service).await? else { return Ok(()) };
    apply::ours(target, &live)?;
    // Late: another release serves already.
    if live.task_definition().is_some_and(|arn| arn != job.task_definition) {
        return Ok(());
    }
    // What needs the service is made at the very end of the first release: then it is over, and the call too late.
    if let Some(wanted) = job.document.as_ref().and_then(|document| document.codedeploy.as_ref())
        && group::find(p, wanted).await?.is_some()
    {
        return Ok(());
    }
    scaling::remove(p, target, &job.cluster, &job.service).await?;
    remove::delete(p, &job.cluster, &job.service).await
}
