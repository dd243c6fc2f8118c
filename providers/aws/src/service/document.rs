//! The service's document, typed: what it may say, and nothing else. It only reads and writes JSON; how the document becomes
//! requests, and how what is live becomes a document again, is its neighbours' work.

use std::collections::BTreeMap;

use dbird_core::provider::ErrorKind;
use dbird_core::{ProviderError, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use crate::config::base;
use crate::error::{Adding, fault};

/// A release of the service, wanted or live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceDocument {
    pub(crate) name: String,
    pub(crate) environment: String,
    pub(crate) storage_protocol: u32,
    pub(crate) cluster: String,
    pub(crate) controller: Controller,
    pub(crate) image_digest: Option<String>,
    pub(crate) task_definition: TaskDefinition,
    pub(crate) desired_count: u32,
    pub(crate) network: Network,
    pub(crate) platform_version: String,
    pub(crate) grace_s: u32,
    /// People may run commands in its tasks.
    #[serde(default)]
    pub(crate) exec: bool,
    pub(crate) traffic: Traffic,
    pub(crate) codedeploy: Option<CodeDeploy>,
    pub(crate) ecs: Option<Ecs>,
    pub(crate) scaling: Option<Scaling>,
}

/// Who moves traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Controller {
    Codedeploy,
    Ecs,
}

/// Where tasks run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) subnets: Vec<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) assign_public_ip: bool,
}

/// What moves traffic: ARNs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traffic {
    pub(crate) blue: String,
    pub(crate) green: String,
    pub(crate) listener: String,
    pub(crate) test_listener: Option<String>,
}

/// The deployment group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeDeploy {
    pub(crate) application: String,
    pub(crate) group: String,
    pub(crate) config: String,
    pub(crate) role: String,
    pub(crate) ready_wait_minutes: u32,
    pub(crate) termination_wait_minutes: u32,
    pub(crate) alarms: Vec<String>,
}

/// How ECS itself rolls out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ecs {
    pub(crate) strategy: String,
    pub(crate) minimum_percent: u32,
    pub(crate) maximum_percent: u32,
    pub(crate) circuit_breaker: bool,
    pub(crate) percent: Option<u32>,
    pub(crate) minutes: Option<u32>,
    pub(crate) bake_minutes: Option<u32>,
    #[serde(default)]
    pub(crate) pauses: Vec<String>,
    pub(crate) pause_minutes: Option<u32>,
    pub(crate) role: Option<String>,
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

impl Ecs {
    /// Tasks are replaced in place, in one target group.
    pub(crate) fn is_rolling(&self) -> bool {
        self.strategy == "ROLLING"
    }
}

/// How many tasks run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scaling {
    pub(crate) min: u32,
    pub(crate) max: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_cpu_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<ScaleStep>,
}

/// One rule of step scaling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleStep {
    pub(crate) above: bool,
    pub(crate) cpu_percent: u32,
    pub(crate) for_minutes: u32,
    pub(crate) add: i32,
}

/// A task definition in AWS's own spelling, as far as dbird owns its fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TaskDefinition {
    pub(crate) family: String,
    pub(crate) cpu: String,
    pub(crate) memory: String,
    pub(crate) network_mode: String,
    pub(crate) requires_compatibilities: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) runtime_platform: Option<RuntimePlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) execution_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task_role_arn: Option<String>,
    pub(crate) container_definitions: Vec<Container>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<Volume>,
}

/// What tasks run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RuntimePlatform {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_architecture: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operating_system_family: Option<String>,
}

/// A container of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) essential: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) cpu: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_reservation: Option<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) entry_point: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_directory: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) port_mappings: Vec<PortMapping>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) environment: Vec<Variable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<Secret>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mount_points: Vec<MountPoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<DependsOn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health_check: Option<HealthCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_configuration: Option<LogConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_timeout: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) readonly_root_filesystem: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) linux_parameters: Option<LinuxParameters>,
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortMapping {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) container_port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// An environment variable whose value stays in the cloud: only its name is ever here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) value_from: String,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MountPoint {
    pub(crate) source_volume: String,
    pub(crate) container_path: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) read_only: bool,
}

/// A container that starts after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DependsOn {
    pub(crate) container_name: String,
    pub(crate) condition: String,
}

/// A command that says whether a container is well; times are seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthCheck {
    pub(crate) command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_period: Option<i32>,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogConfiguration {
    pub(crate) log_driver: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
}

/// What the container's kernel does for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LinuxParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init_process_enabled: Option<bool>,
}

/// A volume of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) efs_volume_configuration: Option<EfsVolume>,
}

/// A shared file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EfsVolume {
    pub(crate) file_system_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transit_encryption: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authorization_config: Option<EfsAuthorization>,
}

/// Who may mount it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EfsAuthorization {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_point_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iam: Option<String>,
}

impl ServiceDocument {
    /// Reads a body. What it does not know is refused, so that nothing that was asked for is dropped in silence.
    pub(crate) fn read(body: &Value) -> Result<Self, ProviderError> {
        serde_json::from_value(body.clone()).map_err(|error| {
            let why = format!("the service's document can't be read: {error}");
            fault(ErrorKind::Invalid, "apply service", "service.json", why)
                .hint("compare your template with the built-in one: `dbird render`")
        })
    }

    /// The container that the service itself runs in.
    pub(crate) fn container(&self) -> Option<&Container> {
        self.task_definition.container_definitions.iter().find(|container| container.name == self.name)
    }

    /// The port that the service listens on.
    pub(crate) fn port(&self) -> Option<u16> {
        self.container()?.port_mappings.first().map(|port| port.container_port)
    }
}

/// The group of all its log streams.
pub(crate) fn log_group(target: &Target) -> String {
    format!("/dbird/{}", base(target))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A service that CodeDeploy rolls out.
    pub(crate) fn example() -> ServiceDocument {
        ServiceDocument::read(&example_json()).unwrap()
    }

    pub(crate) fn example_json() -> Value {
        json!({
            "name": "bird", "environment": "dev", "storage_protocol": 1, "cluster": "bird-dev", "controller": "codedeploy",
            "image_digest": format!("sha256:{}", "0".repeat(64)),
            "task_definition": {
                "family": "bird-dev", "cpu": "256", "memory": "512", "networkMode": "awsvpc",
                "requiresCompatibilities": ["FARGATE"],
                "containerDefinitions": [{
                    "name": "bird", "image": format!("r/bird-dev@sha256:{}", "0".repeat(64)), "essential": true,
                    "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                    "logConfiguration": { "logDriver": "awslogs", "options": {
                        "awslogs-group": "/dbird/bird-dev", "awslogs-stream-prefix": "task" } }
                }]
            },
            "desired_count": 2,
            "network": { "subnets": ["subnet-a", "subnet-b"], "security_groups": ["sg-1"], "assign_public_ip": false },
            "platform_version": "1.4.0", "grace_s": 30, "exec": false,
            "traffic": {
                "blue": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/bird-blue/1",
                "green": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/bird-green/2",
                "listener": "arn:listener/production", "test_listener": "arn:listener/test"
            },
            "codedeploy": {
                "application": "bird-dev", "group": "bird-dev", "config": "CodeDeployDefault.ECSAllAtOnce",
                "role": "arn:role/codedeploy", "ready_wait_minutes": 30, "termination_wait_minutes": 10,
                "alarms": ["bird-dev-blue-errors", "bird-dev-green-errors"]
            },
            "ecs": null, "scaling": null
        })
    }

    /// The same, rolled out by ECS itself.
    pub(crate) fn example_native(strategy: &str) -> ServiceDocument {
        let mut body = example_json();
        body["controller"] = json!("ecs");
        body["codedeploy"] = Value::Null;
        body["ecs"] = json!({
            "strategy": strategy, "minimum_percent": 100, "maximum_percent": 200, "circuit_breaker": strategy == "ROLLING",
            "percent": null, "minutes": null, "bake_minutes": 0, "pauses": [], "pause_minutes": null,
            "role": null, "alarms": ["bird-dev-green-errors"]
        });
        if strategy != "ROLLING" {
            body["ecs"]["bake_minutes"] = json!(10);
            body["ecs"]["role"] = json!("arn:role/ecs");
            body["ecs"]["pauses"] = json!(["POST_TEST_TRAFFIC_SHIFT"]);
            body["ecs"]["pause_minutes"] = json!(60);
        }
        if matches!(strategy, "CANARY" | "LINEAR") {
            body["ecs"]["percent"] = json!(10);
            body["ecs"]["minutes"] = json!(5);
        }
        ServiceDocument::read(&body).unwrap()
    }

    #[test]
    fn a_document_is_read_whole_or_refused() {
        assert_eq!(serde_json::to_value(example()).unwrap(), example_json());
        assert_eq!(example().port(), Some(8080));
        let mut more = example_json();
        more["surprise"] = json!(1);
        let error = ServiceDocument::read(&more).unwrap_err();
        assert!(error.causes[0].contains("surprise"), "{error:?}");
    }
}
