//! What callers ask of services: make, change, delete, tell. It decides what is refused, and what a change leads to: a number, a
//! setting, or a deployment.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    balance, deployment, life, names, requests, scheduler,
    service::{Controller, Service},
};
use crate::aws::{Answer, Fault, World, flag, list as members, number, spans::Spans, text};

/// A deployment configuration with ECS's defaults.
fn config(given: Option<&Value>, before: Option<&Value>, controller: Controller) -> Result<Value, Fault> {
    let mut config = before.cloned().unwrap_or_else(|| {
        json!({
            "maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING", "bakeTimeInMinutes": 0,
            "deploymentCircuitBreaker": { "enable": false, "rollback": false },
            "alarms": { "alarmNames": [], "rollback": false, "enable": false },
        })
    });
    let (Some(given), Some(fields)) = (given.and_then(Value::as_object), config.as_object_mut()) else {
        return Ok(config);
    };
    for (name, value) in given.iter().filter(|(_, v)| !v.is_null()) {
        fields.insert(name.clone(), value.clone());
    }
    let strategy = text(&config, "strategy").unwrap_or("ROLLING").to_owned();
    if !matches!(strategy.as_str(), "ROLLING" | "BLUE_GREEN" | "CANARY" | "LINEAR") {
        return Err(names::bad(format!("Invalid deployment strategy: {strategy}")));
    }
    if controller == Controller::CodeDeploy && strategy != "ROLLING" {
        return Err(names::bad(
            "The deployment strategy can only be set for services that use the ECS deployment controller.",
        ));
    }
    if strategy != "ROLLING" && given.get("bakeTimeInMinutes").is_none_or(Value::is_null) && before.is_none() {
        config["bakeTimeInMinutes"] = json!(15);
    }
    let (least, most) =
        (number(&config, "minimumHealthyPercent").unwrap_or(100), number(&config, "maximumPercent").unwrap_or(200));
    if least == 100 && most == 100 {
        return Err(names::bad(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
        ));
    }
    if most < 100 || !(0..=200).contains(&least) || most > 200 {
        return Err(names::bad(
            "maximumPercent must be between 100 and 200, and minimumHealthyPercent between 0 and 200.",
        ));
    }
    for hook in members(&config, "lifecycleHooks") {
        if text(hook, "targetType") != Some("PAUSE") {
            return Err(names::bad("The simulator runs no Lambda functions: only lifecycle hooks of type PAUSE."));
        }
        let shifts = ["TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"];
        if let Some(stage) =
            members(hook, "lifecycleStages").iter().filter_map(Value::as_str).find(|s| shifts.contains(s))
        {
            return Err(names::bad(format!("PAUSE lifecycle hooks cannot be configured at the stage {stage}.")));
        }
    }
    let breaker = config.get("deploymentCircuitBreaker").cloned().unwrap_or_default();
    if controller == Controller::CodeDeploy && flag(&breaker, "enable").unwrap_or(false) {
        let message =
            "Deployment circuit breaker is only supported for services that use the ECS deployment controller.";
        return Err(names::bad(message));
    }
    let alarms = config.get("alarms").cloned().unwrap_or_default();
    if flag(&alarms, "enable").unwrap_or(false) && members(&alarms, "alarmNames").is_empty() {
        return Err(names::bad("At least one alarm name is required when deployment alarms are enabled."));
    }
    Ok(config)
}

fn alarms_exist(world: &Arc<World>, config: &Value) -> Result<(), Fault> {
    let alarms = config.get("alarms").cloned().unwrap_or_default();
    if !flag(&alarms, "enable").unwrap_or(false) {
        return Ok(());
    }
    for name in members(&alarms, "alarmNames").iter().filter_map(Value::as_str) {
        if balance::alarm_state(world, name).is_none() {
            return Err(names::bad(format!("The alarm {name} could not be found.")));
        }
    }
    Ok(())
}

/// Target groups that a load balancer leads to, rules that are there, a role for who rewrites them.
fn balancers(world: &Arc<World>, config: &Value, all: &[Value]) -> Result<(), Fault> {
    let is_native = text(config, "strategy").is_some_and(|s| s != "ROLLING");
    for balancer in all {
        let group = text(balancer, "targetGroupArn").unwrap_or_default();
        if !balance::is_balanced(world, group) {
            return Err(names::bad(format!(
                "The target group with targetGroupArn {group} does not have an associated load balancer."
            )));
        }
        let advanced = balancer.get("advancedConfiguration").filter(|a| !a.is_null());
        let Some(advanced) = advanced else {
            if is_native {
                return Err(names::bad("advancedConfiguration is required for the deployment strategy."));
            }
            continue;
        };
        for name in ["alternateTargetGroupArn", "productionListenerRule", "roleArn"] {
            if text(advanced, name).is_none_or(str::is_empty) {
                return Err(names::bad(format!("advancedConfiguration.{name} should not be null or empty.")));
            }
        }
        for rule in ["productionListenerRule", "testListenerRule"].iter().filter_map(|n| text(advanced, n)) {
            if balance::forward(world, rule).is_none() {
                return Err(names::bad(format!(
                    "The listener rule {rule} was not found or does not forward to target groups."
                )));
            }
        }
        let role = text(advanced, "roleArn").unwrap_or_default();
        if !balance::has_role(world, role) {
            return Err(names::bad(format!("Unable to assume role {role} to update the listener rules.")));
        }
    }
    Ok(())
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Answer {
    let name =
        text(input, "serviceName").filter(|n| !n.is_empty()).ok_or_else(|| names::bad("Service name is required."))?;
    let cluster = names::cluster(input).to_owned();
    let arn = names::service_arn(world, &cluster, name);
    let token = text(input, "clientToken").map(|t| format!("service {cluster} {t}"));
    {
        let state = world.ecs.state();
        state.cluster(&cluster)?;
        if let Some(made) =
            token.as_ref().and_then(|t| state.tokens.get(t)).and_then(|m| state.services.get(m.first()?))
        {
            return Ok(json!({ "service": state.service_view(made, true) }));
        }
        if state.services.get(&arn).is_some_and(|s| s.status != "INACTIVE") {
            return Err(names::bad("Creation of service was not idempotent."));
        }
    }
    let controller = match input.pointer("/deploymentController/type").and_then(Value::as_str).unwrap_or("ECS") {
        "ECS" => Controller::Ecs,
        "CODE_DEPLOY" => Controller::CodeDeploy,
        other => return Err(names::bad(format!("The simulator knows no deployment controller {other}."))),
    };
    let config = config(input.get("deploymentConfiguration"), None, controller)?;
    alarms_exist(world, &config)?;
    let network = requests::network_of(world, input)?;
    let platform = requests::platform_of(input)?;
    let load_balancers = members(input, "loadBalancers").to_vec();
    balancers(world, &config, &load_balancers)?;
    if controller == Controller::CodeDeploy && load_balancers.len() != 1 {
        return Err(names::bad(
            "A load balancer is required for services that use the CODE_DEPLOY deployment controller.",
        ));
    }
    let now = world.clock.now_ms();
    let mut deployed = None;
    let view = {
        let mut state = world.ecs.state();
        let state = &mut *state;
        let cluster_arn = state.cluster(&cluster)?.arn.clone();
        let definition = state.active_definition(text(input, "taskDefinition").unwrap_or_default())?.clone();
        fits(&definition, &load_balancers)?;
        let grace = number(input, "healthCheckGracePeriodSeconds").unwrap_or(0);
        let mut service = Service {
            arn: arn.clone(),
            name: name.to_owned(),
            cluster,
            cluster_arn,
            status: "ACTIVE",
            controller,
            desired: desired_of(input)?.unwrap_or(1),
            config,
            load_balancers,
            network,
            platform,
            definition: definition.arn.clone(),
            grace_s: grace,
            tags: members(input, "tags").to_vec(),
            has_exec: flag(input, "enableExecuteCommand").unwrap_or(false),
            propagates: text(input, "propagateTags").unwrap_or("NONE").to_owned(),
            created_ms: now,
            events: VecDeque::new(),
            sets: Vec::new(),
            revisions: Vec::new(),
            deployment: None,
            is_steady: false,
            wake: Arc::new(Notify::new()),
            busy: None,
        };
        let revision = service.new_revision(&definition.arn, group_of(&service.load_balancers), now);
        if controller == Controller::Ecs {
            deployed = Some(deployment::begin(world, state, &mut service, revision, now));
        } else {
            service.revisions.push(revision.clone());
            let set = service.new_set(revision, None, now);
            service.promote(&set);
            service.busy = Some(Spans::begin(world, &format!("service {name}")));
        }
        let view = state.service_view(&service, true);
        if let Some(token) = token {
            state.tokens.insert(token, vec![arn.clone()]);
        }
        state.services.insert(arn.clone(), service);
        view
    };
    scheduler::begin(world, arn);
    if let Some(deployment) = deployed {
        deployment::drive(world, deployment);
    }
    Ok(json!({ "service": view }))
}

fn group_of(balancers: &[Value]) -> Option<String> {
    balancers.first().and_then(|b| text(b, "targetGroupArn")).map(str::to_owned)
}

fn desired_of(input: &Value) -> Result<Option<u32>, Fault> {
    match number(input, "desiredCount") {
        None => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| names::bad("desiredCount must not be negative.")),
    }
}

/// The load balancer's container and port must be the task definition's.
fn fits(definition: &super::definition::Definition, balancers: &[Value]) -> Result<(), Fault> {
    for balancer in balancers {
        let (name, port) =
            (text(balancer, "containerName").unwrap_or_default(), number(balancer, "containerPort").unwrap_or(0));
        if !definition.containers().iter().any(|c| text(c, "name") == Some(name)) {
            return Err(names::bad(format!("The container {name} does not exist in the task definition.")));
        }
        if !life::has_port(definition, name, port) {
            return Err(names::bad(format!("The container {name} did not have a container port {port} defined.")));
        }
    }
    Ok(())
}

pub(super) fn update(world: &Arc<World>, input: &Value) -> Answer {
    let arn = names::service_arn(world, names::cluster(input), text(input, "service").unwrap_or_default());
    let has = |name: &str| input.get(name).is_some_and(|v| !v.is_null());
    let (controller, before, had) = {
        let state = world.ecs.state();
        state.cluster(names::cluster(input))?;
        let service = state.services.get(&arn).filter(|s| s.status != "INACTIVE").ok_or_else(names::no_service)?;
        if service.status != "ACTIVE" {
            return Err(Fault::new("ServiceNotActiveException", "Service was not ACTIVE."));
        }
        (service.controller, service.config.clone(), service.load_balancers.clone())
    };
    let is_forced = flag(input, "forceNewDeployment").unwrap_or(false);
    if controller == Controller::CodeDeploy {
        refused(input, is_forced)?;
    }
    let config = config(input.get("deploymentConfiguration"), Some(&before), controller)?;
    alarms_exist(world, &config)?;
    let load_balancers = if has("loadBalancers") { members(input, "loadBalancers").to_vec() } else { had };
    balancers(world, &config, &load_balancers)?;
    let network = has("networkConfiguration").then(|| requests::network_of(world, input)).transpose()?;
    let platform = has("platformVersion").then(|| requests::platform_of(input)).transpose()?;
    let desired = desired_of(input)?;
    let now = world.clock.now_ms();
    let mut state = world.ecs.state();
    let state = &mut *state;
    let asked = text(input, "taskDefinition");
    let definition = asked.map(|d| state.active_definition(d).cloned()).transpose()?;
    let mut service = state.services.remove(&arn).ok_or_else(names::no_service)?;
    if let Err(fault) = definition.as_ref().map_or(Ok(()), |d| fits(d, &load_balancers)) {
        state.services.insert(arn, service);
        return Err(fault);
    }
    let is_new = is_forced
        || definition.as_ref().is_some_and(|d| d.arn != service.definition)
        || network.as_ref().is_some_and(|n| *n != service.network)
        || platform.as_ref().is_some_and(|p| *p != service.platform)
        || load_balancers != service.load_balancers;
    service.config = config;
    service.load_balancers = load_balancers;
    service.network = network.unwrap_or(service.network);
    service.platform = platform.unwrap_or(service.platform);
    service.scale(desired.unwrap_or(service.desired));
    service.grace_s = number(input, "healthCheckGracePeriodSeconds").unwrap_or(service.grace_s);
    service.has_exec = flag(input, "enableExecuteCommand").unwrap_or(service.has_exec);
    if let Some(from) = text(input, "propagateTags") {
        from.clone_into(&mut service.propagates);
    }
    let mut deployed = None;
    if is_new {
        let wanted = definition.map_or_else(|| service.definition.clone(), |d| d.arn);
        let group = next_group(&service);
        let revision = service.new_revision(&wanted, group, now);
        deployed = Some(deployment::begin(world, state, &mut service, revision, now));
    }
    service.wake.notify_one();
    let view = state.service_view(&service, true);
    state.services.insert(arn, service);
    if let Some(deployment) = deployed {
        deployment::drive(world, deployment);
    }
    Ok(json!({ "service": view }))
}

/// What may not be changed where CodeDeploy makes the deployments.
fn refused(input: &Value, is_forced: bool) -> Result<(), Fault> {
    let has = |name: &str| input.get(name).is_some_and(|v| !v.is_null());
    for (name, what) in [
        ("taskDefinition", "task definition"),
        ("loadBalancers", "load balancers"),
        ("networkConfiguration", "network configuration"),
        ("platformVersion", "platform version"),
    ] {
        if has(name) {
            return Err(names::bad(format!(
                "Unable to update {what} on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a \
                 new deployment."
            )));
        }
    }
    if is_forced {
        return Err(names::bad(
            "Cannot force a new deployment on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a \
             new deployment.",
        ));
    }
    Ok(())
}

/// The target group of a new release: the only one, or natively the one that serves nothing.
fn next_group(service: &Service) -> Option<String> {
    let balancer = service.load_balancers.first()?;
    let first = text(balancer, "targetGroupArn")?.to_owned();
    if service.strategy() == "ROLLING" {
        // What a native deployment left in the other group goes on there.
        let now = service.primary().and_then(|s| s.revision.target_group.clone());
        return Some(now.unwrap_or(first));
    }
    let other =
        balancer.pointer("/advancedConfiguration/alternateTargetGroupArn").and_then(Value::as_str).map(str::to_owned);
    let live = service
        .sets
        .iter()
        .find(|s| s.rollout == "COMPLETED" && s.is_wanted)
        .and_then(|s| s.revision.target_group.clone());
    if live.as_deref() == Some(first.as_str()) { other.or(Some(first)) } else { Some(first) }
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let arn = names::service_arn(world, names::cluster(input), text(input, "service").unwrap_or_default());
    let view = {
        let now = world.clock.now_ms();
        let mut state = world.ecs.state();
        let state = &mut *state;
        state.cluster(names::cluster(input))?;
        if state.services.get(&arn).is_none_or(|s| s.status == "INACTIVE") {
            return Err(names::no_service());
        }
        let mut service = state.services.remove(&arn).ok_or_else(names::no_service)?;
        if service.desired > 0 && !flag(input, "force").unwrap_or(false) {
            state.services.insert(arn, service);
            return Err(names::bad("The service cannot be stopped while it is scaled above 0."));
        }
        deployment::give_up(state, &mut service, now, "Service was deleted.");
        service.status = "DRAINING";
        service.scale(0);
        service.sets.iter_mut().for_each(|set| set.want(false));
        service.busy = Some(Spans::begin(world, &format!("deletion of service {}", service.name)));
        service.is_steady = false;
        service.wake.notify_one();
        let view = state.service_view(&service, true);
        state.services.insert(arn, service);
        view
    };
    Ok(json!({ "service": view }))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let cluster = names::cluster(input);
    let state = world.ecs.state();
    state.cluster(cluster)?;
    let with_tags = members(input, "include").iter().any(|i| i == "TAGS");
    let asked = members(input, "services");
    if asked.is_empty() || asked.len() > 10 {
        return Err(names::bad("Services can not be empty, and at most 10 can be described at once."));
    }
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in asked.iter().filter_map(Value::as_str) {
        let arn = names::service_arn(world, cluster, name);
        match state.services.get(&arn) {
            Some(service) => found.push(state.service_view(service, with_tags)),
            None => failures.push(json!({ "arn": arn, "reason": "MISSING" })),
        }
    }
    Ok(json!({ "services": found, "failures": failures }))
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let cluster = state.cluster(names::cluster(input))?.name.clone();
    let arns: Vec<&str> = state
        .services
        .values()
        .filter(|s| s.cluster == cluster && s.status != "INACTIVE")
        .map(|s| s.arn.as_str())
        .collect();
    let (page, next) = super::view::page(&arns, input, 100);
    Ok(super::view::paged("serviceArns", json!(page), next))
}
