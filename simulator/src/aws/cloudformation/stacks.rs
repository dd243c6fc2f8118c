//! Operations on whole stacks: create, update, delete, protect, and going on with an update that could not be undone.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    changes::{self, Wanted},
    engine::{self, Goal, Operation},
    named, remove, request,
    stack::Stack,
    template::invalid,
    undo,
};
use crate::aws::{Answer, Fault, World, flag, list, text};

/// `CreateStack`.
pub(crate) fn create(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    request::checked_name(name, "stackName")?;
    let template = request::template(world, input, None)?;
    let parameters = template.parameters(list(input, "Parameters"), &Default::default())?;
    let tags = request::tags(input)?.unwrap_or_default();
    let capabilities = request::capabilities(input, &template)?;
    let token = text(input, "ClientRequestToken").map(str::to_owned);
    let exports = world.cloudformation.exports();
    world.cloudformation.with(|state| {
        if let Some(stack) = state.find(name) {
            return match &token {
                Some(token) if stack.tokens.contains(&format!("create {token}")) => Ok(json!({ "StackId": stack.id })),
                _ => Err(Fault::new("AlreadyExistsException", format!("Stack [{name}] already exists"))),
            };
        }
        let mut stack = Stack::new(world, name);
        let imports = Default::default();
        let wanted =
            Wanted { template: &template, parameters: &parameters, tags: &tags, exports: &exports, imports: &imports };
        changes::plan(world, &stack, &wanted)?;
        stack.capabilities = capabilities;
        stack.protected = flag(input, "EnableTerminationProtection").unwrap_or(false);
        stack.rollback_disabled = flag(input, "DisableRollback").unwrap_or(false);
        stack.tokens.extend(token.as_ref().map(|token| format!("create {token}")));
        let on_failure = request::on_failure(input);
        let operation = Operation { goal: Goal::Create, on_failure, template, parameters, tags, imports };
        engine::begin(world, &mut stack, operation, token);
        let id = stack.id.clone();
        state.add(stack);
        Ok(json!({ "StackId": id }))
    })
}

/// `UpdateStack`.
pub(crate) fn update(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let token = text(input, "ClientRequestToken").map(str::to_owned);
    let exports = world.cloudformation.exports();
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        if let Some(token) = &token
            && stack.tokens.contains(&format!("update {token}"))
        {
            return Ok(json!({ "StackId": stack.id }));
        }
        can_change(stack)?;
        let template = request::template(world, input, stack.template.as_ref())?;
        let parameters = template.parameters(list(input, "Parameters"), &stack.parameters)?;
        let tags = request::tags(input)?.unwrap_or_else(|| stack.tags.clone());
        let capabilities = request::capabilities(input, &template)?;
        let imports = Default::default();
        let wanted =
            Wanted { template: &template, parameters: &parameters, tags: &tags, exports: &exports, imports: &imports };
        let changes = changes::plan(world, stack, &wanted)?;
        if changes.is_empty() && tags == stack.tags && !changes::outputs_change(world, stack, &wanted) {
            return Err(invalid("No updates are to be performed.".to_owned()));
        }
        stack.capabilities = capabilities;
        stack.tokens.extend(token.as_ref().map(|token| format!("update {token}")));
        for change_set in &mut stack.change_sets {
            if change_set.execution == "AVAILABLE" {
                change_set.execution = "OBSOLETE";
            }
        }
        let on_failure = request::on_failure(input);
        let operation = Operation { goal: Goal::Update, on_failure, template, parameters, tags, imports };
        engine::begin(world, stack, operation, token);
        Ok(json!({ "StackId": stack.id }))
    })
}

/// `DeleteStack`. A stack that is not there is deleted already.
pub(crate) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let token = text(input, "ClientRequestToken").map(str::to_owned);
    let kept: BTreeSet<String> =
        list(input, "RetainResources").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let importers = |state: &super::State, stack: &Stack| {
        let names: Vec<&str> = stack.outputs.iter().filter_map(|output| output.export.as_deref()).collect();
        let others = state.stacks.iter().filter(|other| other.deleted_ms.is_none() && other.id != stack.id);
        let mut found =
            others.filter(|other| other.template.as_ref().is_some_and(|t| names.iter().any(|name| t.imports(name))));
        found.next().map(|other| other.name.clone())
    };
    world.cloudformation.with(|state| {
        let Some(found) = state.find(name).map(|stack| stack.clone()) else { return Ok(json!({})) };
        if found.deleted_ms.is_some() || found.status == "DELETE_IN_PROGRESS" {
            return Ok(json!({}));
        }
        if found.protected {
            let name = &found.name;
            return Err(invalid(format!("Stack [{name}] cannot be deleted while TerminationProtection is enabled")));
        }
        if let Some(other) = importers(state, &found) {
            let exports: Vec<&str> = found.outputs.iter().filter_map(|output| output.export.as_deref()).collect();
            let message = format!("Cannot delete export {} as it is in use by {other}", exports.join(", "));
            return Err(invalid(message));
        }
        if !kept.is_empty() && found.status != "DELETE_FAILED" {
            let message = format!(
                "Invalid operation on stack [{}]. When you delete a stack, specify which resources to retain only when the \
                 stack is in the DELETE_FAILED state.",
                found.id
            );
            return Err(invalid(message));
        }
        if found.busy() {
            let message = format!("Stack:{} is in {} state and can not be deleted.", found.id, found.status);
            return Err(invalid(message));
        }
        if let Some(stack) = state.find(&found.id) {
            remove::begin(world, stack, kept, token);
        }
        Ok(json!({}))
    })
}

/// `UpdateTerminationProtection`.
pub(crate) fn protect(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let on = flag(input, "EnableTerminationProtection").unwrap_or(false);
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        stack.protected = on;
        Ok(json!({ "StackId": stack.id }))
    })
}

/// `ContinueUpdateRollback`.
pub(crate) fn continue_rollback(world: &Arc<World>, input: &Value) -> Answer {
    let name = named(input)?;
    let skipped: BTreeSet<String> =
        list(input, "ResourcesToSkip").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let token = text(input, "ClientRequestToken").map(str::to_owned);
    world.cloudformation.with(|state| {
        let stack = state.find(name).ok_or_else(|| invalid(format!("Stack [{name}] does not exist")))?;
        if stack.status != "UPDATE_ROLLBACK_FAILED" {
            let message = format!("Stack:{} is in {} state and can not continue rollback.", stack.id, stack.status);
            return match &token {
                Some(token) if stack.tokens.contains(&format!("continue {token}")) => Ok(json!({})),
                _ => Err(invalid(message)),
            };
        }
        stack.tokens.extend(token.as_ref().map(|token| format!("continue {token}")));
        stack.token = token;
        undo::go_on(world, stack, skipped);
        Ok(json!({}))
    })
}

/// Refuses a change of a stack that can't be changed now.
pub(crate) fn can_change(stack: &Stack) -> Result<(), Fault> {
    match stack.updatable() {
        true => Ok(()),
        false => Err(invalid(format!("Stack:{} is in {} state and can not be updated.", stack.id, stack.status))),
    }
}
