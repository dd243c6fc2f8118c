//! What scales the service: it needs the service, so it is made after it and taken away before it. During a CodeDeploy
//! deployment, which counts tasks itself, scaling is suspended.

use aws_sdk_applicationautoscaling::types::{
    AdjustmentType, MetricAggregationType, MetricType, PolicyType, PredefinedMetricSpecification, ScalableDimension,
    ScalableTarget, ScalingPolicy, ServiceNamespace, StepAdjustment, StepScalingPolicyConfiguration, SuspendedState,
    TargetTrackingScalingPolicyConfiguration,
};
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, Statistic, Tag};
use dbird_core::{ProviderError, Target};

use super::document::{ScaleStep, Scaling, ServiceDocument, base};
use super::task_definition::{ENVIRONMENT_TAG, SERVICE_TAG};
use crate::AwsProvider;
use crate::error::{Answer, code};

const TASKS: ScalableDimension = ScalableDimension::EcsServiceDesiredCount;
/// Between two changes by the same step, in seconds.
const COOLDOWN_S: i32 = 60;

/// What is scaled, in the words of the API.
pub(crate) fn resource(cluster: &str, service: &str) -> String {
    format!("service/{cluster}/{service}")
}

/// What scales the service now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) scaling: Scaling,
    /// Tasks are neither added nor removed at the moment.
    pub(crate) suspended: bool,
}

/// What scales it now; none where nothing does.
pub(crate) async fn find(p: &AwsProvider, cluster: &str, service: &str) -> Result<Option<Found>, ProviderError> {
    let resource = resource(cluster, service);
    let Some(found) = target(p, &resource).await? else { return Ok(None) };
    Ok(Some(Found { scaling: read(&found, &policies(p, &resource).await?), suspended: is_suspended(&found) }))
}

async fn target(p: &AwsProvider, resource: &str) -> Result<Option<ScalableTarget>, ProviderError> {
    let found = p
        .clients
        .autoscaling()
        .await
        .describe_scalable_targets()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_ids(resource)
        .send()
        .await
        .or_fault("read what scales the service", resource)?;
    Ok(found.scalable_targets().first().cloned())
}

async fn policies(p: &AwsProvider, resource: &str) -> Result<Vec<ScalingPolicy>, ProviderError> {
    let found = p
        .clients
        .autoscaling()
        .await
        .describe_scaling_policies()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id(resource)
        .send()
        .await
        .or_fault("read the scaling policies", resource)?;
    Ok(found.scaling_policies().to_vec())
}

/// Makes what scales the service what is wanted: nothing, by CPU, or in steps.
pub(crate) async fn ensure(p: &AwsProvider, target: &Target, document: &ServiceDocument) -> Result<(), ProviderError> {
    let (cluster, service) = (document.cluster.as_str(), document.name.as_str());
    let found = find(p, cluster, service).await?;
    let Some(wanted) = &document.scaling else {
        return if found.is_some() { remove(p, target, cluster, service).await } else { Ok(()) };
    };
    if found == Some(Found { scaling: wanted.clone(), suspended: false }) {
        return Ok(());
    }
    let resource = resource(cluster, service);
    p.clients
        .autoscaling()
        .await
        .register_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(TASKS)
        .resource_id(&resource)
        .min_capacity(count(wanted.min))
        .max_capacity(count(wanted.max))
        .suspended_state(suspension(false))
        .send()
        .await
        .or_fault("let the service be scaled", &resource)?;
    let base = base(target);
    let names = policy_names(&base, wanted);
    for policy in policies(p, &resource).await? {
        if !names.contains(&policy.policy_name) && policy.policy_name.starts_with(&base) {
            remove_policy(p, &resource, &policy.policy_name).await?;
        }
    }
    if let Some(percent) = wanted.target_cpu_percent {
        track(p, &resource, &names[0], percent).await?;
    }
    for (index, step) in wanted.steps.iter().enumerate() {
        steps(p, target, document, &step_name(&base, index, step), step).await?;
    }
    Ok(())
}

async fn track(p: &AwsProvider, resource: &str, name: &str, percent: u32) -> Result<(), ProviderError> {
    let metric = PredefinedMetricSpecification::builder()
        .predefined_metric_type(MetricType::EcsServiceAverageCpuUtilization)
        .build()
        .map_err(|error| super::apply::unbuilt("a scaling policy", &error))?;
    let tracking = TargetTrackingScalingPolicyConfiguration::builder()
        .target_value(f64::from(percent))
        .predefined_metric_specification(metric)
        .build()
        .map_err(|error| super::apply::unbuilt("a scaling policy", &error))?;
    p.clients
        .autoscaling()
        .await
        .put_scaling_policy()
        .policy_name(name)
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(TASKS)
        .resource_id(resource)
        .policy_type(PolicyType::TargetTrackingScaling)
        .target_tracking_scaling_policy_configuration(tracking)
        .send()
        .await
        .or_fault("scale the service by CPU", resource)?;
    Ok(())
}

async fn steps(
    p: &AwsProvider,
    target: &Target,
    document: &ServiceDocument,
    name: &str,
    step: &ScaleStep,
) -> Result<(), ProviderError> {
    let resource = resource(&document.cluster, &document.name);
    let bound = StepAdjustment::builder().scaling_adjustment(step.add);
    let bound =
        if step.above { bound.metric_interval_lower_bound(0.0) } else { bound.metric_interval_upper_bound(0.0) };
    let adjustment = bound.build().map_err(|error| super::apply::unbuilt("a scaling step", &error))?;
    let made = p
        .clients
        .autoscaling()
        .await
        .put_scaling_policy()
        .policy_name(name)
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(TASKS)
        .resource_id(&resource)
        .policy_type(PolicyType::StepScaling)
        .step_scaling_policy_configuration(
            StepScalingPolicyConfiguration::builder()
                .adjustment_type(AdjustmentType::ChangeInCapacity)
                .metric_aggregation_type(MetricAggregationType::Average)
                .cooldown(COOLDOWN_S)
                .step_adjustments(adjustment)
                .build(),
        )
        .send()
        .await
        .or_fault("scale the service in steps", &resource)?;
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let comparison = if step.above {
        ComparisonOperator::GreaterThanOrEqualToThreshold
    } else {
        ComparisonOperator::LessThanOrEqualToThreshold
    };
    p.clients
        .cloudwatch()
        .await
        .put_metric_alarm()
        .alarm_name(name)
        .namespace("AWS/ECS")
        .metric_name("CPUUtilization")
        .statistic(Statistic::Average)
        .dimensions(dimension("ClusterName", &document.cluster))
        .dimensions(dimension("ServiceName", &document.name))
        .period(60)
        .evaluation_periods(count(step.for_minutes.max(1)))
        .threshold(f64::from(step.cpu_percent))
        .comparison_operator(comparison)
        .treat_missing_data("missing")
        .alarm_actions(made.policy_arn())
        .tags(tag(SERVICE_TAG, &target.service))
        .tags(tag(ENVIRONMENT_TAG, &target.environment))
        .send()
        .await
        .or_fault("make the alarm that scales the service", name)?;
    Ok(())
}

/// Suspends scaling, or resumes it. False where nothing scales the service.
pub(crate) async fn suspend(
    p: &AwsProvider,
    cluster: &str,
    service: &str,
    suspended: bool,
) -> Result<bool, ProviderError> {
    let resource = resource(cluster, service);
    let Some(found) = target(p, &resource).await? else { return Ok(false) };
    if is_suspended(&found) != suspended {
        let verb = if suspended { "suspend scaling" } else { "resume scaling" };
        p.clients
            .autoscaling()
            .await
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(TASKS)
            .resource_id(&resource)
            .suspended_state(suspension(suspended))
            .send()
            .await
            .or_fault(verb, &resource)?;
    }
    Ok(true)
}

/// Takes everything away that scales the service; done where there is nothing.
pub(crate) async fn remove(
    p: &AwsProvider,
    target: &Target,
    cluster: &str,
    service: &str,
) -> Result<(), ProviderError> {
    let resource = resource(cluster, service);
    let found = policies(p, &resource).await?;
    let alarms: Vec<_> = found
        .iter()
        .filter(|policy| policy.policy_type == PolicyType::StepScaling && policy.policy_name.starts_with(&base(target)))
        .map(|policy| policy.policy_name.clone())
        .collect();
    let removed = p
        .clients
        .autoscaling()
        .await
        .deregister_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(TASKS)
        .resource_id(&resource)
        .send()
        .await;
    // Its policies go with it.
    if removed.as_ref().err().is_none_or(|error| code(error) != "ObjectNotFoundException") {
        removed.or_fault("take away what scales the service", &resource)?;
    }
    remove_alarms(p, alarms).await
}

async fn remove_policy(p: &AwsProvider, resource: &str, name: &str) -> Result<(), ProviderError> {
    let removed = p
        .clients
        .autoscaling()
        .await
        .delete_scaling_policy()
        .policy_name(name)
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(TASKS)
        .resource_id(resource)
        .send()
        .await;
    if removed.as_ref().err().is_none_or(|error| code(error) != "ObjectNotFoundException") {
        removed.or_fault("take a scaling policy away", name)?;
    }
    remove_alarms(p, vec![name.to_owned()]).await
}

/// Takes alarms away, one after the other: CloudWatch takes none away where one of them is not there.
async fn remove_alarms(p: &AwsProvider, names: Vec<String>) -> Result<(), ProviderError> {
    for name in names {
        let removed = p.clients.cloudwatch().await.delete_alarms().alarm_names(&name).send().await;
        if removed.as_ref().err().is_none_or(|error| !code(error).starts_with("ResourceNotFound")) {
            removed.or_fault("take an alarm away", &name)?;
        }
    }
    Ok(())
}

/// The names of the policies that scaling consists of.
fn policy_names(base: &str, wanted: &Scaling) -> Vec<String> {
    let tracking = wanted.target_cpu_percent.map(|_| format!("{base}-cpu"));
    tracking
        .into_iter()
        .chain(wanted.steps.iter().enumerate().map(|(index, step)| step_name(base, index, step)))
        .collect()
}

/// The name of a step's policy and of its alarm. It says the step's place, and all of it that only the alarm knows otherwise, so
/// that what is live can be read without it.
fn step_name(base: &str, index: usize, step: &ScaleStep) -> String {
    let side = if step.above { "above" } else { "below" };
    format!("{base}-cpu-{index}-{side}-{}-for-{}m", step.cpu_percent, step.for_minutes)
}

fn read(found: &ScalableTarget, policies: &[ScalingPolicy]) -> Scaling {
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    let tracked = policies.iter().find_map(|policy| policy.target_tracking_scaling_policy_configuration());
    let mut steps: Vec<_> = policies.iter().filter_map(read_step).collect();
    steps.sort_by_key(|(index, _)| *index);
    Scaling {
        min: positive(found.min_capacity),
        max: positive(found.max_capacity),
        // A percentage; what is no whole number was not made here.
        target_cpu_percent: tracked.map(|config| config.target_value().clamp(0.0, 100.0).round() as u32),
        steps: steps.into_iter().map(|(_, step)| step).collect(),
    }
}

/// A step and its place.
fn read_step(policy: &ScalingPolicy) -> Option<(usize, ScaleStep)> {
    let adjustment = policy.step_scaling_policy_configuration()?.step_adjustments().first()?;
    let (_, rest) = policy.policy_name.rsplit_once("-cpu-")?;
    let mut parts = rest.split('-');
    let index = parts.next()?.parse().ok()?;
    let (side, percent, _, minutes) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let step = ScaleStep {
        above: side == "above",
        cpu_percent: percent.parse().ok()?,
        for_minutes: minutes.strip_suffix('m')?.parse().ok()?,
        add: adjustment.scaling_adjustment,
    };
    Some((index, step))
}

fn is_suspended(found: &ScalableTarget) -> bool {
    found.suspended_state().is_some_and(|state| {
        state.dynamic_scaling_in_suspended() == Some(true) || state.dynamic_scaling_out_suspended() == Some(true)
    })
}

fn suspension(suspended: bool) -> SuspendedState {
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(suspended)
        .dynamic_scaling_out_suspended(suspended)
        .scheduled_scaling_suspended(suspended)
        .build()
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, kind: PolicyType) -> aws_sdk_applicationautoscaling::types::builders::ScalingPolicyBuilder {
        ScalingPolicy::builder()
            .policy_arn("arn")
            .policy_name(name)
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id("service/c/s")
            .scalable_dimension(TASKS)
            .policy_type(kind)
            .creation_time(aws_smithy_types::DateTime::from_secs(0))
    }

    fn live(wanted: &Scaling) -> (ScalableTarget, Vec<ScalingPolicy>) {
        let target = ScalableTarget::builder()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id("service/c/s")
            .scalable_dimension(TASKS)
            .min_capacity(count(wanted.min))
            .max_capacity(count(wanted.max))
            .role_arn("role")
            .creation_time(aws_smithy_types::DateTime::from_secs(0))
            .build()
            .unwrap();
        let tracking = wanted.target_cpu_percent.map(|percent| {
            let config = TargetTrackingScalingPolicyConfiguration::builder().target_value(f64::from(percent));
            policy("bird-dev-cpu", PolicyType::TargetTrackingScaling)
                .target_tracking_scaling_policy_configuration(config.build().unwrap())
        });
        let steps = wanted.steps.iter().enumerate().map(|(index, step)| {
            let adjustment = StepAdjustment::builder().scaling_adjustment(step.add).build().unwrap();
            policy(&step_name("bird-dev", index, step), PolicyType::StepScaling).step_scaling_policy_configuration(
                StepScalingPolicyConfiguration::builder().step_adjustments(adjustment).build(),
            )
        });
        let policies = tracking.into_iter().chain(steps.rev()).map(|policy| policy.build().unwrap()).collect();
        (target, policies)
    }

    #[test]
    fn scaling_comes_back_as_it_was_made() {
        let step = |above, cpu_percent, for_minutes, add| ScaleStep { above, cpu_percent, for_minutes, add };
        let cases = [
            Scaling { min: 1, max: 4, target_cpu_percent: Some(60), steps: Vec::new() },
            Scaling {
                min: 2,
                max: 6,
                target_cpu_percent: None,
                steps: vec![step(false, 50, 5, -1), step(true, 70, 2, 1), step(true, 90, 1, 2)],
            },
        ];
        for wanted in cases {
            let (target, policies) = live(&wanted);
            assert_eq!(read(&target, &policies), wanted);
            let names: Vec<_> = policies.iter().map(|policy| policy.policy_name.clone()).collect();
            assert!(policy_names("bird-dev", &wanted).iter().all(|name| names.contains(name)));
            assert!(!is_suspended(&target));
        }
    }
}
