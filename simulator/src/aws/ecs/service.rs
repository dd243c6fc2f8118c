//! A service as ECS tells of it: its sets of tasks, its events. It decides how its state is spelled, and what its numbers are;
//! who begins or ends tasks is the scheduler.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{State, task::Status};
use crate::aws::{number, spans::Busy, stamp, text};

/// So many events are told of.
const EVENTS_MAX: usize = 100;

/// Who decides which release runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    /// ECS itself.
    Ecs,
    /// CodeDeploy, by task sets.
    CodeDeploy,
}

impl Controller {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Controller::Ecs => "ECS",
            Controller::CodeDeploy => "CODE_DEPLOY",
        }
    }
}

/// What a service was at some time: a service revision.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) arn: String,
    pub(super) definition: String,
    /// The target group that its tasks belong to.
    pub(super) target_group: Option<String>,
    pub(super) network: Value,
    pub(super) platform: String,
    pub(super) created_ms: u64,
}

/// The tasks of one release: a deployment of a service, or a task set.
#[derive(Debug, Clone)]
pub(super) struct Set {
    /// `ecs-svc/123`.
    pub(super) id: String,
    pub(super) revision: Revision,
    pub(super) is_primary: bool,
    /// It should have as many tasks as the service wants; none otherwise.
    pub(super) is_wanted: bool,
    pub(super) failed: u32,
    /// How many failed in a row, for the pauses between tries, and when the next may be.
    pub(super) in_a_row: u32,
    pub(super) not_before_ms: u64,
    pub(super) rollout: &'static str,
    pub(super) rollout_reason: String,
    pub(super) external_id: Option<String>,
    /// The service's first.
    pub(super) is_first: bool,
    /// Whether enough of its tasks are healthy, as last looked at.
    pub(super) is_steady: bool,
    pub(super) steady_since_ms: u64,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
    /// The service deployment that made it.
    pub(super) deployment: Option<String>,
}

impl Set {
    /// Says whether it should have tasks; it is looked at anew before it counts as steady.
    pub(super) fn want(&mut self, is_wanted: bool) {
        self.is_steady &= self.is_wanted == is_wanted;
        self.is_wanted = is_wanted;
    }
}

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) cluster_arn: String,
    pub(super) status: &'static str,
    pub(super) controller: Controller,
    pub(super) desired: u32,
    /// With every default in it.
    pub(super) config: Value,
    pub(super) load_balancers: Vec<Value>,
    pub(super) network: Value,
    pub(super) platform: String,
    pub(super) definition: String,
    pub(super) grace_s: i64,
    pub(super) tags: Vec<Value>,
    pub(super) has_exec: bool,
    pub(super) propagates: String,
    pub(super) created_ms: u64,
    pub(super) events: VecDeque<(String, u64, String)>,
    /// Newest first.
    pub(super) sets: Vec<Set>,
    pub(super) revisions: Vec<Revision>,
    /// The service deployment under way.
    pub(super) deployment: Option<String>,
    pub(super) is_steady: bool,
    pub(super) wake: Arc<Notify>,
    /// Held until it is steady for the first time, where nothing else holds one.
    pub(super) busy: Option<Busy>,
}

impl Service {
    pub(super) fn tell(&mut self, now_ms: u64, what: &str) {
        let message = format!("(service {}) {what}", self.name);
        self.events.push_front((super::names::id(), now_ms, message));
        self.events.truncate(EVENTS_MAX);
    }

    pub(super) fn strategy(&self) -> &str {
        text(&self.config, "strategy").unwrap_or("ROLLING")
    }

    pub(super) fn primary(&self) -> Option<&Set> {
        self.sets.iter().find(|s| s.is_primary)
    }

    pub(super) fn set_mut(&mut self, id: &str) -> Option<&mut Set> {
        self.sets.iter_mut().find(|s| s.id == id)
    }

    /// Fewest healthy tasks and most tasks of all, while a rolling deployment runs.
    pub(super) fn bounds(&self) -> (u32, u32) {
        let percent = |name: &str, default: i64| {
            let percent = number(&self.config, name).unwrap_or(default);
            u32::try_from(percent).unwrap_or(0)
        };
        let least = (self.desired * percent("minimumHealthyPercent", 100)).div_ceil(100);
        (least, self.desired * percent("maximumPercent", 200) / 100)
    }

    /// The container and its port that the load balancer is told of.
    pub(super) fn port(&self) -> Option<u16> {
        let port = number(self.load_balancers.first()?, "containerPort")?;
        u16::try_from(port).ok()
    }

    pub(super) fn new_revision(&self, definition: &str, target_group: Option<String>, now_ms: u64) -> Revision {
        let number = super::names::number();
        Revision {
            arn: format!("{}/{number}", self.arn.replace(":service/", ":service-revision/")),
            definition: definition.to_owned(),
            target_group,
            network: self.network.clone(),
            platform: self.platform.clone(),
            created_ms: now_ms,
        }
    }

    pub(super) fn new_set(&mut self, revision: Revision, deployment: Option<String>, now_ms: u64) -> String {
        let id = format!("ecs-svc/{}", super::names::number());
        let reason = format!("ECS deployment {id} in progress.");
        let set = Set {
            id: id.clone(),
            revision,
            is_primary: false,
            is_wanted: true,
            failed: 0,
            in_a_row: 0,
            not_before_ms: 0,
            rollout: "IN_PROGRESS",
            rollout_reason: reason,
            external_id: None,
            is_first: self.sets.is_empty() && self.revisions.len() <= 1,
            is_steady: false,
            steady_since_ms: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
            deployment,
        };
        self.sets.insert(0, set);
        self.is_steady = false;
        self.wake.notify_one();
        id
    }

    /// Says how many tasks each wanted set should have.
    pub(super) fn scale(&mut self, desired: u32) {
        if self.desired != desired {
            self.desired = desired;
            self.is_steady = false;
            self.sets.iter_mut().for_each(|set| set.is_steady = false);
            self.wake.notify_one();
        }
    }

    /// Makes one the primary, and every other an older one.
    pub(super) fn promote(&mut self, id: &str) {
        for set in &mut self.sets {
            set.is_primary = set.id == id;
        }
        if let Some(definition) = self.primary().map(|s| s.revision.definition.clone()) {
            self.definition = definition;
        }
    }
}

impl State {
    /// A service that is there, by name or ARN.
    pub(super) fn service(&self, arn: &str) -> Option<&Service> {
        self.services.get(arn)
    }

    /// Tasks of a set that run, that are on their way, and that wait for their end.
    pub(super) fn counts(&self, service: &str, set: &str) -> (usize, usize) {
        let tasks = || {
            let of = move |t: &&super::task::Task| t.of.as_ref().is_some_and(|(s, of)| s == service && of == set);
            self.tasks.values().filter(of)
        };
        let running = tasks().filter(|t| t.status == Status::Running && t.is_wanted()).count();
        let pending = tasks().filter(|t| t.status < Status::Running && t.is_wanted()).count();
        (running, pending)
    }

    /// How many tasks of a set are left, whatever they do.
    pub(super) fn left(&self, service: &str, set: &str) -> usize {
        let of = |t: &&super::task::Task| t.of.as_ref().is_some_and(|(s, of)| s == service && of == set);
        self.tasks.values().filter(of).filter(|t| !t.is_over()).count()
    }

    pub(super) fn service_view(&self, service: &Service, with_tags: bool) -> Value {
        let (running, pending) = service.sets.iter().fold((0, 0), |(running, pending), set| {
            let (r, p) = self.counts(&service.arn, &set.id);
            (running + r, pending + p)
        });
        let is_ecs = service.controller == Controller::Ecs;
        let mut view = json!({
            "serviceArn": service.arn, "serviceName": service.name, "clusterArn": service.cluster_arn,
            "status": service.status, "desiredCount": service.desired, "runningCount": running, "pendingCount": pending,
            "launchType": "FARGATE", "platformVersion": service.platform, "platformFamily": "Linux",
            "taskDefinition": service.definition, "deploymentConfiguration": service.config,
            "loadBalancers": service.load_balancers, "serviceRegistries": [], "networkConfiguration": service.network,
            "healthCheckGracePeriodSeconds": service.grace_s, "schedulingStrategy": "REPLICA",
            "deploymentController": { "type": service.controller.name() }, "createdAt": stamp(service.created_ms),
            "enableExecuteCommand": service.has_exec, "propagateTags": service.propagates, "enableECSManagedTags": false,
            "placementConstraints": [], "placementStrategy": [], "availabilityZoneRebalancing": "DISABLED",
            "roleArn": format!("arn:aws:iam::{}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
                service.arn.split(':').nth(4).unwrap_or_default()),
            "events": service.events.iter().map(|(id, at, message)| {
                json!({ "id": id, "createdAt": stamp(*at), "message": message })
            }).collect::<Vec<_>>(),
            "deployments": [], "taskSets": [],
        });
        let sets: Vec<Value> = service.sets.iter().map(|set| self.set_view(service, set)).collect();
        view[if is_ecs { "deployments" } else { "taskSets" }] = Value::Array(sets);
        if is_ecs {
            if let Some(deployment) = &service.deployment {
                view["currentServiceDeployment"] = json!(deployment);
            }
            let current = service.sets.iter().map(|set| {
                let (running, pending) = self.counts(&service.arn, &set.id);
                json!({
                    "arn": set.revision.arn, "requestedTaskCount": self.goal(service, set), "runningTaskCount": running,
                    "pendingTaskCount": pending,
                })
            });
            view["currentServiceRevisions"] = current.collect();
        }
        if with_tags {
            view["tags"] = json!(service.tags);
        }
        view
    }

    fn goal(&self, service: &Service, set: &Set) -> u32 {
        if set.is_wanted { service.desired } else { 0 }
    }

    fn set_view(&self, service: &Service, set: &Set) -> Value {
        let (running, pending) = self.counts(&service.arn, &set.id);
        let status = match (set.is_primary, set.is_wanted) {
            (true, _) => "PRIMARY",
            (false, false) if service.controller == Controller::CodeDeploy => "DRAINING",
            _ => "ACTIVE",
        };
        let mut view = json!({
            "id": set.id, "status": status, "taskDefinition": set.revision.definition, "pendingCount": pending,
            "runningCount": running, "createdAt": stamp(set.created_ms), "updatedAt": stamp(set.updated_ms),
            "launchType": "FARGATE", "platformVersion": set.revision.platform, "platformFamily": "Linux",
            "networkConfiguration": set.revision.network,
        });
        if service.controller == Controller::Ecs {
            view["desiredCount"] = json!(self.goal(service, set));
            view["failedTasks"] = json!(set.failed);
            view["rolloutState"] = json!(set.rollout);
            view["rolloutStateReason"] = json!(set.rollout_reason);
            return view;
        }
        view["taskSetArn"] = json!(set_arn(service, &set.id));
        view["serviceArn"] = json!(service.arn);
        view["clusterArn"] = json!(service.cluster_arn);
        view["computedDesiredCount"] = json!(self.goal(service, set));
        view["scale"] = json!({ "value": if set.is_wanted { 100.0 } else { 0.0 }, "unit": "PERCENT" });
        view["stabilityStatus"] = json!(if set.is_steady { "STEADY_STATE" } else { "STABILIZING" });
        view["stabilityStatusAt"] = stamp(set.steady_since_ms);
        view["loadBalancers"] = set
            .revision
            .target_group
            .iter()
            .map(|group| {
                let mut of = service.load_balancers.first().cloned().unwrap_or_default();
                of["targetGroupArn"] = json!(group);
                of
            })
            .collect();
        view["serviceRegistries"] = json!([]);
        view["tags"] = json!([]);
        if let Some(external) = &set.external_id {
            view["externalId"] = json!(external);
            view["startedBy"] = json!("CODE_DEPLOY");
        }
        view
    }
}

pub(super) fn set_arn(service: &Service, id: &str) -> String {
    format!("{}/{id}", service.arn.replace(":service/", ":task-set/"))
}
