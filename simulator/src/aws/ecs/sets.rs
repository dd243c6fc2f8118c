//! A service's task sets, for what drives them from outside: CodeDeploy, autoscaling. It decides what a set is worth telling;
//! whoever asks decides which one gets traffic.

use std::sync::Arc;

use serde_json::json;

use super::{Ecs, State, names, service::Controller};
use crate::aws::{Fault, World};

/// A service as others need it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceView {
    pub(crate) arn: String,
    pub(crate) controller: Controller,
    pub(crate) desired: u32,
    pub(crate) task_sets: Vec<TaskSetView>,
}

/// One of its task sets, or of its deployments where ECS drives them.
#[derive(Debug, Clone)]
pub(crate) struct TaskSetView {
    pub(crate) id: String,
    pub(crate) target_group: Option<String>,
    pub(crate) is_primary: bool,
}

/// How a task set is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskSetState {
    pub(crate) running: u32,
    pub(crate) pending: u32,
    pub(crate) desired: u32,
    /// As many run as are wanted, all healthy, and none besides.
    pub(crate) steady: bool,
    pub(crate) failed_tasks: u32,
    /// Why the task that stopped last did.
    pub(crate) stopped_reason: Option<String>,
}

fn owner(state: &State, set: &str) -> Option<String> {
    let has = |s: &&super::service::Service| s.sets.iter().any(|one| one.id == set);
    state.services.values().find(has).map(|s| s.arn.clone())
}

impl Ecs {
    /// A service that is there, by names or ARNs.
    pub(crate) fn service(world: &Arc<World>, cluster: &str, service: &str) -> Option<ServiceView> {
        let state = world.ecs.state();
        let arn = names::service_arn(world, names::last(cluster), service);
        let service = state.service(&arn).filter(|s| s.status != "INACTIVE")?;
        Some(ServiceView {
            arn,
            controller: service.controller,
            desired: service.desired,
            task_sets: service
                .sets
                .iter()
                .map(|set| TaskSetView {
                    id: set.id.clone(),
                    target_group: set.revision.target_group.clone(),
                    is_primary: set.is_primary,
                })
                .collect(),
        })
    }

    /// A new set with as many tasks as the service wants, all targets of this group.
    ///
    /// # Errors
    /// If there is no such service or task definition, or the service is not CodeDeploy's.
    pub(crate) fn create_task_set(
        world: &Arc<World>,
        cluster: &str,
        service: &str,
        task_definition: &str,
        target_group: &str,
        external: Option<&str>,
    ) -> Result<String, Fault> {
        let now = world.clock.now_ms();
        let mut state = world.ecs.state();
        let arn = names::service_arn(world, names::last(cluster), service);
        let definition = state.active_definition(task_definition)?.arn.clone();
        let service = state.services.get_mut(&arn).filter(|s| s.status == "ACTIVE").ok_or_else(names::no_service)?;
        if service.controller != Controller::CodeDeploy {
            return Err(names::bad(
                "TaskSets can only be created for services with an external or CODE_DEPLOY controller.",
            ));
        }
        let revision = service.new_revision(&definition, Some(target_group.to_owned()), now);
        service.revisions.push(revision.clone());
        let id = service.new_set(revision, None, now);
        if let Some(set) = service.set_mut(&id) {
            set.external_id = external.map(str::to_owned);
        }
        Ok(id)
    }

    /// How a set is; nothing of it where it is not there any more.
    pub(crate) fn task_set_state(world: &Arc<World>, id: &str) -> TaskSetState {
        let state = world.ecs.state();
        let Some(service) = owner(&state, id).and_then(|arn| state.services.get(&arn)) else {
            return TaskSetState::default();
        };
        let Some(set) = service.sets.iter().find(|s| s.id == id) else { return TaskSetState::default() };
        let (running, pending) = state.counts(&service.arn, id);
        let last = state
            .tasks
            .values()
            .filter(|t| t.is_over() && t.of.as_ref().is_some_and(|(_, of)| of == id))
            .max_by_key(|t| t.times.get("stoppedAt").copied());
        TaskSetState {
            running: u32::try_from(running).unwrap_or(u32::MAX),
            pending: u32::try_from(pending).unwrap_or(u32::MAX),
            desired: if set.is_wanted { service.desired } else { 0 },
            steady: set.is_steady,
            failed_tasks: set.failed,
            stopped_reason: last.and_then(|t| t.stop.as_ref()).map(|s| s.reason.clone()),
        }
    }

    /// Makes a set its service's primary one.
    pub(crate) fn set_primary(world: &Arc<World>, id: &str) {
        let now = world.clock.now_ms();
        let mut state = world.ecs.state();
        let Some(service) = owner(&state, id).and_then(|arn| state.services.get_mut(&arn)) else { return };
        service.promote(id);
        let group = service.primary().and_then(|s| s.revision.target_group.clone());
        if let (Some(balancer), Some(group)) = (service.load_balancers.first_mut(), group) {
            balancer["targetGroupArn"] = json!(group);
        }
        service.tell(now, &format!("updated primary taskSet to (taskSet {id})."));
    }

    /// Ends a set's tasks, drained, and forgets it when they are gone. Returns at once.
    pub(crate) fn delete_task_set(world: &Arc<World>, id: &str) {
        let now = world.clock.now_ms();
        let mut state = world.ecs.state();
        let Some(service) = owner(&state, id).and_then(|arn| state.services.get_mut(&arn)) else { return };
        if let Some(set) = service.set_mut(id) {
            set.want(false);
            set.is_primary = false;
            set.updated_ms = now;
        }
        service.wake.notify_one();
    }

    /// So many tasks from now on; whether the service is there.
    pub(crate) fn set_desired(world: &Arc<World>, cluster: &str, service: &str, desired: u32) -> bool {
        let mut state = world.ecs.state();
        let arn = names::service_arn(world, names::last(cluster), service);
        let Some(service) = state.services.get_mut(&arn).filter(|s| s.status == "ACTIVE") else { return false };
        service.scale(desired);
        true
    }
}
