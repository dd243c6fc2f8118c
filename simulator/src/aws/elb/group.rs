//! Target groups: what they are and who is in them. It decides which settings are valid and which target a request gets; it
//! never asks a target how it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use serde_json::{Value, json};

use super::{
    Elb, Inside,
    health::{self, Check, Health},
    tally::{InFlight, Passing, Tally},
};
use crate::aws::{
    Answer, Fault, World, flag, list, number,
    tags::{self, Tags},
    text,
};

/// Target groups in a region.
const GROUPS_MAX: usize = 3000;
/// Targets in a group.
const TARGETS_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: u16,
    pub(super) vpc: String,
    pub(super) check: Check,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) tags: Tags,
    pub(super) targets: Vec<Target>,
    pub(super) tally: Arc<Tally>,
    turn: usize,
}

/// Somebody who answers requests.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: String,
    /// As clients are told; where it really listens may be another.
    pub(super) port: u16,
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    pub(super) in_flight: InFlight,
    pub(super) asking: Option<tokio::task::AbortHandle>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) address: SocketAddr,
    pub(super) tally: Arc<Tally>,
    pub(super) passing: Passing,
}

impl Group {
    /// `targetgroup/blue/0123456789abcdef`.
    pub(super) fn full_name(&self) -> &str {
        self.arn.splitn(6, ':').nth(5).unwrap_or_default()
    }

    /// The next target: a healthy one, or any where none is healthy, as load balancers do rather than answer nobody.
    pub(super) fn choose(&mut self) -> Option<Chosen> {
        let fit = |fits: fn(&Health) -> bool, targets: &[Target]| -> Vec<usize> {
            targets.iter().enumerate().filter(|(_, target)| fits(&target.health)).map(|(at, _)| at).collect()
        };
        let mut fitting = fit(Health::is_healthy, &self.targets);
        if fitting.is_empty() {
            fitting = fit(|health| !health.is_draining(), &self.targets);
        }
        self.turn = self.turn.wrapping_add(1);
        let target = self.targets.get(*fitting.get(self.turn % fitting.len().max(1))?)?;
        let passing = target.in_flight.enter();
        Some(Chosen { address: target.address, tally: Arc::clone(&self.tally), passing })
    }

    pub(super) fn drains_s(&self) -> u64 {
        self.attributes.get("deregistration_delay.timeout_seconds").and_then(|s| s.parse().ok()).unwrap_or(300)
    }

    fn describe(&self, inside: &Inside) -> Value {
        let mut group = json!({
            "TargetGroupArn": self.arn, "TargetGroupName": self.name, "Protocol": self.protocol, "Port": self.port,
            "VpcId": self.vpc, "TargetType": "ip", "ProtocolVersion": "HTTP1", "IpAddressType": "ipv4",
            "LoadBalancerArns": inside.balancers_of(&self.arn),
        });
        self.check.describe(&mut group);
        group
    }
}

/// Attributes with what they are at first.
fn usual() -> BTreeMap<String, String> {
    [
        ("deregistration_delay.timeout_seconds", "300"),
        ("slow_start.duration_seconds", "0"),
        ("load_balancing.algorithm.type", "round_robin"),
        ("load_balancing.algorithm.anomaly_mitigation", "off"),
        ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration"),
        ("stickiness.enabled", "false"),
        ("stickiness.type", "lb_cookie"),
        ("stickiness.lb_cookie.duration_seconds", "86400"),
        ("stickiness.app_cookie.cookie_name", ""),
        ("stickiness.app_cookie.duration_seconds", "86400"),
        ("target_group_health.dns_failover.minimum_healthy_targets.count", "1"),
        ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off"),
        ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1"),
        ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Changes some attributes, all or none.
pub(super) fn set_attributes(attributes: &mut BTreeMap<String, String>, given: &[Value]) -> Result<(), Fault> {
    let mut after = attributes.clone();
    for attribute in given {
        let (key, value) = (text(attribute, "Key").unwrap_or_default(), text(attribute, "Value").unwrap_or_default());
        if !after.contains_key(key) {
            return Err(Fault::new("ValidationError", format!("Target group attribute key '{key}' is not recognized")));
        }
        let seconds: Option<u32> = value.parse().ok();
        let valid = match key {
            "deregistration_delay.timeout_seconds" => seconds.is_some_and(|s| s <= 3600),
            "slow_start.duration_seconds" => seconds.is_some_and(|s| s == 0 || (30..=900).contains(&s)),
            "load_balancing.algorithm.type" => {
                ["round_robin", "least_outstanding_requests", "weighted_random"].contains(&value)
            }
            "stickiness.enabled" => ["true", "false"].contains(&value),
            _ => true,
        };
        if !valid {
            let said = format!("The value '{value}' for target group attribute '{key}' is not valid");
            return Err(Fault::new("ValidationError", said));
        }
        after.insert(key.to_owned(), value.to_owned());
    }
    *attributes = after;
    Ok(())
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Result<String, Fault> {
    let name = super::name(input)?;
    if !matches!(text(input, "TargetType"), Some("ip")) {
        let said = "Only target groups of the type ip are simulated: Fargate's tasks need no other";
        return Err(Fault::new("ValidationError", said));
    }
    let protocol = text(input, "Protocol").unwrap_or_default().to_owned();
    if protocol != "HTTP" {
        return Err(Fault::new(
            "UnsupportedProtocol",
            format!("Only HTTP is simulated as a target group's protocol, not '{protocol}'"),
        ));
    }
    let port = super::port(input)?;
    let Some(vpc) = text(input, "VpcId") else {
        return Err(Fault::new("ValidationError", "A VPC ID must be specified"));
    };
    let check = Check::parse(input, &Check::default())?;
    let mut inside = world.elb.lock();
    if let Some(known) = inside.groups.values().find(|group| group.name == name) {
        if known.port == port && known.vpc == vpc && known.check == check {
            return Ok(known.arn.clone());
        }
        let said = format!("A target group with the same name '{name}' exists, but with different settings");
        return Err(Fault::new("DuplicateTargetGroupName", said));
    }
    if inside.groups.len() >= GROUPS_MAX {
        return Err(Fault::new("TooManyTargetGroups", "The maximum number of target groups has been reached"));
    }
    let arn = world.arn("elasticloadbalancing", &format!("targetgroup/{name}/{}", super::hex16()));
    let group = Group {
        arn: arn.clone(),
        name,
        protocol,
        port,
        vpc: vpc.to_owned(),
        check,
        attributes: usual(),
        tags: tags::read(input, "Tags"),
        targets: Vec::new(),
        tally: Arc::default(),
        turn: 0,
    };
    inside.groups.insert(arn.clone(), group);
    drop(inside);
    crate::aws::cloudwatch::keep_up(world);
    Ok(arn)
}

pub(super) fn not_found(arn: &str) -> Fault {
    Fault::new("TargetGroupNotFound", format!("One or more target groups not found: '{arn}'"))
}

/// The group that an input names.
fn named<'a>(inside: &'a mut Inside, input: &Value) -> Result<&'a mut Group, Fault> {
    let arn = text(input, "TargetGroupArn").unwrap_or_default();
    inside.groups.get_mut(arn).ok_or_else(|| not_found(arn))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let inside = world.elb.lock();
    let (arns, names) = (tags::texts(input, "TargetGroupArns"), tags::texts(input, "Names"));
    if let Some(arn) = arns.iter().find(|arn| !inside.groups.contains_key(*arn)) {
        return Err(not_found(arn));
    }
    if let Some(name) = names.iter().find(|name| !inside.groups.values().any(|group| group.name == **name)) {
        return Err(not_found(name));
    }
    let balancer = text(input, "LoadBalancerArn");
    let wanted = |group: &&Group| {
        (arns.is_empty() || arns.contains(&group.arn))
            && (names.is_empty() || names.contains(&group.name))
            && balancer.is_none_or(|arn| inside.balancers_of(&group.arn).iter().any(|of| of == arn))
    };
    let groups: Vec<Value> = inside.groups.values().filter(wanted).map(|group| group.describe(&inside)).collect();
    Ok(json!({ "TargetGroups": groups }))
}

pub(super) fn modify(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let group = named(&mut inside, input)?;
    group.check = Check::parse(input, &group.check)?;
    let arn = group.arn.clone();
    Ok(json!({ "TargetGroups": [inside.groups[&arn].describe(&inside)] }))
}

pub(super) fn delete(world: &Arc<World>, arn: &str) -> Result<(), Fault> {
    let mut inside = world.elb.lock();
    if inside.is_used(arn) {
        let said = format!("Target group '{arn}' is currently in use by a listener or a rule");
        return Err(Fault::new("ResourceInUse", said));
    }
    inside.groups.remove(arn);
    Ok(())
}

pub(super) fn attributes(world: &Arc<World>, input: &Value, change: bool) -> Answer {
    let mut inside = world.elb.lock();
    let group = named(&mut inside, input)?;
    if change {
        set_attributes(&mut group.attributes, list(input, "Attributes"))?;
    }
    Ok(json!({ "Attributes": tags::write(&group.attributes) }))
}

/// RegisterTargets and DeregisterTargets: by address, which is also where the target really is.
pub(super) fn targets(world: &Arc<World>, input: &Value, register: bool) -> Answer {
    let arn = text(input, "TargetGroupArn").unwrap_or_default();
    let usual_port = named(&mut world.elb.lock(), input)?.port;
    for target in list(input, "Targets") {
        let id = text(target, "Id").unwrap_or_default();
        if !register {
            Elb::deregister(world, arn, id)?;
            continue;
        }
        let port = number(target, "Port").and_then(|port| u16::try_from(port).ok()).unwrap_or(usual_port);
        let Ok(ip) = id.parse() else {
            return Err(Fault::new("InvalidTarget", format!("The IP address '{id}' is not valid")));
        };
        add(world, arn, id, port, SocketAddr::new(ip, port))?;
    }
    Ok(json!({}))
}

/// Takes a target in; one that is there already is kept, one that drains comes back.
pub(super) fn add(world: &Arc<World>, arn: &str, id: &str, port: u16, address: SocketAddr) -> Result<(), Fault> {
    let mut inside = world.elb.lock();
    let group = inside.groups.get_mut(arn).ok_or_else(|| not_found(arn))?;
    let same = |target: &Target| target.id == id && target.address == address;
    if group.targets.iter().any(|target| same(target) && !target.health.is_draining()) {
        return Ok(());
    }
    group.targets.retain(|target| !same(target));
    if group.targets.len() >= TARGETS_MAX {
        return Err(Fault::new("TooManyTargets", "The maximum number of targets of the group has been reached"));
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(Fault::new("InternalFailure", "no event loop to ask targets in").with_status(500));
    };
    let asking = runtime.spawn(health::watch(Arc::downgrade(world), arn.to_owned(), id.to_owned(), address));
    group.targets.push(Target {
        id: id.to_owned(),
        port,
        address,
        health: Health::registered(),
        in_flight: InFlight::default(),
        asking: Some(asking.abort_handle()),
    });
    Ok(())
}

/// Lets a target's requests end and then lets it go.
pub(super) fn drain(world: &Arc<World>, arn: &str, id: &str) -> Result<(), Fault> {
    let mut inside = world.elb.lock();
    let used = inside.is_used(arn);
    let group = inside.groups.get_mut(arn).ok_or_else(|| not_found(arn))?;
    let drains_s = group.drains_s();
    for target in group.targets.iter_mut().filter(|target| target.id == id && !target.health.is_draining()) {
        target.health.drain();
        if let Some(asking) = target.asking.take() {
            asking.abort();
        }
        let (arn, address, in_flight) = (arn.to_owned(), target.address, target.in_flight.clone());
        let id = id.to_owned();
        let world: Weak<World> = Arc::downgrade(world);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { continue };
        runtime.spawn(async move {
            if used {
                health::drained(&world, drains_s, &in_flight).await;
            }
            let Some(world) = world.upgrade() else { return };
            let mut inside = world.elb.lock();
            let Some(group) = inside.groups.get_mut(&arn) else { return };
            group.targets.retain(|t| !(t.id == id && t.address == address && t.health.is_draining()));
        });
    }
    Ok(())
}

/// The health of all targets, or of those that are asked for: one that is not registered is `unused`.
pub(super) fn health(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let used = inside.is_used(text(input, "TargetGroupArn").unwrap_or_default());
    let group = named(&mut inside, input)?;
    let asked: Vec<&str> = list(input, "Targets").iter().filter_map(|target| text(target, "Id")).collect();
    let known = group.targets.iter().filter(|target| asked.is_empty() || asked.contains(&target.id.as_str()));
    let mut told: Vec<Value> = known
        .map(|target| {
            json!({
                "Target": { "Id": target.id, "Port": target.port },
                "HealthCheckPort": target.port.to_string(),
                "TargetHealth": target.health.describe(used),
            })
        })
        .collect();
    for id in asked.iter().filter(|id| !group.targets.iter().any(|target| target.id == **id)) {
        told.push(json!({
            "Target": { "Id": id, "Port": group.port },
            "TargetHealth": {
                "State": "unused", "Reason": "Target.NotRegistered",
                "Description": "Target is not registered to the target group",
            },
        }));
    }
    Ok(json!({ "TargetHealthDescriptions": told }))
}

/// Whether a setting of a check is on.
pub(super) fn is_enabled(input: &Value) -> bool {
    flag(input, "HealthCheckEnabled").unwrap_or(true)
}
