//! Tags as most services spell them: a list of `Key` and `Value`. It decides nothing about what may be tagged.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{list, text};

/// Names and values.
pub(crate) type Tags = BTreeMap<String, String>;

/// Those of a member of an input.
pub(crate) fn read(input: &Value, member: &str) -> Tags {
    let pair = |tag: &Value| Some((text(tag, "Key")?.to_owned(), text(tag, "Value").unwrap_or_default().to_owned()));
    list(input, member).iter().filter_map(pair).collect()
}

/// As an answer has them.
pub(crate) fn write(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// A resource's own over those that its stack gives.
pub(crate) fn over(own: &Tags, given: &Tags) -> Tags {
    given.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A list of texts.
pub(crate) fn texts(input: &Value, member: &str) -> Vec<String> {
    list(input, member).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
