//! Writes instants as the wire and the database spell them, and reads back whatever an older database holds.
//! It never decides which spelling a database gets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, now.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-01-31T12:00:00.000Z`. Instants outside years 1970 to 9999 are held at the nearer end.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let ms = u64::try_from(unix_ms).unwrap_or(0).min(LAST_MS);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// Reads RFC 3339 (with `Z`, with an offset, or with neither), SQLite's own `YYYY-MM-DD HH:MM:SS`, and digits.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Some(from_number(number));
    }
    let (text, offset_ms) = split_offset(text);
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let ms = i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(ms - offset_ms)
}

/// A number in a `created_at` column: seconds or milliseconds, told apart by size (10^11 s is the year 5138).
pub(crate) fn from_number(number: f64) -> i64 {
    const SECONDS_MAX: f64 = 1e11;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and a clock beyond i64 is no instant at all")]
    let ms = if number.abs() < SECONDS_MAX { (number * 1000.0) as i64 } else { number as i64 };
    ms
}

/// Cuts a trailing `+02:00` off and says how many milliseconds it is ahead of UTC.
fn split_offset(text: &str) -> (&str, i64) {
    let Some(at) = text.len().checked_sub(6).filter(|at| *at > 10 && text.is_char_boundary(*at)) else {
        return (text, 0);
    };
    let (head, tail) = text.split_at(at);
    let sign = match tail.as_bytes() {
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return (text, 0),
    };
    match (tail[1..3].parse::<i64>(), tail[4..6].parse::<i64>()) {
        (Ok(hours), Ok(minutes)) => (head, sign * (hours * 60 + minutes) * 60_000),
        _ => (text, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::{from_number, parse, rfc3339};

    #[test]
    fn reads_every_spelling_an_older_database_may_hold() {
        let noon = 1_706_702_400_000;
        for text in [
            "2024-01-31T12:00:00.000Z",
            "2024-01-31T12:00:00Z",
            "2024-01-31 12:00:00",
            "2024-01-31T12:00:00",
            "2024-01-31T14:00:00+02:00",
            "2024-01-31T06:30:00.000-05:30",
            " 2024-01-31 12:00:00.000 ",
            "1706702400",
            "1706702400000",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(from_number(1_706_702_400.0), noon);
        for text in ["", "yesterday", "2024-13-01 00:00:00", "é2024-01-31+02:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_milliseconds_and_stays_within_four_digit_years() {
        assert_eq!(rfc3339(1_706_702_400_007), "2024-01-31T12:00:00.007Z");
        assert_eq!(rfc3339(-5), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
