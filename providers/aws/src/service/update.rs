//! A release after another, by CodeDeploy or by ECS: what is registered, and the deployment that moves traffic to it. One
//! that is under way and is not this release's is never touched.

use aws_sdk_codedeploy::types::{
    AppSpecContent, DeploymentInfo, DeploymentStatus, RevisionLocation, RevisionLocationType, TimeRange,
};
use aws_sdk_ecs::types::{Deployment, Service};
use aws_smithy_types::DateTime;
use dbird_core::provider::ErrorKind;
use dbird_core::{ProviderError, Target, Work};
use serde_json::json;

use super::apply::{Registered, previous, register};
use super::deployment::{count, tasks};
use super::document::{CodeDeploy, ServiceDocument};
use super::job::{Job, Way};
use super::{by_ecs, group, scaling};
use crate::AwsProvider;
use crate::error::{Adding, Answer, code, fault};
use crate::rollout::unix_ms;

/// The states of a CodeDeploy deployment that has not ended.
pub(crate) const UNDER_WAY: [DeploymentStatus; 4] =
    [DeploymentStatus::Created, DeploymentStatus::Queued, DeploymentStatus::InProgress, DeploymentStatus::Ready];

pub(super) async fn begin(
    p: &AwsProvider,
    target: &Target,
    work: &Work,
    document: ServiceDocument,
    live: &Service,
) -> Result<Job, ProviderError> {
    let serving = serving(live).map(str::to_owned);
    let registered = register(p, target, work, &document).await?;
    p.rollouts.remember_release(&registered.arn, work.release);
    let mut job = Job {
        cluster: document.cluster.clone(),
        service: document.name.clone(),
        task_definition: registered.arn.clone(),
        // Asked a second time, what serves may be this release already.
        previous: previous(p, serving.as_deref().filter(|arn| *arn != registered.arn)).await?,
        way: Way::First,
        document: None,
        suspended: false,
        // By AWS's own clock, which also stamps what happens from here on.
        began_unix_ms: registered.at_unix_ms,
    };
    // The call that made the service is repeated: it is the first release still.
    if registered.before && unix_ms(live.created_at()) >= registered.at_unix_ms {
        job.document = Some(Box::new(document));
        return Ok(job);
    }
    match &document.codedeploy {
        Some(wanted) => {
            job.way = by_codedeploy(p, target, work, &document, wanted, &registered, live).await?;
            // Where nothing scales the service there is nothing to resume; a repeated call must say the same.
            job.suspended = true;
        }
        None => job.way = by_ecs::begin(p, work, &document, &registered, live).await?,
    }
    job.document = Some(Box::new(document));
    Ok(job)
}

/// The task definition that gets the requests now.
pub(crate) fn serving(live: &Service) -> Option<&str> {
    let sets = live.task_sets();
    let primary = sets.iter().find(|set| set.status() == Some("PRIMARY")).and_then(|set| set.task_definition());
    if !sets.is_empty() {
        return primary;
    }
    // While ECS rolls out, what serves is the deployment before the primary one.
    let deployments = live.deployments();
    let before = deployments.iter().filter(|d| d.status() == Some("ACTIVE")).min_by_key(|d| unix_ms(d.created_at()));
    before.and_then(Deployment::task_definition).or(live.task_definition())
}

/// What a deployment of ours calls itself.
pub(crate) fn description(work: &Work) -> String {
    format!("dbird {} {}", work.release, work.document.short())
}

async fn by_codedeploy(
    p: &AwsProvider,
    target: &Target,
    work: &Work,
    document: &ServiceDocument,
    wanted: &CodeDeploy,
    registered: &Registered,
    live: &Service,
) -> Result<Way, ProviderError> {
    // Only a release that was begun before can have a deployment.
    if registered.before
        && let Some(found) = own(p, wanted, work, registered.at_unix_ms).await?
    {
        return Ok(Way::Codedeploy { deployment: found });
    }
    group::ensure(p, target, document).await?;
    let tasks = tasks(document, live);
    let grace =
        (live.health_check_grace_period_seconds() != Some(count(document.grace_s))).then_some(count(document.grace_s));
    let exec = (live.enable_execute_command() != document.exec).then_some(document.exec);
    if tasks.is_some() || grace.is_some() || exec.is_some() {
        p.clients
            .ecs()
            .await
            .update_service()
            .cluster(&document.cluster)
            .service(&document.name)
            .set_desired_count(tasks)
            .set_health_check_grace_period_seconds(grace)
            .set_enable_execute_command(exec)
            .send()
            .await
            .or_fault("change the service", &document.name)?;
    }
    let suspended = scaling::suspend(p, &document.cluster, &document.name, true).await?;
    let content = app_spec(document, &registered.arn);
    let created = p
        .clients
        .codedeploy()
        .await
        .create_deployment()
        .application_name(&wanted.application)
        .deployment_group_name(&wanted.group)
        .deployment_config_name(&wanted.config)
        .description(description(work))
        .revision(
            RevisionLocation::builder()
                .revision_type(RevisionLocationType::AppSpecContent)
                .app_spec_content(AppSpecContent::builder().content(content).build())
                .build(),
        )
        .send()
        .await;
    let refused = created.as_ref().err().is_some_and(|error| code(error) == "DeploymentLimitExceededException");
    let result = match created {
        Err(_) if refused => match own(p, wanted, work, registered.at_unix_ms).await? {
            Some(found) => Ok(found),
            None => Err(conflict(p, wanted).await?),
        },
        created => created
            .or_fault("begin the deployment", &wanted.group)
            .map(|answer| answer.deployment_id().unwrap_or_default().to_owned()),
    };
    match result {
        Ok(deployment) => Ok(Way::Codedeploy { deployment }),
        Err(error) => {
            // Nothing began, so nothing else will resume it; what went wrong first is what counts.
            if suspended && !error.retry && error.kind != ErrorKind::Conflict {
                scaling::suspend(p, &document.cluster, &document.name, false).await.ok();
            }
            Err(error)
        }
    }
}

/// What CodeDeploy is told.
fn app_spec(document: &ServiceDocument, task_definition: &str) -> String {
    let network = &document.network;
    json!({
        "version": 0.0,
        "Resources": [{ "TargetService": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "TaskDefinition": task_definition,
                "LoadBalancerInfo": { "ContainerName": document.name, "ContainerPort": document.port() },
                "PlatformVersion": document.platform_version,
                "NetworkConfiguration": { "AwsvpcConfiguration": {
                    "Subnets": network.subnets,
                    "SecurityGroups": network.security_groups,
                    "AssignPublicIp": if network.assign_public_ip { "ENABLED" } else { "DISABLED" },
                } },
            }
        } }]
    })
    .to_string()
}

/// The deployment that this very step began, however it stands.
async fn own(
    p: &AwsProvider,
    wanted: &CodeDeploy,
    work: &Work,
    since_unix_ms: u64,
) -> Result<Option<String>, ProviderError> {
    let description = description(work);
    let found = deployments(p, wanted, since_unix_ms, None).await?;
    let mut own: Vec<_> = found.iter().filter(|d| d.description() == Some(&description)).collect();
    own.sort_by_key(|deployment| unix_ms(deployment.create_time()));
    Ok(own.last().and_then(|deployment| deployment.deployment_id()).map(str::to_owned))
}

/// Deployments of the group: those made since then, or those in some states.
pub(crate) async fn deployments(
    p: &AwsProvider,
    wanted: &CodeDeploy,
    since_unix_ms: u64,
    states: Option<&[DeploymentStatus]>,
) -> Result<Vec<DeploymentInfo>, ProviderError> {
    let since = i64::try_from(since_unix_ms / 1000).unwrap_or(0);
    let range = (since > 0).then(|| TimeRange::builder().start(DateTime::from_secs(since)).build());
    let client = p.clients.codedeploy().await;
    let listed = client
        .list_deployments()
        .application_name(&wanted.application)
        .deployment_group_name(&wanted.group)
        .set_include_only_statuses(states.map(<[_]>::to_vec))
        .set_create_time_range(range)
        .send()
        .await;
    let listed = match listed {
        Err(error) if group::is_missing(code(&error)) => return Ok(Vec::new()),
        listed => listed.or_fault("list the deployments", &wanted.group)?,
    };
    // As many as can be read at once.
    let ids: Vec<_> = listed.deployments().iter().take(25).cloned().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let read = client
        .batch_get_deployments()
        .set_deployment_ids(Some(ids))
        .send()
        .await
        .or_fault("read the deployments", &wanted.group)?;
    Ok(read.deployments_info().to_vec())
}

/// Why no deployment can begin: another one is under way.
async fn conflict(p: &AwsProvider, wanted: &CodeDeploy) -> Result<ProviderError, ProviderError> {
    let running = deployments(p, wanted, 0, Some(&UNDER_WAY)).await?;
    Ok(match running.first() {
        None => {
            fault(ErrorKind::Conflict, "begin the deployment", &wanted.group, "another deployment had not quite ended")
                .retry()
                .hint("run the same command again")
        }
        Some(other) => {
            let id = other.deployment_id().unwrap_or_default();
            let what = format!("the deployment {id} is under way, {}", told(other, p.clock.now_unix_ms()));
            fault(ErrorKind::Conflict, "begin the deployment", id, what).hint(format!(
                "wait for its end, or stop it: `aws deploy stop-deployment --deployment-id {id} --auto-rollback-enabled`"
            ))
        }
    })
}

/// Who began a deployment, and when.
pub(crate) fn told(other: &DeploymentInfo, now_unix_ms: u64) -> String {
    let by = other.creator().map_or("somebody", |creator| creator.as_str());
    let by = if by == "user" { "a person or another program" } else { by };
    let ago_s = now_unix_ms.saturating_sub(unix_ms(other.create_time())) / 1000;
    let ago = if ago_s < 120 { format!("{ago_s} s") } else { format!("{} min", ago_s / 60) };
    match other.description().filter(|text| !text.is_empty()) {
        Some(text) => format!("begun {ago} ago by {by} (\"{text}\")"),
        None => format!("begun {ago} ago by {by}, not by dbird"),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_codedeploy::types::DeploymentCreator;
    use aws_sdk_ecs::types::TaskSet;

    use super::*;
    use crate::service::document::tests::example;

    #[test]
    fn codedeploy_is_told_the_whole_service() {
        let spec: serde_json::Value = serde_json::from_str(&app_spec(&example(), "arn:td:7")).unwrap();
        let properties = &spec["Resources"][0]["TargetService"]["Properties"];
        assert_eq!(properties["TaskDefinition"], "arn:td:7");
        assert_eq!(properties["LoadBalancerInfo"], json!({ "ContainerName": "bird", "ContainerPort": 8080 }));
        assert_eq!(properties["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"], "DISABLED");
    }

    #[test]
    fn what_serves_is_what_had_the_requests_before() {
        let deployment = |status: &str, definition: &str, at| {
            Deployment::builder().status(status).task_definition(definition).created_at(DateTime::from_secs(at)).build()
        };
        let set =
            |status: &str, definition: &str| TaskSet::builder().status(status).task_definition(definition).build();
        let cases = [
            (Service::builder().task_definition("a").build(), Some("a")),
            (
                Service::builder()
                    .task_definition("b")
                    .deployments(deployment("PRIMARY", "b", 2))
                    .deployments(deployment("ACTIVE", "a", 1))
                    .build(),
                Some("a"),
            ),
            (Service::builder().task_sets(set("ACTIVE", "b")).task_sets(set("PRIMARY", "a")).build(), Some("a")),
            (Service::builder().build(), None),
        ];
        for (service, wanted) in cases {
            assert_eq!(serving(&service), wanted, "{service:?}");
        }
    }

    #[test]
    fn a_deployment_says_who_began_it() {
        let by = |description: Option<&str>, creator| {
            DeploymentInfo::builder()
                .set_description(description.map(str::to_owned))
                .creator(creator)
                .create_time(DateTime::from_secs(1_000))
                .build()
        };
        assert_eq!(
            told(&by(None, DeploymentCreator::User), 1_030_000),
            "begun 30 s ago by a person or another program, not by dbird"
        );
        assert_eq!(
            told(&by(Some("dbird r4 0011"), DeploymentCreator::CodeDeployRollback), 1_300_000),
            "begun 5 min ago by codeDeployRollback (\"dbird r4 0011\")"
        );
    }
}
