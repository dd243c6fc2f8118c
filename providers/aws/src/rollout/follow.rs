//! Asks AWS how a release stands: one standing and what happened since, whatever moves the traffic.

use aws_sdk_codedeploy::types::{DeploymentInfo, DeploymentStatus, EcsTarget};
use aws_sdk_ecs::types::{DeploymentRolloutState, Service, ServiceDeployment};
use dbird_core::provider::ErrorKind;
use dbird_core::{Handle, Phase, ProviderError, ReleaseId, Target, Weights};

use super::standing::{Standing, Told, unix_ms};
use super::{codedeploy, native, rolling};
use crate::AwsProvider;
use crate::error::{Answer, fault};
use crate::service::apply::found_lately;
use crate::service::{Job, Way, remove};

/// The API that tells of a deployment's target.
const TARGETS: &str = "CodeDeploy:BatchGetDeploymentTargets";

/// Where it stands, and what happened so far.
pub(super) async fn stand(
    p: &AwsProvider,
    _target: &Target,
    handle: &Handle,
    job: &Job,
) -> Result<(Standing, Vec<Told>), ProviderError> {
    let parent = job.previous.as_ref().map(|previous| previous.release);
    match &job.way {
        Way::First => first(p, handle, job).await,
        Way::Codedeploy { deployment } => by_codedeploy(p, handle.release, parent, job, deployment).await,
        Way::Native { deployment } => {
            let found = deployment_lately(p, deployment).await?;
            let mut told = events(&service(p, job).await?, job);
            told.extend(stages(&found));
            Ok((native::standing(handle.release, parent, &found), told))
        }
        Way::Rolling { deployment } => {
            let live = service(p, job).await?;
            Ok((rolling::standing(handle.release, parent, &live, deployment), events(&live, job)))
        }
        Way::Removing { .. } => {
            p.clients.turn("ECS:DescribeServices").await;
            let phase = if remove::finish(p, job).await? { Phase::Finished } else { Phase::Working };
            Ok((Standing::new(phase, "the tasks to stop", Weights::default()), Vec::new()))
        }
    }
}

/// The service as it is now, or was within the last second.
async fn service(p: &AwsProvider, job: &Job) -> Result<Service, ProviderError> {
    found_lately(p, &job.cluster, &job.service).await?.ok_or_else(|| gone(job))
}

fn gone(job: &Job) -> ProviderError {
    fault(ErrorKind::NotFound, "follow the release", &job.service, "the service is gone: somebody deleted it")
}

async fn first(p: &AwsProvider, handle: &Handle, job: &Job) -> Result<(Standing, Vec<Told>), ProviderError> {
    let live = found_lately(p, &job.cluster, &job.service).await?;
    let Some(live) = live else {
        // It is only taken away when the first release is undone.
        let gone = remove::finish(p, job).await?;
        let phase = if gone { Phase::RolledBack } else { Phase::RollingBack };
        return Ok((Standing::new(phase, "the tasks to stop", Weights::default()), Vec::new()));
    };
    let told = events(&live, job);
    if live.status() == Some("DRAINING") {
        return Ok((Standing::new(Phase::RollingBack, "the tasks to stop", Weights::default()), told));
    }
    Ok((first_stands(handle.release, &live), told))
}

/// Where a first release stands.
fn first_stands(release: ReleaseId, live: &Service) -> Standing {
    let sets = live.task_sets();
    let (running, wanted, steady) = match sets.first() {
        Some(set) => {
            let steady = set.stability_status().is_some_and(|status| status.as_str() == "STEADY_STATE");
            (set.running_count(), set.computed_desired_count(), steady)
        }
        None => {
            let primary = live.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
            let state = primary.and_then(|deployment| deployment.rollout_state());
            if let (Some(DeploymentRolloutState::Failed), Some(primary)) = (state, primary) {
                let why = primary.rollout_state_reason().unwrap_or("ECS gave up on the first deployment");
                return Standing::failed(why.trim_end_matches('.'), Weights::default());
            }
            (live.running_count(), live.desired_count(), state == Some(&DeploymentRolloutState::Completed))
        }
    };
    if steady && running >= wanted {
        return Standing::new(Phase::Finished, "", Weights::all(release));
    }
    Standing::new(Phase::Working, format!("the tasks: {running} of {wanted} run"), Weights::default())
}

async fn by_codedeploy(
    p: &AwsProvider,
    release: ReleaseId,
    parent: Option<ReleaseId>,
    job: &Job,
    id: &str,
) -> Result<(Standing, Vec<Told>), ProviderError> {
    let found = news(p, id).await?;
    p.rollouts.remember_codedeploy(id, &found);
    let ended = matches!(found.status(), Some(DeploymentStatus::Succeeded));
    let known = p.rollouts.target(id).filter(|_| !p.clients.is_due(TARGETS));
    let target = match known {
        _ if ended => None,
        None => target(p, job, id).await?,
        known => known,
    };
    let undoing = match found.rollback_info().and_then(|info| info.rollback_deployment_id()) {
        Some(rollback) => Some(deployment(p, rollback).await?),
        None => None,
    };
    let standing =
        codedeploy::standing(release, parent, &found, target.as_ref(), undoing.as_ref(), p.clock.now_unix_ms());
    let mut told = target.as_ref().map(codedeploy::told).unwrap_or_default();
    if matches!(standing.phase, Phase::Working | Phase::Shifting | Phase::RollingBack) {
        told.extend(events(&service(p, job).await?, job));
    }
    if matches!(found.status(), Some(DeploymentStatus::Failed | DeploymentStatus::Stopped)) {
        told.push(Told::new(unix_ms(found.complete_time()), "why", codedeploy::why(&found)));
    }
    if let Some(undoing) = &undoing {
        let id = undoing.deployment_id().unwrap_or_default();
        told.push(Told::new(unix_ms(undoing.create_time()), "rollback", format!("CodeDeploy goes back ({id})")));
    }
    Ok((standing, told))
}

/// A deployment as it is now. Two APIs tell the same: asked in turns, they tell it twice as often.
async fn news(p: &AwsProvider, id: &str) -> Result<DeploymentInfo, ProviderError> {
    if !p.clients.either_turn("CodeDeploy:GetDeployment", "CodeDeploy:BatchGetDeployments").await {
        return deployment(p, id).await;
    }
    let client = p.clients.codedeploy().await;
    let answer =
        client.batch_get_deployments().deployment_ids(id).send().await.or_fault("follow the deployment", id)?;
    answer.deployments_info().first().cloned().ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> ProviderError {
    fault(ErrorKind::NotFound, "follow the deployment", id, "CodeDeploy does not know the deployment any more")
}

async fn deployment(p: &AwsProvider, id: &str) -> Result<DeploymentInfo, ProviderError> {
    let client = p.clients.codedeploy().await;
    let answer = client.get_deployment().deployment_id(id).send().await.or_fault("follow the deployment", id)?;
    answer.deployment_info().cloned().ok_or_else(|| unknown(id))
}

/// The service as the deployment's target; none before it has begun.
async fn target(p: &AwsProvider, job: &Job, id: &str) -> Result<Option<EcsTarget>, ProviderError> {
    p.clients.turn(TARGETS).await;
    let client = p.clients.codedeploy().await;
    let answer = client
        .batch_get_deployment_targets()
        .deployment_id(id)
        .target_ids(format!("{}:{}", job.cluster, job.service))
        .send()
        .await;
    match answer {
        // It has no target before it has begun.
        Err(error)
            if matches!(
                crate::error::code(&error),
                "DeploymentNotStartedException" | "DeploymentTargetDoesNotExistException"
            ) =>
        {
            Ok(None)
        }
        answer => {
            let answer = answer.or_fault("follow the deployment", id)?;
            let target = answer.deployment_targets().first().and_then(|target| target.ecs_target()).cloned();
            if let Some(target) = &target {
                p.rollouts.remember_target(id, target);
            }
            Ok(target)
        }
    }
}

/// A deployment that ECS makes by itself, as it is now, or was within the last second.
pub(crate) async fn deployment_lately(p: &AwsProvider, arn: &str) -> Result<ServiceDeployment, ProviderError> {
    const API: &str = "ECS:DescribeServiceDeployments";
    if let Some(known) = p.rollouts.deployment(arn).filter(|_| !p.clients.is_due(API)) {
        return Ok(known);
    }
    p.clients.turn(API).await;
    service_deployment(p, arn).await
}

/// The same as it is now.
pub(super) async fn service_deployment(p: &AwsProvider, arn: &str) -> Result<ServiceDeployment, ProviderError> {
    let client = p.clients.ecs().await;
    let answer = client
        .describe_service_deployments()
        .service_deployment_arns(arn)
        .send()
        .await
        .or_fault("follow the deployment", arn)?;
    let found = answer.service_deployments().first().cloned().ok_or_else(|| {
        fault(ErrorKind::NotFound, "follow the deployment", arn, "ECS does not know the deployment any more")
    })?;
    p.rollouts.remember_deployment(arn, &found);
    Ok(found)
}

/// What ECS says happened to the service since the rollout began.
fn events(live: &Service, job: &Job) -> Vec<Told> {
    // Events carry whole seconds.
    let since = job.began_unix_ms.saturating_sub(1_000);
    let new = live.events().iter().filter(|event| unix_ms(event.created_at()) >= since);
    new.map(|event| {
        let text = event.message().unwrap_or_default();
        let text = text.strip_prefix(&format!("(service {}) ", job.service)).unwrap_or(text).trim_end_matches('.');
        Told::new(unix_ms(event.created_at()), event.id().unwrap_or(text), format!("ECS: {text}"))
    })
    .collect()
}

/// The stage that a deployment of ECS is in, once each.
fn stages(found: &ServiceDeployment) -> Vec<Told> {
    let at = unix_ms(found.updated_at());
    let stage = found.lifecycle_stage().map(|stage| {
        let name = stage.as_str().to_lowercase().replace('_', " ");
        Told::new(at, stage.as_str(), format!("ECS: {name}"))
    });
    let why = found.status_reason().or(found.rollback().and_then(|rollback| rollback.reason()));
    let why = why.map(|why| Told::new(at, why, format!("ECS: {}", why.trim_end_matches('.'))));
    stage.into_iter().chain(why).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::primitives::DateTime;
    use aws_sdk_ecs::types::{Deployment, ServiceEvent, StabilityStatus, TaskSet};

    use super::*;

    #[test]
    fn a_first_release_is_done_once_it_is_steady() {
        let set = |running, status: StabilityStatus| {
            let set =
                TaskSet::builder().running_count(running).computed_desired_count(2).stability_status(status).build();
            Service::builder().task_sets(set).build()
        };
        let deployment = |running, state: DeploymentRolloutState| {
            let deployment = Deployment::builder()
                .status("PRIMARY")
                .rollout_state(state)
                .rollout_state_reason("ECS deployment circuit breaker: tasks failed to start.")
                .build();
            Service::builder().running_count(running).desired_count(2).deployments(deployment).build()
        };
        let cases = [
            (set(1, StabilityStatus::Stabilizing), "working", 0),
            (set(2, StabilityStatus::SteadyState), "finished", 100),
            (deployment(1, DeploymentRolloutState::InProgress), "working", 0),
            (deployment(2, DeploymentRolloutState::Completed), "finished", 100),
            (deployment(0, DeploymentRolloutState::Failed), "failed", 0),
        ];
        for (service, phase, share) in cases {
            let stands = first_stands(ReleaseId(1), &service);
            assert_eq!(serde_json::to_value(&stands.phase).unwrap()["is"], phase, "{service:?}");
            assert_eq!(stands.weights.of(ReleaseId(1)), share);
        }
    }

    #[test]
    fn only_what_happened_since_is_told() {
        let event =
            |at, text: &str| ServiceEvent::builder().id(text).created_at(DateTime::from_secs(at)).message(text).build();
        let service = Service::builder()
            .events(event(200, "(service bird) has reached a steady state."))
            .events(event(50, "(service bird) has started 1 tasks."))
            .build();
        let job = Job {
            cluster: String::new(),
            service: "bird".to_owned(),
            task_definition: String::new(),
            previous: None,
            way: Way::First,
            document: None,
            suspended: false,
            began_unix_ms: 100_000,
        };
        let told = events(&service, &job);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].text, "ECS: has reached a steady state");
    }
}
