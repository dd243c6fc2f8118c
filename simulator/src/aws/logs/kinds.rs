//! The service's resources as a stack has them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Group, create, retention};
use crate::aws::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    tags, text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&LogGroup, &LogStream];

fn tail() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(12).collect()
}

struct LogGroup;

impl LogGroup {
    fn made(world: &World, name: &str) -> Made {
        let arn = format!("{}:*", Group::arn(world, name));
        let attributes = BTreeMap::from([("Arn".to_owned(), json!(arn))]);
        Made { physical_id: name.to_owned(), attributes, takes_ms: 2_000 }
    }
}

impl Kind for LogGroup {
    fn name(&self) -> &'static str {
        "AWS::Logs::LogGroup"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "LogGroupName",
            "RetentionInDays",
            "KmsKeyId",
            "LogGroupClass",
            "DataProtectionPolicy",
            "FieldIndexPolicies",
            "Tags",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let given = format!("{}-{}-{}", place.stack, place.logical_id, tail());
        let name = text(properties, "LogGroupName").unwrap_or(&given);
        let wanted = json!({
            "logGroupName": name, "kmsKeyId": properties.get("KmsKeyId"), "logGroupClass": properties.get("LogGroupClass"),
        });
        if properties.get("RetentionInDays").is_some() {
            retention(properties, "RetentionInDays")?;
        }
        if world.logs.group_exists(name) {
            // CloudFormation's own words, which name it; the service's do not.
            let said = format!("Resource of type '{}' with identifier '{name}' already exists.", self.name());
            return Err(Fault::new("AlreadyExists", said));
        }
        create(world, &wanted)?;
        self.update(world, name, place, &Value::Null, properties)
    }

    fn update(
        &self,
        world: &Arc<World>,
        name: &str,
        place: &Place,
        _before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let days = after.get("RetentionInDays").map(|_| retention(after, "RetentionInDays")).transpose()?;
        let mut groups = world.logs.lock();
        let group = groups.get_mut(name).ok_or_else(super::no_group)?;
        group.retention_days = days;
        group.key = text(after, "KmsKeyId").map(str::to_owned);
        group.tags = tags::over(&tags::read(after, "Tags"), &place.tags);
        Ok(Self::made(world, name))
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "LogGroupName" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, name: &str, _properties: &Value) -> Result<(), Fault> {
        world.logs.lock().remove(name);
        Ok(())
    }

    fn read(&self, world: &Arc<World>, name: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let groups = world.logs.lock();
        let group = groups.get(name)?;
        let mut properties = json!({ "LogGroupName": name });
        if let Some(days) = group.retention_days {
            properties["RetentionInDays"] = json!(days);
        }
        Some((properties, Self::made(world, name).attributes))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("LogGroupName")
    }
}

struct LogStream;

impl Kind for LogStream {
    fn name(&self) -> &'static str {
        "AWS::Logs::LogStream"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["LogGroupName", "LogStreamName"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["LogGroupName"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let given = format!("{}-{}-{}", place.stack, place.logical_id, tail());
        let name = text(properties, "LogStreamName").unwrap_or(&given);
        let now_ms = world.clock.now_ms();
        let mut groups = world.logs.lock();
        let group = groups.get_mut(text(properties, "LogGroupName").unwrap_or_default()).ok_or_else(super::no_group)?;
        if group.streams.contains_key(name) {
            return Err(Fault::new("ResourceAlreadyExistsException", "The specified log stream already exists"));
        }
        group.stream(name, now_ms);
        Ok(Made { physical_id: name.to_owned(), takes_ms: 1_000, ..Made::default() })
    }

    fn update(
        &self,
        _world: &Arc<World>,
        name: &str,
        _place: &Place,
        _before: &Value,
        _after: &Value,
    ) -> Result<Made, Fault> {
        Ok(Made { physical_id: name.to_owned(), ..Made::default() })
    }

    fn replaces(&self, _property: &str) -> Replaces {
        Replaces::Always
    }

    fn delete(&self, world: &Arc<World>, name: &str, properties: &Value) -> Result<(), Fault> {
        let mut groups = world.logs.lock();
        if let Some(group) = groups.get_mut(text(properties, "LogGroupName").unwrap_or_default()) {
            group.streams.remove(name);
        }
        Ok(())
    }

    fn read(&self, world: &Arc<World>, name: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let groups = world.logs.lock();
        let (group, _) = groups.iter().find(|(_, group)| group.streams.contains_key(name))?;
        Some((json!({ "LogGroupName": group, "LogStreamName": name }), BTreeMap::new()))
    }
}
