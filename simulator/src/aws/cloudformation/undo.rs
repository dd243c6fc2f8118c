//! Takes back what a failed operation did, and says so as CloudFormation does.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    engine::{self, Goal, OnFailure, Operation},
    one, outputs,
    remove::{self, Leaving},
    stack::{Held, Stack, Undo},
    template::{Policy, kind},
};
use crate::aws::{World, spans::Spans};

/// What follows an operation that failed. `why` where it was not a resource that did.
pub(crate) async fn failed(world: &Arc<World>, id: &str, operation: &Operation, why: Option<String>) {
    let Some(names) = world.cloudformation.stack(id, |stack| cancel(world, stack)) else { return };
    let verb = match operation.goal {
        Goal::Create => "create",
        Goal::Update => "update",
        Goal::Import => "import",
    };
    let because =
        why.unwrap_or_else(|| format!("The following resource(s) failed to {verb}: [{}]. ", names.join(", ")));
    match (operation.goal, operation.on_failure) {
        (Goal::Create, OnFailure::Nothing) => end(world, id, "CREATE_FAILED", Some(because)),
        (Goal::Update, OnFailure::Nothing) => end(world, id, "UPDATE_FAILED", Some(because)),
        (Goal::Create, OnFailure::Rollback | OnFailure::Delete) => {
            let status =
                if operation.on_failure == OnFailure::Delete { "DELETE_IN_PROGRESS" } else { "ROLLBACK_IN_PROGRESS" };
            let because = format!("{because}Rollback requested by user.");
            say(world, id, status, Some(because));
            let leaving = world.cloudformation.stack(id, |stack| {
                let all = stack.resources.iter();
                all.map(|(name, held)| Leaving::of(name, held, held.deletion == Policy::Retain)).collect::<Vec<_>>()
            });
            let stuck = remove::all(world, id, leaving.unwrap_or_default()).await;
            match (stuck.is_empty(), operation.on_failure) {
                (true, OnFailure::Delete) => {
                    world.cloudformation.stack(id, |stack| stack.deleted_ms = Some(world.clock.now_ms()));
                    end(world, id, "DELETE_COMPLETE", None);
                }
                (true, _) => end(world, id, "ROLLBACK_COMPLETE", None),
                (false, _) => {
                    let why = format!("The following resource(s) failed to delete: [{}]. ", stuck.join(", "));
                    end(world, id, "ROLLBACK_FAILED", Some(why));
                }
            }
        }
        (Goal::Update, _) => {
            say(world, id, "UPDATE_ROLLBACK_IN_PROGRESS", Some(because));
            back(world, id, &BTreeSet::new()).await;
        }
        (Goal::Import, _) => {
            say(world, id, "IMPORT_ROLLBACK_IN_PROGRESS", Some(because));
            let fresh = world.cloudformation.stack(id, |stack| {
                stack.resources.retain(|name, _| !operation.imports.contains_key(name));
                restore(stack);
                stack.template.is_none()
            });
            world.clock.sleep_ms(1_000).await;
            // A stack that was only made for the import has nothing in it then.
            let status = if fresh == Some(true) { "REVIEW_IN_PROGRESS" } else { "IMPORT_ROLLBACK_COMPLETE" };
            end(world, id, status, None);
        }
    }
}

/// Goes on with taking back what could not be taken back before; what is named is left as it is.
pub(crate) fn go_on(world: &Arc<World>, stack: &mut Stack, skipped: BTreeSet<String>) {
    stack.become_(world.clock.now_ms(), "UPDATE_ROLLBACK_IN_PROGRESS", Some("User Initiated".to_owned()));
    let (world, id, name) = (Arc::clone(world), stack.id.clone(), stack.name.clone());
    tokio::spawn(async move {
        let _busy = Spans::begin(&world, &format!("stack {name}"));
        world.clock.sleep_ms(1_000).await;
        back(&world, &id, &skipped).await;
    });
}

/// Back to what the stack was before, the last change first.
async fn back(world: &Arc<World>, id: &str, skipped: &BTreeSet<String>) {
    let mut stuck = Vec::new();
    let undo = world.cloudformation.stack(id, |stack| std::mem::take(&mut stack.undo)).unwrap_or_default();
    let mut left = Vec::new();
    for one in undo.into_iter().rev() {
        match &one {
            Undo::Made { .. } | Undo::Replaced { .. } => left.push(one),
            Undo::Changed { logical_id, .. } if skipped.contains(logical_id) => {
                let why = Some("Resource skipped during rollback".to_owned());
                world
                    .cloudformation
                    .stack(id, |stack| stack.resource_is(world.clock.now_ms(), logical_id, "UPDATE_COMPLETE", why));
            }
            Undo::Changed { logical_id, before } => {
                if !changed_back(world, id, logical_id, before).await {
                    stuck.push(logical_id.clone());
                    left.push(one);
                }
            }
        }
    }
    if !stuck.is_empty() {
        left.reverse();
        world.cloudformation.stack(id, |stack| stack.undo = left);
        let why = format!("The following resource(s) failed to update: [{}]. ", stuck.join(", "));
        return end(world, id, "UPDATE_ROLLBACK_FAILED", Some(why));
    }
    let leaving = world.cloudformation.stack(id, |stack| newer(world, stack, left)).unwrap_or_default();
    say(world, id, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", None);
    remove::all(world, id, leaving).await;
    world.cloudformation.stack(id, |stack| {
        // What failed to be made, and was never there.
        stack.resources.retain(|_, held| held.physical_id.is_some());
        restore(stack);
        stack.undo.clear();
    });
    let _ = outputs::tell(world, id);
    end(world, id, "UPDATE_ROLLBACK_COMPLETE", None);
}

/// What the operation made; what it took the place of is the stack's again.
fn newer(world: &World, stack: &mut Stack, undo: Vec<Undo>) -> Vec<Leaving> {
    let mut leaving = Vec::new();
    for one in undo {
        match one {
            Undo::Made { logical_id } => {
                let held = stack.resources.get(&logical_id);
                leaving.extend(held.map(|held| Leaving::of(&logical_id, held, held.deletion == Policy::Retain)));
            }
            Undo::Replaced { logical_id, before } => {
                let newer = stack.resources.insert(logical_id.clone(), before);
                stack.resource_is(world.clock.now_ms(), &logical_id, "UPDATE_COMPLETE", None);
                leaving.extend(newer.map(|held| Leaving::former(&logical_id, &held, false)));
            }
            Undo::Changed { .. } => {}
        }
    }
    leaving
}

/// Whether a resource is again what it was.
async fn changed_back(world: &Arc<World>, id: &str, logical_id: &str, before: &Held) -> bool {
    let now = || world.clock.now_ms();
    let asked = world.cloudformation.stack(id, |stack| {
        stack.resource_is(now(), logical_id, "UPDATE_IN_PROGRESS", None);
        let held = stack.resources.get(logical_id)?;
        Some((held.properties.clone(), engine::place(stack, logical_id)))
    });
    let (Some((properties, place)), Some(kind)) = (asked.flatten(), kind(&before.kind)) else { return true };
    let name = format!("rollback-fails:{logical_id}");
    let done = if world.faults.has(&name) || world.faults.take(&format!("rollback-fails-once:{logical_id}")) {
        let fault =
            crate::aws::Fault::new("GeneralServiceException", format!("{logical_id} could not be changed back"));
        Err(fault)
    } else {
        let physical_id = before.physical_id.as_deref().unwrap_or_default();
        kind.update(world, physical_id, &place, &properties, &before.properties)
    };
    world.clock.sleep_ms(done.as_ref().map_or(500, |made| made.takes_ms.max(500))).await;
    world.cloudformation.stack(id, |stack| match done {
        Ok(made) => {
            let mut held = before.clone();
            held.attributes = made.attributes;
            stack.resources.insert(logical_id.to_owned(), held);
            stack.resource_is(now(), logical_id, "UPDATE_COMPLETE", None);
            true
        }
        Err(fault) => {
            stack.resource_is(now(), logical_id, "UPDATE_FAILED", Some(one::handler(kind, &fault)));
            false
        }
    }) == Some(true)
}

/// What was under way when something else failed is cancelled. The names of all that failed.
fn cancel(world: &World, stack: &mut Stack) -> Vec<String> {
    let now = world.clock.now_ms();
    let under_way: Vec<(String, &'static str)> = stack
        .resources
        .iter()
        .filter(|(_, held)| held.status.ends_with("_IN_PROGRESS"))
        .map(|(name, held)| (name.clone(), held.status))
        .collect();
    for (name, status) in under_way {
        let (status, why) = match status {
            "UPDATE_IN_PROGRESS" => ("UPDATE_FAILED", "Resource update cancelled"),
            "IMPORT_IN_PROGRESS" => ("IMPORT_FAILED", "Resource import cancelled"),
            _ => ("CREATE_FAILED", "Resource creation cancelled"),
        };
        stack.resource_is(now, &name, status, Some(why.to_owned()));
    }
    let failed = stack.resources.iter().filter(|(_, held)| held.status.ends_with("_FAILED"));
    failed.map(|(name, _)| name.clone()).collect()
}

fn restore(stack: &mut Stack) {
    if let Some(before) = stack.before.take() {
        (stack.template, stack.parameters, stack.tags) = (before.template, before.parameters, before.tags);
    }
}

fn say(world: &World, id: &str, status: &'static str, reason: Option<String>) {
    world.cloudformation.stack(id, |stack| stack.become_(world.clock.now_ms(), status, reason));
}

fn end(world: &World, id: &str, status: &'static str, reason: Option<String>) {
    say(world, id, status, reason);
    world.cloudformation.stack(id, |stack| stack.token = None);
}
