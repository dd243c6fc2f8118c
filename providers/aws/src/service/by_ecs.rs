//! A release after another, by ECS itself: the update of the service that begins it, and the deployment that ECS makes of
//! it. One that is under way and is not this release's is never touched.

use aws_sdk_ecs::types::{Deployment, Service};
use dbird_core::provider::ErrorKind;
use dbird_core::{ProviderError, Work};

use super::apply::{Registered, unbuilt};
use super::deployment::{configuration, count, load_balancer, network, tasks};
use super::document::ServiceDocument;
use super::job::Way;
use super::rules;
use crate::AwsProvider;
use crate::error::{Adding, Answer, fault};
use crate::rollout::unix_ms;

pub(super) async fn begin(
    p: &AwsProvider,
    work: &Work,
    document: &ServiceDocument,
    registered: &Registered,
    live: &Service,
) -> Result<Way, ProviderError> {
    let Some(ecs) = &document.ecs else {
        return Err(fault(
            ErrorKind::Invalid,
            "apply service",
            &document.name,
            "the document says neither `codedeploy` nor `ecs`",
        ));
    };
    let begun = registered.before && live.deployments().iter().any(|d| d.task_definition() == Some(&registered.arn));
    if registered.before
        && !begun
        && let Some(deployment) = deployment_of(p, document, &registered.arn).await?
    {
        return over(document, ecs.is_rolling(), deployment);
    }
    if !begun {
        free(live)?;
        let config = configuration(ecs, false).map_err(|error| unbuilt("the service", &error))?;
        let balancers = balancers(p, document, live).await?;
        p.clients
            .ecs()
            .await
            .update_service()
            .cluster(&document.cluster)
            .service(&document.name)
            .task_definition(&registered.arn)
            .deployment_configuration(config)
            .set_load_balancers(balancers)
            .set_desired_count(tasks(document, live))
            .network_configuration(network(&document.network).map_err(|error| unbuilt("the network", &error))?)
            .platform_version(&document.platform_version)
            .health_check_grace_period_seconds(count(document.grace_s))
            .enable_execute_command(document.exec)
            .send()
            .await
            .or_fault("begin the deployment", &document.name)?;
    }
    if ecs.is_rolling() {
        let live = super::apply::found(p, &document.cluster, &document.name).await?;
        let ours = live.as_ref().and_then(|live| {
            live.deployments().iter().find(|d| d.task_definition() == Some(&registered.arn)).and_then(Deployment::id)
        });
        return match ours {
            Some(id) => Ok(Way::Rolling { deployment: id.to_owned() }),
            None => Err(vanished(document)),
        };
    }
    native(p, document, work, &registered.arn).await
}

/// A call that comes after the release has ended already begins nothing.
fn over(document: &ServiceDocument, rolling: bool, deployment: String) -> Result<Way, ProviderError> {
    if !rolling {
        return Ok(Way::Native { deployment });
    }
    let what = format!("the deployment {deployment} of this release has ended already");
    Err(fault(ErrorKind::Conflict, "begin the deployment", &document.name, what)
        .hint("deploy again: a new release is made"))
}

/// Refuses while another deployment of ECS is under way.
fn free(live: &Service) -> Result<(), ProviderError> {
    use aws_sdk_ecs::types::DeploymentRolloutState::InProgress;
    let primary = live.deployments().iter().find(|d| d.status() == Some("PRIMARY"));
    let Some(other) = primary.filter(|d| d.rollout_state() == Some(&InProgress)) else { return Ok(()) };
    let id = live.current_service_deployment().or(other.id()).unwrap_or_default();
    let what = format!(
        "another deployment is under way ({id}), of {}",
        other.task_definition().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default()
    );
    Err(fault(ErrorKind::Conflict, "begin the deployment", live.service_name().unwrap_or_default(), what).hint(format!(
        "wait for its end, or stop it: `aws ecs stop-service-deployment --service-deployment-arn {id} --stop-type ROLLBACK`"
    )))
}

/// What sends requests to the tasks, where that has to change; none where it stays.
async fn balancers(
    p: &AwsProvider,
    document: &ServiceDocument,
    live: &Service,
) -> Result<Option<Vec<aws_sdk_ecs::types::LoadBalancer>>, ProviderError> {
    let rolling = document.ecs.as_ref().is_none_or(|ecs| ecs.is_rolling());
    let now = live.load_balancers().first();
    let advanced = now.and_then(|balancer| balancer.advanced_configuration());
    let role = document.ecs.as_ref().and_then(|ecs| ecs.role.as_deref());
    let fits = if rolling {
        advanced.is_none()
    } else {
        advanced.is_some_and(|advanced| advanced.role_arn() == role && advanced.production_listener_rule().is_some())
    };
    let same = now.is_some_and(|balancer| {
        balancer.container_name() == Some(&document.name) && balancer.container_port() == document.port().map(i32::from)
    });
    if fits && same {
        return Ok(None);
    }
    let moved = rules::find(p, &document.traffic).await?;
    // It begins where the requests go now.
    let shares = rules::shares(p, &document.traffic.listener).await?;
    let green = rules::percent(&shares, &document.traffic.green) > 50;
    let group = if green { &document.traffic.green } else { &document.traffic.blue };
    Ok(Some(vec![load_balancer(document, group, moved.as_ref())]))
}

/// The service deployment that ECS made of the update.
async fn native(p: &AwsProvider, document: &ServiceDocument, work: &Work, arn: &str) -> Result<Way, ProviderError> {
    // It is listed soon after the update was accepted; the driver asks again where it is not.
    for _ in 0..5 {
        if let Some(deployment) = deployment_of(p, document, arn).await? {
            return Ok(Way::Native { deployment });
        }
    }
    tracing::debug!(release = %work.release, "the deployment is not listed yet");
    Err(vanished(document).retry())
}

/// The newest service deployment to a task definition, however it stands.
async fn deployment_of(
    p: &AwsProvider,
    document: &ServiceDocument,
    arn: &str,
) -> Result<Option<String>, ProviderError> {
    let client = p.clients.ecs().await;
    p.clients.turn("ECS:ListServiceDeployments").await;
    let listed = client
        .list_service_deployments()
        .cluster(&document.cluster)
        .service(&document.name)
        .max_results(10)
        .send()
        .await
        .or_fault("list the deployments", &document.name)?;
    let mut briefs = listed.service_deployments().to_vec();
    briefs.sort_by_key(|brief| std::cmp::Reverse(unix_ms(brief.created_at())));
    let revisions: Vec<_> = briefs.iter().filter_map(|b| b.target_service_revision_arn().map(str::to_owned)).collect();
    if revisions.is_empty() {
        return Ok(None);
    }
    let read = client
        .describe_service_revisions()
        .set_service_revision_arns(Some(revisions))
        .send()
        .await
        .or_fault("read the deployments", &document.name)?;
    let of = |revision: Option<&str>| {
        let found = read.service_revisions().iter().find(|r| r.service_revision_arn() == revision);
        found.and_then(|r| r.task_definition())
    };
    let ours = briefs.iter().find(|brief| of(brief.target_service_revision_arn()) == Some(arn));
    Ok(ours.and_then(|brief| brief.service_deployment_arn()).map(str::to_owned))
}

fn vanished(document: &ServiceDocument) -> ProviderError {
    fault(
        ErrorKind::Unavailable,
        "begin the deployment",
        &document.name,
        "ECS took the release but shows no deployment of it",
    )
    .hint("run the same command again: it goes on with this release")
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::DeploymentRolloutState;

    use super::*;

    #[test]
    fn a_release_that_has_ended_is_not_begun_again() {
        let document = crate::service::document::tests::example();
        let late = |rolling| over(&document, rolling, "arn:1".to_owned());
        assert_eq!(late(false).unwrap(), Way::Native { deployment: "arn:1".to_owned() });
        let error = late(true).unwrap_err();
        assert_eq!((error.kind, error.retry), (ErrorKind::Conflict, false));
    }

    #[test]
    fn a_deployment_of_somebody_else_is_in_the_way() {
        let busy = Service::builder()
            .service_name("bird")
            .deployments(
                Deployment::builder()
                    .id("ecs-svc/1")
                    .status("PRIMARY")
                    .task_definition("arn:aws:ecs:x:1:task-definition/bird-dev:9")
                    .rollout_state(DeploymentRolloutState::InProgress)
                    .build(),
            )
            .build();
        let error = free(&busy).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.causes[0].contains("bird-dev:9") && error.hint.unwrap().contains("ecs-svc/1"));
    }
}
