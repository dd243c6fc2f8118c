//! A template as it was sent: read, and refused as CloudFormation refuses what it can see without making anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    intrinsics::{self, Scope},
    kinds::Kind,
    references,
};
use crate::aws::{Fault, dispatch, text};

/// What CloudFormation takes in a request; longer ones lie in S3.
pub(crate) const BODY_BYTES_MAX: usize = 51_200;
/// What it takes at all.
pub(crate) const TEMPLATE_BYTES_MAX: usize = 1_000_000;
/// So many resources a stack may have.
const RESOURCES_MAX: usize = 500;

/// What becomes of a resource that leaves its stack, or that is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Policy {
    #[default]
    Delete,
    Retain,
    RetainExceptOnCreate,
    Snapshot,
}

/// A resource as the template has it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) kind: String,
    pub(crate) properties: Value,
    pub(crate) depends_on: BTreeSet<String>,
    pub(crate) condition: Option<String>,
    pub(crate) deletion: Option<Policy>,
    pub(crate) replacement: Policy,
    pub(crate) metadata: Value,
}

/// A template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// The very text.
    pub(crate) body: String,
    pub(crate) document: Value,
    pub(crate) resources: BTreeMap<String, Declared>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(body: &str) -> Result<Self, Fault> {
        if body.len() > TEMPLATE_BYTES_MAX {
            return Err(invalid(format!("Template may not exceed {TEMPLATE_BYTES_MAX} bytes in size.")));
        }
        let document: Value = serde_json::from_str(body).map_err(|why| {
            invalid(format!(
                "Template format error: JSON not well-formed. (line {}, column {})",
                why.line(),
                why.column()
            ))
        })?;
        let Some(sections) = document.as_object() else {
            return Err(invalid("Template format error: unsupported structure.".to_owned()));
        };
        const SECTIONS: &[&str] = &[
            "AWSTemplateFormatVersion",
            "Conditions",
            "Description",
            "Mappings",
            "Metadata",
            "Outputs",
            "Parameters",
            "Resources",
            "Rules",
        ];
        let wrong: Vec<&str> = sections.keys().map(String::as_str).filter(|name| !SECTIONS.contains(name)).collect();
        if !wrong.is_empty() {
            return Err(invalid(format!("Invalid template property or properties [{}]", wrong.join(", "))));
        }
        let declared = sections.get("Resources").and_then(Value::as_object).filter(|all| !all.is_empty());
        let Some(declared) = declared else {
            return Err(invalid("Template format error: At least one Resources member must be defined.".to_owned()));
        };
        if declared.len() > RESOURCES_MAX {
            let message = format!(
                "Template format error: Number of resources, {}, is greater than maximum allowed, 500",
                declared.len()
            );
            return Err(invalid(message));
        }
        let resources = declared.iter().map(|(name, value)| Ok((name.clone(), resource(name, value)?)));
        let resources = resources.collect::<Result<BTreeMap<_, _>, Fault>>()?;
        let unknown: BTreeSet<&str> =
            resources.values().map(|r| r.kind.as_str()).filter(|name| kind(name).is_none()).collect();
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.into_iter().collect();
            return Err(invalid(format!(
                "Template format error: Unrecognized resource types: [{}]",
                unknown.join(", ")
            )));
        }
        Ok(Template { body: body.to_owned(), document, resources })
    }

    /// One of its sections.
    pub(crate) fn section(&self, name: &str) -> &Value {
        &self.document[name]
    }

    /// The values of its parameters: given, kept, or their defaults. Errors name those that are missing or not known.
    pub(crate) fn parameters(
        &self,
        given: &[Value],
        before: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Value>, Fault> {
        let empty = serde_json::Map::new();
        let declared = self.section("Parameters").as_object().unwrap_or(&empty);
        let mut values = BTreeMap::new();
        let mut stray = Vec::new();
        for parameter in given {
            let name = text(parameter, "ParameterKey").unwrap_or_default();
            if !declared.contains_key(name) {
                stray.push(name);
            } else if crate::aws::flag(parameter, "UsePreviousValue") == Some(true) {
                values.extend(before.get(name).map(|value| (name.to_owned(), value.clone())));
            } else if let Some(value) = text(parameter, "ParameterValue") {
                values.insert(name.to_owned(), Value::from(value));
            }
        }
        if !stray.is_empty() {
            return Err(invalid(format!("Parameters: [{}] do not exist in the template", stray.join(", "))));
        }
        let mut missing = Vec::new();
        for (name, parameter) in declared {
            if !values.contains_key(name) {
                match parameter.get("Default") {
                    Some(Value::String(value)) => drop(values.insert(name.clone(), Value::from(value.clone()))),
                    Some(value) => drop(values.insert(name.clone(), Value::from(value.to_string()))),
                    None => missing.push(name.as_str()),
                }
            }
            let allowed = crate::aws::list(parameter, "AllowedValues");
            if let Some(value) = values.get(name)
                && !allowed.is_empty()
                && !allowed.iter().any(|one| intrinsics::plain(one) == intrinsics::plain(value))
            {
                return Err(invalid(format!("Parameter '{name}' must be one of AllowedValues")));
            }
        }
        if !missing.is_empty() {
            return Err(invalid(format!("Parameters: [{}] must have values", missing.join(", "))));
        }
        Ok(values)
    }

    /// The resources that there are to be, by their conditions, each with those that it needs. Refuses what refers to nothing
    /// and what needs itself.
    pub(crate) fn active(&self, scope: &Scope<'_>) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
        let mut active: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, declared) in &self.resources {
            let there = match &declared.condition {
                Some(condition) => scope.condition(condition).map_err(invalid)?,
                None => true,
            };
            if there {
                active.insert(name.clone(), BTreeSet::new());
            }
        }
        let names: BTreeSet<String> = active.keys().cloned().collect();
        let parameters = self.section("Parameters");
        let mut unresolved = BTreeSet::new();
        for (name, needs) in &mut active {
            let Some(declared) = self.resources.get(name) else { continue };
            let mut found = declared.depends_on.clone();
            found.retain(|one| names.contains(one) || !self.resources.contains_key(one));
            references::find(scope, &declared.properties, &mut found).map_err(invalid)?;
            for one in found {
                if names.contains(&one) {
                    needs.insert(one);
                } else if parameters.get(&one).is_none() {
                    unresolved.insert(one);
                }
            }
        }
        if !unresolved.is_empty() {
            return Err(unresolved_in(&unresolved, "Resources"));
        }
        for (_, output) in self.outputs(scope)? {
            let mut found = BTreeSet::new();
            references::find(scope, output, &mut found).map_err(invalid)?;
            unresolved.extend(found.into_iter().filter(|one| !names.contains(one) && parameters.get(one).is_none()));
        }
        if !unresolved.is_empty() {
            return Err(unresolved_in(&unresolved, "Outputs"));
        }
        if let Some(circle) = circle(&active) {
            let message = format!(
                "Circular dependency between resources: [{}]",
                circle.into_iter().collect::<Vec<_>>().join(", ")
            );
            return Err(invalid(message));
        }
        Ok(active)
    }

    /// The outputs that there are to be.
    pub(crate) fn outputs(&self, scope: &Scope<'_>) -> Result<Vec<(&String, &Value)>, Fault> {
        let Some(all) = self.section("Outputs").as_object() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (name, output) in all {
            let there = match text(output, "Condition") {
                Some(condition) => scope.condition(condition).map_err(invalid)?,
                None => true,
            };
            if there {
                found.push((name, output));
            }
        }
        Ok(found)
    }

    /// Whether it imports what another stack exports under this name.
    pub(crate) fn imports(&self, export: &str) -> bool {
        fn within(value: &Value, export: &str) -> bool {
            match value {
                Value::Array(items) => items.iter().any(|item| within(item, export)),
                Value::Object(members) => {
                    members.get("Fn::ImportValue").and_then(Value::as_str) == Some(export)
                        || members.values().any(|member| within(member, export))
                }
                _ => false,
            }
        }
        within(&self.document, export)
    }

    /// The capabilities that making its roles needs; none where it makes none.
    pub(crate) fn capability(&self) -> Option<&'static str> {
        let iam = self.resources.values().filter(|one| one.kind.starts_with("AWS::IAM::"));
        let mut needed = None;
        for one in iam {
            let named = ["RoleName", "ManagedPolicyName", "UserName", "GroupName"];
            if named.iter().any(|name| one.properties.get(name).is_some()) {
                return Some("CAPABILITY_NAMED_IAM");
            }
            if matches!(one.kind.as_str(), "AWS::IAM::Role" | "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy") {
                needed = Some("CAPABILITY_IAM");
            }
        }
        needed
    }
}

/// A kind of resource by its name.
pub(crate) fn kind(name: &str) -> Option<&'static dyn Kind> {
    dispatch::kinds().find(|kind| kind.name() == name)
}

/// `ValidationError`.
pub(crate) fn invalid(message: String) -> Fault {
    Fault::new("ValidationError", message)
}

fn resource(name: &str, value: &Value) -> Result<Declared, Fault> {
    const ATTRIBUTES: &[&str] = &[
        "Condition",
        "CreationPolicy",
        "DeletionPolicy",
        "DependsOn",
        "Metadata",
        "Properties",
        "Type",
        "UpdatePolicy",
        "UpdateReplacePolicy",
    ];
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid(format!("Template format error: Resource name {name} is non alphanumeric.")));
    }
    let Some(members) = value.as_object() else {
        return Err(invalid("Template format error: Every Resources member must be an object.".to_owned()));
    };
    if let Some(wrong) = members.keys().find(|key| !ATTRIBUTES.contains(&key.as_str())) {
        return Err(invalid(format!("Invalid template resource property '{wrong}'")));
    }
    let Some(kind) = text(value, "Type") else {
        return Err(invalid("Template format error: Every Resources object must contain a Type member.".to_owned()));
    };
    let policy = |attribute: &str| match text(value, attribute) {
        None => Ok(None),
        Some("Delete") => Ok(Some(Policy::Delete)),
        Some("Retain") => Ok(Some(Policy::Retain)),
        Some("RetainExceptOnCreate") if attribute == "DeletionPolicy" => Ok(Some(Policy::RetainExceptOnCreate)),
        Some("Snapshot") => Ok(Some(Policy::Snapshot)),
        Some(other) => {
            Err(invalid(format!("Template format error: Unrecognized {attribute} {other} for resource {name}")))
        }
    };
    let depends_on = value.get("DependsOn").cloned().unwrap_or_default();
    let depends_on = match &depends_on {
        Value::String(one) => BTreeSet::from([one.clone()]),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    };
    Ok(Declared {
        kind: kind.to_owned(),
        properties: members.get("Properties").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        depends_on,
        condition: text(value, "Condition").map(str::to_owned),
        deletion: policy("DeletionPolicy")?,
        replacement: policy("UpdateReplacePolicy")?.unwrap_or_default(),
        metadata: members.get("Metadata").cloned().unwrap_or_default(),
    })
}

fn unresolved_in(names: &BTreeSet<String>, block: &str) -> Fault {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    invalid(format!(
        "Template format error: Unresolved resource dependencies [{}] in the {block} block of the template",
        names.join(", ")
    ))
}

/// The resources that need each other in a circle, if any do.
fn circle(needs: &BTreeMap<String, BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let mut left = needs.clone();
    loop {
        let free: Vec<String> =
            left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return (!left.is_empty()).then(|| left.into_keys().collect());
        }
        for name in &free {
            left.remove(name);
        }
        for needs in left.values_mut() {
            needs.retain(|one| !free.contains(one));
        }
    }
}
