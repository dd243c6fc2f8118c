//! Elastic Load Balancing: load balancers, listeners, rules and target groups as its API has them, over doors of this machine
//! that serve real requests. An HTTPS listener speaks plain HTTP here: there is no certificate that a client could trust.
//!
//! It decides where each request goes. It never starts or stops a target, and moves no traffic unless it is told to.

mod action;
mod balancer;
mod condition;
mod front;
mod group;
mod health;
mod kinds;
mod listener;
mod relay;
mod rule;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod turns;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

pub(crate) use kinds::KINDS;
pub(crate) use tally::Counted;

use self::{action::Action, balancer::Balancer, group::Group, listener::Listener};
use crate::aws::{Answer, Call, Fault, World, list, number, tags, text};

/// The service's state.
#[derive(Debug, Default)]
pub(crate) struct Elb {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    balancers: BTreeMap<String, Balancer>,
    listeners: BTreeMap<String, Listener>,
    groups: BTreeMap<String, Group>,
}

/// A target group as CloudWatch names it, with what happened there.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// `app/bird/0123456789abcdef`.
    pub(crate) balancer: String,
    /// `targetgroup/blue/0123456789abcdef`; none for the load balancer itself.
    pub(crate) group: Option<String>,
    pub(crate) counted: Counted,
    pub(crate) targets: usize,
    pub(crate) healthy: usize,
    pub(crate) unhealthy: usize,
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    let arn = |name: &str| text(input, name).unwrap_or_default();
    match call.operation.as_str() {
        "CreateLoadBalancer" => {
            let arn = balancer::create(world, input)?;
            balancer::describe(world, &json!({ "LoadBalancerArns": [arn] }))
        }
        "DescribeLoadBalancers" => balancer::describe(world, input),
        "DeleteLoadBalancer" => balancer::delete(world, arn("LoadBalancerArn")).map(|()| json!({})),
        "DescribeLoadBalancerAttributes" => balancer::attributes(world, input, false),
        "ModifyLoadBalancerAttributes" => balancer::attributes(world, input, true),
        "SetSecurityGroups" => balancer::set_security_groups(world, input),
        "SetSubnets" => balancer::set_subnets(world, input),
        "CreateTargetGroup" => {
            let arn = group::create(world, input)?;
            group::describe(world, &json!({ "TargetGroupArns": [arn] }))
        }
        "DescribeTargetGroups" => group::describe(world, input),
        "ModifyTargetGroup" => group::modify(world, input),
        "DeleteTargetGroup" => group::delete(world, arn("TargetGroupArn")).map(|()| json!({})),
        "DescribeTargetGroupAttributes" => group::attributes(world, input, false),
        "ModifyTargetGroupAttributes" => group::attributes(world, input, true),
        "RegisterTargets" => group::targets(world, input, true),
        "DeregisterTargets" => group::targets(world, input, false),
        "DescribeTargetHealth" => group::health(world, input),
        "CreateListener" => {
            let arn = listener::create(world, input)?;
            listener::describe(world, &json!({ "ListenerArns": [arn] }))
        }
        "DescribeListeners" => listener::describe(world, input),
        "ModifyListener" => {
            listener::modify(world, input)?;
            listener::describe(world, &json!({ "ListenerArns": [arn("ListenerArn")] }))
        }
        "DeleteListener" => listener::delete(world, arn("ListenerArn")).map(|()| json!({})),
        "DescribeListenerAttributes" => listener::attributes(world, input, false),
        "ModifyListenerAttributes" => listener::attributes(world, input, true),
        "DescribeListenerCertificates" => listener::certificates(world, input),
        "DescribeSSLPolicies" => listener::policies(),
        "CreateRule" => {
            let arn = rule::create(world, input)?;
            rule::describe(world, &json!({ "RuleArns": [arn] }))
        }
        "DescribeRules" => rule::describe(world, input),
        "ModifyRule" => {
            rule::modify(world, input)?;
            rule::describe(world, &json!({ "RuleArns": [arn("RuleArn")] }))
        }
        "DeleteRule" => rule::delete(world, arn("RuleArn")).map(|()| json!({})),
        "SetRulePriorities" => rule::set_priorities(world, input),
        "AddTags" | "RemoveTags" => change_tags(world, &call.operation, input),
        "DescribeTags" => describe_tags(world, input),
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}

impl Elb {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a target in. The port that clients are told is the group's, whatever port it listens on here.
    pub(crate) fn register(world: &Arc<World>, group: &str, id: &str, address: SocketAddr) -> Result<(), Fault> {
        let port = world.elb.lock().groups.get(group).ok_or_else(|| group::not_found(group))?.port;
        group::add(world, group, id, port, address)
    }

    /// Lets a target go: no new requests, and gone after the group's delay.
    pub(crate) fn deregister(world: &Arc<World>, group: &str, id: &str) -> Result<(), Fault> {
        group::drain(world, group, id)
    }

    /// Each target and its state: `initial`, `healthy`, `unhealthy`, `draining` or `unused`.
    pub(crate) fn health(world: &Arc<World>, group: &str) -> Vec<(String, String)> {
        let inside = world.elb.lock();
        let used = inside.is_used(group);
        let Some(group) = inside.groups.get(group) else { return Vec::new() };
        group.targets.iter().map(|target| (target.id.clone(), target.health.name(used).to_owned())).collect()
    }

    /// Where a rule or a listener forwards to; none where it does something else or is not there.
    pub(crate) fn forward(world: &Arc<World>, arn: &str) -> Option<Vec<(String, u32)>> {
        let inside = world.elb.lock();
        let action = match inside.listeners.get(arn) {
            Some(listener) => &listener.usual,
            None => inside.rule(arn)?.1,
        };
        matches!(action, Action::Forward(_)).then(|| action.groups().to_vec())
    }

    /// Makes a rule or a listener forward so from the next request on.
    pub(crate) fn set_forward(world: &Arc<World>, arn: &str, groups: Vec<(String, u32)>) -> Result<(), Fault> {
        let mut inside = world.elb.lock();
        let action = Action::Forward(action::Forward::to(groups));
        let balancer = match inside.listeners.get(arn) {
            Some(listener) => listener.balancer.clone(),
            None => inside.rule(arn).ok_or_else(|| rule::not_found(arn))?.0,
        };
        inside.may_use(&action, &balancer)?;
        let usual = |listener: &&mut Listener| listener.arn == arn || listener.usual_arn() == arn;
        if let Some(listener) = inside.listeners.values_mut().find(usual) {
            listener.given = action.describe();
            listener.usual = action;
        } else if let Some(rule) = inside.rule_mut(arn) {
            rule.given.0 = action.describe();
            rule.action = action;
        }
        Ok(())
    }

    /// Where each listener really listens, and what each group's requests came to; for tests.
    pub(crate) fn report(&self) -> Value {
        let inside = self.lock();
        let listeners = inside.listeners.values().map(|listener| {
            json!({ "arn": listener.arn, "port": listener.port, "address": listener.door.address.to_string() })
        });
        let groups = inside.groups.values().map(|group| {
            let counted = group.tally.counted();
            json!({
                "arn": group.arn, "name": group.name, "requests": counted.requests, "classes": counted.classes,
                "own_5xx": counted.own_5xx,
            })
        });
        json!({ "listeners": listeners.collect::<Vec<_>>(), "groups": groups.collect::<Vec<_>>() })
    }

    /// The rules of a listener that forward to a group, whatever the weight; a listener's usual action counts as its rule.
    pub(crate) fn rules_forwarding_to(world: &Arc<World>, listener: &str, group: &str) -> Vec<String> {
        let inside = world.elb.lock();
        let Some(listener) = inside.listeners.get(listener) else { return Vec::new() };
        let to = |action: &Action| action.groups().iter().any(|(arn, _)| arn == group);
        let rules = listener.rules.iter().filter(|rule| to(&rule.action)).map(|rule| rule.arn.clone());
        rules.chain(to(&listener.usual).then(|| listener.usual_arn())).collect()
    }

    /// Whether a listener or a rule names the group.
    pub(crate) fn has_load_balancer(world: &Arc<World>, group: &str) -> bool {
        world.elb.lock().is_used(group)
    }

    /// Every load balancer and each group of it, with what was counted.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        let inside = self.lock();
        let mut all = Vec::new();
        for balancer in inside.balancers.values() {
            let name = balancer.full_name().to_owned();
            let counted = balancer.tally.counted();
            let whole = Measured { balancer: name, group: None, counted, targets: 0, healthy: 0, unhealthy: 0 };
            let mine = |group: &&Group| inside.balancers_of(&group.arn).contains(&balancer.arn);
            all.extend(inside.groups.values().filter(mine).map(|group| {
                let in_service = group.targets.iter().filter(|target| !target.health.is_draining());
                let healthy = in_service.clone().filter(|target| target.health.is_healthy()).count();
                Measured {
                    group: Some(group.full_name().to_owned()),
                    counted: group.tally.counted(),
                    targets: in_service.clone().count(),
                    healthy,
                    unhealthy: in_service.count() - healthy,
                    ..whole.clone()
                }
            }));
            all.push(whole);
        }
        all
    }
}

impl Inside {
    /// The load balancers whose listeners or rules name a group.
    fn balancers_of(&self, group: &str) -> Vec<String> {
        let names = |action: &Action| action.groups().iter().any(|(arn, _)| arn == group);
        let uses =
            |listener: &&Listener| names(&listener.usual) || listener.rules.iter().any(|rule| names(&rule.action));
        let mut arns: Vec<String> = self.listeners.values().filter(uses).map(|of| of.balancer.clone()).collect();
        arns.sort_unstable();
        arns.dedup();
        arns
    }

    fn is_used(&self, group: &str) -> bool {
        !self.balancers_of(group).is_empty()
    }

    /// Whether a load balancer may do that: the groups exist and belong to no other.
    fn may_use(&self, action: &Action, balancer: &str) -> Result<(), Fault> {
        for (arn, _) in action.groups() {
            if !self.groups.contains_key(arn) {
                return Err(group::not_found(arn));
            }
            if self.balancers_of(arn).iter().any(|other| other != balancer) {
                let said =
                    format!("The following target groups cannot be associated with more than one load balancer: {arn}");
                return Err(Fault::new("TargetGroupAssociationLimit", said));
            }
        }
        Ok(())
    }

    fn tags_mut(&mut self, arn: &str) -> Result<&mut tags::Tags, Fault> {
        if arn.contains(":loadbalancer/") {
            return self.balancers.get_mut(arn).map(|of| &mut of.tags).ok_or_else(|| balancer::not_found(arn));
        }
        if arn.contains(":targetgroup/") {
            return self.groups.get_mut(arn).map(|of| &mut of.tags).ok_or_else(|| group::not_found(arn));
        }
        if arn.contains(":listener/") {
            return self.listeners.get_mut(arn).map(|of| &mut of.tags).ok_or_else(|| listener::not_found(arn));
        }
        self.rule_mut(arn).map(|of| &mut of.tags).ok_or_else(|| rule::not_found(arn))
    }
}

fn change_tags(world: &Arc<World>, operation: &str, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    for arn in tags::texts(input, "ResourceArns") {
        let known = inside.tags_mut(&arn)?;
        if operation == "AddTags" {
            known.extend(tags::read(input, "Tags"));
        } else {
            tags::texts(input, "TagKeys").iter().for_each(|key| drop(known.remove(key)));
        }
    }
    Ok(json!({}))
}

fn describe_tags(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let mut told = Vec::new();
    for arn in list(input, "ResourceArns").iter().filter_map(Value::as_str) {
        let known = inside.tags_mut(arn)?;
        told.push(json!({ "ResourceArn": arn, "Tags": tags::write(known) }));
    }
    Ok(json!({ "TagDescriptions": told }))
}

/// A name of a load balancer or of a target group.
fn name(input: &Value) -> Result<String, Fault> {
    let name = text(input, "Name").unwrap_or_default();
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if name.is_empty() || name.len() > 32 {
        return Err(Fault::new("ValidationError", format!("The name '{name}' must have between 1 and 32 characters")));
    }
    if !letters || name.starts_with('-') || name.ends_with('-') {
        let said = format!("The name '{name}' can only contain letters, digits and hyphens, and no hyphen at an end");
        return Err(Fault::new("ValidationError", said));
    }
    Ok(name.to_owned())
}

fn port(input: &Value) -> Result<u16, Fault> {
    let given = number(input, "Port").unwrap_or_default();
    let valid = u16::try_from(given).ok().filter(|port| *port > 0);
    valid.ok_or_else(|| Fault::new("ValidationError", format!("Port '{given}' must be between '1' and '65535'")))
}

/// Sixteen digits as they end an ARN.
fn hex16() -> String {
    format!("{:016x}", fastrand::u64(..))
}
