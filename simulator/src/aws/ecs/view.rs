//! Pages and tags, the same for everything in ECS. It decides where a page ends.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{State, names};
use crate::aws::{Answer, Fault, World, list as members, number, text};

/// One page of a list and where the next begins.
pub(super) fn page<'a, T>(all: &'a [T], input: &Value, most: usize) -> (&'a [T], Option<String>) {
    let begin = text(input, "nextToken").and_then(|t| t.parse().ok()).unwrap_or(0).min(all.len());
    let asked = number(input, "maxResults").and_then(|n| usize::try_from(n).ok()).unwrap_or(most).clamp(1, most);
    let end = (begin + asked).min(all.len());
    (&all[begin..end], (end < all.len()).then(|| end.to_string()))
}

/// An answer with one page in it.
pub(super) fn paged(name: &str, page: Value, next: Option<String>) -> Value {
    let mut answer = json!({ name: page });
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}

fn tags_of<'a>(state: &'a mut State, arn: &str) -> Result<&'a mut Vec<Value>, Fault> {
    let missing = || names::bad(format!("The specified resource {arn} was not found."));
    let kind = arn.split(':').nth(5).and_then(|r| r.split('/').next()).unwrap_or_default();
    match kind {
        "cluster" => state.clusters.values_mut().find(|c| c.arn == arn).map(|c| &mut c.tags),
        "service" => state.services.get_mut(arn).map(|s| &mut s.tags),
        "task" => state.tasks.get_mut(names::last(arn)).map(|t| &mut t.tags),
        "task-definition" => state.families.values_mut().flatten().find(|d| d.arn == arn).map(|d| &mut d.tags),
        _ => None,
    }
    .ok_or_else(missing)
}

pub(super) fn tag(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let tags = tags_of(&mut state, text(input, "resourceArn").unwrap_or_default())?;
    *tags = names::merged_tags(tags, members(input, "tags"));
    Ok(json!({}))
}

pub(super) fn untag(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let tags = tags_of(&mut state, text(input, "resourceArn").unwrap_or_default())?;
    let gone = members(input, "tagKeys");
    tags.retain(|tag| !gone.contains(&tag["key"]));
    Ok(json!({}))
}

pub(super) fn tags(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let tags = tags_of(&mut state, text(input, "resourceArn").unwrap_or_default())?;
    Ok(json!({ "tags": tags }))
}
