//! How a round's identity is stored: the many that look like UUIDs as their 16 bytes, which makes their index half as large
//! and, as ours are in order of time, appended to; all others as text. Either way one identity has one spelling.

use rusqlite::types::{Value, ValueRef};
use uuid::Uuid;

/// The value of an identity.
pub(crate) fn key(run_id: &str) -> Value {
    match Uuid::try_parse(run_id) {
        // Only the spelling that is given back.
        Ok(uuid) if uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == run_id => {
            Value::Blob(uuid.as_bytes().to_vec())
        }
        _ => Value::Text(run_id.to_owned()),
    }
}

/// The identity of a value; `None` if it is none.
pub(crate) fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) => String::from_utf8(text.to_vec()).ok(),
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).ok().map(|uuid| uuid.hyphenated().to_string()),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::{Value, ValueRef};

    use super::{key, text};

    #[test]
    fn every_identity_comes_back_as_it_was() {
        for (run_id, bytes) in [
            ("01890a5d-ac96-774b-bcce-b302099a8057", true),
            ("01890A5D-AC96-774B-BCCE-B302099A8057", false),
            ("01890a5dac96774bbcceb302099a8057", false),
            ("r-1_x", false),
            ("(probe)", false),
        ] {
            let value = key(run_id);
            assert_eq!(matches!(value, Value::Blob(_)), bytes, "{run_id}");
            assert_eq!(text(ValueRef::from(&value)).as_deref(), Some(run_id));
        }
        assert_eq!(text(ValueRef::Null), None);
    }
}
