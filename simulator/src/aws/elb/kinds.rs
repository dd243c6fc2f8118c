//! The service's resources as a stack has them. What is refused here is refused by the same functions that answer the API.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{balancer, group, health::Check, listener, rule};
use crate::aws::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    list, tags,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&LoadBalancer, &TargetGroup, &Listener, &ListenerRule];

/// A name of at most so many letters, as CloudFormation gives it.
fn named(place: &Place, properties: &Value, letters_max: usize) -> String {
    if let Some(name) = properties.get("Name").and_then(Value::as_str) {
        return name.to_owned();
    }
    let letters = |text: &str, most: usize| -> String {
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').take(most).collect()
    };
    let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
    let each = (letters_max - 14) / 2;
    let (stack, own) = (letters(&place.stack, each), letters(&place.logical_id, each));
    format!("{}-{own}-{tail}", stack.trim_matches('-'))
}

/// The properties as an input of the API, with a stack's tags below its own.
fn input(place: &Place, properties: &Value, more: &[(&str, Value)]) -> Value {
    let mut input: Map<String, Value> = properties.as_object().cloned().unwrap_or_default();
    let all = tags::over(&tags::read(properties, "Tags"), &place.tags);
    input.insert("Tags".to_owned(), tags::write(&all));
    input.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(input)
}

fn set_tags(world: &Arc<World>, arn: &str, place: &Place, properties: &Value) -> Result<(), Fault> {
    *world.elb.lock().tags_mut(arn)? = tags::over(&tags::read(properties, "Tags"), &place.tags);
    Ok(())
}

fn gone(error: Fault) -> Result<(), Fault> {
    if error.code.ends_with("NotFound") { Ok(()) } else { Err(error) }
}

struct LoadBalancer;

impl LoadBalancer {
    fn attributes(world: &Arc<World>, arn: &str) -> Option<BTreeMap<String, Value>> {
        let inside = world.elb.lock();
        let balancer = inside.balancers.get(arn)?;
        Some(BTreeMap::from([
            ("LoadBalancerArn".to_owned(), json!(arn)),
            ("DNSName".to_owned(), json!(balancer.address.to_string())),
            ("CanonicalHostedZoneID".to_owned(), json!("Z35SXDOTRQ7X7K")),
            ("LoadBalancerFullName".to_owned(), json!(balancer.full_name())),
            ("LoadBalancerName".to_owned(), json!(balancer.name)),
            ("SecurityGroups".to_owned(), json!(balancer.security_groups)),
        ]))
    }
}

impl Kind for LoadBalancer {
    fn name(&self) -> &'static str {
        "AWS::ElasticLoadBalancingV2::LoadBalancer"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "Name",
            "Scheme",
            "Subnets",
            "SubnetMappings",
            "SecurityGroups",
            "Type",
            "IpAddressType",
            "LoadBalancerAttributes",
            "MinimumLoadBalancerCapacity",
            "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic",
            "Tags",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = named(place, properties, 32);
        if world.elb.lock().balancers.values().any(|balancer| balancer.name == name) {
            return Err(Fault::new("AlreadyExists", format!("A load balancer with the same name '{name}' exists")));
        }
        let arn = balancer::create(world, &input(place, properties, &[("Name", json!(name))]))?;
        let attributes = input(
            place,
            properties,
            &[("LoadBalancerArn", json!(arn)), ("Attributes", json!(list(properties, "LoadBalancerAttributes")))],
        );
        if let Err(fault) = balancer::attributes(world, &attributes, true) {
            balancer::delete(world, &arn)?;
            return Err(fault);
        }
        let attributes = Self::attributes(world, &arn).unwrap_or_default();
        Ok(Made { physical_id: arn, attributes, takes_ms: balancer::BEGINS_MS })
    }

    fn update(
        &self,
        world: &Arc<World>,
        arn: &str,
        place: &Place,
        before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let changed = |name: &str| before.get(name) != after.get(name);
        let input = input(
            place,
            after,
            &[("LoadBalancerArn", json!(arn)), ("Attributes", json!(list(after, "LoadBalancerAttributes")))],
        );
        if changed("SecurityGroups") {
            balancer::set_security_groups(world, &input)?;
        }
        if changed("Subnets") || changed("SubnetMappings") {
            balancer::set_subnets(world, &input)?;
        }
        balancer::attributes(world, &input, true)?;
        set_tags(world, arn, place, after)?;
        let attributes = Self::attributes(world, arn).unwrap_or_default();
        Ok(Made { physical_id: arn.to_owned(), attributes, takes_ms: 5_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if ["Name", "Scheme", "Type"].contains(&property) { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, arn: &str, _properties: &Value) -> Result<(), Fault> {
        balancer::delete(world, arn)
    }

    fn read(&self, world: &Arc<World>, arn: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let attributes = Self::attributes(world, arn)?;
        let inside = world.elb.lock();
        let balancer = inside.balancers.get(arn)?;
        let properties = json!({
            "Name": balancer.name, "Scheme": balancer.scheme, "SecurityGroups": balancer.security_groups,
            "Subnets": balancer.subnets, "Type": "application",
        });
        Some((properties, attributes))
    }
}

struct TargetGroup;

impl TargetGroup {
    fn attributes(world: &Arc<World>, arn: &str) -> Option<BTreeMap<String, Value>> {
        let inside = world.elb.lock();
        let group = inside.groups.get(arn)?;
        Some(BTreeMap::from([
            ("TargetGroupArn".to_owned(), json!(arn)),
            ("TargetGroupFullName".to_owned(), json!(group.full_name())),
            ("TargetGroupName".to_owned(), json!(group.name)),
            ("LoadBalancerArns".to_owned(), json!(inside.balancers_of(arn))),
        ]))
    }

    fn set(world: &Arc<World>, arn: &str, properties: &Value) -> Result<(), Fault> {
        let given = json!({ "TargetGroupArn": arn, "Attributes": list(properties, "TargetGroupAttributes") });
        group::attributes(world, &given, true).map(drop)
    }
}

impl Kind for TargetGroup {
    fn name(&self) -> &'static str {
        "AWS::ElasticLoadBalancingV2::TargetGroup"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "Name",
            "Port",
            "Protocol",
            "ProtocolVersion",
            "VpcId",
            "TargetType",
            "IpAddressType",
            "HealthCheckEnabled",
            "HealthCheckIntervalSeconds",
            "HealthCheckPath",
            "HealthCheckPort",
            "HealthCheckProtocol",
            "HealthCheckTimeoutSeconds",
            "HealthyThresholdCount",
            "UnhealthyThresholdCount",
            "Matcher",
            "TargetGroupAttributes",
            "Targets",
            "Tags",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = named(place, properties, 32);
        if world.elb.lock().groups.values().any(|group| group.name == name) {
            return Err(Fault::new("AlreadyExists", format!("A target group with the same name '{name}' exists")));
        }
        let arn = group::create(world, &input(place, properties, &[("Name", json!(name))]))?;
        let targets = json!({ "TargetGroupArn": arn, "Targets": list(properties, "Targets") });
        let rest = Self::set(world, &arn, properties).and_then(|()| group::targets(world, &targets, true).map(drop));
        if let Err(fault) = rest {
            group::delete(world, &arn)?;
            return Err(fault);
        }
        let attributes = Self::attributes(world, &arn).unwrap_or_default();
        Ok(Made { physical_id: arn, attributes, takes_ms: 10_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        arn: &str,
        place: &Place,
        _before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        // What the template no longer says is as it was at first again.
        let check = Check::parse(after, &Check::default())?;
        world.elb.lock().groups.get_mut(arn).ok_or_else(|| group::not_found(arn))?.check = check;
        Self::set(world, arn, after)?;
        set_tags(world, arn, place, after)?;
        let attributes = Self::attributes(world, arn).unwrap_or_default();
        Ok(Made { physical_id: arn.to_owned(), attributes, takes_ms: 2_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        let fixed = ["Name", "Port", "Protocol", "ProtocolVersion", "VpcId", "TargetType", "IpAddressType"];
        if fixed.contains(&property) { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, arn: &str, _properties: &Value) -> Result<(), Fault> {
        group::delete(world, arn)
    }

    fn read(&self, world: &Arc<World>, arn: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let attributes = Self::attributes(world, arn)?;
        let inside = world.elb.lock();
        let group = inside.groups.get(arn)?;
        let mut properties = json!({
            "Name": group.name, "Port": group.port, "Protocol": group.protocol, "VpcId": group.vpc, "TargetType": "ip",
        });
        group.check.describe(&mut properties);
        Some((properties, attributes))
    }
}

struct Listener;

impl Kind for Listener {
    fn name(&self) -> &'static str {
        "AWS::ElasticLoadBalancingV2::Listener"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "DefaultActions",
            "LoadBalancerArn",
            "Port",
            "Protocol",
            "Certificates",
            "SslPolicy",
            "AlpnPolicy",
            "MutualAuthentication",
            "ListenerAttributes",
            "Tags",
        ]
    }

    fn required(&self) -> &'static [&'static str] {
        &["DefaultActions", "LoadBalancerArn"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let arn = listener::create(world, &input(place, properties, &[]))?;
        let attributes = BTreeMap::from([("ListenerArn".to_owned(), json!(arn))]);
        Ok(Made { physical_id: arn, attributes, takes_ms: 2_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        arn: &str,
        place: &Place,
        _before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        listener::modify(world, &input(place, after, &[("ListenerArn", json!(arn))]))?;
        set_tags(world, arn, place, after)?;
        let attributes = BTreeMap::from([("ListenerArn".to_owned(), json!(arn))]);
        Ok(Made { physical_id: arn.to_owned(), attributes, takes_ms: 2_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "LoadBalancerArn" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, arn: &str, _properties: &Value) -> Result<(), Fault> {
        listener::delete(world, arn).or_else(gone)
    }

    fn read(&self, world: &Arc<World>, arn: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let inside = world.elb.lock();
        let listener = inside.listeners.get(arn)?;
        let properties = json!({
            "DefaultActions": listener.given, "LoadBalancerArn": listener.balancer, "Port": listener.port,
            "Protocol": listener.protocol,
        });
        Some((properties, BTreeMap::from([("ListenerArn".to_owned(), json!(arn))])))
    }
}

struct ListenerRule;

impl ListenerRule {
    fn attributes(arn: &str) -> BTreeMap<String, Value> {
        BTreeMap::from([("RuleArn".to_owned(), json!(arn)), ("IsDefault".to_owned(), json!(false))])
    }
}

impl Kind for ListenerRule {
    fn name(&self) -> &'static str {
        "AWS::ElasticLoadBalancingV2::ListenerRule"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["Actions", "Conditions", "ListenerArn", "Priority", "Transforms", "Tags"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["Actions", "Conditions", "Priority"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let arn = rule::create(world, &input(place, properties, &[]))?;
        Ok(Made { attributes: Self::attributes(&arn), physical_id: arn, takes_ms: 2_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        arn: &str,
        place: &Place,
        before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        rule::modify(world, &input(place, after, &[("RuleArn", json!(arn))]))?;
        if before.get("Priority") != after.get("Priority") {
            let pair = json!({ "RuleArn": arn, "Priority": after.get("Priority") });
            rule::set_priorities(world, &json!({ "RulePriorities": [pair] }))?;
        }
        set_tags(world, arn, place, after)?;
        Ok(Made { physical_id: arn.to_owned(), attributes: Self::attributes(arn), takes_ms: 2_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "ListenerArn" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, arn: &str, _properties: &Value) -> Result<(), Fault> {
        rule::delete(world, arn).or_else(gone)
    }

    fn read(&self, world: &Arc<World>, arn: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let mut inside = world.elb.lock();
        let rule = inside.rule_mut(arn)?;
        let properties = json!({ "Actions": rule.given.0, "Conditions": rule.given.1, "Priority": rule.priority });
        Some((properties, Self::attributes(arn)))
    }
}
