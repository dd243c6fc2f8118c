//! Decides what a `POST /score` body says: player, score and run identity, or why it can't be read.
//! It never touches a header other than the content type and never stores anything.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::js_number;
use crate::score::{RunId, Score, player_name};

/// Largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// What a valid body says.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreBody {
    /// Trimmed, 1 to 40 characters.
    pub player: String,
    /// Floored.
    pub score: Score,
    /// Absent unless the client chose one.
    pub run_id: Option<RunIdField>,
}

/// The body's `runId`, judged later: an `Idempotency-Key` header would win over it.
pub type RunIdField = Result<RunId, BodyFault>;

/// Why a body can't be taken. Sending the same bytes again gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyFault {
    /// Answered with 415.
    #[error("content type must be application/json")]
    ContentType,
    /// Answered with 413.
    #[error("body must be at most {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// Answered with 400.
    #[error("body is not valid JSON: {0}")]
    Json(String),
    /// Answered with 400.
    #[error("body must be a JSON object with a score")]
    NotAnObject,
    /// Answered with 400.
    #[error("score is missing")]
    ScoreMissing,
    /// Answered with 400.
    #[error("score must be a finite number that is not negative")]
    ScoreInvalid,
    /// Answered with 400.
    #[error("runId must be at most 64 letters, digits, '-' or '_'")]
    RunId,
}

/// Reads a body. A missing content type counts as JSON; a `player` or `runId` of another JSON type than string is as good
/// as absent for the player and refused for the run identity; of repeated keys the last one counts, as in JavaScript.
///
/// # Errors
/// [`BodyFault`], which says what the client has to change.
pub fn parse_score_body(content_type: Option<&str>, body: &[u8]) -> Result<ScoreBody, BodyFault> {
    if !content_type.is_none_or(is_json) {
        return Err(BodyFault::ContentType);
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(BodyFault::TooLarge);
    }
    let raw: Raw<'_> = serde_json::from_slice(body).map_err(|fault| BodyFault::Json(fault.to_string()))?;
    let Raw::Object { player, score, run_id } = raw else { return Err(BodyFault::NotAnObject) };
    let number = match score {
        None => return Err(BodyFault::ScoreMissing),
        Some(Field::Number(number)) => number,
        Some(Field::Text(text)) => js_number::number(&text),
        Some(Field::Null | Field::Other) => return Err(BodyFault::ScoreInvalid),
    };
    let player = match &player {
        Some(Field::Text(text)) => player_name(text),
        _ => player_name(""),
    };
    let run_id = match run_id {
        None | Some(Field::Null) => None,
        Some(Field::Text(text)) if text.is_empty() => None,
        Some(Field::Text(text)) => Some(RunId::new(&text).ok_or(BodyFault::RunId)),
        Some(_) => Some(Err(BodyFault::RunId)),
    };
    Ok(ScoreBody { player, score: Score::new(number).ok_or(BodyFault::ScoreInvalid)?, run_id })
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence.is_char_boundary(essence.len() - 5) && {
            let (head, suffix) = essence.split_at(essence.len() - 5);
            suffix.eq_ignore_ascii_case("+json") && head.len() > 12 && head[..12].eq_ignore_ascii_case("application/")
        })
}

enum Raw<'a> {
    Object { player: Option<Field<'a>>, score: Option<Field<'a>>, run_id: Option<Field<'a>> },
    Other,
}

enum Field<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    Null,
    Other,
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

macro_rules! scalars_are {
    ($other:expr) => {
        fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($other)
        }
    };
}

#[expect(clippy::cast_precision_loss, reason = "JavaScript rounds large integers the same way")]
impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    scalars_are!(Raw::Other);

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Raw::Other)
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Raw::Other)
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Raw::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let (mut player, mut score, mut run_id) = (None, None, None);
        while let Some(key) = entries.next_key::<Key>()? {
            match key {
                Key::Player => player = Some(entries.next_value()?),
                Key::Score => score = Some(entries.next_value()?),
                Key::RunId => run_id = Some(entries.next_value()?),
                Key::Other => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Raw::Object { player, score, run_id })
    }
}

enum Key {
    Player,
    Score,
    RunId,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "player" => Key::Player,
                    "score" => Key::Score,
                    "runId" => Key::RunId,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

#[expect(clippy::cast_precision_loss, reason = "JavaScript rounds large integers the same way")]
impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    scalars_are!(Field::Other);

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Field::Number(number))
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BODY_BYTES_MAX, BodyFault, parse_score_body};

    const JSON: Option<&str> = Some("application/json");

    #[test]
    fn reads_what_clients_send() {
        for (body, player, score) in [
            (r#"{"score":12}"#, "Guest", 12.0),
            (r#"{"player":" Ann ","score":12.9}"#, "Ann", 12.0),
            (r#"{"player":"A","score":"0x10"}"#, "A", 16.0),
            (r#"{"player":"A","score":""}"#, "A", 0.0),
            (r#"{"player":"A","score":" 1e3 "}"#, "A", 1000.0),
            (r#"{"player":null,"score":1}"#, "Guest", 1.0),
            (r#"{"player":7,"score":1}"#, "Guest", 1.0),
            (r#"{"player":{"a":[1]},"score":1,"more":{"deep":[[]]}}"#, "Guest", 1.0),
            (r#"{"score":1,"score":2}"#, "Guest", 2.0),
            (r#"{"sc\u006fre":3,"player":"\u00e9"}"#, "é", 3.0),
            (r#"{"score":18446744073709551615}"#, "Guest", 18_446_744_073_709_551_616.0),
            (r#"{"score":1e300}"#, "Guest", 1e300),
        ] {
            let read = parse_score_body(JSON, body.as_bytes()).unwrap();
            assert_eq!((read.player.as_str(), read.score.get()), (player, score), "{body}");
        }
    }

    #[test]
    fn refuses_what_is_no_score() {
        use BodyFault::{NotAnObject, ScoreInvalid, ScoreMissing};
        for (body, fault) in [
            (r"{}", ScoreMissing),
            (r#"{"player":"A"}"#, ScoreMissing),
            (r#"{"score":null}"#, ScoreInvalid),
            (r#"{"score":true}"#, ScoreInvalid),
            (r#"{"score":[1]}"#, ScoreInvalid),
            (r#"{"score":{"a":1}}"#, ScoreInvalid),
            (r#"{"score":-1}"#, ScoreInvalid),
            (r#"{"score":-0.1}"#, ScoreInvalid),
            (r#"{"score":"Infinity"}"#, ScoreInvalid),
            (r#"{"score":"NaN"}"#, ScoreInvalid),
            (r#"{"score":"1_000"}"#, ScoreInvalid),
            ("null", NotAnObject),
            ("[]", NotAnObject),
            ("7", NotAnObject),
            (r#""text""#, NotAnObject),
        ] {
            assert_eq!(parse_score_body(JSON, body.as_bytes()), Err(fault), "{body}");
        }
        for body in ["", "{", r#"{"score":1}x"#, r#"{"score":NaN}"#, r#"{"score":1e400}"#, "{'score':1}", "\u{feff}{}"]
        {
            assert!(matches!(parse_score_body(JSON, body.as_bytes()), Err(BodyFault::Json(_))), "{body}");
        }
        assert!(matches!(parse_score_body(JSON, b"{\"score\":\"\xff\"}"), Err(BodyFault::Json(_))));
        let deep = "[".repeat(BODY_BYTES_MAX);
        assert!(matches!(parse_score_body(JSON, deep.as_bytes()), Err(BodyFault::Json(_))));
        let large = vec![b' '; BODY_BYTES_MAX + 1];
        assert_eq!(parse_score_body(JSON, &large), Err(BodyFault::TooLarge));
    }

    #[test]
    fn takes_json_by_any_of_its_names() {
        for (content_type, taken) in [
            (None, true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/vnd.game+json"), true),
            (Some("text/plain"), false),
            (Some("text/vnd+json"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some(""), false),
            (Some("+json"), false),
            (Some("éééé+json"), false),
        ] {
            assert_eq!(parse_score_body(content_type, br#"{"score":1}"#).is_ok(), taken, "{content_type:?}");
        }
    }

    #[test]
    fn run_identity_is_judged_but_does_not_fail_the_body() {
        let run_id = |json: &str| {
            let body = format!(r#"{{"score":1,"runId":{json}}}"#);
            parse_score_body(JSON, body.as_bytes()).unwrap().run_id
        };
        assert_eq!(run_id("null"), None);
        assert_eq!(run_id(r#""""#), None);
        assert_eq!(run_id(r#""a-1""#).unwrap().unwrap().as_str(), "a-1");
        for json in [r#""a b""#, "7", "[]", "true"] {
            assert_eq!(run_id(json), Some(Err(BodyFault::RunId)), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_valid_score_or_a_fault(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = parse_score_body(JSON, &body) {
                prop_assert!(read.score.get() >= 0.0 && read.score.get().is_finite());
                prop_assert!((1..=40).contains(&read.player.chars().count()));
            }
        }

        #[test]
        fn any_number_and_name_come_through(player in ".{0,60}", score in 0_u32..) {
            let body = serde_json::json!({"player": player, "score": score}).to_string();
            let read = parse_score_body(JSON, body.as_bytes()).unwrap();
            prop_assert_eq!(read.score.get(), f64::from(score));
            prop_assert!(read.player == "Guest" || player.contains(&read.player));
        }

        #[test]
        fn a_number_and_its_text_mean_the_same(number in 0.0..1e308_f64) {
            let as_text = parse_score_body(JSON, format!(r#"{{"score":"{number}"}}"#).as_bytes()).unwrap();
            prop_assert_eq!(as_text.score.get(), number.floor());
        }
    }
}
