//! What ECS asks of the other services, in one place. It decides nothing: it only knows how they are asked.
//! None of these may be called while ECS's own state is locked.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::aws::{Fault, World, ecr::Ecr, elb::Elb, logs::Logs};

pub(super) fn register(world: &Arc<World>, group: &str, id: &str, address: SocketAddr) -> Result<(), Fault> {
    Elb::register(world, group, id, address)
}

pub(super) fn deregister(world: &Arc<World>, group: &str, id: &str) {
    // One that is not there any more is gone already.
    let _ = Elb::deregister(world, group, id);
}

/// Every target of a group and how it is.
pub(super) fn health(world: &Arc<World>, group: &str) -> Vec<(String, String)> {
    Elb::health(world, group)
}

pub(super) fn is_balanced(world: &Arc<World>, group: &str) -> bool {
    Elb::has_load_balancer(world, group)
}

/// How a rule's or listener's traffic is spread.
pub(super) fn forward(world: &Arc<World>, rule: &str) -> Option<Vec<(String, u32)>> {
    Elb::forward(world, rule)
}

pub(super) fn set_forward(world: &Arc<World>, rule: &str, weights: Vec<(String, u32)>) -> Result<(), Fault> {
    Elb::set_forward(world, rule, weights)
}

pub(super) fn layout(world: &Arc<World>, image: &str) -> Result<(PathBuf, String), String> {
    Ecr::layout(world, image)
}

pub(super) fn log(world: &Arc<World>, group: &str, stream: &str, unix_ms: u64, line: &str) {
    // A group that is deleted while a task runs loses its lines, as in AWS.
    let _ = Logs::append(world, group, stream, unix_ms, line);
}

pub(super) fn has_log_group(world: &Arc<World>, group: &str) -> bool {
    world.logs.group_exists(group)
}

pub(super) fn alarm_state(world: &Arc<World>, name: &str) -> Option<String> {
    world.cloudwatch.alarm_state(name)
}

pub(super) fn has_role(world: &Arc<World>, arn: &str) -> bool {
    world.iam.role(arn).is_some()
}

pub(super) fn allows(world: &Arc<World>, role: &str, action: &str, resource: &str) -> bool {
    world.iam.allows(role, action, resource)
}

pub(super) fn secret(world: &Arc<World>, id: &str) -> Option<String> {
    world.secrets.value(id)
}

pub(super) fn secret_arn(world: &Arc<World>, id: &str) -> Option<String> {
    world.secrets.arn(id)
}

pub(super) fn parameter(world: &Arc<World>, name: &str) -> Option<String> {
    world.ssm.value(name)
}
