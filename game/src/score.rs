//! What a score is: a whole, finite, non-negative number with JavaScript's range, a player's name, and a run's identity.
//! Values of these types are always valid; nothing here reads HTTP or a database.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};

use crate::js_number;

/// Longest player name, in characters.
pub const PLAYER_CHARS_MAX: usize = 40;
/// Longest run identity, in characters.
pub const RUN_ID_CHARS_MAX: usize = 64;
const GUEST: &str = "Guest";

/// A floored score. Like the numbers of the clients it comes from, it is a double: whole numbers up to 2^53 are exact,
/// larger ones keep JavaScript's rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(f64);

impl Score {
    /// Floors; `None` for what is negative or not finite.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        let floored = number.floor();
        // Adding zero turns -0 into 0.
        (floored.is_finite() && floored >= 0.0).then_some(Self(floored + 0.0))
    }

    /// The score as a double.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The score as a database integer, if it fits one.
    pub(crate) fn as_i64(self) -> Option<i64> {
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and below 2^63")]
        (self.0 < TWO_TO_63).then_some(self.0 as i64)
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_i64() {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

/// Identity of one played round: 1 to 64 letters, digits, `-` or `_`. A repeated identity is stored once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Box<str>);

impl RunId {
    /// `None` if the text is empty, too long, or has another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let valid = !text.is_empty()
            && text.len() <= RUN_ID_CHARS_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        valid.then(|| Self(text.into()))
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A player's name as it is shown: trimmed, cut to 40 characters, `Guest` when nothing is left.
#[must_use]
pub fn player_name(raw: &str) -> String {
    let trimmed = js_number::trim(raw);
    let cut = trimmed.char_indices().nth(PLAYER_CHARS_MAX).map_or(trimmed, |(at, _)| &trimmed[..at]);
    let name = js_number::trim_end(cut);
    if name.is_empty() { GUEST.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{RunId, Score, player_name};

    #[test]
    fn floors_and_refuses() {
        for (number, json) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.9, "7"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_223_372_036_854_774_784.0, "9223372036854774784"),
            (9_223_372_036_854_775_808.0, "9.223372036854776e+18"),
            (1e300, "1e+300"),
        ] {
            let score = Score::new(number).unwrap();
            assert_eq!(serde_json::to_string(&score).unwrap(), json);
        }
        for number in [-0.5, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Score::new(number), None, "{number}");
        }
    }

    #[test]
    fn names_are_trimmed_and_cut_by_characters() {
        for (raw, name) in [
            ("  Ann \u{feff}", "Ann"),
            ("", "Guest"),
            (" \u{3000}\n", "Guest"),
            (&"x".repeat(41), &"x".repeat(40)),
            (&"🐦".repeat(50), &"🐦".repeat(40)),
            (&format!("{} tail", "y".repeat(39)), &"y".repeat(39)),
        ] {
            assert_eq!(player_name(raw), name);
        }
    }

    #[test]
    fn run_identities_have_a_small_alphabet() {
        let longest = "r".repeat(64);
        for text in ["a", "A-1_b", longest.as_str()] {
            assert_eq!(RunId::new(text).unwrap().as_str(), text);
        }
        let too_long = "r".repeat(65);
        for text in ["", "a b", "a.b", "é", "a\n", too_long.as_str()] {
            assert_eq!(RunId::new(text), None, "{text:?}");
        }
    }
}
