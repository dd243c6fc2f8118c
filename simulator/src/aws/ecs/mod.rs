//! ECS: clusters, task definitions, tasks and services of Fargate. It decides which tasks run when, in which order, and what is
//! told of them; what a task does is the real program's own.
//!
//! Tasks are processes of this machine. They all share its loopback address, so a container is told another port than its own:
//! every variable whose value is a container port, alone or after `localhost:`, `127.0.0.1:`, `0.0.0.0:` or `:`, is given the port
//! that was chosen for this task. A container to which no variable tells its port listens on its own, and only one copy of it can
//! run. Volumes are folders: values that begin with a mount's path are given the folder's instead.
//!
//! Faults: `no-capacity` (no task can be placed), `image-pull-fails`, `task-dies-after-ready` (tasks of every release of a service
//! but its first die five simulated minutes after they ran).

mod balance;
mod cluster;
mod container;
mod definition;
mod deployment;
mod deployments;
mod kinds;
mod life;
mod names;
mod native;
mod processes;
mod requests;
mod rolling;
mod run;
mod scheduler;
mod service;
mod sets;
mod task;
mod usage;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use kinds::KINDS;

use super::{Answer, Call, Fault, World};

/// ECS with all that it knows.
#[derive(Debug, Default)]
pub(crate) struct Ecs {
    state: Mutex<State>,
    /// Held while a task's image is unpacked: two that unpack the same one would be in each other's way.
    unpacking: Mutex<()>,
}

/// What ECS knows.
#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<String, cluster::Cluster>,
    /// By family; a revision's number is its place, from 1.
    families: BTreeMap<String, Vec<definition::Definition>>,
    /// By ARN.
    services: BTreeMap<String, service::Service>,
    /// By id.
    tasks: BTreeMap<String, task::Task>,
    /// By ARN.
    deployments: BTreeMap<String, deployment::Deployment>,
    /// What was made for a client's token: ids or an ARN.
    tokens: BTreeMap<String, Vec<String>>,
    /// Nothing is begun any more.
    is_ending: bool,
}

impl Ecs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops every task at once and begins no other; returns when their processes are gone.
    pub(crate) async fn end(world: &Arc<World>) {
        world.ecs.state().is_ending = true;
        life::end(world).await;
    }
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    match call.operation.as_str() {
        "CreateCluster" => cluster::create(world, input),
        "DescribeClusters" => cluster::describe(world, input),
        "ListClusters" => cluster::list(world),
        "DeleteCluster" => cluster::delete(world, input),
        "RegisterTaskDefinition" => definition::register(world, input),
        "DescribeTaskDefinition" => definition::describe(world, input),
        "DeregisterTaskDefinition" => definition::deregister(world, input),
        "DeleteTaskDefinitions" => definition::delete(world, input),
        "ListTaskDefinitions" => definition::list(world, input),
        "ListTaskDefinitionFamilies" => definition::list_families(world, input),
        "RunTask" => requests::run(world, input),
        "StopTask" => requests::stop(world, input),
        "DescribeTasks" => requests::describe(world, input),
        "ListTasks" => requests::list(world, input),
        "ExecuteCommand" => Err(names::bad(
            "The simulator has no command sessions: its tasks are processes of this machine, which `ps` and `nsenter` reach.",
        )),
        "CreateService" => run::create(world, input),
        "UpdateService" => run::update(world, input),
        "DeleteService" => run::delete(world, input),
        "DescribeServices" => run::describe(world, input),
        "ListServices" => run::list(world, input),
        "ListServiceDeployments" => deployments::list(world, input),
        "DescribeServiceDeployments" => deployments::describe(world, input),
        "DescribeServiceRevisions" => deployments::revisions(world, input),
        "StopServiceDeployment" => deployments::stop(world, input),
        "ContinueServiceDeployment" => deployments::go_on(world, input),
        "TagResource" => view::tag(world, input),
        "UntagResource" => view::untag(world, input),
        "ListTagsForResource" => view::tags(world, input),
        other => Err(Fault::unknown("ecs", other)),
    }
}
