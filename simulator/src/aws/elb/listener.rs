//! Listeners: which port of a load balancer does what where no rule applies. It opens and closes their doors; what happens to a
//! request is the front's.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Inside, action::Action, balancer, front::Door, rule::Rule};
use crate::aws::{
    Answer, Fault, World, list,
    tags::{self, Tags},
    text,
};

/// Listeners of a load balancer.
const LISTENERS_MAX: usize = 50;
/// The policies that a listener may have: none of them takes TLS below 1.2.
const POLICIES: [&str; 9] = [
    "ELBSecurityPolicy-TLS13-1-2-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09",
    "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09",
    "ELBSecurityPolicy-TLS13-1-3-2021-06",
    "ELBSecurityPolicy-TLS-1-2-2017-01",
    "ELBSecurityPolicy-FS-1-2-Res-2020-10",
];
/// Policies that are known too, and take older versions.
const OLD_POLICIES: [&str; 4] = [
    "ELBSecurityPolicy-2016-08",
    "ELBSecurityPolicy-TLS13-1-1-2021-06",
    "ELBSecurityPolicy-TLS13-1-0-2021-06",
    "ELBSecurityPolicy-TLS-1-1-2017-01",
];

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) arn: String,
    pub(super) balancer: String,
    pub(super) port: u16,
    pub(super) protocol: String,
    certificates: Vec<String>,
    policy: Option<String>,
    pub(super) usual: Action,
    /// As it was asked for.
    pub(super) given: Value,
    /// By priority.
    pub(super) rules: Vec<Rule>,
    attributes: BTreeMap<String, String>,
    pub(super) tags: Tags,
    pub(super) door: Door,
}

impl Listener {
    /// The name of its usual action, which is a rule as well.
    pub(super) fn usual_arn(&self) -> String {
        let (head, tail) = self.arn.split_once(":listener/").unwrap_or((&self.arn, ""));
        format!("{head}:listener-rule/{tail}/{}", tail.rsplit('/').next().unwrap_or_default())
    }

    /// The certificates as a list of the API's.
    fn certificates(&self) -> Vec<Value> {
        self.certificates.iter().map(|arn| json!({ "CertificateArn": arn })).collect()
    }

    fn describe(&self) -> Value {
        let mut listener = json!({
            "ListenerArn": self.arn, "LoadBalancerArn": self.balancer, "Port": self.port, "Protocol": self.protocol,
            "DefaultActions": self.usual.describe(),
        });
        if self.protocol == "HTTPS" {
            listener["Certificates"] = json!(self.certificates());
            listener["SslPolicy"] = json!(self.policy);
            listener["MutualAuthentication"] = json!({ "Mode": "off" });
        }
        listener
    }
}

fn usual_attributes() -> BTreeMap<String, String> {
    BTreeMap::from([("routing.http.response.server.enabled".to_owned(), "true".to_owned())])
}

/// What an input says of protocol, certificates and policy, over what was before.
fn security(
    world: &Arc<World>,
    input: &Value,
    before: Option<&Listener>,
) -> Result<(String, Vec<String>, Option<String>), Fault> {
    let protocol = text(input, "Protocol").or(before.map(|listener| listener.protocol.as_str()));
    let protocol = protocol.unwrap_or_default().to_owned();
    let given: Vec<String> =
        list(input, "Certificates").iter().filter_map(|one| text(one, "CertificateArn")).map(str::to_owned).collect();
    let kept = || before.map(|listener| listener.certificates.clone()).unwrap_or_default();
    let certificates = if given.is_empty() { kept() } else { given };
    let policy = text(input, "SslPolicy").map(str::to_owned).or(before.and_then(|listener| listener.policy.clone()));
    match protocol.as_str() {
        "HTTP" if text(input, "SslPolicy").is_some() || !list(input, "Certificates").is_empty() => {
            let said = "You cannot specify a certificate or a security policy for an HTTP listener";
            Err(Fault::new("InvalidConfigurationRequest", said))
        }
        "HTTP" => Ok((protocol, Vec::new(), None)),
        "HTTPS" => {
            if certificates.is_empty() {
                let said = "A certificate must be specified for HTTPS listeners";
                return Err(Fault::new("CertificateNotFound", said));
            }
            if let Some(arn) = certificates.iter().find(|arn| !world.acm.is_issued(world, arn)) {
                return Err(Fault::new("CertificateNotFound", format!("Certificate '{arn}' not found")));
            }
            let policy = policy.unwrap_or_else(|| POLICIES[0].to_owned());
            if !POLICIES.contains(&policy.as_str()) && !OLD_POLICIES.contains(&policy.as_str()) {
                return Err(Fault::new("SSLPolicyNotFound", format!("SSL policy '{policy}' not found")));
            }
            Ok((protocol, certificates, Some(policy)))
        }
        other => Err(Fault::new("UnsupportedProtocol", format!("Protocol '{other}' must be one of 'HTTP', 'HTTPS'"))),
    }
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Result<String, Fault> {
    let port = super::port(input)?;
    let usual = Action::parse(list(input, "DefaultActions"))?;
    let (protocol, certificates, policy) = security(world, input, None)?;
    let balancer_arn = text(input, "LoadBalancerArn").unwrap_or_default();
    let mut inside = world.elb.lock();
    let balancer = inside.balancers.get(balancer_arn).ok_or_else(|| balancer::not_found(balancer_arn))?;
    let (address, tail) = (balancer.address, balancer.full_name().to_owned());
    let listeners = || inside.listeners.values().filter(|listener| listener.balancer == balancer_arn);
    if listeners().any(|listener| listener.port == port) {
        return Err(Fault::new("DuplicateListener", "A listener already exists on this port for this load balancer"));
    }
    if listeners().count() >= LISTENERS_MAX {
        return Err(Fault::new(
            "TooManyListeners",
            "The maximum number of listeners of the load balancer has been reached",
        ));
    }
    inside.may_use(&usual, balancer_arn)?;
    let arn = world.arn("elasticloadbalancing", &format!("listener/{tail}/{}", super::hex16()));
    let door = Door::open(world, &arn, address, port)?;
    let listener = Listener {
        arn: arn.clone(),
        balancer: balancer_arn.to_owned(),
        port,
        protocol,
        certificates,
        policy,
        usual,
        given: input.get("DefaultActions").cloned().unwrap_or_default(),
        rules: Vec::new(),
        attributes: usual_attributes(),
        tags: tags::read(input, "Tags"),
        door,
    };
    inside.listeners.insert(arn.clone(), listener);
    Ok(arn)
}

pub(super) fn not_found(arn: &str) -> Fault {
    Fault::new("ListenerNotFound", format!("One or more listeners not found: '{arn}'"))
}

pub(super) fn modify(world: &Arc<World>, input: &Value) -> Result<(), Fault> {
    let arn = text(input, "ListenerArn").unwrap_or_default();
    let mut inside = world.elb.lock();
    let before = inside.listeners.get(arn).ok_or_else(|| not_found(arn))?;
    let (protocol, certificates, policy) = security(world, input, Some(before))?;
    let (balancer_arn, port_before) = (before.balancer.clone(), before.port);
    let usual = match list(input, "DefaultActions") {
        [] => None,
        actions => Some(Action::parse(actions)?),
    };
    if let Some(usual) = &usual {
        inside.may_use(usual, &balancer_arn)?;
    }
    let port = if input.get("Port").is_some() { super::port(input)? } else { port_before };
    let moved = if port == port_before {
        None
    } else {
        let others = inside.listeners.values().filter(|listener| listener.balancer == balancer_arn);
        if others.clone().any(|listener| listener.port == port) {
            return Err(Fault::new(
                "DuplicateListener",
                "A listener already exists on this port for this load balancer",
            ));
        }
        let address = inside.balancers.get(&balancer_arn).ok_or_else(|| balancer::not_found(&balancer_arn))?.address;
        Some(Door::open(world, arn, address, port)?)
    };
    let listener = inside.listeners.get_mut(arn).ok_or_else(|| not_found(arn))?;
    (listener.protocol, listener.certificates, listener.policy, listener.port) = (protocol, certificates, policy, port);
    if let Some(door) = moved {
        listener.door = door;
    }
    if let Some(usual) = usual {
        listener.usual = usual;
        listener.given = input.get("DefaultActions").cloned().unwrap_or_default();
    }
    Ok(())
}

/// The listeners of a load balancer, or those that are named.
pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let inside = world.elb.lock();
    let arns = tags::texts(input, "ListenerArns");
    if let Some(arn) = arns.iter().find(|arn| !inside.listeners.contains_key(*arn)) {
        return Err(not_found(arn));
    }
    let balancer = text(input, "LoadBalancerArn");
    if let Some(arn) = balancer.filter(|arn| !inside.balancers.contains_key(*arn)) {
        return Err(balancer::not_found(arn));
    }
    let wanted = |listener: &&Listener| {
        (arns.is_empty() || arns.contains(&listener.arn)) && balancer.is_none_or(|arn| listener.balancer == arn)
    };
    let told: Vec<Value> = inside.listeners.values().filter(wanted).map(Listener::describe).collect();
    Ok(json!({ "Listeners": told }))
}

pub(super) fn attributes(world: &Arc<World>, input: &Value, change: bool) -> Answer {
    let mut inside = world.elb.lock();
    let listener = named(&mut inside, input)?;
    if change {
        set_attributes(listener, list(input, "Attributes"))?;
    }
    Ok(json!({ "Attributes": tags::write(&listener.attributes) }))
}

fn set_attributes(listener: &mut Listener, given: &[Value]) -> Result<(), Fault> {
    for attribute in given {
        let (key, value) = (text(attribute, "Key").unwrap_or_default(), text(attribute, "Value").unwrap_or_default());
        if !key.starts_with("routing.http.") {
            let said = format!("Listener attribute key '{key}' is not recognized");
            return Err(Fault::new("ValidationError", said));
        }
        listener.attributes.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

pub(super) fn certificates(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let listener = named(&mut inside, input)?;
    let told = listener.certificates.iter().enumerate();
    let told: Vec<Value> = told.map(|(at, arn)| json!({ "CertificateArn": arn, "IsDefault": at == 0 })).collect();
    Ok(json!({ "Certificates": told }))
}

pub(super) fn policies() -> Answer {
    let one = |name: &&str| json!({ "Name": name, "SslProtocols": ["TLSv1.2", "TLSv1.3"], "Ciphers": [] });
    Ok(json!({ "SslPolicies": POLICIES.iter().map(one).collect::<Vec<_>>() }))
}

/// One that is not there is no fault to CloudFormation; to the API it is.
pub(super) fn delete(world: &Arc<World>, arn: &str) -> Result<(), Fault> {
    world.elb.lock().listeners.remove(arn).map(drop).ok_or_else(|| not_found(arn))
}

pub(super) fn named<'a>(inside: &'a mut Inside, input: &Value) -> Result<&'a mut Listener, Fault> {
    let arn = text(input, "ListenerArn").unwrap_or_default();
    inside.listeners.get_mut(arn).ok_or_else(|| not_found(arn))
}
