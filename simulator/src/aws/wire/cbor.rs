//! RPC v2 CBOR: values as JSON has them, times as tag 1, floating-point numbers always in eight bytes.

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

/// What a client sent; none where it is no CBOR.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() {
        return Some(Value::Object(Map::new()));
    }
    ciborium::from_reader::<Cbor, _>(bytes).ok().map(value)
}

/// An answer in bytes.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn value(from: Cbor) -> Value {
    match from {
        Cbor::Integer(whole) => {
            let whole = i128::from(whole);
            i64::try_from(whole).map(Value::from).unwrap_or_else(|_| Value::from(whole as f64))
        }
        Cbor::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Cbor::Text(text) => Value::String(text),
        Cbor::Bytes(bytes) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        Cbor::Bool(flag) => Value::Bool(flag),
        Cbor::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Cbor::Map(pairs) => Value::Object(
            pairs.into_iter().filter_map(|(key, item)| Some((key.into_text().ok()?, value(item)))).collect(),
        ),
        // A time: seconds since 1970, as the JSON protocols send it.
        Cbor::Tag(_, inner) => value(*inner),
        _ => Value::Null,
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(flag) => out.push(if *flag { 0xf5 } else { 0xf4 }),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(whole), _, _) => head(out, 0, whole),
            (None, Some(whole), _) => head(out, 1, whole.unsigned_abs() - 1),
            (None, None, float) => double(out, float.unwrap_or_default()),
        },
        Value::String(text) => {
            head(out, 3, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            head(out, 4, items.len() as u64);
            items.iter().for_each(|item| write(out, item));
        }
        Value::Object(members) => {
            if let Some(ms) = members.get("$timestamp_ms").and_then(Value::as_u64) {
                head(out, 6, 1);
                return double(out, ms as f64 / 1000.0);
            }
            // An absent member is left out: a null in a structure is refused by some clients.
            head(out, 5, members.values().filter(|item| !item.is_null()).count() as u64);
            for (name, item) in members.iter().filter(|(_, item)| !item.is_null()) {
                head(out, 3, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
                write(out, item);
            }
        }
    }
}

fn double(out: &mut Vec<u8>, number: f64) {
    out.push(0xfb);
    out.extend_from_slice(&number.to_be_bytes());
}

/// A major type with its argument, in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_go_both_ways() {
        for value in [
            json!({}),
            json!({ "A": [1, -1, 24, 255, 256, 65_536, 4_294_967_296_u64, -500], "B": 1.5, "C": true, "D": "text" }),
            json!({ "Long": "x".repeat(300) }),
        ] {
            assert_eq!(decode(&encode(&value)), Some(value));
        }
        assert_eq!(decode(&encode(&json!({ "At": { "$timestamp_ms": 1500 } }))), Some(json!({ "At": 1.5 })));
        assert_eq!(decode(&encode(&json!({ "Whole": 2.0 }))), Some(json!({ "Whole": 2.0 })));
        assert_eq!(decode(b""), Some(json!({})));
        assert_eq!(decode(b"\xff\xff"), None);
    }
}
