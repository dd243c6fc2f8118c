//! A task as ECS tells of it. It decides how a task's state is spelled; what becomes of it is `life`'s.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::State;
use crate::aws::{stamp, text};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Provisioning => "PROVISIONING",
            Status::Pending => "PENDING",
            Status::Activating => "ACTIVATING",
            Status::Running => "RUNNING",
            Status::Deactivating => "DEACTIVATING",
            Status::Stopping => "STOPPING",
            Status::Deprovisioning => "DEPROVISIONING",
            Status::Stopped => "STOPPED",
        }
    }
}

/// A container of a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) digest: Option<String>,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
    /// Its process's folder, once there is one.
    pub(super) folder: Option<PathBuf>,
}

/// Why a task stopped.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// A task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) cluster: String,
    pub(super) definition: String,
    pub(super) group: String,
    pub(super) started_by: Option<String>,
    /// The service and the set of it that this is a copy for.
    pub(super) of: Option<(String, String)>,
    pub(super) status: Status,
    pub(super) created_ms: u64,
    /// When something happened, by the name that it is told by.
    pub(super) times: BTreeMap<&'static str, u64>,
    pub(super) stop: Option<Stop>,
    pub(super) containers: Vec<Container>,
    pub(super) overrides: Value,
    pub(super) network: Value,
    pub(super) tags: Vec<Value>,
    pub(super) platform: String,
    pub(super) has_exec: bool,
    /// What the load balancer knows it by.
    pub(super) ip: String,
    /// Where it listens, for the load balancer's target group.
    pub(super) address: Option<SocketAddr>,
    /// Its target group and the container's port that is meant.
    pub(super) target: Option<(String, u16)>,
    /// True once it is wanted no more.
    pub(super) asked: watch::Sender<bool>,
    /// It was healthy at some time, or ran where nobody asks for its health.
    pub(super) was_healthy: bool,
    /// It counted as failed.
    pub(super) has_failed: bool,
    /// Processor time when it was last looked at: ticks, when, and what it used then.
    pub(super) used: Option<(u64, Instant, f64)>,
}

impl Task {
    /// Its containers are gone for good.
    pub(super) fn is_over(&self) -> bool {
        self.status == Status::Stopped
    }

    /// No process of it is left.
    pub(super) fn is_dead(&self) -> bool {
        self.status >= Status::Deprovisioning
    }

    pub(super) fn is_running(&self) -> bool {
        self.status == Status::Running && self.is_wanted()
    }

    pub(super) fn is_wanted(&self) -> bool {
        !*self.asked.borrow() && self.stop.is_none()
    }

    pub(super) fn view(&self, state: &State) -> Value {
        let definition = state.definition(&self.definition);
        let size = |name: &str| definition.and_then(|d| text(&d.body, name)).map(str::to_owned);
        let mut view = json!({
            "taskArn": self.arn, "taskDefinitionArn": self.definition, "clusterArn": cluster_arn(&self.arn, &self.cluster),
            "group": self.group, "lastStatus": self.status.name(), "launchType": "FARGATE",
            "desiredStatus": if self.is_wanted() { "RUNNING" } else { "STOPPED" },
            "createdAt": stamp(self.created_ms), "cpu": size("cpu"), "memory": size("memory"),
            "platformVersion": self.platform, "platformFamily": "Linux", "healthStatus": "UNKNOWN",
            "enableExecuteCommand": self.has_exec, "overrides": self.overrides, "tags": self.tags, "version": 1,
            "availabilityZone": format!("{}a", region(&self.arn)), "connectivity": "CONNECTED", "attributes": [],
            "attachments": [{
                "id": uuid(&self.id), "type": "ElasticNetworkInterface",
                "status": if self.is_over() { "DELETED" } else { "ATTACHED" },
                "details": [
                    { "name": "subnetId", "value": self.subnet() },
                    { "name": "networkInterfaceId", "value": format!("eni-{}", self.id.get(..17).unwrap_or_default()) },
                    { "name": "privateIPv4Address", "value": self.ip },
                ],
            }],
            "containers": self.containers.iter().map(|c| self.container(c)).collect::<Vec<_>>(),
        });
        if let Some(by) = &self.started_by {
            view["startedBy"] = json!(by);
        }
        if let Some(stop) = &self.stop {
            view["stopCode"] = json!(stop.code);
            view["stoppedReason"] = json!(stop.reason);
        }
        for (name, at) in &self.times {
            view[*name] = stamp(*at);
        }
        view
    }

    pub(super) fn subnet(&self) -> String {
        let subnets = self.network.pointer("/awsvpcConfiguration/subnets").and_then(Value::as_array);
        subnets.and_then(|s| s.first()).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn container(&self, container: &Container) -> Value {
        let status = match self.status {
            _ if container.exit_code.is_some() => "STOPPED",
            Status::Running | Status::Deactivating | Status::Stopping => "RUNNING",
            Status::Deprovisioning | Status::Stopped => "STOPPED",
            Status::Provisioning | Status::Pending | Status::Activating => "PENDING",
        };
        let mut view = json!({
            "containerArn": self.arn.replace(":task/", ":container/") + "/" + &uuid(&self.id), "taskArn": self.arn,
            "name": container.name, "image": container.image, "lastStatus": status, "healthStatus": "UNKNOWN",
            "runtimeId": format!("{}-{}", self.id, container.name), "networkBindings": [],
            "networkInterfaces": [{ "attachmentId": uuid(&self.id), "privateIpv4Address": self.ip }], "cpu": "0",
        });
        if let Some(digest) = &container.digest {
            view["imageDigest"] = json!(digest);
        }
        if let Some(code) = container.exit_code {
            view["exitCode"] = json!(code);
        }
        if let Some(reason) = &container.reason {
            view["reason"] = json!(reason);
        }
        view
    }
}

fn cluster_arn(task: &str, cluster: &str) -> String {
    format!("{}:cluster/{cluster}", task.split(":task/").next().unwrap_or_default())
}

fn region(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}

/// An id as an attachment has one.
fn uuid(id: &str) -> String {
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}
