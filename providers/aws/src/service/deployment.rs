//! How ECS itself rolls out: the document's wishes in AWS's types, and AWS's back in the document's shape. It calls nothing.

use aws_sdk_ecs::types::{
    AdvancedConfiguration, AssignPublicIp, AwsVpcConfiguration, CanaryConfiguration, DeploymentAlarms,
    DeploymentCircuitBreaker, DeploymentConfiguration, DeploymentLifecycleHook, DeploymentLifecycleHookAction,
    DeploymentLifecycleHookStage, DeploymentLifecycleHookTargetType, DeploymentLifecycleHookTimeoutConfiguration,
    DeploymentStrategy, LinearConfiguration, LoadBalancer, NetworkConfiguration, Service,
};

use super::document::{Ecs, Network, ServiceDocument};
use super::job::Moved;
use super::task_definition::Built;

/// How a deployment goes. The first has nobody to share traffic with and nothing to go back to, and its alarms have seen
/// nothing yet: it waits for nothing and watches no alarm.
pub(crate) fn configuration(wanted: &Ecs, first: bool) -> Built<DeploymentConfiguration> {
    let minutes = |minutes: Option<u32>| if first { Some(0) } else { minutes.map(count) };
    let percent = f64::from(wanted.percent.unwrap_or(100));
    let mut config = DeploymentConfiguration::builder()
        .strategy(DeploymentStrategy::from(wanted.strategy.as_str()))
        .minimum_healthy_percent(count(wanted.minimum_percent))
        .maximum_percent(count(wanted.maximum_percent))
        .alarms(
            DeploymentAlarms::builder()
                .set_alarm_names(Some(wanted.alarms.clone()))
                .enable(!first && !wanted.alarms.is_empty())
                .rollback(!wanted.alarms.is_empty())
                .build()?,
        );
    if wanted.is_rolling() {
        let breaker = wanted.circuit_breaker;
        config = config
            .deployment_circuit_breaker(DeploymentCircuitBreaker::builder().enable(breaker).rollback(breaker).build());
    } else {
        config = config
            .set_bake_time_in_minutes(minutes(wanted.bake_minutes))
            .set_lifecycle_hooks(Some(hooks(wanted, first)));
    }
    Ok(match wanted.strategy.as_str() {
        "CANARY" => config.canary_configuration(
            CanaryConfiguration::builder()
                .canary_percent(percent)
                .set_canary_bake_time_in_minutes(minutes(wanted.minutes))
                .build(),
        ),
        "LINEAR" => config.linear_configuration(
            LinearConfiguration::builder()
                .step_percent(percent)
                .set_step_bake_time_in_minutes(minutes(wanted.minutes))
                .build(),
        ),
        _ => config,
    }
    .build())
}

fn hooks(wanted: &Ecs, first: bool) -> Vec<DeploymentLifecycleHook> {
    let stages: Vec<_> = wanted.pauses.iter().map(|stage| DeploymentLifecycleHookStage::from(stage.as_str())).collect();
    if first || stages.is_empty() {
        return Vec::new();
    }
    let timeout = DeploymentLifecycleHookTimeoutConfiguration::builder()
        .set_timeout_in_minutes(wanted.pause_minutes.map(count))
        .action(DeploymentLifecycleHookAction::Rollback)
        .build();
    vec![
        DeploymentLifecycleHook::builder()
            .target_type(DeploymentLifecycleHookTargetType::Pause)
            .set_lifecycle_stages(Some(stages))
            .timeout_configuration(timeout)
            .build(),
    ]
}

/// What is live, in the document's shape.
pub(crate) fn read(service: &Service) -> Option<Ecs> {
    let config = service.deployment_configuration()?;
    let strategy = config.strategy().map_or("ROLLING", DeploymentStrategy::as_str);
    let rolling = strategy == "ROLLING";
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    // Percentages are whole where dbird set them.
    let whole = |percent: f64| percent.clamp(0.0, 100.0).round() as u32;
    let (percent, minutes) = match (config.canary_configuration(), config.linear_configuration()) {
        (Some(canary), _) if strategy == "CANARY" => (canary.canary_percent(), canary.canary_bake_time_in_minutes()),
        (_, Some(linear)) if strategy == "LINEAR" => (linear.step_percent(), linear.step_bake_time_in_minutes()),
        _ => (None, None),
    };
    let pauses: Vec<_> = config
        .lifecycle_hooks()
        .iter()
        .filter(|hook| hook.target_type() == Some(&DeploymentLifecycleHookTargetType::Pause))
        .collect();
    let balancer = service.load_balancers().first();
    let watched = config.alarms().filter(|alarms| alarms.enable());
    let mut alarms = watched.map(|alarms| alarms.alarm_names().to_vec()).unwrap_or_default();
    // AWS promises no order.
    alarms.sort();
    Some(Ecs {
        strategy: strategy.to_owned(),
        minimum_percent: config.minimum_healthy_percent().map_or(100, positive),
        maximum_percent: config.maximum_percent().map_or(200, positive),
        circuit_breaker: rolling && config.deployment_circuit_breaker().is_some_and(|b| b.enable() && b.rollback()),
        percent: percent.map(whole),
        minutes: minutes.map(positive),
        // Nothing is kept beside tasks that are replaced one by one.
        bake_minutes: Some(config.bake_time_in_minutes().filter(|_| !rolling).map_or(0, positive)),
        pause_minutes: pauses.first().and_then(|hook| hook.timeout_configuration()?.timeout_in_minutes()).map(positive),
        pauses: pauses.iter().flat_map(|h| h.lifecycle_stages()).map(|stage| stage.as_str().to_owned()).collect(),
        role: balancer
            .and_then(|balancer| balancer.advanced_configuration()?.role_arn())
            .filter(|_| !rolling)
            .map(str::to_owned),
        alarms,
    })
}

/// What sends requests to the service's tasks. `group` is the target group that they begin in.
pub(crate) fn load_balancer(document: &ServiceDocument, group: &str, moved: Option<&Moved>) -> LoadBalancer {
    let advanced = document.ecs.as_ref().filter(|ecs| !ecs.is_rolling()).zip(moved).map(|(ecs, moved)| {
        AdvancedConfiguration::builder()
            .alternate_target_group_arn(if group == moved.green { &moved.blue } else { &moved.green })
            .production_listener_rule(&moved.rule)
            .set_test_listener_rule(moved.test_rule.clone())
            .set_role_arn(ecs.role.clone())
            .build()
    });
    LoadBalancer::builder()
        .target_group_arn(group)
        .container_name(&document.name)
        .set_container_port(document.port().map(i32::from))
        .set_advanced_configuration(advanced)
        .build()
}

/// Where tasks run.
pub(crate) fn network(wanted: &Network) -> Built<NetworkConfiguration> {
    let public = if wanted.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
    let config = AwsVpcConfiguration::builder()
        .set_subnets(Some(wanted.subnets.clone()))
        .set_security_groups(Some(wanted.security_groups.clone()))
        .assign_public_ip(public)
        .build()?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(config).build())
}

/// Where tasks run, in the document's shape.
pub(crate) fn read_network(found: Option<&NetworkConfiguration>) -> Network {
    let config = found.and_then(NetworkConfiguration::awsvpc_configuration);
    Network {
        subnets: config.map(|config| config.subnets().to_vec()).unwrap_or_default(),
        security_groups: config.map(|config| config.security_groups().to_vec()).unwrap_or_default(),
        assign_public_ip: config.is_some_and(|c| c.assign_public_ip() == Some(&AssignPublicIp::Enabled)),
    }
}

/// How many tasks a service is to be given; none while it has as many as it should. What scales a service is changed after the
/// release, so a count outside of its new bounds is put right with it: one task may be too few to replace any.
pub(crate) fn tasks(document: &ServiceDocument, live: &Service) -> Option<i32> {
    let wanted = match &document.scaling {
        Some(scaling) => live.desired_count().clamp(count(scaling.min), count(scaling.max.max(scaling.min))),
        None => count(document.desired_count),
    };
    (wanted != live.desired_count()).then_some(wanted)
}

pub(crate) fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::document::{Scaling, tests::example_native};

    fn moved() -> Moved {
        Moved { blue: "b".into(), green: "g".into(), rule: "r".into(), test_rule: Some("t".into()) }
    }

    #[test]
    fn a_strategy_comes_back_as_it_was_set() {
        for strategy in ["ROLLING", "BLUE_GREEN", "CANARY", "LINEAR"] {
            let document = example_native(strategy);
            let wanted = document.ecs.as_ref().unwrap();
            let service = Service::builder()
                .deployment_configuration(configuration(wanted, false).unwrap())
                .load_balancers(load_balancer(&document, "b", Some(&moved())))
                .build();
            assert_eq!(read(&service).as_ref(), Some(wanted), "{strategy}");
        }
    }

    #[test]
    fn a_count_within_what_scaling_allows_is_left_alone() {
        let scaled = |(min, max)| Scaling { min, max, target_cpu_percent: None, steps: Vec::new() };
        for (bounds, live, wanted) in [
            (None, 2, None),
            (None, 5, Some(2)),
            (Some((2, 4)), 3, None),
            (Some((2, 4)), 1, Some(2)),
            (Some((2, 4)), 9, Some(4)),
        ] {
            let document =
                ServiceDocument { scaling: bounds.map(scaled), desired_count: 2, ..example_native("ROLLING") };
            let service = Service::builder().desired_count(live).build();
            assert_eq!(tasks(&document, &service), wanted, "{bounds:?} {live}");
        }
    }

    #[test]
    fn the_first_deployment_waits_for_nothing() {
        for strategy in ["BLUE_GREEN", "CANARY", "LINEAR"] {
            let config = configuration(example_native(strategy).ecs.as_ref().unwrap(), true).unwrap();
            assert_eq!(config.bake_time_in_minutes(), Some(0), "{strategy}");
            assert!(config.lifecycle_hooks().is_empty(), "{strategy}");
            assert!(config.alarms().is_some_and(|alarms| !alarms.enable()), "{strategy}");
        }
    }

    #[test]
    fn the_other_target_group_is_the_alternate() {
        let document = example_native("CANARY");
        for (begins, other) in [("b", "g"), ("g", "b")] {
            let balancer = load_balancer(&document, begins, Some(&moved()));
            let advanced = balancer.advanced_configuration().unwrap();
            assert_eq!(advanced.alternate_target_group_arn(), Some(other));
        }
        let rolling = load_balancer(&example_native("ROLLING"), "b", Some(&moved()));
        assert!(rolling.advanced_configuration().is_none());
    }

    #[test]
    fn a_network_comes_back_as_it_was_set() {
        for public in [true, false] {
            let wanted = Network { assign_public_ip: public, ..example_native("ROLLING").network };
            assert_eq!(read_network(Some(&network(&wanted).unwrap())), wanted);
        }
    }
}
