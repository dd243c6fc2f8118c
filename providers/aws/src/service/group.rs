//! The CodeDeploy deployment group: it needs the service, so it is made after it and taken away before it. How a deployment
//! goes on is CodeDeploy's; what it is told is in the service's document.

use aws_sdk_codedeploy::types::{
    Alarm, AlarmConfiguration, AutoRollbackConfiguration, AutoRollbackEvent, BlueGreenDeploymentConfiguration,
    BlueInstanceTerminationOption, DeploymentGroupInfo, DeploymentOption, DeploymentReadyAction, DeploymentReadyOption,
    DeploymentStyle, DeploymentType, EcsService, InstanceAction, LoadBalancerInfo, Tag, TargetGroupInfo,
    TargetGroupPairInfo, TrafficRoute,
};
use dbird_core::{ProviderError, Target};

use super::document::{CodeDeploy, ServiceDocument, Traffic};
use super::task_definition::{ENVIRONMENT_TAG, SERVICE_TAG};
use crate::AwsProvider;
use crate::error::{Answer, code};

/// Everything of a group that dbird owns, in AWS's types.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    alarms: AlarmConfiguration,
    rollback: AutoRollbackConfiguration,
    style: DeploymentStyle,
    blue_green: BlueGreenDeploymentConfiguration,
    load_balancer: LoadBalancerInfo,
    service: EcsService,
}

/// Makes the group, or makes it what is wanted.
pub(crate) async fn ensure(p: &AwsProvider, target: &Target, document: &ServiceDocument) -> Result<(), ProviderError> {
    let Some(wanted) = &document.codedeploy else { return Ok(()) };
    let group = group(document, wanted);
    match find(p, wanted).await? {
        Some(live) if read(&live) == Some(wanted.clone()) && listens(&live, &document.traffic) => return Ok(()),
        Some(_) => {
            let client = p.clients.codedeploy().await;
            client
                .update_deployment_group()
                .application_name(&wanted.application)
                .current_deployment_group_name(&wanted.group)
                .deployment_config_name(&wanted.config)
                .service_role_arn(&wanted.role)
                .alarm_configuration(group.alarms)
                .auto_rollback_configuration(group.rollback)
                .deployment_style(group.style)
                .blue_green_deployment_configuration(group.blue_green)
                .load_balancer_info(group.load_balancer)
                .ecs_services(group.service)
                .send()
                .await
                .or_fault("change the deployment group", &wanted.group)?;
        }
        None => {
            let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
            let client = p.clients.codedeploy().await;
            let made = client
                .create_deployment_group()
                .application_name(&wanted.application)
                .deployment_group_name(&wanted.group)
                .deployment_config_name(&wanted.config)
                .service_role_arn(&wanted.role)
                .alarm_configuration(group.alarms)
                .auto_rollback_configuration(group.rollback)
                .deployment_style(group.style)
                .blue_green_deployment_configuration(group.blue_green)
                .load_balancer_info(group.load_balancer)
                .ecs_services(group.service)
                .tags(tag(SERVICE_TAG, &target.service))
                .tags(tag(ENVIRONMENT_TAG, &target.environment))
                .send()
                .await;
            // Somebody was faster, or an answer was lost: it is there.
            if made.as_ref().err().is_none_or(|error| code(error) != "DeploymentGroupAlreadyExistsException") {
                made.or_fault("make the deployment group", &wanted.group)?;
            }
        }
    }
    Ok(())
}

/// The group as it is; none where there is none.
pub(crate) async fn find(p: &AwsProvider, wanted: &CodeDeploy) -> Result<Option<DeploymentGroupInfo>, ProviderError> {
    let found = p
        .clients
        .codedeploy()
        .await
        .get_deployment_group()
        .application_name(&wanted.application)
        .deployment_group_name(&wanted.group)
        .send()
        .await;
    match found {
        Err(error) if is_missing(code(&error)) => Ok(None),
        found => Ok(found.or_fault("read the deployment group", &wanted.group)?.deployment_group_info().cloned()),
    }
}

/// Takes the group away; done where there is none.
pub(crate) async fn remove(p: &AwsProvider, application: &str, group: &str) -> Result<(), ProviderError> {
    let client = p.clients.codedeploy().await;
    let deleted =
        client.delete_deployment_group().application_name(application).deployment_group_name(group).send().await;
    match deleted {
        Err(error) if is_missing(code(&error)) => Ok(()),
        deleted => deleted.or_fault("take the deployment group away", group).map(|_| ()),
    }
}

pub(crate) fn is_missing(code: &str) -> bool {
    matches!(code, "DeploymentGroupDoesNotExistException" | "ApplicationDoesNotExistException")
}

fn group(document: &ServiceDocument, wanted: &CodeDeploy) -> Group {
    let minutes = |minutes: u32| i32::try_from(minutes).unwrap_or(i32::MAX);
    let ready = match wanted.ready_wait_minutes {
        0 => DeploymentReadyOption::builder().action_on_timeout(DeploymentReadyAction::ContinueDeployment),
        wait => DeploymentReadyOption::builder()
            .action_on_timeout(DeploymentReadyAction::StopDeployment)
            .wait_time_in_minutes(minutes(wait)),
    };
    let traffic = &document.traffic;
    let route = |listener: &str| TrafficRoute::builder().listener_arns(listener).build();
    let named = |arn: &str| TargetGroupInfo::builder().name(group_name(arn)).build();
    Group {
        alarms: AlarmConfiguration::builder()
            .enabled(!wanted.alarms.is_empty())
            .set_alarms(Some(wanted.alarms.iter().map(|name| Alarm::builder().name(name).build()).collect()))
            .build(),
        rollback: AutoRollbackConfiguration::builder()
            .enabled(true)
            .events(AutoRollbackEvent::DeploymentFailure)
            .events(AutoRollbackEvent::DeploymentStopOnAlarm)
            .events(AutoRollbackEvent::DeploymentStopOnRequest)
            .build(),
        style: DeploymentStyle::builder()
            .deployment_type(DeploymentType::BlueGreen)
            .deployment_option(DeploymentOption::WithTrafficControl)
            .build(),
        blue_green: BlueGreenDeploymentConfiguration::builder()
            .deployment_ready_option(ready.build())
            .terminate_blue_instances_on_deployment_success(
                BlueInstanceTerminationOption::builder()
                    .action(InstanceAction::Terminate)
                    .termination_wait_time_in_minutes(minutes(wanted.termination_wait_minutes))
                    .build(),
            )
            .build(),
        load_balancer: LoadBalancerInfo::builder()
            .target_group_pair_info_list(
                TargetGroupPairInfo::builder()
                    .target_groups(named(&traffic.blue))
                    .target_groups(named(&traffic.green))
                    .prod_traffic_route(route(&traffic.listener))
                    .set_test_traffic_route(traffic.test_listener.as_deref().map(route))
                    .build(),
            )
            .build(),
        service: EcsService::builder().service_name(&document.name).cluster_name(&document.cluster).build(),
    }
}

/// A target group's name, by its ARN: `arn:..:targetgroup/NAME/ID`.
pub(crate) fn group_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

/// What is live, in the document's shape; none where it is no group as dbird makes them.
pub(crate) fn read(live: &DeploymentGroupInfo) -> Option<CodeDeploy> {
    let minutes = |minutes: i32| u32::try_from(minutes).unwrap_or(0);
    let options = live.blue_green_deployment_configuration()?;
    let ready = options.deployment_ready_option();
    let waits = ready.is_some_and(|r| r.action_on_timeout() == Some(&DeploymentReadyAction::StopDeployment));
    let watched = live.alarm_configuration().filter(|alarms| alarms.enabled());
    let mut alarms: Vec<String> =
        watched.map(|w| w.alarms().iter().filter_map(|a| a.name().map(str::to_owned)).collect()).unwrap_or_default();
    // AWS promises no order.
    alarms.sort();
    let rolls_back = live.auto_rollback_configuration().is_some_and(AutoRollbackConfiguration::enabled);
    rolls_back.then(|| CodeDeploy {
        application: live.application_name().unwrap_or_default().to_owned(),
        group: live.deployment_group_name().unwrap_or_default().to_owned(),
        config: live.deployment_config_name().unwrap_or_default().to_owned(),
        role: live.service_role_arn().unwrap_or_default().to_owned(),
        ready_wait_minutes: ready.filter(|_| waits).map_or(0, |ready| minutes(ready.wait_time_in_minutes())),
        termination_wait_minutes: options
            .terminate_blue_instances_on_deployment_success()
            .map_or(0, |option| minutes(option.termination_wait_time_in_minutes())),
        alarms,
    })
}

/// True where the group moves traffic on exactly these listeners, between exactly these target groups.
pub(crate) fn listens(live: &DeploymentGroupInfo, traffic: &Traffic) -> bool {
    let pairs = live.load_balancer_info().map(LoadBalancerInfo::target_group_pair_info_list).unwrap_or_default();
    let [pair] = pairs else { return false };
    let on = |route: Option<&TrafficRoute>| route.and_then(|r| r.listener_arns().first()).cloned();
    let mut names: Vec<_> = pair.target_groups().iter().filter_map(TargetGroupInfo::name).collect();
    let mut wanted = [group_name(&traffic.blue), group_name(&traffic.green)];
    names.sort_unstable();
    wanted.sort_unstable();
    names == wanted
        && on(pair.prod_traffic_route()).as_ref() == Some(&traffic.listener)
        && on(pair.test_traffic_route()) == traffic.test_listener
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(ready: u32, alarms: &[&str], test: Option<&str>) -> ServiceDocument {
        let mut document = crate::service::document::tests::example();
        document.traffic.test_listener = test.map(str::to_owned);
        let group = document.codedeploy.as_mut().unwrap();
        group.ready_wait_minutes = ready;
        group.alarms = alarms.iter().map(|name| (*name).to_owned()).collect();
        document
    }

    fn live(document: &ServiceDocument) -> DeploymentGroupInfo {
        let wanted = document.codedeploy.as_ref().unwrap();
        let group = group(document, wanted);
        DeploymentGroupInfo::builder()
            .application_name(&wanted.application)
            .deployment_group_name(&wanted.group)
            .deployment_config_name(&wanted.config)
            .service_role_arn(&wanted.role)
            .alarm_configuration(group.alarms)
            .auto_rollback_configuration(group.rollback)
            .deployment_style(group.style)
            .blue_green_deployment_configuration(group.blue_green)
            .load_balancer_info(group.load_balancer)
            .build()
    }

    #[test]
    fn a_group_comes_back_as_it_was_made() {
        for document in [
            document(0, &[], None),
            document(30, &["bird-dev-blue-errors", "bird-dev-green-errors"], Some("arn:listener/test")),
        ] {
            let live = live(&document);
            assert_eq!(read(&live), document.codedeploy);
            assert!(listens(&live, &document.traffic));
            let mut elsewhere = document.traffic.clone();
            elsewhere.listener = "arn:listener/other".to_owned();
            assert!(!listens(&live, &elsewhere));
        }
    }

    #[test]
    fn a_group_that_does_not_roll_back_is_not_ours() {
        let mut live = live(&document(0, &[], None));
        live.auto_rollback_configuration = None;
        assert_eq!(read(&live), None);
    }
}
