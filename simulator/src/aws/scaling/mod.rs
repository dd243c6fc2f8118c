//! Application Auto Scaling for ECS services: scalable targets and policies that really change how many tasks run, once a
//! simulated minute. Other services than ECS are not known to it.

mod fleet;
mod policy;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{Answer, Call, Fault, World, flag, list, number, stamp, text};
use fleet::Fleet;
use policy::Policy;

const DIMENSION: &str = "ecs:service:DesiredCount";
/// Activities that are remembered.
const ACTIVITIES: usize = 200;

/// Every kind of resource of this service that a stack can hold: none, since a target needs a service that runs.
pub(crate) static KINDS: &[&dyn crate::aws::cloudformation::kinds::Kind] = &[];

/// Application Auto Scaling with all that it knows.
#[derive(Debug, Default)]
pub(crate) struct Scaling {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By resource id: `service/CLUSTER/NAME`.
    targets: BTreeMap<String, Target>,
    /// The newest first.
    activities: VecDeque<Value>,
    /// Somebody looks at the targets once a minute.
    is_looked_after: bool,
}

#[derive(Debug, Clone)]
struct Target {
    arn: String,
    min: u32,
    max: u32,
    role: String,
    created_ms: u64,
    /// What is suspended: scaling in, scaling out, scheduled scaling.
    suspended: [bool; 3],
    tags: serde_json::Map<String, Value>,
    policies: BTreeMap<String, Policy>,
}

const SUSPENDED: [&str; 3] = ["DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"];

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    answer(world, call)
}

fn answer<F: Fleet>(fleet: &Arc<F>, call: &Call) -> Answer {
    let input = &call.input;
    let with = |act: &dyn Fn(&mut Inner) -> Answer| fleet.own().with(act);
    match call.operation.as_str() {
        "RegisterScalableTarget" => register(fleet, input),
        "PutScalingPolicy" => put_policy(fleet, input),
        "DeregisterScalableTarget" => {
            let id = resource(input)?;
            with(&|inner| inner.targets.remove(id).map(|_| json!({})).ok_or_else(|| no_target(id)))
        }
        "DescribeScalableTargets" => with(&|inner| {
            let wanted = list(input, "ResourceIds");
            let fits = |id: &str| wanted.is_empty() || wanted.iter().any(|w| w.as_str() == Some(id));
            let found = inner.targets.iter().filter(|(id, _)| fits(id)).map(|(id, target)| target.view(id));
            Ok(json!({ "ScalableTargets": found.collect::<Vec<_>>() }))
        }),
        "DescribeScalingPolicies" => with(&|inner| {
            let (wanted, names) = (text(input, "ResourceId"), list(input, "PolicyNames"));
            let fits = |id: &str| wanted.is_none_or(|wanted| wanted == id);
            let named = |name: &str| names.is_empty() || names.iter().any(|n| n.as_str() == Some(name));
            let of = |(id, target): (&String, &Target)| -> Vec<Value> {
                target
                    .policies
                    .iter()
                    .filter(|(name, _)| named(name))
                    .map(|(name, policy)| policy.view(id, name))
                    .collect()
            };
            let found = inner.targets.iter().filter(|(id, _)| fits(id)).flat_map(of);
            Ok(json!({ "ScalingPolicies": found.collect::<Vec<_>>() }))
        }),
        "DeleteScalingPolicy" => {
            let (id, name) = (resource(input)?, text(input, "PolicyName").unwrap_or_default());
            with(&|inner| {
                let target = inner.targets.get_mut(id).ok_or_else(|| no_target(id))?;
                let missing =
                    || Fault::new("ObjectNotFoundException", format!("No scaling policy found for name: {name}"));
                target.policies.remove(name).map(|_| json!({})).ok_or_else(missing)
            })
        }
        "DescribeScalingActivities" => with(&|inner| {
            let fits = |a: &&Value| text(input, "ResourceId").is_none_or(|id| a["ResourceId"] == id);
            Ok(json!({ "ScalingActivities": inner.activities.iter().filter(fits).collect::<Vec<_>>() }))
        }),
        "ListTagsForResource" => with(&|inner| {
            let arn = text(input, "ResourceARN").unwrap_or_default();
            let found = inner.targets.values().find(|t| t.arn == arn);
            let missing = || Fault::new("ResourceNotFoundException", format!("The resource doesn't exist: {arn}"));
            Ok(json!({ "Tags": found.ok_or_else(missing)?.tags }))
        }),
        other => Err(Fault::unknown("application-autoscaling", other)),
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("ValidationException", message)
}

/// The resource that is meant, which can only be an ECS service.
fn resource(input: &Value) -> Result<&str, Fault> {
    if text(input, "ServiceNamespace") != Some("ecs") {
        return Err(invalid("the simulator knows the service namespace ecs only"));
    }
    if text(input, "ScalableDimension").is_some_and(|d| d != DIMENSION) {
        return Err(invalid(format!(
            "Unsupported service namespace, resource type or scalable dimension; ECS has {DIMENSION}"
        )));
    }
    let id = text(input, "ResourceId").unwrap_or_default();
    match id.split('/').collect::<Vec<_>>().as_slice() {
        ["service", cluster, service] if !cluster.is_empty() && !service.is_empty() => Ok(id),
        _ => Err(invalid(format!("Invalid resource ID {id}: it must be service/CLUSTER/NAME"))),
    }
}

fn no_target(id: &str) -> Fault {
    let message = format!(
        "No scalable target found for service namespace: ecs, resource ID: {id}, scalable dimension: {DIMENSION}"
    );
    Fault::new("ObjectNotFoundException", message)
}

fn register<F: Fleet>(fleet: &Arc<F>, input: &Value) -> Answer {
    let id = resource(input)?;
    if fleet.desired(id).is_none() {
        return Err(invalid(format!("ECS service doesn't exist: {id}")));
    }
    let now = fleet.clock().now_ms();
    let arn = fleet.arn(&format!("scalable-target/{}", uuid::Uuid::new_v4()));
    let arn = fleet.own().with(|inner| {
        let there = inner.targets.get(id);
        let capacity = |member: &str, before: Option<u32>| match number(input, member) {
            Some(n) => u32::try_from(n).map_err(|_| invalid(format!("{member} must not be negative"))),
            None => before.ok_or_else(|| invalid(format!("{member} is required for a new scalable target"))),
        };
        let (min, max) = (capacity("MinCapacity", there.map(|t| t.min))?, capacity("MaxCapacity", there.map(|t| t.max))?);
        if min > max {
            return Err(invalid("Maximum capacity cannot be less than minimum capacity"));
        }
        let role = "role/aws-service-role/ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService";
        let mut target = there.cloned().unwrap_or_else(|| Target {
            arn: arn.clone(),
            min,
            max,
            role: format!("arn:aws:iam::{}:{role}", fleet.account()),
            created_ms: now,
            suspended: [false; 3],
            tags: serde_json::Map::new(),
            policies: BTreeMap::new(),
        });
        (target.min, target.max) = (min, max);
        if let Some(suspended) = input.get("SuspendedState") {
            for (is, member) in target.suspended.iter_mut().zip(SUSPENDED) {
                *is = flag(suspended, member).unwrap_or(*is);
            }
        }
        for (name, value) in input.get("Tags").and_then(Value::as_object).into_iter().flatten() {
            target.tags.insert(name.clone(), value.clone());
        }
        let arn = target.arn.clone();
        inner.targets.insert(id.to_owned(), target);
        Ok(arn)
    })?;
    turn::look_after(fleet);
    Ok(json!({ "ScalableTargetARN": arn }))
}

fn put_policy<F: Fleet>(fleet: &Arc<F>, input: &Value) -> Answer {
    let id = resource(input)?;
    let name = text(input, "PolicyName").filter(|n| !n.is_empty()).ok_or_else(|| invalid("PolicyName is required"))?;
    let arn = fleet.arn(&format!("scalingPolicy:{}:resource/ecs/{id}:policyName/{name}", uuid::Uuid::new_v4()));
    let now = fleet.clock().now_ms();
    let arn = fleet.own().with(|inner| {
        let target = inner.targets.get_mut(id).ok_or_else(|| no_target(id))?;
        let arn = target.policies.get(name).map_or(arn, |policy| policy.arn.clone());
        target.policies.insert(name.to_owned(), Policy::read(input, arn.clone(), now)?);
        Ok(arn)
    })?;
    Ok(json!({ "PolicyARN": arn, "Alarms": [] }))
}

impl Scaling {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn note(&mut self, id: &str, desired: u32, cause: &str, now_ms: u64) {
        self.activities.truncate(ACTIVITIES - 1);
        self.activities.push_front(json!({
            "ActivityId": uuid::Uuid::new_v4().to_string(), "ServiceNamespace": "ecs", "ResourceId": id,
            "ScalableDimension": DIMENSION, "Description": format!("Setting desired count to {desired}."), "Cause": cause,
            "StartTime": stamp(now_ms), "EndTime": stamp(now_ms), "StatusCode": "Successful",
            "StatusMessage": format!("Successfully set desired count to {desired}. Change successfully fulfilled by ecs.")
        }));
    }
}

impl Target {
    fn view(&self, id: &str) -> Value {
        let suspended: serde_json::Map<String, Value> =
            SUSPENDED.into_iter().zip(self.suspended).map(|(name, is)| (name.to_owned(), json!(is))).collect();
        json!({
            "ServiceNamespace": "ecs", "ResourceId": id, "ScalableDimension": DIMENSION, "ScalableTargetARN": self.arn,
            "MinCapacity": self.min, "MaxCapacity": self.max, "RoleARN": self.role, "CreationTime": stamp(self.created_ms),
            "SuspendedState": suspended
        })
    }
}
