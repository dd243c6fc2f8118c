//! Change sets: what an update would change, kept until somebody executes it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    State,
    changes::{self, Wanted},
    engine::{self, Goal, Operation},
    request,
    stack::{ChangeSet, Stack, parameters, tags},
    stacks::can_change,
    template::{Policy, Template, invalid, kind},
};
use crate::aws::{Answer, Fault, World, flag, list, stamp, text};

/// How long making one takes, in simulated time.
const TAKES_MS: u64 = 1_500;

/// `CreateChangeSet`.
pub(crate) fn create(world: &Arc<World>, input: &Value) -> Answer {
    let stack_name = super::named(input)?;
    let name = text(input, "ChangeSetName").unwrap_or_default();
    request::checked_name(name, "changeSetName")?;
    let goal = text(input, "ChangeSetType").unwrap_or("UPDATE");
    let token = text(input, "ClientToken").map(str::to_owned);
    let exports = world.cloudformation.exports();
    world.cloudformation.with(|state| {
        if let Some(stack) = state.find(stack_name)
            && let Some(found) = stack.change_sets.iter().find(|one| one.name == name)
        {
            return match &token {
                Some(_) if found.token == token => Ok(json!({ "Id": found.id, "StackId": stack.id })),
                _ => Err(Fault::new("AlreadyExistsException", format!("ChangeSet {name} already exists"))),
            };
        }
        let stack_id = target(world, state, stack_name, name, goal)?;
        let made = change_set(world, state, &stack_id, input, goal, &exports, token.clone());
        let change_set = match made {
            Ok(change_set) => change_set,
            Err(fault) => {
                // A stack that this request began is as if it had not.
                let empty =
                    |stack: &Stack| stack.id == stack_id && stack.template.is_none() && stack.change_sets.is_empty();
                state.stacks.retain(|stack| !(empty(stack) && stack.events.is_empty()));
                return Err(fault);
            }
        };
        let id = change_set.id.clone();
        let Some(stack) = state.find(&stack_id) else { return Err(invalid("the stack is gone".to_owned())) };
        if stack.events.is_empty() {
            stack.token = token;
            stack.become_(world.clock.now_ms(), "REVIEW_IN_PROGRESS", Some("User Initiated".to_owned()));
            stack.token = None;
        }
        stack.change_sets.push(change_set);
        let (world, stack_id, set_id) = (Arc::clone(world), stack.id.clone(), id.clone());
        let answer = json!({ "Id": id, "StackId": stack_id });
        tokio::spawn(async move {
            world.clock.sleep_ms(TAKES_MS).await;
            let ready = |stack: &mut Stack| stack.change_sets.iter_mut().find(|one| one.id == set_id).map(complete);
            let _ = world.cloudformation.stack(&stack_id, ready);
        });
        Ok(answer)
    })
}

/// `DescribeChangeSet`.
pub(crate) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |stack, at| {
        let one = &stack.change_sets[at];
        let values = flag(input, "IncludePropertyValues").unwrap_or(false);
        let done = one.status == "CREATE_COMPLETE";
        let changes: Vec<Value> =
            if done { one.changes.iter().map(|c| c.described(values)).collect() } else { Vec::new() };
        let mut answer = summary(stack, one);
        answer["Parameters"] = parameters(Some(&one.template), &one.parameters);
        answer["NotificationARNs"] = json!([]);
        answer["RollbackConfiguration"] = json!({});
        answer["Capabilities"] = json!(one.capabilities);
        answer["Tags"] = tags(&one.tags);
        answer["Changes"] = json!(changes);
        if let Some(map) = answer.as_object_mut() {
            map.remove("ChangeSetType");
        }
        Ok(answer)
    })
}

/// `ExecuteChangeSet`.
pub(crate) fn execute(world: &Arc<World>, input: &Value) -> Answer {
    let token = text(input, "ClientRequestToken").map(str::to_owned);
    with(world, input, |stack, at| {
        let one = stack.change_sets[at].clone();
        if let Some(token) = &token
            && stack.tokens.contains(&format!("execute {token}"))
        {
            return Ok(json!({}));
        }
        if one.execution != "AVAILABLE" {
            let message = format!(
                "ChangeSet [{}] cannot be executed in its current execution status of [{}]",
                one.id, one.execution
            );
            return Err(Fault::new("InvalidChangeSetStatus", message));
        }
        if stack.busy() {
            let message = format!("Stack:{} is in {} state and can not be updated.", stack.id, stack.status);
            return Err(invalid(message));
        }
        let goal = match one.kind.as_str() {
            "CREATE" => Goal::Create,
            "IMPORT" => Goal::Import,
            _ => Goal::Update,
        };
        stack.tokens.extend(token.as_ref().map(|token| format!("execute {token}")));
        // The others are not valid any more.
        stack.change_sets.retain(|other| other.id == one.id);
        for this in &mut stack.change_sets {
            this.execution = "EXECUTE_COMPLETE";
        }
        stack.change_set_id = Some(one.id.clone());
        stack.capabilities = one.capabilities;
        stack.rollback_disabled = flag(input, "DisableRollback").unwrap_or(false);
        let operation = Operation {
            goal,
            on_failure: request::on_failure(input),
            template: one.template,
            parameters: one.parameters,
            tags: one.tags,
            imports: one.imports,
        };
        engine::begin(world, stack, operation, token.clone());
        Ok(json!({}))
    })
}

/// `DeleteChangeSet`. One that is not there is deleted already.
pub(crate) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    match with(world, input, |stack, at| Ok(json!(stack.change_sets.remove(at).id))) {
        Err(fault) if fault.code != "ChangeSetNotFound" => Err(fault),
        _ => Ok(json!({})),
    }
}

/// `ListChangeSets`.
pub(crate) fn list_all(world: &Arc<World>, input: &Value) -> Answer {
    let name = super::named(input)?;
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        let all: Vec<Value> = stack
            .change_sets
            .iter()
            .map(|one| {
                let mut summary = summary(stack, one);
                if let Some(map) = summary.as_object_mut() {
                    map.remove("ChangeSetType");
                }
                summary
            })
            .collect();
        Ok(json!({ "Summaries": all }))
    })
}

/// The stack that a change set is for: a new one for `CREATE` and for the import into none.
fn target(world: &Arc<World>, state: &mut State, stack_name: &str, name: &str, goal: &str) -> Result<String, Fault> {
    match (goal, state.find(stack_name)) {
        ("CREATE" | "IMPORT", None) if !stack_name.starts_with("arn:") => {
            request::checked_name(stack_name, "stackName")?;
            let stack = Stack::new(world, stack_name);
            let id = stack.id.clone();
            state.add(stack);
            Ok(id)
        }
        ("CREATE", Some(stack)) if stack.status != "REVIEW_IN_PROGRESS" => {
            let message =
                format!("Stack [{stack_name}] already exists and cannot be created again with the changeSet [{name}].");
            Err(invalid(message))
        }
        ("UPDATE", Some(stack)) if stack.status == "REVIEW_IN_PROGRESS" => {
            let message = format!("Stack:{} is in REVIEW_IN_PROGRESS state and can not be updated.", stack.id);
            Err(invalid(message))
        }
        ("CREATE", Some(stack)) => Ok(stack.id.clone()),
        ("IMPORT", Some(stack)) if stack.status == "REVIEW_IN_PROGRESS" => Ok(stack.id.clone()),
        ("UPDATE" | "IMPORT", Some(stack)) => {
            can_change(stack)?;
            Ok(stack.id.clone())
        }
        ("UPDATE" | "CREATE" | "IMPORT", None) => Err(invalid(format!("Stack [{stack_name}] does not exist"))),
        (other, _) => Err(invalid(format!(
            "Value '{other}' at 'changeSetType' failed to satisfy constraint: Member must satisfy enum value set: [IMPORT, UPDATE, CREATE]"
        ))),
    }
}

/// What is asked, compared with what is.
fn change_set(
    world: &Arc<World>,
    state: &mut State,
    stack_id: &str,
    input: &Value,
    goal: &str,
    exports: &BTreeMap<String, String>,
    token: Option<String>,
) -> Result<ChangeSet, Fault> {
    let owned: Vec<(String, String)> = state
        .stacks
        .iter()
        .filter(|stack| stack.deleted_ms.is_none())
        .flat_map(|stack| {
            stack.resources.values().filter_map(|held| Some((held.kind.clone(), held.physical_id.clone()?)))
        })
        .collect();
    let stack = state.need(stack_id)?;
    let template = request::template(world, input, stack.template.as_ref())?;
    let parameters = template.parameters(list(input, "Parameters"), &stack.parameters)?;
    let tags = request::tags(input)?.unwrap_or_else(|| stack.tags.clone());
    let capabilities = request::capabilities(input, &template)?;
    let imports = if goal == "IMPORT" { imports(world, input, &template, &owned)? } else { BTreeMap::new() };
    let wanted = Wanted { template: &template, parameters: &parameters, tags: &tags, exports, imports: &imports };
    let changes = changes::plan(world, stack, &wanted)?;
    if goal == "IMPORT"
        && let Some(other) = changes
            .iter()
            .find(|change| change.action != "Import" && change.details.iter().all(|d| d.attribute != "Tags"))
    {
        let message = format!(
            "As part of the import operation, you cannot modify or add [{}] that is not imported",
            other.logical_id
        );
        return Err(invalid(message));
    }
    let nothing =
        goal == "UPDATE" && changes.is_empty() && tags == stack.tags && !changes::outputs_change(world, stack, &wanted);
    let none = "The submitted information didn't contain changes. Submit different information to create a change set.";
    let name = text(input, "ChangeSetName").unwrap_or_default().to_owned();
    Ok(ChangeSet {
        id: world.arn("cloudformation", &format!("changeSet/{name}/{}", uuid::Uuid::new_v4())),
        name,
        kind: goal.to_owned(),
        status: "CREATE_PENDING",
        reason: nothing.then(|| none.to_owned()),
        execution: "UNAVAILABLE",
        template,
        parameters,
        tags,
        capabilities,
        description: text(input, "Description").map(str::to_owned),
        created_ms: world.clock.now_ms(),
        changes,
        imports,
        token,
    })
}

/// What is to be imported, by logical id.
fn imports(
    world: &Arc<World>,
    input: &Value,
    template: &Template,
    owned: &[(String, String)],
) -> Result<BTreeMap<String, String>, Fault> {
    let asked = list(input, "ResourcesToImport");
    if asked.is_empty() {
        return Err(invalid("ResourcesToImport can't be empty for an import".to_owned()));
    }
    let mut found = BTreeMap::new();
    for one in asked {
        let name = text(one, "LogicalResourceId").unwrap_or_default();
        let Some(declared) = template.resources.get(name) else {
            return Err(invalid(format!("Resources [{name}] to import are not in the template")));
        };
        if declared.deletion.is_none_or(|policy| policy == Policy::Snapshot) {
            return Err(invalid(format!(
                "Resources to Import [{name}] must have DeletionPolicy attribute specified in the template."
            )));
        }
        let importable = kind(&declared.kind).and_then(|kind| Some((kind, kind.import_by()?)));
        let Some((kind, by)) = importable.filter(|(kind, _)| Some(kind.name()) == text(one, "ResourceType")) else {
            return Err(invalid(format!("ResourceTypes [{}] are not supported for Import", declared.kind)));
        };
        let Some(physical_id) = one.get("ResourceIdentifier").and_then(|id| text(id, by)) else {
            return Err(invalid(format!("The identifier of {name} must be [{by}]")));
        };
        if owned.iter().any(|(held, id)| *held == declared.kind && id == physical_id) {
            let message = format!(
                "Resource of type '{}' with identifier '{physical_id}' already exists in a stack",
                declared.kind
            );
            return Err(invalid(message));
        }
        if kind.read(world, physical_id).is_none() {
            let message =
                format!("Resource of type '{}' with identifier '{physical_id}' was not found.", declared.kind);
            return Err(invalid(message));
        }
        found.insert(name.to_owned(), physical_id.to_owned());
    }
    Ok(found)
}

fn complete(one: &mut ChangeSet) {
    if one.reason.is_some() {
        one.status = "FAILED";
    } else {
        one.status = "CREATE_COMPLETE";
        one.execution = "AVAILABLE";
    }
}

/// Does something with the change set that an input names, by its ARN or by its name and its stack's.
fn with<T>(world: &World, input: &Value, act: impl FnOnce(&mut Stack, usize) -> Result<T, Fault>) -> Result<T, Fault> {
    let name = text(input, "ChangeSetName").unwrap_or_default();
    let missing = || Fault::new("ChangeSetNotFound", format!("ChangeSet [{name}] does not exist")).with_status(404);
    world.cloudformation.with(|state| {
        let stack = if name.starts_with("arn:") {
            state
                .stacks
                .iter_mut()
                .find(|stack| stack.change_sets.iter().any(|one| one.id == name))
                .ok_or_else(missing)?
        } else {
            let stack = text(input, "StackName").filter(|stack| !stack.is_empty());
            let stack = stack.ok_or_else(|| {
                invalid("StackName must be specified if ChangeSetName is not specified as an ARN.".to_owned())
            })?;
            state.find(stack).ok_or_else(|| invalid(format!("Stack [{stack}] does not exist")))?
        };
        let at = stack.change_sets.iter().position(|one| one.id == name || one.name == name).ok_or_else(missing)?;
        act(stack, at)
    })
}

fn summary(stack: &Stack, one: &ChangeSet) -> Value {
    json!({
        "ChangeSetId": one.id,
        "ChangeSetName": one.name,
        "ChangeSetType": one.kind,
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": one.description,
        "CreationTime": stamp(one.created_ms),
        "ExecutionStatus": one.execution,
        "Status": one.status,
        "StatusReason": if one.status == "FAILED" { one.reason.clone() } else { None },
        "IncludeNestedStacks": false,
    })
}
