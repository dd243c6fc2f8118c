//! ECS's kinds of resources for stacks. It decides how CloudFormation's spelling becomes ECS's own; what is refused is refused by
//! the same functions that answer calls.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{cluster, definition, names, run};
use crate::aws::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    list as members, text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&ClusterKind, &ProvidersKind, &DefinitionKind, &ServiceKind];

/// Members whose own members are names that somebody chose.
const FREE: [&str; 4] = ["Options", "DockerLabels", "DriverOpts", "Labels"];

/// CloudFormation's spelling as ECS's: `ContainerDefinitions` is `containerDefinitions`.
fn lowered(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| {
                let lower = match name.as_str() {
                    "EFSVolumeConfiguration" => "efsVolumeConfiguration".to_owned(),
                    "FilesystemId" => "fileSystemId".to_owned(),
                    "IAM" => "iam".to_owned(),
                    other => {
                        let mut letters = other.chars();
                        letters.next().map(|l| l.to_ascii_lowercase()).into_iter().chain(letters).collect()
                    }
                };
                let inner = if FREE.contains(&name.as_str()) { value.clone() } else { lowered(value) };
                (lower, inner)
            });
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(all) => Value::Array(all.iter().map(lowered).collect()),
        other => other.clone(),
    }
}

/// The resource's tags over those of its stack, as ECS spells them.
fn tags(place: &Place, properties: &Value) -> Vec<Value> {
    let stack: Vec<Value> = place.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let own: Vec<Value> = members(properties, "Tags").iter().map(lowered).collect();
    names::merged_tags(&stack, &own)
}

fn named(place: &Place, properties: &Value, property: &str) -> String {
    crate::aws::bag::name(place, properties, property, 255)
}

fn cluster_made(name: &str, arn: &str, takes_ms: u64) -> Made {
    Made { physical_id: name.to_owned(), attributes: BTreeMap::from([("Arn".to_owned(), json!(arn))]), takes_ms }
}

struct ClusterKind;

impl Kind for ClusterKind {
    fn name(&self) -> &'static str {
        "AWS::ECS::Cluster"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "CapacityProviders",
            "ClusterName",
            "ClusterSettings",
            "Configuration",
            "DefaultCapacityProviderStrategy",
            "ServiceConnectDefaults",
            "Tags",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = named(place, properties, "ClusterName");
        if world.ecs.state().clusters.contains_key(&name) {
            return Err(Fault::new(
                "AlreadyExists",
                format!("Resource of type 'AWS::ECS::Cluster' with identifier '{name}' already exists."),
            ));
        }
        let mut input = lowered(properties);
        input["clusterName"] = json!(name);
        input["tags"] = json!(tags(place, properties));
        input["settings"] = input["clusterSettings"].clone();
        cluster::create(world, &input)?;
        Ok(cluster_made(&name, &world.arn("ecs", &format!("cluster/{name}")), 4_000))
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut state = world.ecs.state();
        let cluster = state.clusters.get_mut(physical_id).ok_or_else(names::no_cluster)?;
        cluster.tags = tags(place, after);
        let lower = lowered(after);
        if !members(&lower, "clusterSettings").is_empty() {
            cluster.settings = members(&lower, "clusterSettings").to_vec();
        }
        cluster.providers = members(&lower, "capacityProviders").to_vec();
        cluster.strategy = members(&lower, "defaultCapacityProviderStrategy").to_vec();
        Ok(cluster_made(physical_id, &cluster.arn.clone(), 2_000))
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "ClusterName" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        match cluster::delete(world, &json!({ "cluster": physical_id })) {
            Err(fault) if fault.code != "ClusterNotFoundException" => Err(fault),
            _ => Ok(()),
        }
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.ecs.state();
        let cluster = state.clusters.get(physical_id)?;
        let settings: Vec<Value> =
            cluster.settings.iter().map(|s| json!({ "Name": s["name"], "Value": s["value"] })).collect();
        let properties = json!({ "ClusterName": cluster.name, "ClusterSettings": settings });
        Some((properties, BTreeMap::from([("Arn".to_owned(), json!(cluster.arn))])))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("ClusterName")
    }
}

struct ProvidersKind;

impl ProvidersKind {
    fn put(world: &Arc<World>, properties: &Value) -> Result<Made, Fault> {
        let lower = lowered(properties);
        let name = names::last(text(&lower, "cluster").unwrap_or_default()).to_owned();
        let mut state = world.ecs.state();
        let cluster = state.clusters.get_mut(&name).ok_or_else(names::no_cluster)?;
        cluster.providers = members(&lower, "capacityProviders").to_vec();
        cluster.strategy = members(&lower, "defaultCapacityProviderStrategy").to_vec();
        Ok(Made { physical_id: name, attributes: BTreeMap::new(), takes_ms: 2_000 })
    }
}

impl Kind for ProvidersKind {
    fn name(&self) -> &'static str {
        "AWS::ECS::ClusterCapacityProviderAssociations"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["CapacityProviders", "Cluster", "DefaultCapacityProviderStrategy"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["Cluster", "DefaultCapacityProviderStrategy"]
    }

    fn create(&self, world: &Arc<World>, _: &Place, properties: &Value) -> Result<Made, Fault> {
        Self::put(world, properties)
    }

    fn update(&self, world: &Arc<World>, _: &str, _: &Place, _: &Value, after: &Value) -> Result<Made, Fault> {
        Self::put(world, after)
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "Cluster" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        if let Some(cluster) = world.ecs.state().clusters.get_mut(physical_id) {
            cluster.providers.clear();
            cluster.strategy.clear();
        }
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.ecs.state();
        let cluster = state.clusters.get(physical_id)?;
        Some((json!({ "CapacityProviders": cluster.providers }), BTreeMap::new()))
    }
}

struct DefinitionKind;

impl Kind for DefinitionKind {
    fn name(&self) -> &'static str {
        "AWS::ECS::TaskDefinition"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "ContainerDefinitions",
            "Cpu",
            "EphemeralStorage",
            "ExecutionRoleArn",
            "Family",
            "IpcMode",
            "Memory",
            "NetworkMode",
            "PidMode",
            "PlacementConstraints",
            "ProxyConfiguration",
            "RequiresCompatibilities",
            "RuntimePlatform",
            "Tags",
            "TaskRoleArn",
            "Volumes",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let mut input = lowered(properties);
        input["family"] = json!(named(place, properties, "Family"));
        input["tags"] = json!(tags(place, properties));
        let made = definition::register(world, &input)?;
        let arn = made.pointer("/taskDefinition/taskDefinitionArn").cloned().unwrap_or_default();
        let physical_id = arn.as_str().unwrap_or_default().to_owned();
        Ok(Made { physical_id, attributes: BTreeMap::from([("TaskDefinitionArn".to_owned(), arn)]), takes_ms: 1_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut state = world.ecs.state();
        let found = state.families.values_mut().flatten().find(|d| d.arn == physical_id);
        let found = found.ok_or_else(|| names::client("Unable to describe task definition."))?;
        found.tags = tags(place, after);
        let attributes = BTreeMap::from([("TaskDefinitionArn".to_owned(), json!(physical_id))]);
        Ok(Made { physical_id: physical_id.to_owned(), attributes, takes_ms: 500 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "Tags" { Replaces::Never } else { Replaces::Always }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        // One that is not there any more is as good as deregistered.
        let _ = definition::deregister(world, &json!({ "taskDefinition": physical_id }));
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.ecs.state();
        let found = state.definition(physical_id)?;
        let properties = json!({ "Family": found.body["family"] });
        Some((properties, BTreeMap::from([("TaskDefinitionArn".to_owned(), json!(physical_id))])))
    }
}

struct ServiceKind;

impl ServiceKind {
    fn made(world: &Arc<World>, arn: &str, takes_ms: u64) -> Made {
        let name = world.ecs.state().services.get(arn).map(|s| s.name.clone());
        let attributes = BTreeMap::from([("ServiceArn".to_owned(), json!(arn)), ("Name".to_owned(), json!(name))]);
        Made { physical_id: arn.to_owned(), attributes, takes_ms }
    }

    /// The input of a call for the service with this ARN.
    fn input(arn: &str, properties: &Value) -> Value {
        let mut input = lowered(properties);
        let mut parts = arn.rsplit('/');
        input["service"] = json!(parts.next());
        input["cluster"] = json!(parts.next());
        input
    }
}

impl Kind for ServiceKind {
    fn name(&self) -> &'static str {
        "AWS::ECS::Service"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "AvailabilityZoneRebalancing",
            "CapacityProviderStrategy",
            "Cluster",
            "DeploymentConfiguration",
            "DeploymentController",
            "DesiredCount",
            "EnableECSManagedTags",
            "EnableExecuteCommand",
            "HealthCheckGracePeriodSeconds",
            "LaunchType",
            "LoadBalancers",
            "NetworkConfiguration",
            "PlatformVersion",
            "PropagateTags",
            "SchedulingStrategy",
            "ServiceName",
            "Tags",
            "TaskDefinition",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let mut input = lowered(properties);
        input["serviceName"] = json!(named(place, properties, "ServiceName"));
        input["tags"] = json!(tags(place, properties));
        let made = run::create(world, &input)?;
        let arn = made.pointer("/service/serviceArn").and_then(Value::as_str).unwrap_or_default();
        Ok(Self::made(world, arn, 30_000))
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        _: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        run::update(world, &Self::input(physical_id, after))?;
        Ok(Self::made(world, physical_id, 30_000))
    }

    fn replaces(&self, property: &str) -> Replaces {
        let renews = ["Cluster", "DeploymentController", "LaunchType", "SchedulingStrategy", "ServiceName"];
        if renews.contains(&property) { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        let mut input = Self::input(physical_id, &json!({}));
        input["force"] = json!(true);
        match run::delete(world, &input) {
            Err(fault) if !matches!(fault.code.as_str(), "ServiceNotFoundException" | "ClusterNotFoundException") => {
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let (properties, name) = {
            let state = world.ecs.state();
            let service = state.services.get(physical_id).filter(|s| s.status != "INACTIVE")?;
            (json!({ "ServiceName": service.name, "DesiredCount": service.desired }), service.name.clone())
        };
        let attributes =
            BTreeMap::from([("ServiceArn".to_owned(), json!(physical_id)), ("Name".to_owned(), json!(name))]);
        Some((properties, attributes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_spelled_as_ecs_spells_them() {
        let given = json!({
            "ContainerDefinitions": [{ "LogConfiguration": { "Options": { "awslogs-group": "g", "Upper": "u" } } }],
            "Volumes": [{ "EFSVolumeConfiguration": { "FilesystemId": "fs-1", "AuthorizationConfig": { "IAM": "ENABLED" } } }],
        });
        let expected = json!({
            "containerDefinitions": [{ "logConfiguration": { "options": { "awslogs-group": "g", "Upper": "u" } } }],
            "volumes": [{ "efsVolumeConfiguration": { "fileSystemId": "fs-1", "authorizationConfig": { "iam": "ENABLED" } } }],
        });
        assert_eq!(lowered(&given), expected);
    }
}
