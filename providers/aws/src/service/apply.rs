//! Carries out one service step: registers what runs, and begins its way to traffic. Whatever it makes it looks for first, so
//! that a repeated call, or one whose answer was lost, makes nothing twice.

use std::error::Error;

use aws_sdk_ecs::types::{Service, Tag, TaskDefinitionField};
use dbird_core::provider::ErrorKind;
use dbird_core::{Action, ProviderError, ReleaseId, Target, Work};

use super::document::{Controller, ServiceDocument};
use super::job::{Job, Previous};
use super::task_definition::{ENVIRONMENT_TAG, Marker, SERVICE_TAG, ecs_tags, registration};
use super::{create, remove, update};
use crate::AwsProvider;
use crate::error::{Adding, Answer, code, fault, message};

/// Begins the step.
pub(crate) async fn apply(p: &AwsProvider, target: &Target, work: &Work) -> Result<Job, ProviderError> {
    if work.action == Action::Delete {
        return remove::begin(p, target).await;
    }
    let document = ServiceDocument::read(&work.body)?;
    match found(p, &document.cluster, &document.name).await? {
        None => create::begin(p, target, work, document).await,
        Some(live) if live.status() == Some("DRAINING") => Err(fault(
            ErrorKind::Conflict,
            "apply service",
            &document.name,
            "the service before it is still going away",
        )
        .retry()
        .hint("run the same command again in a minute")),
        Some(live) => {
            ours(target, &live)?;
            same_controller(&document, &live)?;
            update::begin(p, target, work, document, &live).await
        }
    }
}

/// The service as it is; none where there is none, or only what is left of one.
pub(crate) async fn found(p: &AwsProvider, cluster: &str, name: &str) -> Result<Option<Service>, ProviderError> {
    let answer = p
        .clients
        .ecs()
        .await
        .describe_services()
        .cluster(cluster)
        .services(name)
        .include(aws_sdk_ecs::types::ServiceField::Tags)
        .send()
        .await;
    match answer {
        Err(error) if code(&error) == "ClusterNotFoundException" => Ok(None),
        answer => {
            let answer = answer.or_fault("read the service", name)?;
            let found = answer.services().first().filter(|service| service.status() != Some("INACTIVE"));
            p.rollouts.remember_service(cluster, name, found);
            Ok(found.cloned())
        }
    }
}

/// The same, for whoever follows a rollout: as it is now, or was within the last second.
pub(crate) async fn found_lately(p: &AwsProvider, cluster: &str, name: &str) -> Result<Option<Service>, ProviderError> {
    const API: &str = "ECS:DescribeServices";
    if let Some(known) = p.rollouts.service(cluster, name).filter(|_| !p.clients.is_due(API)) {
        return Ok(Some(known));
    }
    p.clients.turn(API).await;
    found(p, cluster, name).await
}

/// Refuses a service that somebody else made.
pub(crate) fn ours(target: &Target, live: &Service) -> Result<(), ProviderError> {
    let value = |key: &str| live.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
    if value(SERVICE_TAG) == Some(&target.service) && value(ENVIRONMENT_TAG) == Some(&target.environment) {
        return Ok(());
    }
    let name = live.service_name().unwrap_or_default();
    let what = format!("there is an ECS service `{name}` in this cluster that dbird did not make");
    Err(fault(ErrorKind::Conflict, "apply service", live.service_arn().unwrap_or(name), what).hint(format!(
        "delete it, or tag it `{SERVICE_TAG}` = `{}` and `{ENVIRONMENT_TAG}` = `{}` to hand it over",
        target.service, target.environment
    )))
}

/// AWS can't change who moves a service's traffic.
fn same_controller(document: &ServiceDocument, live: &Service) -> Result<(), ProviderError> {
    let is = controller(live);
    if is == document.controller {
        return Ok(());
    }
    let spoken = |controller| match controller {
        Controller::Codedeploy => "CodeDeploy",
        Controller::Ecs => "ECS itself",
    };
    let what =
        format!("{} rolls this service out, and AWS can't change that to {}", spoken(is), spoken(document.controller));
    Err(fault(ErrorKind::Invalid, "apply service", &document.name, what)
        .hint("set `[rollout] controller` back, or take the service away and make it anew: `dbird destroy`, then `dbird deploy`; the data stays"))
}

/// Who moves the traffic of a service.
pub(crate) fn controller(live: &Service) -> Controller {
    use aws_sdk_ecs::types::DeploymentControllerType;
    match live.deployment_controller().map(|controller| controller.r#type()) {
        Some(DeploymentControllerType::CodeDeploy) => Controller::Codedeploy,
        _ => Controller::Ecs,
    }
}

/// A task definition, and the release that its tags name.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) arn: String,
    pub(crate) marker: Option<Marker>,
    /// It was there already.
    pub(crate) before: bool,
    pub(crate) at_unix_ms: u64,
}

/// The release's task definition, registered where it is not there yet.
pub(super) async fn register(
    p: &AwsProvider,
    target: &Target,
    work: &Work,
    document: &ServiceDocument,
) -> Result<Registered, ProviderError> {
    let family = document.task_definition.family.as_str();
    if let Some(newest) = described(p, family).await?
        && newest
            .marker
            .as_ref()
            .is_some_and(|m| m.release == work.release && m.document.as_ref() == Some(&work.document))
    {
        return Ok(newest);
    }
    let image = document.image_digest.as_deref().and_then(|digest| digest.parse().ok());
    let marker = Marker {
        release: work.release,
        document: Some(work.document.clone()),
        image,
        storage_protocol: document.storage_protocol,
    };
    let input = registration(&document.task_definition).map_err(|error| unbuilt("the task definition", &error))?;
    let mut tags = marker.tags();
    tags.extend(own_tags(target));
    let answer = input
        .set_tags(Some(ecs_tags(&tags)))
        .send_with(p.clients.ecs().await)
        .await
        .or_fault("register the task definition", family)?;
    let made = answer.task_definition();
    Ok(Registered {
        arn: made.and_then(|made| made.task_definition_arn()).unwrap_or_default().to_owned(),
        marker: Some(marker),
        before: false,
        at_unix_ms: crate::rollout::unix_ms(made.and_then(|made| made.registered_at())),
    })
}

/// A task definition by its ARN, or the newest of a family; none where there is none.
pub(crate) async fn described(p: &AwsProvider, name: &str) -> Result<Option<Registered>, ProviderError> {
    Ok(definition(p, name).await?.map(|(found, marker)| Registered {
        arn: found.task_definition_arn().unwrap_or_default().to_owned(),
        marker,
        before: true,
        at_unix_ms: crate::rollout::unix_ms(found.registered_at()),
    }))
}

/// A task definition, and what its tags say.
pub(crate) type Definition = (aws_sdk_ecs::types::TaskDefinition, Option<Marker>);

/// The same with everything that it says.
pub(crate) async fn definition(p: &AwsProvider, name: &str) -> Result<Option<Definition>, ProviderError> {
    if let Some(known) = p.rollouts.definition(name) {
        return Ok(Some(known));
    }
    let answer = p
        .clients
        .ecs()
        .await
        .describe_task_definition()
        .task_definition(name)
        .include(TaskDefinitionField::Tags)
        .send()
        .await;
    match answer {
        // A family that was never used is a client's mistake to ECS, without a code of its own.
        Err(error) if code(&error) == "ClientException" && message(&error).contains("Unable to describe") => Ok(None),
        answer => {
            let answer = answer.or_fault("read the task definition", name)?;
            let marker = Marker::read(answer.tags());
            let found = answer.task_definition().cloned().map(|found| (found, marker));
            // Never changed once it is registered.
            if let Some((read, _)) = &found
                && let Some(arn) = read.task_definition_arn()
            {
                p.rollouts.remember_definition(arn, &found);
            }
            Ok(found)
        }
    }
}

/// What serves before a release: what the service says, with the release that its tags name; 0 where they name none.
pub(super) async fn previous(p: &AwsProvider, serving: Option<&str>) -> Result<Option<Previous>, ProviderError> {
    let Some(arn) = serving else { return Ok(None) };
    let release = release_of(p, arn).await?;
    Ok(Some(Previous { task_definition: arn.to_owned(), release }))
}

/// The release that a task definition was registered for; 0 where it does not say.
pub(crate) async fn release_of(p: &AwsProvider, arn: &str) -> Result<ReleaseId, ProviderError> {
    if let Some(release) = p.rollouts.release(arn) {
        return Ok(release);
    }
    let release = described(p, arn).await?.and_then(|found| found.marker).map_or(ReleaseId(0), |marker| marker.release);
    p.rollouts.remember_release(arn, release);
    Ok(release)
}

/// The tags that say whose a thing is.
pub(crate) fn own_tags(target: &Target) -> [(&'static str, String); 2] {
    [(SERVICE_TAG, target.service.clone()), (ENVIRONMENT_TAG, target.environment.clone())]
}

/// A request that could not be put together from the document.
pub(crate) fn unbuilt(what: &str, error: &dyn Error) -> ProviderError {
    fault(ErrorKind::Invalid, "apply service", what, format!("{what} is not complete")).because(error)
}

/// What makes a repeated call the same call: at most 64 characters.
pub(crate) fn client_token(work: &Work, what: &str) -> String {
    format!("dbird-{}-{}-{what}", work.release, work.document.short())
}
