//! A stack as CloudFormation remembers it: its resources, its events, its change sets. It knows nothing of how they are made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    changes::Change,
    intrinsics::Known,
    template::{Policy, Template},
};
use crate::aws::{World, stamp};

/// So many events a stack keeps; the oldest go.
const EVENTS_MAX: usize = 5_000;

/// A stack.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    /// None while it is only reviewed.
    pub(crate) template: Option<Template>,
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) resources: BTreeMap<String, Held>,
    pub(crate) events: Vec<Event>,
    pub(crate) change_sets: Vec<ChangeSet>,
    /// The change set that was executed last.
    pub(crate) change_set_id: Option<String>,
    pub(crate) protected: bool,
    pub(crate) rollback_disabled: bool,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: Option<u64>,
    pub(crate) deleted_ms: Option<u64>,
    /// What has to be undone if the operation under way fails, or failed to be undone.
    pub(crate) undo: Vec<Undo>,
    /// What it was before the operation under way.
    pub(crate) before: Option<Box<Before>>,
    pub(crate) token: Option<String>,
    /// Tokens of requests that were carried out, with what they asked for.
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) drift: Option<(&'static str, u64)>,
}

/// What a stack was.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) template: Option<Template>,
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A resource of a stack.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) kind: String,
    pub(crate) physical_id: Option<String>,
    pub(crate) properties: Value,
    pub(crate) metadata: Value,
    pub(crate) attributes: BTreeMap<String, Value>,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) updated_ms: u64,
    pub(crate) deletion: Policy,
    pub(crate) needs: BTreeSet<String>,
    pub(crate) drift: Option<&'static str>,
}

/// What has to be done to go back.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    /// It was made; it is to go.
    Made { logical_id: String },
    /// It was changed in place; it is to be as it was.
    Changed { logical_id: String, before: Held },
    /// It was made anew; the old one is still there, the new one is to go.
    Replaced { logical_id: String, before: Held },
}

/// An output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) description: Option<String>,
    pub(crate) export: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) logical_id: String,
    pub(crate) physical_id: String,
    pub(crate) kind: String,
    pub(crate) at_ms: u64,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) properties: Option<String>,
    pub(crate) token: Option<String>,
}

/// A change set.
#[derive(Debug, Clone)]
pub(crate) struct ChangeSet {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `CREATE`, `UPDATE` or `IMPORT`.
    pub(crate) kind: String,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) execution: &'static str,
    pub(crate) template: Template,
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) created_ms: u64,
    pub(crate) changes: Vec<Change>,
    /// What is imported: physical ids by logical id.
    pub(crate) imports: BTreeMap<String, String>,
    pub(crate) token: Option<String>,
}

impl Stack {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        Stack {
            id: world.arn("cloudformation", &format!("stack/{name}/{}", uuid::Uuid::new_v4())),
            name: name.to_owned(),
            status: "REVIEW_IN_PROGRESS",
            reason: None,
            template: None,
            parameters: BTreeMap::new(),
            tags: BTreeMap::new(),
            capabilities: Vec::new(),
            outputs: Vec::new(),
            resources: BTreeMap::new(),
            events: Vec::new(),
            change_sets: Vec::new(),
            change_set_id: None,
            protected: false,
            rollback_disabled: false,
            created_ms: world.clock.now_ms(),
            updated_ms: None,
            deleted_ms: None,
            undo: Vec::new(),
            before: None,
            token: None,
            tokens: BTreeSet::new(),
            drift: None,
        }
    }

    /// Whether an operation is under way.
    pub(crate) fn busy(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && self.status != "REVIEW_IN_PROGRESS"
    }

    /// Whether it can be changed.
    pub(crate) fn updatable(&self) -> bool {
        const CAN: &[&str] = &[
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
            "UPDATE_ROLLBACK_COMPLETE",
            "IMPORT_COMPLETE",
            "IMPORT_ROLLBACK_COMPLETE",
            "CREATE_FAILED",
            "UPDATE_FAILED",
        ];
        CAN.contains(&self.status)
    }

    /// A new status of the whole stack, told as an event.
    pub(crate) fn become_(&mut self, at_ms: u64, status: &'static str, reason: Option<String>) {
        self.status = status;
        self.reason.clone_from(&reason);
        let (name, id) = (self.name.clone(), self.id.clone());
        self.tell(at_ms, &name, &id, "AWS::CloudFormation::Stack", status, reason, None);
    }

    /// A new status of one of its resources, told as an event.
    pub(crate) fn resource_is(&mut self, at_ms: u64, logical_id: &str, status: &'static str, reason: Option<String>) {
        let Some(held) = self.resources.get_mut(logical_id) else { return };
        held.status = status;
        held.reason.clone_from(&reason);
        held.updated_ms = at_ms;
        let (kind, physical) = (held.kind.clone(), held.physical_id.clone().unwrap_or_default());
        let properties = held.properties.to_string();
        self.tell(at_ms, logical_id, &physical, &kind, status, reason, Some(properties));
    }

    #[expect(clippy::too_many_arguments, reason = "an event has as many parts")]
    pub(crate) fn tell(
        &mut self,
        at_ms: u64,
        logical_id: &str,
        physical_id: &str,
        kind: &str,
        status: &'static str,
        reason: Option<String>,
        properties: Option<String>,
    ) {
        if self.events.len() == EVENTS_MAX {
            self.events.remove(0);
        }
        let id = uuid::Uuid::new_v4();
        // A resource's event is named by the resource, as CloudFormation does.
        let of_stack = kind == "AWS::CloudFormation::Stack";
        self.events.push(Event {
            id: if of_stack {
                id.to_string()
            } else {
                format!("{logical_id}-{status}-{at_ms}-{}", &id.to_string()[..8])
            },
            logical_id: logical_id.to_owned(),
            physical_id: physical_id.to_owned(),
            kind: kind.to_owned(),
            at_ms,
            status,
            reason,
            properties,
            token: self.token.clone(),
        });
    }

    /// What its resources are, to whatever refers to them.
    pub(crate) fn known(&self) -> BTreeMap<String, Known> {
        let there = self.resources.iter().filter_map(|(name, held)| {
            let physical_id = held.physical_id.clone()?;
            Some((name.clone(), Known { physical_id, attributes: held.attributes.clone() }))
        });
        there.collect()
    }

    /// `AWS::StackName` and the like.
    pub(crate) fn pseudo(&self, world: &World) -> BTreeMap<String, Value> {
        let values = [
            ("AWS::AccountId", json!(world.settings.account)),
            ("AWS::NotificationARNs", json!([])),
            ("AWS::Partition", json!("aws")),
            ("AWS::Region", json!(world.settings.region)),
            ("AWS::StackId", json!(self.id)),
            ("AWS::StackName", json!(self.name)),
            ("AWS::URLSuffix", json!("amazonaws.com")),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The tags that CloudFormation puts on a resource.
    pub(crate) fn tags_of(&self, logical_id: &str) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        tags.insert("aws:cloudformation:stack-name".to_owned(), self.name.clone());
        tags.insert("aws:cloudformation:stack-id".to_owned(), self.id.clone());
        tags.insert("aws:cloudformation:logical-id".to_owned(), logical_id.to_owned());
        tags
    }

    /// As `DescribeStacks` tells it.
    pub(crate) fn described(&self) -> Value {
        let outputs: Vec<Value> = self
            .outputs
            .iter()
            .map(|output| {
                json!({
                    "OutputKey": output.name, "OutputValue": output.value, "Description": output.description,
                    "ExportName": output.export,
                })
            })
            .collect();
        let (drift, checked) = self.drift.map_or(("NOT_CHECKED", None), |(drift, at)| (drift, Some(stamp(at))));
        json!({
            "StackId": self.id,
            "StackName": self.name,
            "ChangeSetId": self.change_set_id,
            "Description": self.template.as_ref().and_then(|t| t.section("Description").as_str()),
            "Parameters": parameters(self.template.as_ref(), &self.parameters),
            "CreationTime": stamp(self.created_ms),
            "LastUpdatedTime": self.updated_ms.map(stamp),
            "DeletionTime": self.deleted_ms.map(stamp),
            "RollbackConfiguration": {},
            "StackStatus": self.status,
            "StackStatusReason": self.reason,
            "DisableRollback": self.rollback_disabled,
            "NotificationARNs": [],
            "Capabilities": self.capabilities,
            "Outputs": outputs,
            "Tags": tags(&self.tags),
            "EnableTerminationProtection": self.protected,
            "DriftInformation": { "StackDriftStatus": drift, "LastCheckTimestamp": checked },
        })
    }
}

/// Parameters as answers have them; those that are not to be seen are masked.
pub(crate) fn parameters(template: Option<&Template>, values: &BTreeMap<String, Value>) -> Value {
    let hidden =
        |name: &str| template.is_some_and(|t| crate::aws::flag(&t.section("Parameters")[name], "NoEcho") == Some(true));
    let one = |(name, value): (&String, &Value)| {
        let value = if hidden(name) { json!("****") } else { value.clone() };
        json!({ "ParameterKey": name, "ParameterValue": value })
    };
    values.iter().map(one).collect()
}

/// Tags as answers have them.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}
