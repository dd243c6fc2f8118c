//! What can be read of stacks.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    named, request,
    stack::{Held, Stack},
    template::{Template, invalid},
};
use crate::aws::{Answer, Fault, World, list, stamp, text};

/// So many events or resources are on a page.
const PAGE: usize = 100;

/// `DescribeStacks`.
pub(crate) fn stacks(world: &Arc<World>, input: &Value) -> Answer {
    world.cloudformation.with(|state| match text(input, "StackName").filter(|name| !name.is_empty()) {
        Some(name) => Ok(json!({ "Stacks": [state.need(name)?.described()] })),
        None => {
            let there = state.stacks.iter().filter(|stack| stack.deleted_ms.is_none());
            Ok(json!({ "Stacks": there.map(Stack::described).collect::<Vec<_>>() }))
        }
    })
}

/// `DescribeStackEvents`, the newest first.
pub(crate) fn events(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        let (page, next) = paged(stack.events.iter().rev(), input);
        let events: Vec<Value> = page
            .into_iter()
            .map(|event| {
                json!({
                    "StackId": stack.id, "EventId": event.id, "StackName": stack.name,
                    "LogicalResourceId": event.logical_id, "PhysicalResourceId": event.physical_id,
                    "ResourceType": event.kind, "Timestamp": stamp(event.at_ms), "ResourceStatus": event.status,
                    "ResourceStatusReason": event.reason, "ResourceProperties": event.properties,
                    "ClientRequestToken": event.token,
                })
            })
            .collect();
        Ok(json!({ "StackEvents": events, "NextToken": next }))
    })
}

/// `DescribeStackResources`.
pub(crate) fn resources(world: &Arc<World>, input: &Value) -> Answer {
    let only = text(input, "LogicalResourceId");
    let physical = text(input, "PhysicalResourceId");
    world.cloudformation.with(|state| {
        let stack = match (text(input, "StackName").filter(|name| !name.is_empty()), physical) {
            (Some(name), _) => state.need(name)?,
            (None, Some(id)) => {
                let mut holders = state.stacks.iter_mut();
                let held = |stack: &Stack| stack.resources.values().any(|held| held.physical_id.as_deref() == Some(id));
                let found = holders.find(|stack| held(stack));
                found.ok_or_else(|| invalid(format!("Stack for {id} does not exist")))?
            }
            (None, None) => return Err(invalid("Either StackName or PhysicalResourceId must be specified".to_owned())),
        };
        let wanted = stack.resources.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let all = wanted.map(|(name, held)| {
            let mut one = told(name, held, "Timestamp");
            one["StackName"] = json!(stack.name);
            one["StackId"] = json!(stack.id);
            one
        });
        Ok(json!({ "StackResources": all.collect::<Vec<_>>() }))
    })
}

/// `DescribeStackResource`.
pub(crate) fn resource(world: &Arc<World>, input: &Value) -> Answer {
    let (name, logical) = (named(input)?, text(input, "LogicalResourceId").unwrap_or_default());
    world.cloudformation.with(|state| {
        let stack = state.need(name)?;
        let held = stack.resources.get(logical);
        let held = held.ok_or_else(|| invalid(format!("Resource {logical} does not exist for stack {name}")))?;
        let mut one = told(logical, held, "LastUpdatedTimestamp");
        one["StackName"] = json!(stack.name);
        one["StackId"] = json!(stack.id);
        one["Metadata"] = if held.metadata.is_null() { Value::Null } else { json!(held.metadata.to_string()) };
        Ok(json!({ "StackResourceDetail": one }))
    })
}

/// `ListStackResources`.
pub(crate) fn list_resources(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    world.cloudformation.with(|state| {
        let stack = state.need(name)?;
        let (page, next) = paged(stack.resources.iter(), input);
        let all: Vec<Value> = page.into_iter().map(|(name, held)| told(name, held, "LastUpdatedTimestamp")).collect();
        Ok(json!({ "StackResourceSummaries": all, "NextToken": next }))
    })
}

/// `ListStacks`.
pub(crate) fn list_stacks(world: &Arc<World>, input: &Value) -> Value {
    let wanted: Vec<&str> = list(input, "StackStatusFilter").iter().filter_map(Value::as_str).collect();
    world.cloudformation.with(|state| {
        let all = state.stacks.iter().filter(|stack| wanted.is_empty() || wanted.contains(&stack.status));
        let all = all.map(|stack| {
            let drift = stack.drift.map_or("NOT_CHECKED", |(drift, _)| drift);
            json!({
                "StackId": stack.id, "StackName": stack.name, "StackStatus": stack.status, "StackStatusReason": stack.reason,
                "CreationTime": stamp(stack.created_ms), "LastUpdatedTime": stack.updated_ms.map(stamp),
                "DeletionTime": stack.deleted_ms.map(stamp), "DriftInformation": { "StackDriftStatus": drift },
            })
        });
        json!({ "StackSummaries": all.collect::<Vec<_>>() })
    })
}

/// `ListExports`.
pub(crate) fn exports(world: &Arc<World>) -> Value {
    world.cloudformation.with(|state| {
        let all = state.stacks.iter().flat_map(|stack| {
            let named = stack.outputs.iter().filter_map(|output| Some((output.export.as_ref()?, &output.value)));
            named.map(|(name, value)| json!({ "ExportingStackId": stack.id, "Name": name, "Value": value }))
        });
        json!({ "Exports": all.collect::<Vec<_>>() })
    })
}

/// `GetTemplate`: the very text that was sent.
pub(crate) fn template(world: &Arc<World>, input: &Value) -> Answer {
    let change_set = text(input, "ChangeSetName").filter(|name| !name.is_empty());
    world.cloudformation.with(|state| {
        let stack = match (text(input, "StackName").filter(|name| !name.is_empty()), change_set) {
            (Some(name), _) => state.need(name)?,
            (None, Some(id)) => {
                let mut all = state.stacks.iter_mut();
                let found = all.find(|stack| stack.change_sets.iter().any(|one| one.id == id));
                found.ok_or_else(|| invalid("the change set does not exist".to_owned()))?
            }
            (None, None) => return Err(invalid("StackName must be specified".to_owned())),
        };
        let body = match change_set {
            Some(name) => {
                let found = stack.change_sets.iter().find(|one| one.id == name || one.name == name);
                let missing =
                    || Fault::new("ChangeSetNotFound", format!("ChangeSet [{name}] does not exist")).with_status(404);
                found.map(|one| one.template.body.clone()).ok_or_else(missing)?
            }
            None => stack.template.as_ref().map(|template| template.body.clone()).unwrap_or_default(),
        };
        Ok(json!({ "TemplateBody": body, "StagesAvailable": ["Original", "Processed"] }))
    })
}

/// `ValidateTemplate`.
pub(crate) fn validate(world: &Arc<World>, input: &Value) -> Answer {
    let template = request::template(world, input, None)?;
    let mut answer = declared(&template);
    if let Some(map) = answer.as_object_mut() {
        map.remove("ResourceTypes");
    }
    Ok(answer)
}

/// `GetTemplateSummary`.
pub(crate) fn summary(world: &Arc<World>, input: &Value) -> Answer {
    match text(input, "StackName").filter(|name| !name.is_empty()) {
        None => Ok(declared(&request::template(world, input, None)?)),
        Some(name) => world.cloudformation.with(|state| {
            let stack = state.need(name)?;
            Ok(stack.template.as_ref().map(declared).unwrap_or_default())
        }),
    }
}

/// `GetStackPolicy` and `SetStackPolicy`: there is none, and none is held to.
pub(crate) fn policy(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    world.cloudformation.with(|state| state.need(name).map(|_| json!({})))
}

fn declared(template: &Template) -> Value {
    let empty = serde_json::Map::new();
    let all = template.section("Parameters").as_object().unwrap_or(&empty);
    let all = all.iter().map(|(name, one)| {
        json!({
            "ParameterKey": name, "DefaultValue": one.get("Default"), "NoEcho": one.get("NoEcho").is_some(),
            "Description": one.get("Description"),
        })
    });
    let kinds: std::collections::BTreeSet<&str> = template.resources.values().map(|one| one.kind.as_str()).collect();
    let needed: Vec<&str> = template.capability().into_iter().collect();
    json!({
        "Parameters": all.collect::<Vec<_>>(),
        "Description": template.section("Description").as_str(),
        "Capabilities": needed,
        "CapabilitiesReason": needed.first().map(|_| "The following resource(s) require capabilities: [AWS::IAM::Role]"),
        "ResourceTypes": kinds,
    })
}

fn told(name: &str, held: &Held, time: &str) -> Value {
    let mut one = json!({
        "LogicalResourceId": name,
        "PhysicalResourceId": held.physical_id,
        "ResourceType": held.kind,
        "ResourceStatus": held.status,
        "ResourceStatusReason": held.reason,
        "DriftInformation": { "StackResourceDriftStatus": held.drift.unwrap_or("NOT_CHECKED") },
    });
    one[time] = stamp(held.updated_ms);
    one
}

/// One page, and the token of the next.
fn paged<T>(all: impl Iterator<Item = T>, input: &Value) -> (Vec<T>, Option<String>) {
    let from: usize = text(input, "NextToken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let mut page: Vec<T> = all.skip(from).take(PAGE + 1).collect();
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    (page, more.then(|| (from + PAGE).to_string()))
}
