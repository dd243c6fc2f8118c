//! Makes a stack what its template says, in simulated time: resources in the order of their needs, as many at once as can be.
//! When one fails, everything is handed to [`super::undo`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    changes,
    intrinsics::Scope,
    kinds::{Place, Replaces},
    one::One,
    outputs,
    remove::{self, Leaving},
    stack::{Before, Held, Stack, Undo},
    template::{Policy, Template, invalid, kind},
    undo, waves,
};
use crate::aws::{Fault, World, spans::Spans};

/// What is done with a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Create,
    Update,
    Import,
}

/// What becomes of a stack whose operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    Rollback,
    Delete,
    Nothing,
}

/// An operation that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) goal: Goal,
    pub(crate) on_failure: OnFailure,
    pub(crate) template: Template,
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) imports: BTreeMap<String, String>,
}

/// Begins an operation: the stack says at once that it is under way; the rest goes on by itself.
pub(crate) fn begin(world: &Arc<World>, stack: &mut Stack, operation: Operation, token: Option<String>) {
    let now = world.clock.now_ms();
    stack.token = token;
    stack.undo.clear();
    stack.before = Some(Box::new(Before {
        template: stack.template.take(),
        parameters: std::mem::take(&mut stack.parameters),
        tags: std::mem::take(&mut stack.tags),
    }));
    stack.template = Some(operation.template.clone());
    stack.parameters = operation.parameters.clone();
    stack.tags = operation.tags.clone();
    let status = match operation.goal {
        Goal::Create => "CREATE_IN_PROGRESS",
        Goal::Update => "UPDATE_IN_PROGRESS",
        Goal::Import => "IMPORT_IN_PROGRESS",
    };
    if operation.goal != Goal::Create {
        stack.updated_ms = Some(now);
    }
    stack.become_(now, status, Some("User Initiated".to_owned()));
    let (world, id) = (Arc::clone(world), stack.id.clone());
    tokio::spawn(async move { run(&world, &id, operation).await });
}

async fn run(world: &Arc<World>, id: &str, operation: Operation) {
    let name = world.cloudformation.stack(id, |stack| stack.name.clone()).unwrap_or_default();
    let _busy = Spans::begin(world, &format!("stack {name}"));
    // Accepting a request takes CloudFormation a moment too.
    world.clock.sleep_ms(1_000).await;
    let operation = Arc::new(operation);
    let active = match needs(world, id, &operation) {
        Ok(active) => active,
        Err(fault) => return undo::failed(world, id, &operation, Some(fault.message)).await,
    };
    let work = |name: String| {
        let (world, operation, needs) =
            (Arc::clone(world), Arc::clone(&operation), active.get(&name).cloned().unwrap_or_default());
        let id = id.to_owned();
        async move { make(&world, &id, &name, &operation, needs).await }
    };
    if waves::run(&active, work).await.is_err() {
        return undo::failed(world, id, &operation, None).await;
    }
    if let Err(why) = outputs::tell(world, id) {
        return undo::failed(world, id, &operation, Some(why)).await;
    }
    finish(world, id, &operation, &active).await;
}

/// What is not wanted any more goes, and the stack is complete.
async fn finish(world: &Arc<World>, id: &str, operation: &Operation, active: &BTreeMap<String, BTreeSet<String>>) {
    let now = || world.clock.now_ms();
    let status = match operation.goal {
        Goal::Create => "CREATE_COMPLETE",
        Goal::Import => "IMPORT_COMPLETE",
        Goal::Update => {
            let leaving = world.cloudformation.stack(id, |stack| {
                stack.become_(now(), "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", None);
                let replaced = stack.undo.iter().filter_map(|undo| match undo {
                    Undo::Replaced { logical_id, before } => {
                        let declared = operation.template.resources.get(logical_id);
                        let kept = declared.is_some_and(|one| one.replacement == Policy::Retain);
                        Some(Leaving::former(logical_id, before, kept))
                    }
                    _ => None,
                });
                let gone = stack.resources.iter().filter(|(name, _)| !active.contains_key(*name));
                let gone = gone.map(|(name, held)| Leaving::of(name, held, held.deletion != Policy::Delete));
                replaced.chain(gone).collect::<Vec<_>>()
            });
            remove::all(world, id, leaving.unwrap_or_default()).await;
            "UPDATE_COMPLETE"
        }
    };
    world.cloudformation.stack(id, |stack| {
        stack.undo.clear();
        stack.before = None;
        stack.become_(now(), status, None);
        stack.token = None;
    });
}

/// What there is to be, with what each needs.
fn needs(world: &World, id: &str, operation: &Operation) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
    let exports = world.cloudformation.exports();
    let found = world.cloudformation.stack(id, |stack| {
        let (pseudo, known) = (stack.pseudo(world), stack.known());
        operation.template.active(&Scope {
            template: &operation.template,
            parameters: &operation.parameters,
            pseudo: &pseudo,
            known: &known,
            exports: &exports,
            ahead: true,
        })
    });
    found.unwrap_or_else(|| Err(invalid("the stack is gone".to_owned())))
}

/// What has to be done for a resource.
enum Step {
    Nothing,
    Create,
    Import(String),
    Replace(Held),
    Update(Held),
    /// Only what CloudFormation itself keeps of it.
    Remember,
}

/// Makes one resource what it is to be. Its failure is told as an event before this returns it.
async fn make(
    world: &Arc<World>,
    id: &str,
    name: &str,
    operation: &Operation,
    needs: BTreeSet<String>,
) -> Result<(), String> {
    let Some(declared) = operation.template.resources.get(name) else { return Ok(()) };
    let Some(kind) = kind(&declared.kind) else { return Ok(()) };
    let exports = world.cloudformation.exports();
    let deletion = declared.deletion.unwrap_or_default();
    let decided = world.cloudformation.stack(id, |stack| {
        let (pseudo, known) = (stack.pseudo(world), stack.known());
        let scope = Scope {
            template: &operation.template,
            parameters: &operation.parameters,
            pseudo: &pseudo,
            known: &known,
            exports: &exports,
            ahead: false,
        };
        let properties = scope.resolve(&declared.properties).map(Option::unwrap_or_default);
        let place = place(stack, name);
        let retagged = stack.before.as_ref().is_some_and(|before| before.tags != stack.tags);
        let step = match (stack.resources.get_mut(name), &properties) {
            (Some(held), Ok(properties)) if held.physical_id.is_some() => {
                held.needs.clone_from(&needs);
                held.deletion = deletion;
                let details = changes::details(held, &declared.properties, properties, &declared.metadata, retagged);
                if details.is_empty() {
                    Step::Nothing
                } else if details.iter().any(|detail| detail.replaces == Replaces::Always) {
                    Step::Replace(held.clone())
                } else if details.iter().any(|detail| detail.attribute != "Metadata") {
                    Step::Update(held.clone())
                } else {
                    Step::Remember
                }
            }
            (Some(held), Err(_)) if held.physical_id.is_some() => Step::Update(held.clone()),
            _ => match operation.imports.get(name) {
                Some(physical_id) => Step::Import(physical_id.clone()),
                None => Step::Create,
            },
        };
        (properties, place, step)
    });
    let Some((properties, place, step)) = decided else { return Ok(()) };
    let one = One { world, id, name, kind, place, metadata: &declared.metadata, deletion, needs };
    match step {
        Step::Nothing => Ok(()),
        Step::Remember => {
            world.cloudformation.stack(id, |stack| {
                if let Some(held) = stack.resources.get_mut(name) {
                    held.metadata = declared.metadata.clone();
                }
                stack.resource_is(world.clock.now_ms(), name, "UPDATE_COMPLETE", None);
            });
            Ok(())
        }
        Step::Create => one.create(properties).await,
        Step::Import(physical_id) => one.import(properties, physical_id).await,
        Step::Replace(held) => one.replace(properties, held).await,
        Step::Update(held) => one.update(properties, held).await,
    }
}

pub(crate) fn place(stack: &Stack, logical_id: &str) -> Place {
    Place { stack: stack.name.clone(), logical_id: logical_id.to_owned(), tags: stack.tags_of(logical_id) }
}
