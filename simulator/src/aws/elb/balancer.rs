//! Load balancers. Each has an address of this machine's loopback network of its own, which stands for its name in DNS; it
//! never looks at a request.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
};

use serde_json::{Value, json};

use super::tally::Tally;
use crate::aws::{
    Answer, Fault, World, list,
    network::Network,
    stamp,
    tags::{self, Tags},
    text,
};

/// Load balancers in a region.
const BALANCERS_MAX: usize = 50;
/// A socket on this port marks a load balancer's address as taken, for whoever simulates another account on this machine.
const MARK_PORT: u16 = 17_077;
/// Addresses that are tried.
const ADDRESSES_TRIED: usize = 200;
/// How long a load balancer takes to begin, in simulated time.
pub(super) const BEGINS_MS: u64 = 120_000;

#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) scheme: String,
    pub(super) subnets: Vec<String>,
    pub(super) security_groups: Vec<String>,
    zones: Vec<Value>,
    vpc: String,
    created_ms: u64,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) tags: Tags,
    pub(super) tally: Arc<Tally>,
    _mark: UdpSocket,
}

impl Balancer {
    /// `app/bird/0123456789abcdef`.
    pub(super) fn full_name(&self) -> &str {
        self.arn.split_once(":loadbalancer/").map_or("", |(_, name)| name)
    }

    fn describe(&self, now_ms: u64) -> Value {
        let state = if now_ms < self.created_ms + BEGINS_MS { "provisioning" } else { "active" };
        json!({
            "LoadBalancerArn": self.arn, "LoadBalancerName": self.name, "DNSName": self.address.to_string(),
            "CanonicalHostedZoneId": "Z35SXDOTRQ7X7K", "CreatedTime": stamp(self.created_ms), "Scheme": self.scheme,
            "VpcId": self.vpc, "State": { "Code": state }, "Type": "application", "AvailabilityZones": self.zones,
            "SecurityGroups": self.security_groups, "IpAddressType": "ipv4",
        })
    }
}

fn usual() -> BTreeMap<String, String> {
    [
        ("access_logs.s3.enabled", "false"),
        ("access_logs.s3.bucket", ""),
        ("access_logs.s3.prefix", ""),
        ("client_keep_alive.seconds", "3600"),
        ("connection_logs.s3.enabled", "false"),
        ("connection_logs.s3.bucket", ""),
        ("connection_logs.s3.prefix", ""),
        ("deletion_protection.enabled", "false"),
        ("idle_timeout.timeout_seconds", "60"),
        ("load_balancing.cross_zone.enabled", "true"),
        ("routing.http.desync_mitigation_mode", "defensive"),
        ("routing.http.drop_invalid_header_fields.enabled", "false"),
        ("routing.http.preserve_host_header.enabled", "false"),
        ("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false"),
        ("routing.http.xff_client_port.enabled", "false"),
        ("routing.http.xff_header_processing.mode", "append"),
        ("routing.http2.enabled", "true"),
        ("waf.fail_open.enabled", "false"),
        ("zonal_shift.config.enabled", "false"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

pub(super) fn set_attributes(attributes: &mut BTreeMap<String, String>, given: &[Value]) -> Result<(), Fault> {
    let mut after = attributes.clone();
    for attribute in given {
        let (key, value) = (text(attribute, "Key").unwrap_or_default(), text(attribute, "Value").unwrap_or_default());
        let valid = match (after.contains_key(key), key) {
            (false, _) => {
                let said = format!("Load balancer attribute key '{key}' is not recognized");
                return Err(Fault::new("ValidationError", said));
            }
            (_, "idle_timeout.timeout_seconds") => value.parse().is_ok_and(|s: u32| (1..=4000).contains(&s)),
            (_, "routing.http.desync_mitigation_mode") => ["monitor", "defensive", "strictest"].contains(&value),
            (_, key) if key.ends_with(".enabled") => ["true", "false"].contains(&value),
            _ => true,
        };
        if !valid {
            let said = format!("The value '{value}' for load balancer attribute '{key}' is not valid");
            return Err(Fault::new("ValidationError", said));
        }
        after.insert(key.to_owned(), value.to_owned());
    }
    *attributes = after;
    Ok(())
}

/// An address that no load balancer on this machine has.
fn address() -> Result<(Ipv4Addr, UdpSocket), Fault> {
    for _ in 0..ADDRESSES_TRIED {
        let address = Ipv4Addr::new(127, 77, fastrand::u8(..), fastrand::u8(1..=254));
        if let Ok(mark) = UdpSocket::bind((address, MARK_PORT)) {
            return Ok((address, mark));
        }
    }
    Err(Fault::new("InternalFailure", "no loopback address is free for a load balancer").with_status(500))
}

/// The zones of its subnets and their VPC; at least two zones.
fn zones(network: &Network, subnets: &[String]) -> Result<(Vec<Value>, String), Fault> {
    let mut zones = BTreeMap::new();
    let mut vpc = String::new();
    for id in subnets {
        let Some(subnet) = network.subnet(id) else {
            return Err(Fault::new("SubnetNotFound", format!("The subnet ID '{id}' does not exist")));
        };
        zones.insert(
            subnet.zone.clone(),
            json!({ "ZoneName": subnet.zone, "SubnetId": id, "LoadBalancerAddresses": [] }),
        );
        vpc = subnet.vpc;
    }
    if zones.len() < 2 {
        let said = "At least two subnets in two different Availability Zones must be specified";
        return Err(Fault::new("ValidationError", said));
    }
    if zones.len() < subnets.len() {
        let said = "A load balancer cannot be attached to multiple subnets in the same Availability Zone";
        return Err(Fault::new("InvalidConfigurationRequest", said));
    }
    Ok((zones.into_values().collect(), vpc))
}

/// The subnets that an input names in either way.
fn subnets(input: &Value) -> Vec<String> {
    let mapped = list(input, "SubnetMappings").iter().filter_map(|mapping| text(mapping, "SubnetId"));
    tags::texts(input, "Subnets").into_iter().chain(mapped.map(str::to_owned)).collect()
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Result<String, Fault> {
    let name = super::name(input)?;
    let kind = text(input, "Type").unwrap_or("application");
    if kind != "application" {
        return Err(Fault::new(
            "ValidationError",
            format!("Only application load balancers are simulated, not '{kind}'"),
        ));
    }
    let scheme = text(input, "Scheme").unwrap_or("internet-facing").to_owned();
    if !["internet-facing", "internal"].contains(&scheme.as_str()) {
        let said = format!("Scheme '{scheme}' must be one of 'internet-facing', 'internal'");
        return Err(Fault::new("InvalidScheme", said));
    }
    let subnets = subnets(input);
    let (zones, vpc) = zones(&world.network, &subnets)?;
    let security_groups = tags::texts(input, "SecurityGroups");
    let mut inside = world.elb.lock();
    if let Some(known) = inside.balancers.values().find(|balancer| balancer.name == name) {
        if known.scheme == scheme && known.subnets == subnets && known.security_groups == security_groups {
            return Ok(known.arn.clone());
        }
        let said = format!("A load balancer with the same name '{name}' exists, but with different settings");
        return Err(Fault::new("DuplicateLoadBalancerName", said));
    }
    if inside.balancers.len() >= BALANCERS_MAX {
        let said = "The maximum number of load balancers has been reached on your account";
        return Err(Fault::new("TooManyLoadBalancers", said));
    }
    let (address, mark) = address()?;
    let arn = world.arn("elasticloadbalancing", &format!("loadbalancer/app/{name}/{}", super::hex16()));
    let balancer = Balancer {
        arn: arn.clone(),
        name,
        address,
        scheme,
        subnets,
        security_groups,
        zones,
        vpc,
        created_ms: world.clock.now_ms(),
        attributes: usual(),
        tags: tags::read(input, "Tags"),
        tally: Arc::default(),
        _mark: mark,
    };
    inside.balancers.insert(arn.clone(), balancer);
    drop(inside);
    crate::aws::cloudwatch::keep_up(world);
    Ok(arn)
}

pub(super) fn not_found(arn: &str) -> Fault {
    Fault::new("LoadBalancerNotFound", format!("Load balancer '{arn}' not found"))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let inside = world.elb.lock();
    let (arns, names) = (tags::texts(input, "LoadBalancerArns"), tags::texts(input, "Names"));
    if let Some(arn) = arns.iter().find(|arn| !inside.balancers.contains_key(*arn)) {
        return Err(not_found(arn));
    }
    if let Some(name) = names.iter().find(|name| !inside.balancers.values().any(|balancer| balancer.name == **name)) {
        return Err(Fault::new("LoadBalancerNotFound", format!("Load balancers '[{name}]' not found")));
    }
    let wanted = |balancer: &&Balancer| {
        (arns.is_empty() || arns.contains(&balancer.arn)) && (names.is_empty() || names.contains(&balancer.name))
    };
    let now_ms = world.clock.now_ms();
    let told: Vec<Value> = inside.balancers.values().filter(wanted).map(|balancer| balancer.describe(now_ms)).collect();
    Ok(json!({ "LoadBalancers": told }))
}

pub(super) fn attributes(world: &Arc<World>, input: &Value, change: bool) -> Answer {
    let mut inside = world.elb.lock();
    let arn = text(input, "LoadBalancerArn").unwrap_or_default();
    let balancer = inside.balancers.get_mut(arn).ok_or_else(|| not_found(arn))?;
    if change {
        set_attributes(&mut balancer.attributes, list(input, "Attributes"))?;
    }
    Ok(json!({ "Attributes": tags::write(&balancer.attributes) }))
}

pub(super) fn set_security_groups(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let arn = text(input, "LoadBalancerArn").unwrap_or_default();
    let balancer = inside.balancers.get_mut(arn).ok_or_else(|| not_found(arn))?;
    balancer.security_groups = tags::texts(input, "SecurityGroups");
    Ok(json!({ "SecurityGroupIds": balancer.security_groups }))
}

pub(super) fn set_subnets(world: &Arc<World>, input: &Value) -> Answer {
    let subnets = subnets(input);
    let (zones, _) = zones(&world.network, &subnets)?;
    let mut inside = world.elb.lock();
    let arn = text(input, "LoadBalancerArn").unwrap_or_default();
    let balancer = inside.balancers.get_mut(arn).ok_or_else(|| not_found(arn))?;
    balancer.subnets = subnets;
    balancer.zones = zones;
    Ok(json!({ "AvailabilityZones": balancer.zones }))
}

/// Its listeners and rules go with it. One that is not there is no fault.
pub(super) fn delete(world: &Arc<World>, arn: &str) -> Result<(), Fault> {
    let mut inside = world.elb.lock();
    let Some(balancer) = inside.balancers.get(arn) else { return Ok(()) };
    if balancer.attributes.get("deletion_protection.enabled").is_some_and(|on| on == "true") {
        let said = format!("Load balancer '{arn}' cannot be deleted because deletion protection is enabled");
        return Err(Fault::new("OperationNotPermitted", said));
    }
    inside.listeners.retain(|_, listener| listener.balancer != arn);
    inside.balancers.remove(arn);
    Ok(())
}
