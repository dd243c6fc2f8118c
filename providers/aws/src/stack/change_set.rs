//! Change sets: making one, reading what it would change, and saying what that could hurt. One that is made for a plan is
//! executed by the deploy, so what was shown is what happens.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{
    Capability, ChangeSetType, Replacement, RequiresRecreation, ResourceChange, ResourceToImport, Tag,
};
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Change, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::AwsProvider;
use crate::clock::unix_ms;
use crate::error::{Adding, Answer, code, fault};

/// CloudFormation takes no longer template in a request.
const TEMPLATE_BYTES_MAX: usize = 51_200;
/// A change set has no more pages than this.
const PAGES_MAX: usize = 20;
/// A name is tried again once what had it is gone.
const TRIES: usize = 2;
/// Values in a plan are cut after so many characters.
const VALUE_CHARS_MAX: usize = 2_000;

/// What a stack is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The stack's name.
    pub(crate) stack: String,
    /// Its tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Its template.
    pub(crate) template: Value,
    /// Existing resources that it takes over; then it changes nothing else.
    #[serde(default)]
    pub(crate) import: Vec<Import>,
}

/// A resource that exists and belongs to no stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Import {
    /// Its name in the template.
    pub(crate) logical: String,
    /// Its type.
    pub(crate) kind: String,
    /// The property that names it, and its value.
    pub(crate) identifier: (String, String),
}

impl Wanted {
    /// What a document says, its references filled.
    pub(crate) fn of(body: &Value) -> Result<Wanted> {
        let read = |what: &str| {
            let why = format!("the document has no {what}");
            fault(ErrorKind::Invalid, "read the stack's document", "", why).hint("`dbird render` shows the document")
        };
        let stack = body["stack"].as_str().ok_or_else(|| read("name of a stack"))?;
        let template = body.get("template").filter(|t| t.is_object()).ok_or_else(|| read("template"))?;
        let tags = body.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Wanted {
            stack: stack.to_owned(),
            tags: tags.into_iter().map(|(key, value)| (key, text(value))).collect(),
            template: template.clone(),
            import: Vec::new(),
        })
    }

    /// The name of the change set that brings it about: the same for the same.
    pub(crate) fn change_set(&self) -> String {
        let imported: Vec<_> = self.import.iter().map(|i| (&i.logical, &i.identifier)).collect();
        let digest = Digest::of_json(&json!([self.template, self.tags, imported]));
        format!("dbird-{}", &digest.hex()[..24])
    }

    /// True when a stack with this template and these tags is it.
    pub(crate) fn is(&self, template: &Value, tags: &BTreeMap<String, String>) -> bool {
        self.template == *template && self.tags == *tags
    }
}

/// How a change set stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ChangeSet {
    /// `CREATE_COMPLETE` once it is made.
    pub(crate) status: String,
    /// `AVAILABLE` while it can be executed.
    pub(crate) execution: String,
    /// Why it has this status.
    pub(crate) reason: String,
    /// What it would change.
    pub(crate) changes: Vec<ResourceChange>,
}

impl ChangeSet {
    /// True when it would change nothing, which AWS calls a failure.
    pub(crate) fn nothing(&self) -> bool {
        self.status == "FAILED"
            && (self.reason.contains("didn't contain changes")
                || self.reason.contains("No updates are to be performed"))
    }

    /// True while it is being made.
    pub(crate) fn young(&self) -> bool {
        self.status.ends_with("_PENDING") || self.status.ends_with("_IN_PROGRESS")
    }

    /// True when it can be executed.
    pub(crate) fn ready(&self) -> bool {
        self.status == "CREATE_COMPLETE" && self.execution == "AVAILABLE"
    }

    /// True when it is no use any more: it failed, or the stack has changed since.
    pub(crate) fn useless(&self) -> bool {
        self.status == "FAILED" || self.execution == "OBSOLETE"
    }

    /// True when it was executed, well or not: the stack may not be what it brought about any more.
    pub(crate) fn over(&self) -> bool {
        matches!(self.execution.as_str(), "EXECUTE_COMPLETE" | "EXECUTE_FAILED")
    }
}

/// Begins to make a change set; one of the same name that is there already will do.
pub(crate) async fn make(aws: &AwsProvider, wanted: &Wanted, kind: ChangeSetType) -> Result<()> {
    let text = wanted.template.to_string();
    if text.len() > TEMPLATE_BYTES_MAX {
        let what = format!("the template has {} bytes, and CloudFormation takes {TEMPLATE_BYTES_MAX}", text.len());
        return Err(fault(ErrorKind::Invalid, "make a change set", &wanted.stack, what).hint(
            "share the network between environments (`network` in [cloud.aws]), which moves it to a stack of its own",
        ));
    }
    let name = wanted.change_set();
    let tags: Vec<Tag> = wanted.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    let import: Vec<ResourceToImport> = wanted.import.iter().map(Import::of_sdk).collect();
    for _ in 0..TRIES {
        let answer = aws
            .clients
            .cloudformation()
            .await
            .create_change_set()
            .stack_name(&wanted.stack)
            .change_set_name(&name)
            .change_set_type(kind.clone())
            // Once for this very call: the SDK repeats it with the same token, the next attempt of a command has another.
            .client_token(format!("{name}-{}", unix_ms()))
            .template_body(&text)
            .set_tags(Some(tags.clone()))
            .set_resources_to_import((!import.is_empty()).then(|| import.clone()))
            .capabilities(Capability::CapabilityIam)
            .capabilities(Capability::CapabilityNamedIam)
            .send()
            .await;
        match answer {
            // One that is no use any more makes room.
            Err(error) if code(&error) == "AlreadyExistsException" => match read(aws, &wanted.stack, &name).await? {
                Some(set) if set.useless() || set.over() => remove(aws, &wanted.stack, &name).await?,
                Some(_) => return Ok(()),
                None => {}
            },
            answer => return answer.or_fault("make a change set", &wanted.stack).map(drop),
        }
    }
    Err(fault(ErrorKind::Unavailable, "make a change set", &wanted.stack, "the change set before is not gone yet")
        .retry())
}

impl Import {
    fn of_sdk(&self) -> ResourceToImport {
        ResourceToImport::builder()
            .logical_resource_id(&self.logical)
            .resource_type(&self.kind)
            .resource_identifier(&self.identifier.0, &self.identifier.1)
            .build()
    }
}

/// How a change set stands; none where there is none of that name.
pub(crate) async fn read(aws: &AwsProvider, stack: &str, name: &str) -> Result<Option<ChangeSet>> {
    let mut found = ChangeSet::default();
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let answer = aws
            .clients
            .cloudformation()
            .await
            .describe_change_set()
            .stack_name(stack)
            .change_set_name(name)
            .include_property_values(true)
            .set_next_token(page.take())
            .send()
            .await;
        let answer = match answer {
            Err(error) if code(&error).starts_with("ChangeSetNotFound") => return Ok(None),
            Err(error) if crate::error::message(&error).contains("does not exist") => return Ok(None),
            answer => answer.or_fault("read the change set", stack)?,
        };
        found.status = answer.status.map(|s| s.as_str().to_owned()).unwrap_or_default();
        found.execution = answer.execution_status.map(|s| s.as_str().to_owned()).unwrap_or_default();
        found.reason = answer.status_reason.unwrap_or_default();
        found.changes.extend(answer.changes.unwrap_or_default().into_iter().filter_map(|c| c.resource_change));
        match answer.next_token {
            None => break,
            next => page = next,
        }
    }
    Ok(Some(found))
}

/// Removes a change set; one that is not there is removed already.
pub(crate) async fn remove(aws: &AwsProvider, stack: &str, name: &str) -> Result<()> {
    let client = aws.clients.cloudformation().await;
    let answer = client.delete_change_set().stack_name(stack).change_set_name(name).send().await;
    match answer {
        Err(error) if code(&error).starts_with("ChangeSetNotFound") => Ok(()),
        answer => answer.or_fault("remove a change set", stack).map(drop),
    }
}

/// What a change set would change, and what of it could hurt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effect {
    /// The properties that differ, as paths into the document.
    pub(crate) changes: Vec<Change>,
    /// Each a sentence.
    pub(crate) risks: Vec<String>,
}

/// What a change set says, for people.
pub(crate) fn what_changes(changes: &[ResourceChange]) -> Effect {
    let mut effect = Effect::default();
    for change in changes {
        let logical = change.logical_resource_id().unwrap_or_default();
        effect.risks.extend(risk(logical, change));
        for detail in change.details() {
            let Some(target) = detail.target() else { continue };
            let path = match (target.path(), target.name()) {
                (Some(path), _) if !path.is_empty() => path.trim_start_matches('/').to_owned(),
                (_, Some(name)) if !name.is_empty() => format!("Properties/{name}"),
                _ => target.attribute().map(|a| a.as_str().to_owned()).unwrap_or_default(),
            };
            let keys = path.split('/').filter(|k| !k.is_empty()).map(key);
            let path: Vec<String> = ["template", "Resources", logical].map(key).into_iter().chain(keys).collect();
            let path = path.join(".");
            if effect.changes.iter().any(|c| c.path == path) {
                continue;
            }
            let (before, after) = (target.before_value().map(value), target.after_value().map(value));
            if before != after {
                effect.changes.push(Change { path, before, after });
            }
        }
    }
    effect.changes.sort_by(|a, b| a.path.cmp(&b.path));
    effect
}

fn risk(logical: &str, change: &ResourceChange) -> Vec<String> {
    let kind = change.resource_type().unwrap_or_default();
    let id = change.physical_resource_id().map(|id| format!(" {id}")).unwrap_or_default();
    let what = format!("{logical} ({}{id})", kind.trim_start_matches("AWS::").replace("::", " "));
    let data = logical.starts_with("Data");
    let properties = || {
        let mut names: Vec<&str> = change
            .details()
            .iter()
            .filter_map(|d| d.target())
            .filter(|t| !matches!(t.requires_recreation(), None | Some(RequiresRecreation::Never)))
            .filter_map(|t| t.name())
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { String::new() } else { format!(", because of {}", names.join(", ")) }
    };
    let mut risks = Vec::new();
    match (change.action().map(|a| a.as_str()), change.replacement()) {
        (Some("Remove"), _) if data => {
            risks.push(format!("{what} leaves the stack: it is kept, but nothing uses it any more"))
        }
        (Some("Remove"), _) => risks.push(format!("{what} is deleted")),
        (Some("Modify"), Some(Replacement::True)) if data => risks.push(format!(
            "{what} is replaced by an empty one{}: what it holds is kept, but the service does not see it any more",
            properties()
        )),
        (Some("Modify"), Some(Replacement::True)) => risks.push(format!("{what} is replaced{}", properties())),
        (Some("Modify"), Some(Replacement::Conditional)) => {
            risks.push(format!("{what} may be replaced{}", properties()))
        }
        (Some("Modify"), _) if data => risks.push(format!("{what} holds data and changes in place")),
        _ => {}
    }
    risks
}

/// A key as the plan's paths have it.
fn key(key: &str) -> String {
    if key.is_empty() || key.contains(['.', ' ', '"']) { format!("{key:?}") } else { key.to_owned() }
}

/// A value as AWS writes it: JSON where it is more than a word.
fn value(text: &str) -> Value {
    let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
    match serde_json::from_str::<Value>(&cut) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(cut),
    }
}

/// The template of a stack that takes over resources: what it has now, and these.
pub(crate) fn with_imported(live: Option<&Value>, part: &Value) -> Value {
    let mut template = live.cloned().unwrap_or_else(|| json!({ "Resources": Map::new() }));
    if let (Some(all), Some(more)) = (template["Resources"].as_object_mut(), part["Resources"].as_object()) {
        all.extend(more.iter().map(|(id, resource)| (id.clone(), resource.clone())));
    }
    template
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{ChangeAction, ResourceChangeDetail, ResourceTargetDefinition};

    use super::*;

    fn detail(path: &str, before: &str, after: &str, recreation: RequiresRecreation) -> ResourceChangeDetail {
        let name = path.split('/').nth(2).unwrap_or_default();
        let target = ResourceTargetDefinition::builder()
            .name(name)
            .path(path)
            .before_value(before)
            .after_value(after)
            .requires_recreation(recreation);
        ResourceChangeDetail::builder().target(target.build()).build()
    }

    #[test]
    fn a_change_set_is_told_by_property() {
        let change = ResourceChange::builder()
            .action(ChangeAction::Modify)
            .logical_resource_id("BlueTargetGroup")
            .resource_type("AWS::ElasticLoadBalancingV2::TargetGroup")
            .replacement(Replacement::True)
            .details(detail("/Properties/Port", "80", "8080", RequiresRecreation::Always))
            .details(detail(
                "/Properties/Matcher",
                "{\"HttpCode\":\"200\"}",
                "{\"HttpCode\":\"204\"}",
                RequiresRecreation::Never,
            ))
            .build();
        let effect = what_changes(&[change]);
        assert_eq!(
            effect.changes,
            [
                Change {
                    path: "template.Resources.BlueTargetGroup.Properties.Matcher".to_owned(),
                    before: Some(json!({ "HttpCode": "200" })),
                    after: Some(json!({ "HttpCode": "204" })),
                },
                Change {
                    path: "template.Resources.BlueTargetGroup.Properties.Port".to_owned(),
                    before: Some(json!("80")),
                    after: Some(json!("8080")),
                },
            ]
        );
        assert_eq!(effect.risks, ["BlueTargetGroup (ElasticLoadBalancingV2 TargetGroup) is replaced, because of Port"]);
    }

    #[test]
    fn what_could_hurt_is_said() {
        use ChangeAction::{Add, Modify, Remove};
        let cases = [
            (Add, "Vpc", None, 0, ""),
            (Modify, "Vpc", Some(Replacement::False), 0, ""),
            (Modify, "Vpc", Some(Replacement::True), 1, "is replaced"),
            (Modify, "Vpc", Some(Replacement::Conditional), 1, "may be replaced"),
            (Remove, "Vpc", None, 1, "is deleted"),
            (Remove, "DataFileSystem", None, 1, "it is kept"),
            (Modify, "DataFileSystem", Some(Replacement::True), 1, "does not see it any more"),
            (Modify, "DataFileSystem", Some(Replacement::False), 1, "changes in place"),
        ];
        for (action, logical, replacement, count, says) in cases {
            let change = ResourceChange::builder()
                .action(action.clone())
                .logical_resource_id(logical)
                .resource_type("AWS::X::Y")
                .set_replacement(replacement)
                .build();
            let risks = what_changes(&[change]).risks;
            assert_eq!(risks.len(), count, "{action:?} {logical}: {risks:?}");
            assert!(risks.iter().all(|r| r.contains(says)), "{action:?} {logical}: {risks:?}");
        }
    }

    #[test]
    fn the_name_of_a_change_set_is_that_of_what_it_brings() {
        let body = json!({ "stack": "bird-dev", "tags": { "a": "1" }, "template": { "Resources": {} } });
        let wanted = Wanted::of(&body).unwrap();
        let mut other = wanted.clone();
        assert_eq!(wanted.change_set(), other.change_set());
        other.tags.insert("b".to_owned(), "2".to_owned());
        assert_ne!(wanted.change_set(), other.change_set());
        assert!(wanted.change_set().len() == 30, "{}", wanted.change_set());
    }

    #[test]
    fn an_import_keeps_what_the_stack_has() {
        let part = json!({ "Resources": { "DataFileSystem": { "Type": "AWS::EFS::FileSystem" } } });
        let live = json!({ "Resources": { "Vpc": {} }, "Outputs": { "Vpc": 1 } });
        let merged = with_imported(Some(&live), &part);
        assert_eq!(merged["Resources"].as_object().unwrap().len(), 2);
        assert_eq!(merged["Outputs"], json!({ "Vpc": 1 }));
        assert_eq!(with_imported(None, &part), part);
    }
}
