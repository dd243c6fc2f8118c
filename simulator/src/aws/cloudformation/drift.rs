//! Drift: what somebody changed by hand, found by comparing what a stack asked for with what the services have. Only properties
//! that the template has, and that the service can tell, are compared.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    intrinsics::plain,
    named,
    stack::Held,
    template::{invalid, kind},
};
use crate::aws::{Answer, World, list, stamp, text};

/// How long a detection takes, in simulated time.
const TAKES_MS: u64 = 4_000;

/// So many detections are remembered.
const DETECTIONS_MAX: usize = 500;

/// A detection under way or done.
#[derive(Debug, Clone)]
pub(crate) struct Detection {
    stack_id: String,
    begun_ms: u64,
    /// How many resources drifted, once it is done.
    drifted: Option<usize>,
}

/// `DetectStackDrift`.
pub(crate) fn detect(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let id = uuid::Uuid::new_v4().to_string();
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        if stack.busy() || stack.template.is_none() {
            return Err(invalid(format!("Drift detection cannot be performed on stack in {} state", stack.status)));
        }
        let detection = Detection { stack_id: stack.id.clone(), begun_ms: world.clock.now_ms(), drifted: None };
        if state.detections.len() >= DETECTIONS_MAX {
            state.detections.pop_first();
        }
        state.detections.insert(id.clone(), detection);
        Ok(())
    })?;
    let (world, detection) = (Arc::clone(world), id.clone());
    tokio::spawn(async move {
        world.clock.sleep_ms(TAKES_MS).await;
        compare(&world, &detection);
    });
    Ok(json!({ "StackDriftDetectionId": id }))
}

/// `DescribeStackDriftDetectionStatus`.
pub(crate) fn status(world: &Arc<World>, input: &Value) -> Answer {
    let id = text(input, "StackDriftDetectionId").unwrap_or_default();
    world.cloudformation.with(|state| {
        let found = state.detections.get(id).cloned();
        let found = found.ok_or_else(|| invalid(format!("Drift detection {id} does not exist")))?;
        let drift = state.find(&found.stack_id).and_then(|stack| stack.drift).map(|(drift, _)| drift);
        Ok(json!({
            "StackId": found.stack_id,
            "StackDriftDetectionId": id,
            "StackDriftStatus": found.drifted.and(drift),
            "DetectionStatus": if found.drifted.is_some() { "DETECTION_COMPLETE" } else { "DETECTION_IN_PROGRESS" },
            "DriftedStackResourceCount": found.drifted,
            "Timestamp": stamp(found.begun_ms),
        }))
    })
}

/// `DescribeStackResourceDrifts`.
pub(crate) fn resources(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let wanted: Vec<&str> = list(input, "StackResourceDriftStatusFilters").iter().filter_map(Value::as_str).collect();
    let found = world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        let checked = stack.resources.iter().filter(|(_, held)| held.drift.is_some());
        let all: Vec<(String, Held)> = checked.map(|(name, held)| (name.clone(), held.clone())).collect();
        Ok((stack.id.clone(), stack.drift.map_or(0, |(_, at)| at), all))
    });
    let (stack_id, at, all) = found?;
    let told = all.into_iter().filter_map(|(name, held)| {
        let (drift, differences, actual) = drifted(world, &held);
        (wanted.is_empty() || wanted.contains(&drift)).then(|| {
            json!({
                "StackId": stack_id, "LogicalResourceId": name, "PhysicalResourceId": held.physical_id,
                "ResourceType": held.kind, "ExpectedProperties": held.properties.to_string(),
                "ActualProperties": actual.map(|actual| actual.to_string()), "PropertyDifferences": differences,
                "StackResourceDriftStatus": drift, "Timestamp": stamp(at),
            })
        })
    });
    Ok(json!({ "StackResourceDrifts": told.collect::<Vec<_>>() }))
}

fn compare(world: &Arc<World>, detection: &str) {
    let Some(stack_id) = world.cloudformation.with(|state| Some(state.detections.get(detection)?.stack_id.clone()))
    else {
        return;
    };
    let all = world.cloudformation.stack(&stack_id, |stack| stack.resources.clone()).unwrap_or_default();
    // Services are asked outside the lock: they may ask CloudFormation.
    let found: Vec<(String, &'static str)> =
        all.iter().map(|(name, held)| (name.clone(), drifted(world, held).0)).collect();
    let count = found.iter().filter(|(_, drift)| matches!(*drift, "MODIFIED" | "DELETED")).count();
    world.cloudformation.with(|state| {
        if let Some(stack) = state.find(&stack_id) {
            for (name, drift) in &found {
                if let Some(held) = stack.resources.get_mut(name) {
                    held.drift = Some(drift);
                }
            }
            stack.drift = Some((if count == 0 { "IN_SYNC" } else { "DRIFTED" }, world.clock.now_ms()));
        }
        if let Some(one) = state.detections.get_mut(detection) {
            one.drifted = Some(count);
        }
    });
}

/// How a resource is compared with what was asked, and its properties as they are.
fn drifted(world: &Arc<World>, held: &Held) -> (&'static str, Vec<Value>, Option<Value>) {
    let (Some(kind), Some(physical_id)) = (kind(&held.kind), &held.physical_id) else {
        return ("NOT_CHECKED", Vec::new(), None);
    };
    let Some((actual, _)) = kind.read(world, physical_id) else { return ("DELETED", Vec::new(), None) };
    let mut differences = Vec::new();
    if let Some(expected) = held.properties.as_object() {
        for (name, expected) in expected {
            if let Some(actual) = actual.get(name) {
                differ(&format!("/{name}"), expected, actual, &mut differences);
            }
        }
    }
    (if differences.is_empty() { "IN_SYNC" } else { "MODIFIED" }, differences, Some(actual))
}

/// Where two values differ. What only the service has is its default, not drift.
fn differ(path: &str, expected: &Value, actual: &Value, found: &mut Vec<Value>) {
    let difference = |path: &str, expected: &Value, actual: Option<&Value>, kind: &str| {
        json!({
            "PropertyPath": path, "ExpectedValue": plain(expected),
            "ActualValue": actual.map_or_else(|| "null".to_owned(), plain), "DifferenceType": kind,
        })
    };
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(there)) => {
            for (name, value) in wanted {
                let path = format!("{path}/{name}");
                match there.get(name) {
                    Some(actual) => differ(&path, value, actual, found),
                    None => found.push(difference(&path, value, None, "REMOVE")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(there)) => {
            // Order means nothing in most of AWS's lists.
            let missing = wanted.iter().filter(|one| !there.iter().any(|other| alike(one, other)));
            let stray = there.iter().filter(|one| !wanted.iter().any(|other| alike(other, one)));
            // Tags that the stack itself gives are no drift.
            let stray = stray.filter(|one| !path.ends_with("/Tags") || one.get("Key").is_none());
            if missing.count() + stray.count() > 0 {
                found.push(difference(path, expected, Some(actual), "NOT_EQUAL"));
            }
        }
        _ if plain(expected) == plain(actual) => {}
        // A service may have 1.0 where 1 was asked.
        _ if matches!((plain(expected).parse::<f64>(), plain(actual).parse::<f64>()), (Ok(a), Ok(b)) if a == b) => {}
        _ => found.push(difference(path, expected, Some(actual), "NOT_EQUAL")),
    }
}

fn alike(expected: &Value, actual: &Value) -> bool {
    let mut found = Vec::new();
    differ("", expected, actual, &mut found);
    found.is_empty()
}
