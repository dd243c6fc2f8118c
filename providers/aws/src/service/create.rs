//! The first release: the rules that send requests to it, and the service. What needs the service comes after it is steady.

use aws_sdk_ecs::types::{DeploymentController, DeploymentControllerType, LaunchType, PropagateTags};
use dbird_core::{ProviderError, Target, Work};

use super::apply::{client_token, own_tags, register, unbuilt};
use super::deployment::{configuration, count, load_balancer, network};
use super::document::{Controller, ServiceDocument};
use super::job::{Job, Way};
use super::{group, rules, scaling};
use crate::AwsProvider;
use crate::error::Answer;

pub(super) async fn begin(
    p: &AwsProvider,
    target: &Target,
    work: &Work,
    document: ServiceDocument,
) -> Result<Job, ProviderError> {
    let moved = rules::make(p, target, &document.traffic).await?;
    let registered = register(p, target, work, &document).await?;
    let controller = match document.controller {
        Controller::Codedeploy => DeploymentControllerType::CodeDeploy,
        Controller::Ecs => DeploymentControllerType::Ecs,
    };
    let controller = DeploymentController::builder().r#type(controller).build();
    let config = document.ecs.as_ref().map(|ecs| configuration(ecs, true)).transpose();
    p.clients
        .ecs()
        .await
        .create_service()
        .cluster(&document.cluster)
        .service_name(&document.name)
        .task_definition(&registered.arn)
        .client_token(client_token(work, "service"))
        .desired_count(count(document.desired_count))
        .launch_type(LaunchType::Fargate)
        .platform_version(&document.platform_version)
        .network_configuration(network(&document.network).map_err(|error| unbuilt("the network", &error))?)
        .load_balancers(load_balancer(&document, &moved.blue, Some(&moved)))
        .health_check_grace_period_seconds(count(document.grace_s))
        .deployment_controller(controller.map_err(|error| unbuilt("the service", &error))?)
        .set_deployment_configuration(config.map_err(|error| unbuilt("the service", &error))?)
        .enable_execute_command(document.exec)
        .enable_ecs_managed_tags(true)
        .propagate_tags(PropagateTags::TaskDefinition)
        .set_tags(Some(super::task_definition::ecs_tags(&own_tags(target))))
        .send()
        .await
        .or_fault("make the service", &document.name)?;
    p.rollouts.remember_release(&registered.arn, work.release);
    Ok(Job {
        cluster: document.cluster.clone(),
        service: document.name.clone(),
        task_definition: registered.arn,
        previous: None,
        way: Way::First,
        document: Some(Box::new(document)),
        suspended: false,
        // By AWS's own clock, which also stamps what happens from here on.
        began_unix_ms: registered.at_unix_ms,
    })
}

/// What needs the service, once it is steady: how later releases take over, and what scales it.
pub(crate) async fn finish(p: &AwsProvider, target: &Target, document: &ServiceDocument) -> Result<(), ProviderError> {
    if let Some(ecs) = &document.ecs {
        let first = configuration(ecs, true).map_err(|error| unbuilt("the service", &error))?;
        let config = configuration(ecs, false).map_err(|error| unbuilt("the service", &error))?;
        if config != first {
            // Without a task definition this begins no deployment.
            p.clients
                .ecs()
                .await
                .update_service()
                .cluster(&document.cluster)
                .service(&document.name)
                .deployment_configuration(config)
                .send()
                .await
                .or_fault("say how later releases take over", &document.name)?;
        }
    }
    group::ensure(p, target, document).await?;
    if document.scaling.is_some() {
        scaling::ensure(p, target, document).await?;
    }
    Ok(())
}
