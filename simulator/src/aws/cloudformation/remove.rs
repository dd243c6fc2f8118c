//! Takes resources away, everything before what it needs, and deletes stacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    one::handler,
    stack::{Held, Stack},
    template::{Policy, kind},
    waves,
};
use crate::aws::{World, spans::Spans};

/// How long taking one resource away takes, in simulated time.
const TAKES_MS: u64 = 2_000;

/// A resource that is to go.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    logical_id: String,
    held: Held,
    /// It leaves the stack, and stays.
    kept: bool,
    /// It was replaced: the stack has another one of this name.
    former: bool,
}

impl Leaving {
    /// One of the stack's.
    pub(crate) fn of(logical_id: &str, held: &Held, kept: bool) -> Self {
        Leaving { logical_id: logical_id.to_owned(), held: held.clone(), kept, former: false }
    }

    /// One that another took the place of.
    pub(crate) fn former(logical_id: &str, held: &Held, kept: bool) -> Self {
        Leaving { logical_id: logical_id.to_owned(), held: held.clone(), kept, former: true }
    }
}

/// Takes all of these away, everything before what it needs. The logical ids of those that would not go.
pub(crate) async fn all(world: &Arc<World>, id: &str, leaving: Vec<Leaving>) -> Vec<String> {
    // Two of one name can be among them: an old one and a new one.
    let named: BTreeMap<String, Leaving> = leaving
        .into_iter()
        .map(|one| (if one.former { format!("{} former", one.logical_id) } else { one.logical_id.clone() }, one))
        .collect();
    let needs: BTreeMap<String, BTreeSet<String>> =
        named.iter().map(|(name, one)| (name.clone(), one.held.needs.clone())).collect();
    let failed = Mutex::new(Vec::new());
    let work = |name: String| {
        let (one, failed) = (named.get(&name), &failed);
        async move {
            if let Some(one) = one
                && !away(world, id, one).await
            {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(one.logical_id.clone());
            }
            Ok(())
        }
    };
    let _ = waves::run(&waves::reversed(&needs), work).await;
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn away(world: &Arc<World>, id: &str, one: &Leaving) -> bool {
    let now = || world.clock.now_ms();
    let say = |status, reason: Option<String>| {
        world.cloudformation.stack(id, |stack| {
            if one.former {
                let physical = one.held.physical_id.clone().unwrap_or_default();
                stack.tell(now(), &one.logical_id, &physical, &one.held.kind, status, reason, None);
            } else {
                stack.resource_is(now(), &one.logical_id, status, reason);
            }
        });
    };
    let forget = || {
        world.cloudformation.stack(id, |stack| {
            if !one.former {
                stack.resources.remove(&one.logical_id);
            }
        });
    };
    let Some(physical_id) = &one.held.physical_id else {
        // It was never made.
        say("DELETE_COMPLETE", None);
        forget();
        return true;
    };
    if one.kept {
        say("DELETE_SKIPPED", None);
        forget();
        return true;
    }
    say("DELETE_IN_PROGRESS", None);
    let fails = world.faults.has(&format!("delete-fails:{}", one.logical_id));
    let deleted = match kind(&one.held.kind) {
        Some(_) if fails => Err(format!("resource {} has a dependent object", one.logical_id)),
        Some(kind) => kind.delete(world, physical_id, &one.held.properties).map_err(|fault| handler(kind, &fault)),
        None => Ok(()),
    };
    world.clock.sleep_ms(TAKES_MS).await;
    match deleted {
        Ok(()) => {
            say("DELETE_COMPLETE", None);
            forget();
            true
        }
        Err(why) => {
            say("DELETE_FAILED", Some(why));
            false
        }
    }
}

/// Begins to delete a stack. Those named in `kept` stay, as those do whose policy says so.
pub(crate) fn begin(world: &Arc<World>, stack: &mut Stack, kept: BTreeSet<String>, token: Option<String>) {
    stack.token = token;
    stack.become_(world.clock.now_ms(), "DELETE_IN_PROGRESS", Some("User Initiated".to_owned()));
    let (world, id) = (Arc::clone(world), stack.id.clone());
    tokio::spawn(async move { delete(&world, &id, &kept).await });
}

/// Deletes a stack that says already that it is being deleted.
pub(crate) async fn delete(world: &Arc<World>, id: &str, kept: &BTreeSet<String>) {
    let leaving = world.cloudformation.stack(id, |stack| {
        let stays = |name: &str, held: &Held| held.deletion != Policy::Delete || kept.contains(name);
        let all: Vec<Leaving> =
            stack.resources.iter().map(|(name, held)| Leaving::of(name, held, stays(name, held))).collect();
        (stack.name.clone(), all)
    });
    let Some((name, leaving)) = leaving else { return };
    let _busy = Spans::begin(world, &format!("stack {name}"));
    let failed = all(world, id, leaving).await;
    world.clock.sleep_ms(500).await;
    world.cloudformation.stack(id, |stack| {
        let now = world.clock.now_ms();
        if failed.is_empty() {
            stack.deleted_ms = Some(now);
            stack.outputs.clear();
            stack.become_(now, "DELETE_COMPLETE", None);
        } else {
            let why = format!("The following resource(s) failed to delete: [{}]. ", failed.join(", "));
            stack.become_(now, "DELETE_FAILED", Some(why));
        }
        stack.token = None;
    });
}
