//! Times as text: `250ms`, `30s`, `1h30m`. A bare number is not a time, because nobody can see its unit.

/// What a time looks like.
pub(crate) const PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The milliseconds; or, where this is not a time, what was probably meant.
pub(crate) fn parse(text: &str) -> Result<u64, Option<String>> {
    strict(text).ok_or_else(|| meant(text))
}

fn strict(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let amount: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (_, unit_ms) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        total_ms = total_ms.checked_add(amount.checked_mul(*unit_ms)?)?;
    }
    (!text.is_empty()).then_some(total_ms)
}

/// `30` is meant as seconds; `5 min` and `2 hours` are what humantime understands.
fn meant(written: &str) -> Option<String> {
    let written = written.trim();
    if let Ok(seconds) = written.parse::<u64>() {
        return Some(format!("{seconds}s"));
    }
    let ms = humantime::parse_duration(&written.to_lowercase()).ok()?.as_millis();
    u64::try_from(ms).ok().map(text)
}

/// The shortest exact way to write it.
pub(crate) fn text(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        if rest >= unit_ms {
            text.push_str(&format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, want) in [
            ("30s", Ok(30_000)),
            ("5m", Ok(300_000)),
            ("1h30m", Ok(5_400_000)),
            ("250ms", Ok(250)),
            ("30d", Ok(2_592_000_000)),
            ("0s", Ok(0)),
            ("30", Err(Some("30s"))),
            ("5 min", Err(Some("5m"))),
            ("2 Hours", Err(Some("2h"))),
            ("", Err(None)),
            ("s", Err(None)),
            ("-5s", Err(None)),
            ("1.5h", Err(Some("1h30m"))),
            ("soon", Err(None)),
            ("99999999999999999999s", Err(None)),
            ("999999999999999999d", Err(None)),
        ] {
            assert_eq!(parse(text), want.map_err(|s: Option<&str>| s.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 250, 1000, 90_000, 5_400_000, 2_592_000_001] {
            assert_eq!(parse(&text(ms)), Ok(ms));
        }
    }
}
