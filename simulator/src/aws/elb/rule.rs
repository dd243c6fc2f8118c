//! Rules of listeners: what happens to some of the requests. It keeps them in order of their priority and refuses what a load
//! balancer refuses.

use std::{net::IpAddr, sync::Arc};

use http::request::Parts;
use serde_json::{Value, json};

use super::{Inside, action::Action, condition::Condition, listener};
use crate::aws::{
    Answer, Fault, World, list, number,
    tags::{self, Tags},
    text,
};

/// Rules of a load balancer.
const RULES_MAX: usize = 100;
/// Values in the conditions of a rule.
const VALUES_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) arn: String,
    pub(super) priority: u32,
    conditions: Vec<Condition>,
    pub(super) action: Action,
    /// Its actions and conditions as they were asked for.
    pub(super) given: (Value, Value),
    pub(super) tags: Tags,
}

impl Rule {
    pub(super) fn applies(&self, head: &Parts, source: IpAddr) -> bool {
        self.conditions.iter().all(|condition| condition.matches(head, source))
    }

    fn describe(&self) -> Value {
        json!({
            "RuleArn": self.arn, "Priority": self.priority.to_string(), "IsDefault": false,
            "Conditions": self.conditions.iter().map(Condition::describe).collect::<Vec<_>>(),
            "Actions": self.action.describe(),
        })
    }
}

fn conditions(input: &Value) -> Result<Vec<Condition>, Fault> {
    let parsed: Result<Vec<Condition>, Fault> = list(input, "Conditions").iter().map(Condition::parse).collect();
    let parsed = parsed?;
    if parsed.is_empty() {
        return Err(Fault::new("ValidationError", "A condition must be specified"));
    }
    if parsed.iter().map(Condition::len).sum::<usize>() > VALUES_MAX {
        return Err(Fault::new("ValidationError", "A rule can have at most '5' condition values"));
    }
    Ok(parsed)
}

fn priority(input: &Value) -> Result<u32, Fault> {
    let given = number(input, "Priority").unwrap_or_default();
    let valid = u32::try_from(given).ok().filter(|priority| (1..=50_000).contains(priority));
    valid.ok_or_else(|| Fault::new("ValidationError", format!("Priority '{given}' must be between '1' and '50000'")))
}

fn as_given(input: &Value, member: &str) -> Value {
    input.get(member).cloned().unwrap_or_default()
}

fn in_use(priority: u32) -> Fault {
    Fault::new("PriorityInUse", format!("Priority '{priority}' is currently in use"))
}

pub(super) fn not_found(arn: &str) -> Fault {
    Fault::new("RuleNotFound", format!("One or more rules not found: '{arn}'"))
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Result<String, Fault> {
    let (conditions, priority) = (conditions(input)?, priority(input)?);
    let action = Action::parse(list(input, "Actions"))?;
    let mut inside = world.elb.lock();
    let listener = listener::named(&mut inside, input)?;
    if listener.rules.iter().any(|rule| rule.priority == priority) {
        return Err(in_use(priority));
    }
    let (listener_arn, balancer) = (listener.arn.clone(), listener.balancer.clone());
    let siblings = inside.listeners.values().filter(|listener| listener.balancer == balancer);
    if siblings.map(|listener| listener.rules.len()).sum::<usize>() >= RULES_MAX {
        return Err(Fault::new("TooManyRules", "The maximum number of rules of the load balancer has been reached"));
    }
    inside.may_use(&action, &balancer)?;
    let arn = format!("{}/{}", listener_arn.replacen(":listener/", ":listener-rule/", 1), super::hex16());
    let given = (as_given(input, "Actions"), as_given(input, "Conditions"));
    let rule = Rule { arn: arn.clone(), priority, conditions, action, given, tags: tags::read(input, "Tags") };
    if let Some(listener) = inside.listeners.get_mut(&listener_arn) {
        listener.rules.push(rule);
        listener.rules.sort_by_key(|rule| rule.priority);
    }
    Ok(arn)
}

pub(super) fn modify(world: &Arc<World>, input: &Value) -> Result<(), Fault> {
    let arn = text(input, "RuleArn").unwrap_or_default();
    let mut inside = world.elb.lock();
    let (balancer, _) = inside.rule(arn).ok_or_else(|| not_found(arn))?;
    let action = match list(input, "Actions") {
        [] => None,
        actions => Some(Action::parse(actions)?),
    };
    let conditions = if list(input, "Conditions").is_empty() { None } else { Some(conditions(input)?) };
    if let Some(action) = &action {
        inside.may_use(action, &balancer)?;
    }
    if let Some(usual) = inside.listeners.values_mut().find(|listener| listener.usual_arn() == arn) {
        if conditions.is_some() {
            return Err(Fault::new("OperationNotPermitted", format!("Default rule '{arn}' cannot be modified")));
        }
        if let Some(action) = action {
            usual.usual = action;
            usual.given = as_given(input, "Actions");
        }
        return Ok(());
    }
    let rule = inside.rule_mut(arn).ok_or_else(|| not_found(arn))?;
    if let Some(action) = action {
        rule.action = action;
        rule.given.0 = as_given(input, "Actions");
    }
    if let Some(conditions) = conditions {
        rule.conditions = conditions;
        rule.given.1 = as_given(input, "Conditions");
    }
    Ok(())
}

/// The rules of a listener with its usual one at the end, or those that are named.
pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let inside = world.elb.lock();
    let arns = tags::texts(input, "RuleArns");
    if let Some(arn) = arns.iter().find(|arn| inside.rule(arn).is_none()) {
        return Err(not_found(arn));
    }
    let listener = text(input, "ListenerArn");
    if let Some(arn) = listener.filter(|arn| !inside.listeners.contains_key(*arn)) {
        return Err(listener::not_found(arn));
    }
    let mut told = Vec::new();
    for of in inside.listeners.values().filter(|of| listener.is_none_or(|arn| of.arn == arn)) {
        let wanted = |arn: &String| arns.is_empty() || arns.contains(arn);
        told.extend(of.rules.iter().filter(|rule| wanted(&rule.arn)).map(Rule::describe));
        if wanted(&of.usual_arn()) {
            told.push(json!({
                "RuleArn": of.usual_arn(), "Priority": "default", "IsDefault": true, "Conditions": [],
                "Actions": of.usual.describe(),
            }));
        }
    }
    Ok(json!({ "Rules": told }))
}

pub(super) fn set_priorities(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.elb.lock();
    let mut wanted = Vec::new();
    for pair in list(input, "RulePriorities") {
        let arn = text(pair, "RuleArn").unwrap_or_default();
        if inside.rule_mut(arn).is_none() {
            return Err(not_found(arn));
        }
        wanted.push((arn.to_owned(), priority(pair)?));
    }
    for listener in inside.listeners.values() {
        let mut taken = std::collections::BTreeSet::new();
        for rule in &listener.rules {
            let priority = wanted.iter().find(|(arn, _)| *arn == rule.arn).map_or(rule.priority, |(_, new)| *new);
            if !taken.insert(priority) {
                return Err(in_use(priority));
            }
        }
    }
    for (arn, priority) in &wanted {
        if let Some(rule) = inside.rule_mut(arn) {
            rule.priority = *priority;
        }
    }
    for listener in inside.listeners.values_mut() {
        listener.rules.sort_by_key(|rule| rule.priority);
    }
    drop(inside);
    let arns: Vec<&String> = wanted.iter().map(|(arn, _)| arn).collect();
    describe(world, &json!({ "RuleArns": arns }))
}

pub(super) fn delete(world: &Arc<World>, arn: &str) -> Result<(), Fault> {
    let mut inside = world.elb.lock();
    if inside.listeners.values().any(|listener| listener.usual_arn() == arn) {
        return Err(Fault::new("OperationNotPermitted", format!("Default rule '{arn}' cannot be deleted")));
    }
    inside.rule_mut(arn).ok_or_else(|| not_found(arn))?;
    inside.listeners.values_mut().for_each(|listener| listener.rules.retain(|rule| rule.arn != arn));
    Ok(())
}

impl Inside {
    /// The load balancer and the action of a rule, be it a listener's usual one.
    pub(super) fn rule(&self, arn: &str) -> Option<(String, &Action)> {
        self.listeners.values().find_map(|listener| {
            let own = listener.rules.iter().find(|rule| rule.arn == arn).map(|rule| &rule.action);
            let usual = (listener.usual_arn() == arn).then_some(&listener.usual);
            own.or(usual).map(|action| (listener.balancer.clone(), action))
        })
    }

    pub(super) fn rule_mut(&mut self, arn: &str) -> Option<&mut Rule> {
        self.listeners.values_mut().find_map(|listener| listener.rules.iter_mut().find(|rule| rule.arn == arn))
    }
}
