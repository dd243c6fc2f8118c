//! What an update would change: by resource, by property, and whether that makes a resource anew. It only compares; nothing is
//! made or changed here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    intrinsics::{Known, Scope, UNKNOWN, plain},
    kinds::Replaces,
    stack::{Held, Stack},
    template::{Policy, Template, invalid, kind},
};
use crate::aws::{Fault, World};

/// A resource that changes.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) logical_id: String,
    pub(crate) physical_id: Option<String>,
    pub(crate) kind: String,
    pub(crate) replacement: Option<&'static str>,
    pub(crate) policy: Option<&'static str>,
    pub(crate) scope: Vec<&'static str>,
    pub(crate) details: Vec<Detail>,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// What of a resource changes.
#[derive(Debug, Clone)]
pub(crate) struct Detail {
    pub(crate) attribute: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) replaces: Replaces,
    pub(crate) dynamic: bool,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// `DirectModification`, or `ResourceReference` where another resource that is made anew is the cause.
    pub(crate) source: &'static str,
    pub(crate) cause: Option<String>,
}

/// What a stack is to be.
pub(crate) struct Wanted<'a> {
    pub(crate) template: &'a Template,
    pub(crate) parameters: &'a BTreeMap<String, Value>,
    pub(crate) tags: &'a BTreeMap<String, String>,
    pub(crate) exports: &'a BTreeMap<String, String>,
    /// Physical ids of what is imported, by logical id.
    pub(crate) imports: &'a BTreeMap<String, String>,
}

impl<'a> Wanted<'a> {
    /// What can be referred to before anything is made.
    fn scope(&self, pseudo: &'a BTreeMap<String, Value>, known: &'a BTreeMap<String, Known>) -> Scope<'a> {
        Scope {
            template: self.template,
            parameters: self.parameters,
            pseudo,
            known,
            exports: self.exports,
            ahead: true,
        }
    }
}

/// The changes that make a stack what is wanted; none where it is so already. Refuses a template that can't be.
pub(crate) fn plan(world: &World, stack: &Stack, wanted: &Wanted<'_>) -> Result<Vec<Change>, Fault> {
    let pseudo = stack.pseudo(world);
    let mut known = stack.known();
    let active = wanted.template.active(&wanted.scope(&pseudo, &known))?;
    // What is not of the stack any more can't be referred to; what is not yet is unknown.
    known.retain(|name, _| active.contains_key(name));
    let mut changes = Vec::new();
    for name in ordered(&active) {
        let Some(declared) = wanted.template.resources.get(&name) else { continue };
        let resolved =
            wanted.scope(&pseudo, &known).resolve(&declared.properties).map_err(invalid)?.unwrap_or_default();
        let Some(held) = stack.resources.get(&name).filter(|held| held.physical_id.is_some()) else {
            let imported = wanted.imports.get(&name);
            changes.push(Change {
                action: if imported.is_some() { "Import" } else { "Add" },
                logical_id: name.clone(),
                physical_id: imported.cloned(),
                kind: declared.kind.clone(),
                replacement: None,
                policy: None,
                scope: Vec::new(),
                details: Vec::new(),
                before: None,
                after: Some(json!({ "Properties": resolved })),
            });
            continue;
        };
        if held.kind != declared.kind {
            let message = format!(
                "Update of resource type is not permitted. The new template modifies resource type of the following resources: [{name}]"
            );
            return Err(invalid(message));
        }
        let retagged = stack.tags != *wanted.tags;
        let details = details(held, &declared.properties, &resolved, &declared.metadata, retagged);
        if details.is_empty() {
            continue;
        }
        let replacement = replacement(&details);
        if replacement == "True" {
            known.remove(&name);
        }
        let mut parts: Vec<&'static str> = details.iter().map(|detail| detail.attribute).collect();
        parts.dedup();
        let retained = declared.replacement == Policy::Retain;
        changes.push(Change {
            action: "Modify",
            logical_id: name.clone(),
            physical_id: held.physical_id.clone(),
            kind: declared.kind.clone(),
            replacement: Some(replacement),
            policy: (replacement != "False").then_some(if retained { "ReplaceAndRetain" } else { "ReplaceAndDelete" }),
            scope: parts,
            details,
            before: Some(json!({ "Properties": held.properties })),
            after: Some(json!({ "Properties": resolved })),
        });
    }
    for (name, held) in
        stack.resources.iter().filter(|(name, held)| !active.contains_key(*name) && held.physical_id.is_some())
    {
        let kept = held.deletion != Policy::Delete && held.deletion != Policy::Snapshot;
        changes.push(Change {
            action: "Remove",
            logical_id: name.clone(),
            physical_id: held.physical_id.clone(),
            kind: held.kind.clone(),
            replacement: None,
            policy: Some(if kept { "Retain" } else { "Delete" }),
            scope: Vec::new(),
            details: Vec::new(),
            before: Some(json!({ "Properties": held.properties })),
            after: None,
        });
    }
    Ok(changes)
}

/// Whether the outputs that a template asks for are others than the stack has. Those that depend on what is not made yet are.
pub(crate) fn outputs_change(world: &World, stack: &Stack, wanted: &Wanted<'_>) -> bool {
    let (pseudo, known) = (stack.pseudo(world), stack.known());
    let scope = wanted.scope(&pseudo, &known);
    let Ok(outputs) = wanted.template.outputs(&scope) else { return true };
    if outputs.len() != stack.outputs.len() {
        return true;
    }
    outputs.iter().any(|(name, output)| {
        let value = scope.resolve(&output["Value"]).ok().flatten().map(|value| plain(&value));
        let before = stack.outputs.iter().find(|before| before.name == **name);
        before.map(|before| &before.value) != value.as_ref()
    })
}

/// What differs between a resource and what is wanted of it.
pub(crate) fn details(
    held: &Held,
    declared: &Value,
    resolved: &Value,
    metadata: &Value,
    retagged: bool,
) -> Vec<Detail> {
    let Some(kind) = kind(&held.kind) else { return Vec::new() };
    let empty = serde_json::Map::new();
    let before = held.properties.as_object().unwrap_or(&empty);
    let after = resolved.as_object().unwrap_or(&empty);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if same(old, new) {
            continue;
        }
        let unknown = new.is_some_and(|new| new.to_string().contains(UNKNOWN));
        let tags = name == "Tags";
        found.push(Detail {
            attribute: if tags { "Tags" } else { "Properties" },
            name: (!tags).then(|| name.clone()),
            replaces: kind.replaces(name),
            dynamic: unknown,
            before: old.map(plain),
            after: new.map(plain),
            source: if unknown { "ResourceReference" } else { "DirectModification" },
            cause: unknown.then(|| cause(declared.get(name))).flatten(),
        });
    }
    let detail = |attribute, before: Option<String>, after: Option<String>| Detail {
        attribute,
        name: None,
        replaces: Replaces::Never,
        dynamic: false,
        before,
        after,
        source: "DirectModification",
        cause: None,
    };
    if held.metadata != *metadata {
        found.push(detail("Metadata", Some(held.metadata.to_string()), Some(metadata.to_string())));
    }
    if retagged && kind.properties().contains(&"Tags") && !found.iter().any(|detail| detail.attribute == "Tags") {
        found.push(detail("Tags", None, None));
    }
    found.sort_by_key(|detail| (detail.attribute, detail.name.clone()));
    found
}

/// Whether these make a resource anew.
pub(crate) fn replacement(details: &[Detail]) -> &'static str {
    let always = details.iter().filter(|detail| detail.replaces == Replaces::Always);
    let (dynamic, sure): (Vec<&Detail>, Vec<&Detail>) = always.partition(|detail| detail.dynamic);
    match () {
        () if !sure.is_empty() => "True",
        () if !dynamic.is_empty() => "Conditional",
        () if details.iter().any(|detail| detail.replaces == Replaces::Sometimes) => "Conditional",
        () => "False",
    }
}

/// The names with everything before what needs it.
pub(crate) fn ordered(needs: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut order: Vec<String> = Vec::with_capacity(needs.len());
    let mut left: BTreeSet<&String> = needs.keys().collect();
    while !left.is_empty() {
        let free: Vec<&String> = left
            .iter()
            .copied()
            .filter(|name| needs.get(*name).is_none_or(|needs| !needs.iter().any(|one| left.contains(one))))
            .collect();
        if free.is_empty() {
            // A circle: templates with one were refused before.
            break;
        }
        for name in free {
            left.remove(name);
            order.push(name.clone());
        }
    }
    order
}

impl Change {
    /// As `DescribeChangeSet` tells it.
    pub(crate) fn described(&self, with_values: bool) -> Value {
        let recreation = |replaces| match replaces {
            Replaces::Never => "Never",
            Replaces::Sometimes => "Conditionally",
            Replaces::Always => "Always",
        };
        let details: Vec<Value> = self
            .details
            .iter()
            .map(|detail| {
                let mut target = json!({ "Attribute": detail.attribute, "Name": detail.name });
                target["RequiresRecreation"] = json!(recreation(detail.replaces));
                if with_values {
                    target["Path"] = match &detail.name {
                        Some(name) => json!(format!("/{}/{name}", detail.attribute)),
                        None => json!(format!("/{}", detail.attribute)),
                    };
                    target["BeforeValue"] = json!(detail.before);
                    target["AfterValue"] = json!(detail.after);
                    target["AttributeChangeType"] = json!(match (&detail.before, &detail.after) {
                        (None, Some(_)) => "Add",
                        (Some(_), None) => "Remove",
                        _ => "Modify",
                    });
                }
                json!({
                    "Target": target,
                    "Evaluation": if detail.dynamic { "Dynamic" } else { "Static" },
                    "ChangeSource": detail.source,
                    "CausingEntity": detail.cause,
                })
            })
            .collect();
        let mut change = json!({
            "PolicyAction": self.policy,
            "Action": self.action,
            "LogicalResourceId": self.logical_id,
            "PhysicalResourceId": self.physical_id,
            "ResourceType": self.kind,
            "Replacement": self.replacement,
            "Scope": self.scope,
            "Details": details,
        });
        if with_values {
            change["BeforeContext"] = json!(self.before.as_ref().map(Value::to_string));
            change["AfterContext"] = json!(self.after.as_ref().map(Value::to_string));
        }
        json!({ "Type": "Resource", "ResourceChange": change })
    }
}

/// Whether two values are the same to CloudFormation, which holds scalars as text.
pub(crate) fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            left.len() == right.len() && left.iter().all(|(name, value)| same(Some(value), right.get(name)))
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(Some(left), Some(right)))
        }
        (Some(left), Some(right)) => plain(left) == plain(right),
        (None, None) => true,
        _ => false,
    }
}

/// The first resource that a value refers to: what it changes with.
fn cause(declared: Option<&Value>) -> Option<String> {
    let value = declared?;
    match value {
        Value::Object(members) => {
            if let Some(Value::String(name)) = members.get("Ref") {
                return Some(name.clone());
            }
            if let Some(argument) = members.get("Fn::GetAtt") {
                let parts = argument.as_array()?;
                let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                return Some(parts.join("."));
            }
            members.values().find_map(|member| cause(Some(member)))
        }
        Value::Array(items) => items.iter().find_map(|item| cause(Some(item))),
        _ => None,
    }
}
