//! Task definitions: the document's in AWS's types, and AWS's back in the document's shape with everything dropped that AWS
//! fills in by itself. It calls nothing.

use std::collections::BTreeMap;

use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionInputBuilder;
use aws_sdk_ecs::types;
use dbird_core::{Digest, ReleaseId};

use super::document::{
    Container, DependsOn, EfsAuthorization, EfsVolume, HealthCheck, LinuxParameters, LogConfiguration, MountPoint,
    PortMapping, RuntimePlatform, Secret, TaskDefinition, Variable, Volume,
};

/// An AWS type could not be built: a member that it must have was not said. Names the member.
pub(super) type Built<T> = Result<T, aws_sdk_ecs::error::BuildError>;

/// What a task definition's tags say of the release that it was registered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The release.
    pub(crate) release: ReleaseId,
    /// The digest of the service's document before its references were filled.
    pub(crate) document: Option<Digest>,
    /// The image that runs.
    pub(crate) image: Option<Digest>,
    /// The protocol by which it shares its store.
    pub(crate) storage_protocol: u32,
}

/// The tag that says which release a thing belongs to.
pub(crate) const RELEASE_TAG: &str = "dbird:release";
pub(crate) const DOCUMENT_TAG: &str = "dbird:document";
pub(crate) const IMAGE_TAG: &str = "dbird:image";
pub(crate) const PROTOCOL_TAG: &str = "dbird:storage-protocol";
pub(crate) const SERVICE_TAG: &str = "dbird:service";
pub(crate) const ENVIRONMENT_TAG: &str = "dbird:environment";

impl Marker {
    /// From tags; none where they name no release.
    pub(crate) fn read(tags: &[types::Tag]) -> Option<Marker> {
        let value = |key: &str| tags.iter().find(|tag| tag.key() == Some(key)).and_then(types::Tag::value);
        Some(Marker {
            release: value(RELEASE_TAG)?.parse().ok()?,
            document: value(DOCUMENT_TAG).and_then(|digest| digest.parse().ok()),
            image: value(IMAGE_TAG).and_then(|digest| digest.parse().ok()),
            storage_protocol: value(PROTOCOL_TAG).and_then(|number| number.parse().ok()).unwrap_or(0),
        })
    }

    /// As tags, service and environment apart.
    pub(crate) fn tags(&self) -> Vec<(&'static str, String)> {
        let mut tags = vec![(RELEASE_TAG, self.release.to_string()), (PROTOCOL_TAG, self.storage_protocol.to_string())];
        tags.extend(self.document.iter().map(|digest| (DOCUMENT_TAG, digest.to_string())));
        tags.extend(self.image.iter().map(|digest| (IMAGE_TAG, digest.to_string())));
        tags
    }
}

/// Tags in ECS's types.
pub(crate) fn ecs_tags(tags: &[(&str, String)]) -> Vec<types::Tag> {
    tags.iter().map(|(key, value)| types::Tag::builder().key(*key).value(value).build()).collect()
}

/// The request that registers it, tags apart.
pub(crate) fn registration(wanted: &TaskDefinition) -> Built<RegisterTaskDefinitionInputBuilder> {
    let containers = wanted.container_definitions.iter().map(container).collect::<Built<Vec<_>>>()?;
    let volumes = wanted.volumes.iter().map(volume).collect::<Built<Vec<_>>>()?;
    let compatibilities =
        wanted.requires_compatibilities.iter().map(|name| types::Compatibility::from(name.as_str())).collect();
    Ok(RegisterTaskDefinitionInputBuilder::default()
        .family(&wanted.family)
        .cpu(&wanted.cpu)
        .memory(&wanted.memory)
        .network_mode(types::NetworkMode::from(wanted.network_mode.as_str()))
        .set_requires_compatibilities(Some(compatibilities))
        .set_runtime_platform(wanted.runtime_platform.as_ref().map(|platform| {
            types::RuntimePlatform::builder()
                .set_cpu_architecture(platform.cpu_architecture.as_deref().map(types::CpuArchitecture::from))
                .set_operating_system_family(platform.operating_system_family.as_deref().map(types::OsFamily::from))
                .build()
        }))
        .set_execution_role_arn(wanted.execution_role_arn.clone())
        .set_task_role_arn(wanted.task_role_arn.clone())
        .set_container_definitions(Some(containers))
        .set_volumes(Some(volumes).filter(|volumes| !volumes.is_empty())))
}

fn container(wanted: &Container) -> Built<types::ContainerDefinition> {
    let secrets = wanted
        .secrets
        .iter()
        .map(|secret| types::Secret::builder().name(&secret.name).value_from(&secret.value_from).build());
    let depends = wanted.depends_on.iter().map(|on| {
        types::ContainerDependency::builder()
            .container_name(&on.container_name)
            .condition(types::ContainerCondition::from(on.condition.as_str()))
            .build()
    });
    let logs = wanted.log_configuration.as_ref().map(|logs| {
        types::LogConfiguration::builder()
            .log_driver(types::LogDriver::from(logs.log_driver.as_str()))
            .set_options(Some(logs.options.clone().into_iter().collect()))
            .build()
    });
    let health = wanted.health_check.as_ref().map(|check| {
        types::HealthCheck::builder()
            .set_command(Some(check.command.clone()))
            .set_interval(check.interval)
            .set_timeout(check.timeout)
            .set_retries(check.retries)
            .set_start_period(check.start_period)
            .build()
    });
    Ok(types::ContainerDefinition::builder()
        .name(&wanted.name)
        .image(&wanted.image)
        .essential(wanted.essential)
        .cpu(wanted.cpu)
        .set_memory(wanted.memory)
        .set_memory_reservation(wanted.memory_reservation)
        .set_entry_point(some(wanted.entry_point.clone()))
        .set_command(some(wanted.command.clone()))
        .set_user(wanted.user.clone())
        .set_working_directory(wanted.working_directory.clone())
        .set_port_mappings(some(wanted.port_mappings.iter().map(port).collect()))
        .set_environment(some(
            wanted
                .environment
                .iter()
                .map(|v| types::KeyValuePair::builder().name(&v.name).value(&v.value).build())
                .collect(),
        ))
        .set_secrets(some(secrets.collect::<Built<Vec<_>>>()?))
        .set_mount_points(some(wanted.mount_points.iter().map(mount).collect()))
        .set_depends_on(some(depends.collect::<Built<Vec<_>>>()?))
        .set_health_check(health.transpose()?)
        .set_log_configuration(logs.transpose()?)
        .set_stop_timeout(wanted.stop_timeout)
        .set_readonly_root_filesystem(wanted.readonly_root_filesystem)
        .set_linux_parameters(wanted.linux_parameters.as_ref().map(|linux| {
            types::LinuxParameters::builder().set_init_process_enabled(linux.init_process_enabled).build()
        }))
        .build())
}

fn port(wanted: &PortMapping) -> types::PortMapping {
    types::PortMapping::builder()
        .set_name(wanted.name.clone())
        .container_port(i32::from(wanted.container_port))
        .set_protocol(wanted.protocol.as_deref().map(types::TransportProtocol::from))
        .build()
}

fn mount(wanted: &MountPoint) -> types::MountPoint {
    types::MountPoint::builder()
        .source_volume(&wanted.source_volume)
        .container_path(&wanted.container_path)
        .read_only(wanted.read_only)
        .build()
}

fn volume(wanted: &Volume) -> Built<types::Volume> {
    let efs = wanted.efs_volume_configuration.as_ref().map(|efs| {
        let authorization = efs.authorization_config.as_ref().map(|config| {
            types::EfsAuthorizationConfig::builder()
                .set_access_point_id(config.access_point_id.clone())
                .set_iam(config.iam.as_deref().map(types::EfsAuthorizationConfigIam::from))
                .build()
        });
        types::EfsVolumeConfiguration::builder()
            .file_system_id(&efs.file_system_id)
            .set_transit_encryption(efs.transit_encryption.as_deref().map(types::EfsTransitEncryption::from))
            .set_authorization_config(authorization)
            .build()
    });
    Ok(types::Volume::builder().name(&wanted.name).set_efs_volume_configuration(efs.transpose()?).build())
}

/// What is live, in the document's shape.
pub(crate) fn live(found: &types::TaskDefinition) -> TaskDefinition {
    TaskDefinition {
        family: text(found.family()),
        cpu: text(found.cpu()),
        memory: text(found.memory()),
        network_mode: found.network_mode().map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
        requires_compatibilities: found.requires_compatibilities().iter().map(|c| c.as_str().to_owned()).collect(),
        runtime_platform: found.runtime_platform().map(|platform| RuntimePlatform {
            cpu_architecture: platform.cpu_architecture().map(|name| name.as_str().to_owned()),
            operating_system_family: platform.operating_system_family().map(|name| name.as_str().to_owned()),
        }),
        execution_role_arn: found.execution_role_arn().map(str::to_owned),
        task_role_arn: found.task_role_arn().map(str::to_owned),
        container_definitions: found.container_definitions().iter().map(live_container).collect(),
        volumes: found.volumes().iter().map(live_volume).collect(),
    }
}

fn live_container(found: &types::ContainerDefinition) -> Container {
    let mut environment: Vec<_> =
        found.environment().iter().map(|v| Variable { name: text(v.name()), value: text(v.value()) }).collect();
    environment.sort();
    let mut secrets: Vec<_> = found
        .secrets()
        .iter()
        .map(|s| Secret { name: s.name().to_owned(), value_from: s.value_from().to_owned() })
        .collect();
    secrets.sort();
    Container {
        name: text(found.name()),
        image: text(found.image()),
        // Said by AWS to be true where nothing is said.
        essential: found.essential().unwrap_or(true),
        cpu: found.cpu(),
        memory: found.memory(),
        memory_reservation: found.memory_reservation(),
        entry_point: found.entry_point().to_vec(),
        command: found.command().to_vec(),
        user: found.user().map(str::to_owned),
        working_directory: found.working_directory().map(str::to_owned),
        port_mappings: found
            .port_mappings()
            .iter()
            .filter_map(|port| {
                Some(PortMapping {
                    name: port.name().map(str::to_owned),
                    // The host's port is the container's own in awsvpc.
                    container_port: u16::try_from(port.container_port()?).ok()?,
                    protocol: port.protocol().map(|name| name.as_str().to_owned()),
                })
            })
            .collect(),
        environment,
        secrets,
        mount_points: found
            .mount_points()
            .iter()
            .map(|mount| MountPoint {
                source_volume: text(mount.source_volume()),
                container_path: text(mount.container_path()),
                read_only: mount.read_only().unwrap_or(false),
            })
            .collect(),
        depends_on: found
            .depends_on()
            .iter()
            .map(|on| DependsOn {
                container_name: on.container_name().to_owned(),
                condition: on.condition().as_str().to_owned(),
            })
            .collect(),
        health_check: found.health_check().map(|check| HealthCheck {
            command: check.command().to_vec(),
            interval: check.interval(),
            timeout: check.timeout(),
            retries: check.retries(),
            start_period: check.start_period(),
        }),
        log_configuration: found.log_configuration().map(|logs| LogConfiguration {
            log_driver: logs.log_driver().as_str().to_owned(),
            options: logs.options().map(|o| o.clone().into_iter().collect::<BTreeMap<_, _>>()).unwrap_or_default(),
        }),
        stop_timeout: found.stop_timeout(),
        readonly_root_filesystem: found.readonly_root_filesystem(),
        linux_parameters: found
            .linux_parameters()
            .map(|linux| LinuxParameters { init_process_enabled: linux.init_process_enabled() }),
    }
}

fn live_volume(found: &types::Volume) -> Volume {
    Volume {
        name: text(found.name()),
        efs_volume_configuration: found.efs_volume_configuration().map(|efs| EfsVolume {
            file_system_id: efs.file_system_id().to_owned(),
            transit_encryption: efs.transit_encryption().map(|name| name.as_str().to_owned()),
            authorization_config: efs.authorization_config().map(|config| EfsAuthorization {
                access_point_id: config.access_point_id().map(str::to_owned),
                iam: config.iam().map(|name| name.as_str().to_owned()),
            }),
        }),
    }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted() -> Value {
        json!({
            "family": "drafty-bird-dev", "cpu": "256", "memory": "512", "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "runtimePlatform": { "cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX" },
            "executionRoleArn": "arn:aws:iam::123456789012:role/e", "taskRoleArn": "arn:aws:iam::123456789012:role/t",
            "containerDefinitions": [{
                "name": "drafty-bird", "image": "r/drafty-bird-dev@sha256:00", "essential": true,
                "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                "environment": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                "secrets": [{ "name": "TOKEN", "valueFrom": "arn:aws:secretsmanager:us-east-1:123456789012:secret:t" }],
                "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }],
                "logConfiguration": { "logDriver": "awslogs", "options": { "awslogs-group": "/dbird/x" } },
                "stopTimeout": 30, "linuxParameters": { "initProcessEnabled": true }
            }],
            "volumes": [{ "name": "data", "efsVolumeConfiguration": {
                "fileSystemId": "fs-1", "transitEncryption": "ENABLED",
                "authorizationConfig": { "accessPointId": "fsap-1", "iam": "ENABLED" } } }]
        })
    }

    /// What AWS makes of a registration: its own fields and defaults added.
    fn registered(wanted: &TaskDefinition) -> types::TaskDefinition {
        let input = registration(wanted).unwrap().build().unwrap();
        let containers = input.container_definitions.unwrap_or_default().into_iter().map(|mut container| {
            for port in container.port_mappings.iter_mut().flatten() {
                port.host_port = port.container_port;
            }
            container.environment.iter_mut().for_each(|list| list.reverse());
            container.volumes_from = Some(Vec::new());
            container.system_controls = Some(Vec::new());
            container
        });
        types::TaskDefinition::builder()
            .task_definition_arn("arn:aws:ecs:us-east-1:123456789012:task-definition/drafty-bird-dev:7")
            .revision(7)
            .status(types::TaskDefinitionStatus::Active)
            .set_family(input.family)
            .set_cpu(input.cpu)
            .set_memory(input.memory)
            .set_network_mode(input.network_mode)
            .set_requires_compatibilities(input.requires_compatibilities)
            .compatibilities(types::Compatibility::Ec2)
            .set_runtime_platform(input.runtime_platform)
            .set_execution_role_arn(input.execution_role_arn)
            .set_task_role_arn(input.task_role_arn)
            .set_container_definitions(Some(containers.collect()))
            .set_volumes(input.volumes)
            .build()
    }

    #[test]
    fn a_document_comes_back_as_it_was_registered() {
        let mut sidecar = wanted();
        sidecar["containerDefinitions"].as_array_mut().unwrap().push(json!({
            "name": "collector", "image": "public/collector:1", "essential": false, "cpu": 32, "memoryReservation": 64,
            "command": ["--config", "env:C"], "readonlyRootFilesystem": true,
            "dependsOn": [{ "containerName": "drafty-bird", "condition": "START" }],
            "healthCheck": { "command": ["CMD", "/healthcheck"], "interval": 10, "timeout": 5, "retries": 3 }
        }));
        let mut bare = wanted();
        bare.as_object_mut().unwrap().remove("volumes");
        for field in ["mountPoints", "secrets", "environment"] {
            bare["containerDefinitions"][0].as_object_mut().unwrap().remove(field);
        }
        for document in [wanted(), sidecar, bare] {
            let typed: TaskDefinition = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(serde_json::to_value(live(&registered(&typed))).unwrap(), document);
        }
    }

    #[test]
    fn what_is_changed_by_hand_is_seen() {
        let typed: TaskDefinition = serde_json::from_value(wanted()).unwrap();
        let mut found = registered(&typed);
        found.cpu = Some("512".to_owned());
        assert_ne!(live(&found), typed);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for path in ["/ulimits", "/containerDefinitions/0/privileged"] {
            let mut document = wanted();
            let (parent, field) = path.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[field] = json!(true);
            assert!(serde_json::from_value::<TaskDefinition>(document).is_err(), "{path}");
        }
    }

    #[test]
    fn a_release_is_marked() {
        let digest = Digest::of(b"x");
        let marker =
            Marker { release: ReleaseId(4), document: Some(digest.clone()), image: Some(digest), storage_protocol: 2 };
        assert_eq!(Marker::read(&ecs_tags(&marker.tags())), Some(marker));
        assert_eq!(Marker::read(&ecs_tags(&[("dbird:service", "x".to_owned())])), None);
    }
}
