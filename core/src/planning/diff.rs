//! The fields in which two documents differ. A field that is null and one that is absent are the same thing here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Change, StepId, document::REFERENCE_KEY};

/// The fields in which two documents differ, as dotted paths in a stable order: objects by key, lists of named objects by
/// name, other lists by position. Empty exactly when the two say the same.
pub fn diff(before: &Value, after: &Value) -> Vec<Change> {
    let (before, after) = (without_nulls(before), without_nulls(after));
    let mut changes = Vec::new();
    walk(String::new(), before.as_ref(), after.as_ref(), &mut changes);
    changes
}

/// The wanted document, with every reference to a step that stays as it is replaced by what is live in its place: what a
/// step gave it still gives. A reference to a step that is made anew stays one, and so differs.
pub(super) fn with_known_references(wanted: &Value, live: Option<&Value>, anew: &BTreeSet<StepId>) -> Value {
    match wanted {
        Value::Object(map) => match (map.get(REFERENCE_KEY), live) {
            (Some(reference), Some(live)) if !live.is_null() => {
                let step = reference.get("step").and_then(Value::as_str).map(StepId::new);
                if step.is_some_and(|s| anew.contains(&s)) { wanted.clone() } else { live.clone() }
            }
            (Some(_), _) => wanted.clone(),
            (None, live) => {
                let known = |(key, value): (&String, &Value)| {
                    (key.clone(), with_known_references(value, live.and_then(|l| l.get(key)), anew))
                };
                Value::Object(map.iter().map(known).collect())
            }
        },
        Value::Array(items) => {
            let live = |index: usize, item: &Value| match item.get("name") {
                Some(name) => live?.as_array()?.iter().find(|l| l.get("name") == Some(name)),
                None => live?.get(index),
            };
            let known = |(index, item): (usize, &Value)| with_known_references(item, live(index, item), anew);
            Value::Array(items.iter().enumerate().map(known).collect())
        }
        plain => plain.clone(),
    }
}

fn walk(path: String, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let seen = changes.len();
    let by_name = [before, after].into_iter().flatten().all(|v| !v.is_array() || names(v).is_some());
    if let (Some(old), Some(new)) = (parts(before, by_name), parts(after, by_name)) {
        let mut keys: Vec<&String> = old.order.iter().chain(new.order.iter()).collect();
        keys.sort_by_key(|key| (key.parse::<u64>().unwrap_or(u64::MAX), *key));
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { quoted(key) } else { format!("{path}.{}", quoted(key)) };
            walk(path, old.fields.get(key).copied(), new.fields.get(key).copied(), changes);
        }
    }
    // A value of its own, or a list whose named members only changed their order.
    if changes.len() == seen {
        changes.push(Change { path, before: before.cloned(), after: after.cloned() });
    }
}

#[derive(Default)]
struct Parts<'a> {
    fields: BTreeMap<String, &'a Value>,
    order: Vec<String>,
}

/// The members of an object or list; none for a plain value. What is absent has no members.
fn parts(value: Option<&Value>, by_name: bool) -> Option<Parts<'_>> {
    let pairs: Vec<(String, &Value)> = match value {
        None => Vec::new(),
        Some(Value::Object(map)) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Some(list @ Value::Array(items)) => match names(list).filter(|_| by_name) {
            Some(names) => names.into_iter().map(str::to_owned).zip(items).collect(),
            None => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        },
        Some(_) => return None,
    };
    let order = pairs.iter().map(|(key, _)| key.clone()).collect();
    Some(Parts { fields: pairs.into_iter().collect(), order })
}

/// The names of a list whose members all have one, each its own.
fn names(list: &Value) -> Option<Vec<&str>> {
    let names: Vec<&str> = list.as_array()?.iter().map(|i| i.get("name")?.as_str()).collect::<Option<_>>()?;
    let distinct: BTreeSet<&&str> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

fn quoted(key: &str) -> String {
    if key.is_empty() || key.contains(['.', ' ', '"']) { format!("{key:?}") } else { key.to_owned() }
}

fn without_nulls(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            Some(Value::Object(map.iter().filter_map(|(k, v)| Some((k.clone(), without_nulls(v)?))).collect()))
        }
        Value::Array(items) => {
            Some(Value::Array(items.iter().map(|v| without_nulls(v).unwrap_or(Value::Null)).collect()))
        }
        other => Some(other.clone()),
    }
}
