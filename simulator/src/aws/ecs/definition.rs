//! Task definitions: what may be registered, and which one a caller means. It decides what Fargate refuses at registration;
//! what can only be found out by running is not looked at.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{State, names};
use crate::aws::{Answer, Fault, World, flag, list as members, number, stamp, text};

/// A revision of a family.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) arn: String,
    /// As it is described.
    pub(super) body: Value,
    pub(super) tags: Vec<Value>,
    pub(super) status: &'static str,
    registered_ms: u64,
    deregistered_ms: Option<u64>,
}

impl Definition {
    pub(super) fn view(&self) -> Value {
        let mut view = self.body.clone();
        view["status"] = json!(self.status);
        view["registeredAt"] = stamp(self.registered_ms);
        if let Some(at) = self.deregistered_ms {
            view["deregisteredAt"] = stamp(at);
        }
        view
    }

    pub(super) fn containers(&self) -> &[Value] {
        members(&self.body, "containerDefinitions")
    }

    /// 1,024 units are one processor.
    pub(super) fn cpu_units(&self) -> u32 {
        number(&self.body, "cpu").and_then(|n| u32::try_from(n).ok()).unwrap_or(256)
    }
}

impl State {
    /// By family (its newest active one), `family:revision` or ARN.
    pub(super) fn definition(&self, reference: &str) -> Option<&Definition> {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        match name.split_once(':') {
            Some((family, revision)) => {
                let place = revision.parse::<usize>().ok()?.checked_sub(1)?;
                self.families.get(family)?.get(place).filter(|d| d.status != "DELETED")
            }
            None => self.families.get(name)?.iter().rev().find(|d| d.status == "ACTIVE"),
        }
    }

    /// One that a new task may be made of.
    pub(super) fn active_definition(&self, reference: &str) -> Result<&Definition, Fault> {
        let found = self.definition(reference).ok_or_else(|| names::client("TaskDefinition not found."))?;
        if found.status == "ACTIVE" { Ok(found) } else { Err(names::client("TaskDefinition is inactive")) }
    }
}

/// Memory in MiB that goes with so many processor units: smallest, largest, step.
fn memory_of(cpu: i64) -> Option<(i64, i64, i64)> {
    Some(match cpu {
        256 => (512, 2048, 512),
        512 => (1024, 4096, 1024),
        1024 => (2048, 8192, 1024),
        2048 => (4096, 16384, 1024),
        4096 => (8192, 30720, 1024),
        8192 => (16384, 61440, 4096),
        16384 => (32768, 122_880, 8192),
        _ => return None,
    })
}

fn size(input: &Value) -> Result<(), Fault> {
    let (Some(cpu), Some(memory)) = (number(input, "cpu"), number(input, "memory")) else {
        return Err(names::client("Fargate requires that 'cpu' be defined at the task level."));
    };
    let fits = memory_of(cpu).is_some_and(|(least, most, step)| {
        // The smallest size takes 512, 1024 and 2048, but nothing between.
        let odd = cpu == 256 && memory == 1536;
        (least..=most).contains(&memory) && (memory - least) % step == 0 && !odd
    });
    if fits {
        return Ok(());
    }
    Err(names::client(format!(
        "No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See the Amazon ECS documentation for the \
         valid values."
    )))
}

/// What is wrong with a definition, in ECS's words.
fn check(input: &Value) -> Result<(), Fault> {
    let family = text(input, "family").ok_or_else(|| names::client("Family should not be null or empty."))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if family.is_empty() || family.len() > 255 || !family.chars().all(plain) {
        return Err(names::client(format!("Family contains invalid characters: {family}")));
    }
    let containers = members(input, "containerDefinitions");
    if containers.is_empty() {
        return Err(names::client("Container list cannot be empty."));
    }
    let fargate = members(input, "requiresCompatibilities").iter().any(|c| c == "FARGATE");
    if fargate {
        if text(input, "networkMode") != Some("awsvpc") {
            return Err(names::client("Fargate only supports network mode \u{2018}awsvpc\u{2019}."));
        }
        size(input)?;
    }
    let mut seen = BTreeSet::new();
    for container in containers {
        let name = text(container, "name").filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| names::client("Container.name should not be null or empty."))?;
        if !seen.insert(name) {
            return Err(names::client(format!("Duplicate container name: {name}. Container names must be unique.")));
        }
        container_check(input, container, name, fargate)?;
    }
    if containers.iter().all(|c| flag(c, "essential") == Some(false)) {
        return Err(names::client("Task definition should have at least one essential container."));
    }
    volumes(input)
}

fn container_check(input: &Value, container: &Value, name: &str, fargate: bool) -> Result<(), Fault> {
    let image = text(container, "image").filter(|i| !i.is_empty());
    let image = image.ok_or_else(|| names::client("Container.image should not be null or empty."))?;
    let role = text(input, "executionRoleArn").is_some_and(|r| !r.is_empty());
    if fargate && !role && (image.contains(".dkr.ecr.") || image.starts_with("127.0.0.1:")) {
        return Err(names::client(
            "Fargate requires task definition to have execution role ARN to support ECR images.",
        ));
    }
    for port in members(container, "portMappings") {
        let inside = number(port, "containerPort").unwrap_or(0);
        if !(1..=65535).contains(&inside) {
            return Err(names::client(format!("Invalid container port specified: {inside}")));
        }
        if number(port, "hostPort").is_some_and(|h| h != 0 && h != inside) {
            let message = "When networkMode=awsvpc, the host ports and container ports in port mappings must match.";
            return Err(names::client(message));
        }
    }
    let volume_names: Vec<&str> = members(input, "volumes").iter().filter_map(|v| text(v, "name")).collect();
    for mount in members(container, "mountPoints") {
        let source = text(mount, "sourceVolume").unwrap_or_default();
        if !volume_names.contains(&source) {
            return Err(names::client(format!("Unknown volume '{source}'.")));
        }
    }
    let plain: BTreeSet<&str> = members(container, "environment").iter().filter_map(|e| text(e, "name")).collect();
    for secret in members(container, "secrets") {
        let secret_name = text(secret, "name").unwrap_or_default();
        if plain.contains(secret_name) {
            return Err(names::client(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on the \
                 container, such as '{secret_name}'."
            )));
        }
        if fargate && !role {
            let message =
                "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'.";
            return Err(names::client(message));
        }
    }
    if fargate && number(container, "stopTimeout").is_some_and(|s| !(0..=120).contains(&s)) {
        return Err(names::client("The stopTimeout for a container on Fargate must be between 0 and 120 seconds."));
    }
    logging(container, name, fargate, role)
}

fn logging(container: &Value, name: &str, fargate: bool, role: bool) -> Result<(), Fault> {
    let Some(log) = container.get("logConfiguration").filter(|l| !l.is_null()) else { return Ok(()) };
    let driver = text(log, "logDriver").unwrap_or_default();
    if fargate && !matches!(driver, "awslogs" | "splunk" | "awsfirelens") {
        return Err(names::client(format!(
            "Fargate does not support the log driver '{driver}' of container '{name}'."
        )));
    }
    if driver != "awslogs" {
        return Ok(());
    }
    if fargate && !role {
        let message = "Fargate requires task definition to have execution role ARN to support log driver awslogs.";
        return Err(names::client(message));
    }
    let options = log.get("options").cloned().unwrap_or_default();
    for option in ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"] {
        if text(&options, option).is_none_or(str::is_empty) {
            return Err(names::client(format!("Log driver awslogs requires options: {option}")));
        }
    }
    Ok(())
}

fn volumes(input: &Value) -> Result<(), Fault> {
    for volume in members(input, "volumes") {
        let Some(efs) = volume.get("efsVolumeConfiguration").filter(|e| !e.is_null()) else { continue };
        let id = text(efs, "fileSystemId").unwrap_or_default();
        if !id.starts_with("fs-") {
            return Err(names::client(format!("Invalid EFS file system id: '{id}'")));
        }
        let encrypted = text(efs, "transitEncryption") == Some("ENABLED");
        let authorization = efs.get("authorizationConfig").cloned().unwrap_or_default();
        let point = text(&authorization, "accessPointId");
        if !encrypted && (point.is_some() || text(&authorization, "iam") == Some("ENABLED")) {
            return Err(names::client(
                "EFS IAM authorization and access points require transit encryption to be enabled.",
            ));
        }
        if point.is_some() && text(efs, "rootDirectory").is_some_and(|r| !r.is_empty() && r != "/") {
            let message = "When an EFS access point is specified, the root directory must be omitted or set to '/'.";
            return Err(names::client(message));
        }
    }
    Ok(())
}

/// With what ECS adds by itself.
fn filled(world: &World, input: &Value, family: &str, revision: usize) -> Value {
    let mut body = input.clone();
    let Some(fields) = body.as_object_mut() else { return body };
    fields.remove("tags");
    fields.retain(|_, value| !value.is_null());
    for name in ["volumes", "placementConstraints"] {
        fields.entry(name).or_insert_with(|| json!([]));
    }
    fields.insert("taskDefinitionArn".to_owned(), json!(arn(world, family, revision)));
    fields.insert("revision".to_owned(), json!(revision));
    fields.insert("compatibilities".to_owned(), json!(["EC2", "FARGATE"]));
    fields.insert("requiresAttributes".to_owned(), json!([]));
    let account = &world.settings.account;
    fields.insert("registeredBy".to_owned(), json!(format!("arn:aws:iam::{account}:root")));
    for container in fields.get_mut("containerDefinitions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(fields) = container.as_object_mut() else { continue };
        fields.retain(|_, value| !value.is_null());
        fields.entry("cpu").or_insert(json!(0));
        fields.entry("essential").or_insert(json!(true));
        for name in ["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"] {
            fields.entry(name).or_insert_with(|| json!([]));
        }
        for port in fields.get_mut("portMappings").and_then(Value::as_array_mut).into_iter().flatten() {
            let inside = port["containerPort"].clone();
            if port.get("hostPort").is_none_or(|h| h.is_null() || *h == json!(0)) {
                port["hostPort"] = inside;
            }
            if port.get("protocol").is_none_or(Value::is_null) {
                port["protocol"] = json!("tcp");
            }
        }
    }
    body
}

fn arn(world: &World, family: &str, revision: usize) -> String {
    world.arn("ecs", &format!("task-definition/{family}:{revision}"))
}

pub(super) fn register(world: &Arc<World>, input: &Value) -> Answer {
    check(input)?;
    let family = text(input, "family").unwrap_or_default().to_owned();
    let mut state = world.ecs.state();
    let revisions = state.families.entry(family.clone()).or_default();
    let revision = revisions.len() + 1;
    let made = Definition {
        arn: arn(world, &family, revision),
        body: filled(world, input, &family, revision),
        tags: members(input, "tags").to_vec(),
        status: "ACTIVE",
        registered_ms: world.clock.now_ms(),
        deregistered_ms: None,
    };
    let answer = json!({ "taskDefinition": made.view(), "tags": made.tags });
    revisions.push(made);
    Ok(answer)
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let reference = text(input, "taskDefinition").unwrap_or_default();
    let found = state.definition(reference).ok_or_else(|| names::client("Unable to describe task definition."))?;
    let mut answer = json!({ "taskDefinition": found.view() });
    if members(input, "include").iter().any(|i| i == "TAGS") {
        answer["tags"] = json!(found.tags);
    }
    Ok(answer)
}

pub(super) fn deregister(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let reference = text(input, "taskDefinition").unwrap_or_default();
    if !names::last(reference).contains(':') {
        return Err(names::client("Revision is missing."));
    }
    let arn = state.definition(reference).map(|d| d.arn.clone());
    let found = arn.and_then(|arn| state.families.values_mut().flatten().find(|d| d.arn == arn));
    let found = found.ok_or_else(|| names::client("The specified task definition does not exist."))?;
    found.status = "INACTIVE";
    found.deregistered_ms = Some(world.clock.now_ms());
    Ok(json!({ "taskDefinition": found.view() }))
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    for reference in members(input, "taskDefinitions").iter().filter_map(Value::as_str) {
        let arn = state.definition(reference).map(|d| d.arn.clone());
        match arn.and_then(|arn| state.families.values_mut().flatten().find(|d| d.arn == arn)) {
            Some(found) if found.status == "INACTIVE" => {
                found.status = "DELETED";
                let mut view = found.view();
                view["status"] = json!("DELETE_IN_PROGRESS");
                gone.push(view);
            }
            Some(found) => failures.push(json!({
                "arn": found.arn, "reason": "The specified task definition is still in ACTIVE status. Please deregister the \
                target and try again.",
            })),
            None => failures.push(json!({ "arn": reference, "reason": "The specified task definition was not found." })),
        }
    }
    Ok(json!({ "taskDefinitions": gone, "failures": failures }))
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let status = text(input, "status").unwrap_or("ACTIVE");
    let prefix = text(input, "familyPrefix");
    let mut arns: Vec<&str> = state
        .families
        .iter()
        .filter(|(family, _)| prefix.is_none_or(|p| p == family.as_str()))
        .flat_map(|(_, revisions)| revisions)
        .filter(|d| d.status == status)
        .map(|d| d.arn.as_str())
        .collect();
    if text(input, "sort") == Some("DESC") {
        arns.reverse();
    }
    let (page, next) = super::view::page(&arns, input, 100);
    Ok(super::view::paged("taskDefinitionArns", json!(page), next))
}

pub(super) fn list_families(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let prefix = text(input, "familyPrefix").unwrap_or_default();
    let families: Vec<&String> = state
        .families
        .iter()
        .filter(|(family, all)| family.starts_with(prefix) && all.iter().any(|d| d.status == "ACTIVE"))
        .map(|(family, _)| family)
        .collect();
    let (page, next) = super::view::page(&families, input, 100);
    Ok(super::view::paged("families", json!(page), next))
}
