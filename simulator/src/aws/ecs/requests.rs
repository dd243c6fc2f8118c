//! What callers ask of single tasks: run one, stop it, tell of it. It decides what is refused before anything is made.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    State,
    definition::Definition,
    life, names,
    task::{Status, Task},
};
use crate::aws::{Answer, Fault, World, flag, list as members, number, text};

/// Of tasks that stopped, so many are still told of.
const STOPPED_MAX: usize = 500;

/// What a new task is made from, besides its definition.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) cluster: String,
    pub(super) group: String,
    pub(super) started_by: Option<String>,
    pub(super) of: Option<(String, String)>,
    pub(super) overrides: Value,
    pub(super) network: Value,
    pub(super) tags: Vec<Value>,
    pub(super) platform: String,
    pub(super) has_exec: bool,
    pub(super) target: Option<(String, u16)>,
}

/// Writes down a new task; the caller lets it live when the state is free again.
pub(super) fn make(world: &World, state: &mut State, definition: &Definition, order: Order) -> String {
    let (id, arn) = life::new_id(world, &order.cluster);
    let task = Task {
        id: id.clone(),
        arn,
        cluster: order.cluster,
        definition: definition.arn.clone(),
        group: order.group,
        started_by: order.started_by,
        of: order.of,
        status: Status::Provisioning,
        created_ms: world.clock.now_ms(),
        times: BTreeMap::new(),
        stop: None,
        containers: life::containers(definition),
        overrides: order.overrides,
        network: order.network,
        tags: order.tags,
        platform: order.platform,
        has_exec: order.has_exec,
        ip: life::ip(),
        address: None,
        target: order.target,
        asked: watch::Sender::new(false),
        was_healthy: false,
        has_failed: false,
        used: None,
    };
    state.tasks.insert(id.clone(), task);
    forget(state);
    id
}

/// Drops the tasks that stopped longest ago when there are too many.
fn forget(state: &mut State) {
    let mut over: Vec<(u64, String)> = state
        .tasks
        .values()
        .filter(|t| t.is_over())
        .map(|t| (t.times.get("stoppedAt").copied().unwrap_or(0), t.id.clone()))
        .collect();
    over.sort();
    let surplus = over.len().saturating_sub(STOPPED_MAX);
    for (_, id) in over.into_iter().take(surplus) {
        state.tasks.remove(&id);
    }
}

/// A task's network, which Fargate needs.
pub(super) fn network_of(world: &World, input: &Value) -> Result<Value, Fault> {
    let network = input.get("networkConfiguration").filter(|n| !n.is_null());
    let network = network
        .ok_or_else(|| names::bad("Network Configuration must be provided when networkMode 'awsvpc' is specified."))?;
    let subnets = network.pointer("/awsvpcConfiguration/subnets").and_then(Value::as_array);
    let subnets = subnets.filter(|s| !s.is_empty()).ok_or_else(|| names::bad("subnets can not be empty."))?;
    for subnet in subnets.iter().filter_map(Value::as_str) {
        if world.network.subnet(subnet).is_none() {
            return Err(names::bad(format!(
                "Error retrieving subnet information for [{subnet}]: The subnet ID '{subnet}' does not exist (ErrorCode: \
                 InvalidSubnetID.NotFound)"
            )));
        }
    }
    let mut network = network.clone();
    let vpc = &mut network["awsvpcConfiguration"];
    if vpc.get("assignPublicIp").is_none_or(Value::is_null) {
        vpc["assignPublicIp"] = json!("DISABLED");
    }
    if vpc.get("securityGroups").is_none_or(Value::is_null) {
        vpc["securityGroups"] = json!([]);
    }
    Ok(network)
}

/// The platform version that `LATEST` means.
pub(super) fn platform_of(input: &Value) -> Result<String, Fault> {
    match text(input, "platformVersion").unwrap_or("LATEST") {
        "LATEST" => Ok("1.4.0".to_owned()),
        known @ ("1.4.0" | "1.3.0") => Ok(known.to_owned()),
        _ => Err(Fault::new("PlatformUnknownException", "The specified platform does not exist.")),
    }
}

pub(super) fn run(world: &Arc<World>, input: &Value) -> Answer {
    let cluster = names::cluster(input).to_owned();
    let network = network_of(world, input)?;
    let platform = platform_of(input)?;
    let count = number(input, "count").unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(names::bad("Tasks per request must be between 1 and 10."));
    }
    let mut ids = Vec::new();
    let answer = {
        let mut state = world.ecs.state();
        state.cluster(&cluster)?;
        let definition = state.active_definition(text(input, "taskDefinition").unwrap_or_default())?.clone();
        for given in members(input.get("overrides").unwrap_or(&Value::Null), "containerOverrides") {
            let name = text(given, "name").unwrap_or_default();
            if !definition.containers().iter().any(|c| text(c, "name") == Some(name)) {
                return Err(names::bad(format!(
                    "Override for container named {name} is not a container in the TaskDefinition."
                )));
            }
        }
        let token = text(input, "clientToken").map(|t| format!("run {cluster} {t}"));
        if let Some(made) = token.as_ref().and_then(|t| state.tokens.get(t)) {
            let views: Vec<Value> = made.iter().filter_map(|id| Some(state.tasks.get(id)?.view(&state))).collect();
            return Ok(json!({ "tasks": views, "failures": [] }));
        }
        if world.faults.has("no-capacity") {
            let reason =
                "Capacity is unavailable at this time. Please try again later or in a different availability zone";
            return Ok(json!({ "tasks": [], "failures": [{ "reason": reason }] }));
        }
        let family = text(&definition.body, "family").unwrap_or_default();
        let order = Order {
            cluster,
            group: text(input, "group").map_or_else(|| format!("family:{family}"), str::to_owned),
            started_by: text(input, "startedBy").map(str::to_owned),
            of: None,
            overrides: input.get("overrides").cloned().unwrap_or_else(|| json!({ "containerOverrides": [] })),
            network,
            tags: members(input, "tags").to_vec(),
            platform,
            has_exec: flag(input, "enableExecuteCommand").unwrap_or(false),
            target: None,
        };
        for _ in 0..count {
            ids.push(make(world, &mut state, &definition, order.clone()));
        }
        if let Some(token) = token {
            state.tokens.insert(token, ids.clone());
        }
        let views: Vec<Value> = ids.iter().filter_map(|id| Some(state.tasks.get(id)?.view(&state))).collect();
        json!({ "tasks": views, "failures": [] })
    };
    for id in ids {
        life::begin(world, id);
    }
    Ok(answer)
}

pub(super) fn stop(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    state.cluster(names::cluster(input))?;
    let id = names::last(text(input, "task").unwrap_or_default()).to_owned();
    let task = state.tasks.get_mut(&id);
    let task = task.ok_or_else(|| names::bad("The referenced task was not found."))?;
    if !task.is_over() {
        life::ask(task, "UserInitiated", text(input, "reason").unwrap_or("Task stopped by user"));
    }
    let view = state.tasks.get(&id).map(|t| t.view(&state));
    Ok(json!({ "task": view }))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let cluster = state.cluster(names::cluster(input))?.name.clone();
    let with_tags = members(input, "include").iter().any(|i| i == "TAGS");
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for reference in members(input, "tasks").iter().filter_map(Value::as_str) {
        match state.tasks.get(names::last(reference)).filter(|t| t.cluster == cluster) {
            Some(task) => {
                let mut view = task.view(&state);
                if let (false, Some(fields)) = (with_tags, view.as_object_mut()) {
                    fields.insert("tags".to_owned(), json!([]));
                }
                found.push(view);
            }
            None => {
                let arn = world.arn("ecs", &format!("task/{cluster}/{}", names::last(reference)));
                failures.push(json!({ "arn": arn, "reason": "MISSING" }));
            }
        }
    }
    Ok(json!({ "tasks": found, "failures": failures }))
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let cluster = state.cluster(names::cluster(input))?.name.clone();
    let wants_stopped = text(input, "desiredStatus") == Some("STOPPED");
    let service = text(input, "serviceName").map(|s| names::service_arn(world, &cluster, s));
    if service.as_ref().is_some_and(|arn| !state.services.contains_key(arn)) {
        return Err(names::no_service());
    }
    let mut tasks: Vec<&Task> = state
        .tasks
        .values()
        .filter(|t| t.cluster == cluster && t.is_wanted() != wants_stopped)
        .filter(|t| service.is_none() || t.of.as_ref().map(|(arn, _)| arn) == service.as_ref())
        .filter(|t| text(input, "startedBy").is_none_or(|by| t.started_by.as_deref() == Some(by)))
        .filter(|t| text(input, "family").is_none_or(|f| t.definition.contains(&format!("/{f}:"))))
        .collect();
    tasks.sort_by_key(|t| std::cmp::Reverse(t.created_ms));
    let arns: Vec<&str> = tasks.iter().map(|t| t.arn.as_str()).collect();
    let (page, next) = super::view::page(&arns, input, 100);
    Ok(super::view::paged("taskArns", json!(page), next))
}
