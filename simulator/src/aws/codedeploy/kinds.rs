//! CodeDeploy's resources as stacks hold them. A deployment group is refused where its service is not there, as AWS refuses it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{group, name};
use crate::aws::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&ApplicationKind, &ConfigKind, &GroupKind];

/// A template's properties as the API spells them: `ECSServices` is `ecsServices`, `Alarms` is `alarms`.
fn as_input(properties: &Value) -> Value {
    match properties {
        Value::Object(members) => {
            let spelled = |name: &str| {
                let upper = name.chars().take_while(char::is_ascii_uppercase).count();
                // Of several capitals the last one begins the next word.
                let lower = if upper > 1 && upper < name.len() { upper - 1 } else { upper };
                let (head, tail) = name.split_at(lower);
                head.to_ascii_lowercase() + tail
            };
            members
                .iter()
                .map(|(name, value)| (spelled(name), as_input(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().map(as_input).collect(),
        other => other.clone(),
    }
}

/// The name that is given, or one that CloudFormation makes.
fn named(properties: &Value, member: &str, place: &Place) -> String {
    let made = || format!("{}-{}-{:012X}", place.stack, place.logical_id, fastrand::u64(..1 << 48));
    text(properties, member).map_or_else(made, str::to_owned)
}

fn made(physical_id: String) -> Made {
    Made { physical_id, attributes: BTreeMap::new(), takes_ms: 1000 }
}

struct ApplicationKind;

impl Kind for ApplicationKind {
    fn name(&self) -> &'static str {
        "AWS::CodeDeploy::Application"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["ApplicationName", "ComputePlatform", "Tags"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = named(properties, "ApplicationName", place);
        let mut input = as_input(properties);
        input["applicationName"] = json!(name);
        let now = world.clock.now_ms();
        world.codedeploy.with(|inner| inner.create_application(&input, now))?;
        Ok(made(name))
    }

    fn update(&self, _: &Arc<World>, physical_id: &str, _: &Place, _: &Value, _: &Value) -> Result<Made, Fault> {
        Ok(made(physical_id.to_owned()))
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "Tags" { Replaces::Never } else { Replaces::Always }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        world.codedeploy.with(|inner| inner.applications.remove(physical_id));
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        world.codedeploy.with(|inner| inner.application(physical_id).ok().map(drop))?;
        Some((json!({ "ApplicationName": physical_id, "ComputePlatform": "ECS" }), BTreeMap::new()))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("ApplicationName")
    }
}

struct ConfigKind;

impl Kind for ConfigKind {
    fn name(&self) -> &'static str {
        "AWS::CodeDeploy::DeploymentConfig"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["ComputePlatform", "DeploymentConfigName", "MinimumHealthyHosts", "TrafficRoutingConfig", "ZonalConfig"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = named(properties, "DeploymentConfigName", place);
        let mut input = as_input(properties);
        input["deploymentConfigName"] = json!(name);
        let now = world.clock.now_ms();
        world.codedeploy.with(|inner| inner.create_config(&input, now))?;
        Ok(made(name))
    }

    fn update(&self, _: &Arc<World>, _: &str, _: &Place, _: &Value, _: &Value) -> Result<Made, Fault> {
        Err(Fault::new("InvalidRequest", "A deployment configuration can't be changed, only made anew"))
    }

    fn replaces(&self, _: &str) -> Replaces {
        Replaces::Always
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        world.codedeploy.with(|inner| inner.delete_config(physical_id)).map(drop)
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        world.codedeploy.with(|inner| inner.config(physical_id)).ok()?;
        Some((json!({ "DeploymentConfigName": physical_id, "ComputePlatform": "ECS" }), BTreeMap::new()))
    }
}

struct GroupKind;

impl Kind for GroupKind {
    fn name(&self) -> &'static str {
        "AWS::CodeDeploy::DeploymentGroup"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "AlarmConfiguration",
            "ApplicationName",
            "AutoRollbackConfiguration",
            "BlueGreenDeploymentConfiguration",
            "DeploymentConfigName",
            "DeploymentGroupName",
            "DeploymentStyle",
            "ECSServices",
            "LoadBalancerInfo",
            "OutdatedInstancesStrategy",
            "ServiceRoleArn",
            "Tags",
        ]
    }

    fn required(&self) -> &'static [&'static str] {
        &["ApplicationName", "ServiceRoleArn"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let group_name = named(properties, "DeploymentGroupName", place);
        let input = as_input(properties);
        let application = name(&input)?.to_owned();
        group::check_service(world, &group::Settings::read(&input)?)?;
        world.codedeploy.with(|inner| inner.put_group(&application, &group_name, input))?;
        Ok(made(group_name))
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        _: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let input = as_input(after);
        let application = name(&input)?.to_owned();
        group::check_service(world, &group::Settings::read(&input)?)?;
        world.codedeploy.with(|inner| inner.put_group(&application, physical_id, input))?;
        Ok(made(physical_id.to_owned()))
    }

    fn replaces(&self, property: &str) -> Replaces {
        if matches!(property, "ApplicationName" | "DeploymentGroupName") { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, properties: &Value) -> Result<(), Fault> {
        let application = text(properties, "ApplicationName").unwrap_or_default();
        let input = json!({ "applicationName": application, "deploymentGroupName": physical_id });
        // An application that is gone has taken its groups with it.
        world.codedeploy.with(|inner| inner.delete_group(&input).ok());
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let there =
            world.codedeploy.with(|inner| inner.applications.values().any(|a| a.groups.contains_key(physical_id)));
        there.then(|| (json!({ "DeploymentGroupName": physical_id }), BTreeMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_spelled_as_the_api_does() {
        let properties = json!({ "ECSServices": [{ "ClusterName": "a" }], "Alarms": [], "TerminateBlueInstancesOnDeploymentSuccess":
            { "TerminationWaitTimeInMinutes": 5 } });
        let wanted = json!({ "ecsServices": [{ "clusterName": "a" }], "alarms": [], "terminateBlueInstancesOnDeploymentSuccess":
            { "terminationWaitTimeInMinutes": 5 } });
        assert_eq!(as_input(&properties), wanted);
    }
}
