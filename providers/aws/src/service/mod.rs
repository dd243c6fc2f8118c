//! The service itself: its task definitions, the ECS service, what moves its traffic and what scales it. It carries out one
//! step and reads what is live; following a release is `rollout`'s.

pub(crate) mod apply;
mod by_ecs;
pub(crate) mod create;
pub(crate) mod deployment;
pub(crate) mod document;
pub(crate) mod group;
mod job;
pub(crate) mod live;
pub(crate) mod observe;
mod obstacles;
pub(crate) mod remove;
pub(crate) mod rules;
pub(crate) mod scaling;
pub(crate) mod task_definition;
pub(crate) mod tasks;
pub(crate) mod update;

pub(crate) use apply::apply;
pub(crate) use document::log_group;
pub(crate) use job::{Job, Way};
pub(crate) use observe::observe;
pub(crate) use obstacles::obstacles;
