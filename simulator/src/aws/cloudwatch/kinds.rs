//! The service's resources as a stack has them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{alarm, dashboard};
use crate::aws::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    tags, text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&Alarm, &Dashboard];

fn given(place: &Place) -> String {
    let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
    format!("{}-{}-{tail}", place.stack, place.logical_id)
}

struct Alarm;

impl Alarm {
    fn put(world: &Arc<World>, name: &str, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let mut input = properties.clone();
        input["AlarmName"] = json!(name);
        alarm::put(world, &input)?;
        let mut inside = world.cloudwatch.lock();
        let attributes = inside.alarms.get_mut(name).map(|alarm| {
            alarm.tags = tags::over(&tags::read(properties, "Tags"), &place.tags);
            BTreeMap::from([("Arn".to_owned(), json!(alarm.arn))])
        });
        Ok(Made { physical_id: name.to_owned(), attributes: attributes.unwrap_or_default(), takes_ms: 1_000 })
    }
}

impl Kind for Alarm {
    fn name(&self) -> &'static str {
        "AWS::CloudWatch::Alarm"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "AlarmName",
            "AlarmDescription",
            "ActionsEnabled",
            "OKActions",
            "AlarmActions",
            "InsufficientDataActions",
            "MetricName",
            "Namespace",
            "Statistic",
            "ExtendedStatistic",
            "Dimensions",
            "Period",
            "Unit",
            "EvaluationPeriods",
            "DatapointsToAlarm",
            "Threshold",
            "ThresholdMetricId",
            "ComparisonOperator",
            "TreatMissingData",
            "EvaluateLowSampleCountPercentile",
            "Metrics",
            "Tags",
        ]
    }

    fn required(&self) -> &'static [&'static str] {
        &["ComparisonOperator", "EvaluationPeriods"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let made = given(place);
        let name = text(properties, "AlarmName").unwrap_or(&made);
        if world.cloudwatch.alarm_state(name).is_some() {
            return Err(Fault::new("AlreadyExists", format!("{name} already exists")));
        }
        Self::put(world, name, place, properties)
    }

    fn update(
        &self,
        world: &Arc<World>,
        name: &str,
        place: &Place,
        _before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        Self::put(world, name, place, after)
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "AlarmName" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, name: &str, _properties: &Value) -> Result<(), Fault> {
        world.cloudwatch.lock().alarms.remove(name);
        Ok(())
    }

    fn read(&self, world: &Arc<World>, name: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let inside = world.cloudwatch.lock();
        let alarm = inside.alarms.get(name)?;
        Some((Value::Object(alarm.settings.clone()), BTreeMap::from([("Arn".to_owned(), json!(alarm.arn))])))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("AlarmName")
    }
}

struct Dashboard;

impl Kind for Dashboard {
    fn name(&self) -> &'static str {
        "AWS::CloudWatch::Dashboard"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["DashboardName", "DashboardBody", "Tags"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["DashboardBody"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let made = given(place);
        let name = text(properties, "DashboardName").unwrap_or(&made);
        self.update(world, name, place, &Value::Null, properties)
    }

    fn update(
        &self,
        world: &Arc<World>,
        name: &str,
        _place: &Place,
        _before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut input = after.clone();
        input["DashboardName"] = json!(name);
        dashboard::put(world, &input)?;
        Ok(Made { physical_id: name.to_owned(), takes_ms: 1_000, ..Made::default() })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "DashboardName" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, name: &str, _properties: &Value) -> Result<(), Fault> {
        world.cloudwatch.lock().dashboards.remove(name);
        Ok(())
    }

    fn read(&self, world: &Arc<World>, name: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let inside = world.cloudwatch.lock();
        let dashboard = inside.dashboards.get(name)?;
        Some((json!({ "DashboardName": name, "DashboardBody": dashboard.body }), BTreeMap::new()))
    }
}
