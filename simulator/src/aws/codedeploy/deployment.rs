//! A deployment: what is remembered of it and how it is told. It moves nothing; [`run`](super::run) does.

use serde_json::{Value, json};

use super::{
    appspec::AppSpec,
    config::Routing,
    ground::{Set, Tasks},
    group::Settings,
};
use crate::aws::stamp;

/// The stages of a deployment, those with test traffic marked.
const EVENTS: [(&str, bool); 8] = [
    ("BeforeInstall", false),
    ("Install", false),
    ("AfterInstall", false),
    ("AllowTestTraffic", true),
    ("AfterAllowTestTraffic", true),
    ("BeforeAllowTraffic", false),
    ("AllowTraffic", false),
    ("AfterAllowTraffic", false),
];

/// Where a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    InProgress,
    Ready,
    Succeeded,
    Failed,
    Stopped,
}

impl Status {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Stopped)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Created => "Created",
            Status::InProgress => "InProgress",
            Status::Ready => "Ready",
            Status::Succeeded => "Succeeded",
            Status::Failed => "Failed",
            Status::Stopped => "Stopped",
        }
    }
}

/// A stage with its times.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) status: &'static str,
    pub(super) started_ms: Option<u64>,
    pub(super) ended_ms: Option<u64>,
    pub(super) told: Option<String>,
}

/// What somebody asked of a deployment under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wants {
    pub(super) traffic: bool,
    pub(super) ending: bool,
    /// Stop, and whether to roll back.
    pub(super) stop: Option<bool>,
}

/// A side of the deployment.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    pub(super) set: String,
    pub(super) target_group: String,
    /// As they were when somebody last looked.
    pub(super) tasks: Tasks,
    pub(super) is_gone: bool,
}

/// A deployment.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) application: String,
    pub(super) group: String,
    pub(super) config: String,
    pub(super) routing: Routing,
    pub(super) settings: Settings,
    pub(super) revision: Value,
    pub(super) spec: Option<AppSpec>,
    pub(super) description: Option<String>,
    pub(super) status: Status,
    pub(super) target_status: &'static str,
    pub(super) error: Option<(&'static str, String)>,
    pub(super) created_ms: u64,
    pub(super) started_ms: Option<u64>,
    pub(super) completed_ms: Option<u64>,
    pub(super) changed_ms: u64,
    pub(super) events: Vec<Event>,
    pub(super) service_arn: String,
    pub(super) blue: Side,
    pub(super) green: Side,
    /// How much of the traffic the replacement has.
    pub(super) weight: u32,
    pub(super) is_waiting_to_end: bool,
    pub(super) wants: Wants,
    /// The deployment that this one rolls back.
    pub(super) rolls_back: Option<String>,
    /// The deployment that rolls this one back.
    pub(super) rolled_back_by: Option<String>,
    /// What `CreateDeployment` was given, for what is told again.
    pub(super) given: Value,
}

impl Deployment {
    /// The stages that a deployment with these settings goes through.
    pub(super) fn stages(settings: &Settings) -> Vec<Event> {
        let tests = !settings.test_listeners.is_empty();
        let stages = EVENTS.into_iter().filter(|(_, is_test)| tests || !is_test);
        let event = |(name, _)| Event { name, status: "Pending", started_ms: None, ended_ms: None, told: None };
        stages.map(event).collect()
    }

    /// `deploymentInfo`.
    pub(super) fn view(&self, group: Option<&Value>) -> Value {
        let one = |is: bool| u32::from(is);
        let mut view = json!({
            "applicationName": self.application, "deploymentGroupName": self.group, "deploymentConfigName": self.config,
            "deploymentId": self.id, "revision": self.revision, "status": self.status.name(),
            "createTime": stamp(self.created_ms), "creator": if self.rolls_back.is_some() { "codeDeployRollback" } else { "user" },
            "ignoreApplicationStopFailures": false, "updateOutdatedInstancesOnly": false, "fileExistsBehavior": "DISALLOW",
            "deploymentStyle": { "deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL" },
            // True by its documentation while the old task set waits to be ended; for ECS it never becomes so.
            "instanceTerminationWaitTimeStarted": false,
            "deploymentStatusMessages": [], "computePlatform": "ECS",
            "deploymentOverview": {
                "Pending": one(self.status == Status::Created), "InProgress": one(self.target_status == "InProgress"),
                "Succeeded": one(self.target_status == "Succeeded"), "Failed": one(self.target_status == "Failed"),
                "Skipped": one(self.target_status == "Skipped"), "Ready": one(self.target_status == "Ready")
            }
        });
        if let Some(description) = &self.description {
            view["description"] = json!(description);
        }
        if let Some((code, message)) = &self.error {
            view["errorInformation"] = json!({ "code": code, "message": message });
        }
        for (member, time) in [("startTime", self.started_ms), ("completeTime", self.completed_ms)] {
            if let Some(time) = time {
                view[member] = stamp(time);
            }
        }
        let mut rollback = serde_json::Map::new();
        if let Some(other) = &self.rolls_back {
            rollback.insert("rollbackTriggeringDeploymentId".to_owned(), json!(other));
        }
        if let Some(other) = &self.rolled_back_by {
            rollback.insert("rollbackDeploymentId".to_owned(), json!(other));
            let message = format!("Deployment {other} was started to roll back this deployment.");
            rollback.insert("rollbackMessage".to_owned(), json!(message));
        }
        if !rollback.is_empty() {
            view["rollbackInfo"] = Value::Object(rollback);
        }
        for (source, members) in [
            (group, &["blueGreenDeploymentConfiguration", "loadBalancerInfo", "autoRollbackConfiguration"][..]),
            (Some(&self.given), &["autoRollbackConfiguration", "overrideAlarmConfiguration"][..]),
        ] {
            for member in members {
                if let Some(value) = source.and_then(|s| s.get(*member)).filter(|v| !v.is_null()) {
                    view[*member] = value.clone();
                }
            }
        }
        view
    }

    /// The id of the one target that a deployment to ECS has.
    pub(super) fn target_id(&self) -> String {
        format!("{}:{}", self.settings.cluster, self.settings.service)
    }

    /// `deploymentTarget`.
    pub(super) fn target(&self) -> Value {
        let event = |event: &Event| {
            let mut view = json!({ "lifecycleEventName": event.name, "status": event.status });
            for (member, time) in [("startTime", event.started_ms), ("endTime", event.ended_ms)] {
                if let Some(time) = time {
                    view[member] = stamp(time);
                }
            }
            if let Some(told) = &event.told {
                view["diagnostics"] = json!({ "errorCode": "UnknownError", "message": told });
            }
            view
        };
        let name = |arn: &str| arn.rsplit(':').next().and_then(|r| r.split('/').nth(1)).unwrap_or(arn).to_owned();
        let moved =
            self.events.iter().any(|e| e.name == "AllowTraffic" && e.status == "Succeeded") && self.weight == 100;
        let set = |side: &Side, label: &str, weight: u32, primary: bool| {
            json!({
                "identifer": side.set, "taskSetLabel": label, "trafficWeight": f64::from(weight),
                "status": if primary { "PRIMARY" } else { "ACTIVE" }, "targetGroup": { "name": name(&side.target_group) },
                "desiredCount": side.tasks.desired, "pendingCount": side.tasks.pending, "runningCount": side.tasks.running
            })
        };
        let sides = [(&self.blue, "Blue", 100 - self.weight, !moved), (&self.green, "Green", self.weight, moved)];
        let there = sides.into_iter().filter(|(side, ..)| !side.set.is_empty() && !side.is_gone);
        let sets: Vec<Value> = there.map(|(side, label, weight, primary)| set(side, label, weight, primary)).collect();
        json!({
            "deploymentTargetType": "ECSTarget",
            "ecsTarget": {
                "deploymentId": self.id, "targetId": self.target_id(), "targetArn": self.service_arn,
                "lastUpdatedAt": stamp(self.changed_ms), "status": self.target_status,
                "lifecycleEvents": self.events.iter().map(event).collect::<Vec<_>>(), "taskSetsInfo": sets
            }
        })
    }
}

impl Side {
    pub(super) fn of(set: &Set) -> Self {
        Side { set: set.id.clone(), target_group: set.target_group.clone(), ..Side::default() }
    }
}
