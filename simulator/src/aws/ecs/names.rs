//! Names, ARNs and refusals as ECS spells them. It decides how something is found by what a caller wrote.

use serde_json::Value;

use crate::aws::{Fault, World, text};

pub(super) fn bad(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

pub(super) fn client(message: impl Into<String>) -> Fault {
    Fault::new("ClientException", message)
}

pub(super) fn no_cluster() -> Fault {
    Fault::new("ClusterNotFoundException", "Cluster not found.")
}

pub(super) fn no_service() -> Fault {
    Fault::new("ServiceNotFoundException", "Service not found.")
}

/// The last part of an ARN, or the name as it is.
pub(super) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The cluster that a caller means: `default` where nothing is said.
pub(super) fn cluster(input: &Value) -> &str {
    text(input, "cluster").map_or("default", last)
}

/// An id as ECS makes them: 32 hexadecimal digits.
pub(super) fn id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// A number as deployments have them.
pub(super) fn number() -> String {
    format!("{:019}", fastrand::u64(1_000_000_000_000_000_000..9_000_000_000_000_000_000))
}

pub(super) fn service_arn(world: &World, cluster: &str, service: &str) -> String {
    world.arn("ecs", &format!("service/{cluster}/{}", last(service)))
}

/// Tags as ECS spells them, from a list or from CloudFormation's map and list.
pub(super) fn merged_tags(first: &[Value], second: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = second.to_vec();
    let key = |tag: &Value| text(tag, "key").unwrap_or_default().to_owned();
    all.extend(first.iter().filter(|tag| !second.iter().any(|other| key(other) == key(tag))).cloned());
    all.sort_by_key(key);
    all
}
