//! The JSON protocols: members as they are, times as seconds since 1970 with a fraction.

use serde_json::{Map, Value};

/// An answer as the client reads it: times written, absent members left out.
pub(crate) fn answer(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(answer).collect()),
        Value::Object(members) => match members.get("$timestamp_ms").and_then(Value::as_u64) {
            Some(ms) => Value::from(ms as f64 / 1000.0),
            None => Value::Object(
                members
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| (name, answer(value)))
                    .collect(),
            ),
        },
        value => value,
    }
}

/// What a client sent; none where it is no JSON.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() { Some(Value::Object(Map::new())) } else { serde_json::from_slice(bytes).ok() }
}
