//! What callers ask of service deployments: tell of them, stop them, let them go on. It decides what is refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    deployment::{Deployment, Halt},
    names, view,
};
use crate::aws::{Answer, Fault, World, list as members, stamp, text};

fn missing() -> Fault {
    Fault::new("ServiceDeploymentNotFoundException", "The specified service deployment could not be found.")
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let service = text(input, "service").unwrap_or_default();
    let arn = if service.starts_with("arn:") {
        service.to_owned()
    } else {
        names::service_arn(world, names::cluster(input), service)
    };
    if !state.services.contains_key(&arn) {
        return Err(names::no_service());
    }
    let statuses = members(input, "status");
    let mut all: Vec<&Deployment> = state
        .deployments
        .values()
        .filter(|d| d.service == arn && (statuses.is_empty() || statuses.iter().any(|s| s == d.status)))
        .collect();
    all.sort_by_key(|d| std::cmp::Reverse(d.created_ms));
    let briefs: Vec<Value> = all.into_iter().map(Deployment::brief).collect();
    let (page, next) = view::page(&briefs, input, 100);
    Ok(view::paged("serviceDeployments", json!(page), next))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in members(input, "serviceDeploymentArns").iter().filter_map(Value::as_str) {
        match state.deployments.get(arn) {
            Some(deployment) => found.push(deployment.view(&state)),
            None => failures.push(json!({ "arn": arn, "reason": "MISSING" })),
        }
    }
    Ok(json!({ "serviceDeployments": found, "failures": failures }))
}

pub(super) fn revisions(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in members(input, "serviceRevisionArns").iter().filter_map(Value::as_str) {
        let with = |s: &&super::service::Service| s.revisions.iter().any(|r| r.arn == arn);
        let Some(service) = state.services.values().find(with) else {
            failures.push(json!({ "arn": arn, "reason": "MISSING" }));
            continue;
        };
        let Some(revision) = service.revisions.iter().find(|r| r.arn == arn) else { continue };
        let images = state.definition(&revision.definition).map(|d| d.containers().to_vec()).unwrap_or_default();
        let digest = |name: &str| {
            let tasks = state.tasks.values().filter(|t| t.definition == revision.definition);
            tasks.flat_map(|t| &t.containers).find(|c| c.name == name).and_then(|c| c.digest.clone())
        };
        let images = images.iter().map(|c| {
            let name = text(c, "name").unwrap_or_default();
            json!({ "containerName": name, "image": c["image"], "imageDigest": digest(name) })
        });
        let rule =
            service.load_balancers.first().and_then(|l| l.pointer("/advancedConfiguration/productionListenerRule"));
        let resolved =
            revision.target_group.iter().map(|g| json!({ "targetGroupArn": g, "productionListenerRule": rule }));
        found.push(json!({
            "serviceRevisionArn": revision.arn, "serviceArn": service.arn, "clusterArn": service.cluster_arn,
            "taskDefinition": revision.definition, "launchType": "FARGATE", "platformVersion": revision.platform,
            "platformFamily": "Linux", "loadBalancers": service.load_balancers, "networkConfiguration": revision.network,
            "containerImages": images.collect::<Vec<_>>(), "createdAt": stamp(revision.created_ms),
            "resolvedConfiguration": { "loadBalancers": resolved.collect::<Vec<_>>() },
        }));
    }
    Ok(json!({ "serviceRevisions": found, "failures": failures }))
}

pub(super) fn stop(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let arn = text(input, "serviceDeploymentArn").unwrap_or_default().to_owned();
    let deployment = state.deployments.get_mut(&arn).ok_or_else(missing)?;
    if deployment.is_over() || deployment.status != "IN_PROGRESS" {
        let message =
            format!("The service deployment can't be stopped because it is in the state {}.", deployment.status);
        return Err(Fault::new("ConflictException", message));
    }
    let why = "Service deployment was stopped by the StopServiceDeployment API.".to_owned();
    let (status, halt) = match text(input, "stopType").unwrap_or("ROLLBACK") {
        "ROLLBACK" => ("ROLLBACK_REQUESTED", Halt::Undo(why)),
        "ABORT" => ("STOP_REQUESTED", Halt::Abort(why)),
        other => return Err(names::bad(format!("Invalid stopType: {other}"))),
    };
    deployment.status = status;
    deployment.halt = Some(halt);
    Ok(json!({ "serviceDeploymentArn": arn }))
}

pub(super) fn go_on(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let arn = text(input, "serviceDeploymentArn").unwrap_or_default().to_owned();
    let deployment = state.deployments.get_mut(&arn).ok_or_else(missing)?;
    let id = text(input, "hookId").unwrap_or_default();
    let status = match text(input, "action").unwrap_or("CONTINUE") {
        "CONTINUE" => "SUCCEEDED",
        "ROLLBACK" => "FAILED",
        other => return Err(names::bad(format!("Invalid action: {other}"))),
    };
    let hook = deployment.hooks.iter_mut().find(|h| h.id == id);
    let hook = hook.ok_or_else(|| names::bad(format!("The hook {id} was not found in the service deployment.")))?;
    if hook.status != "AWAITING_ACTION" {
        return Err(names::bad(format!("The hook {id} is not awaiting an action: it is {}.", hook.status)));
    }
    hook.status = status;
    Ok(json!({ "serviceDeploymentArn": arn }))
}
