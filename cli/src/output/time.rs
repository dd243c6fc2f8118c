//! Times and sizes as people read them. The clock is read here and nowhere else in the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in Unix milliseconds.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-21 11:36:53`, in UTC.
pub(crate) fn stamp(unix_ms: u64) -> String {
    // Four-digit years only; whatever a broken clock wrote beyond them is cut to the last moment there is.
    let seconds = (unix_ms / 1000).min(253_402_300_799);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

/// `0.4s`, `12s`, `3m 20s`, `2h 5m`, `4d 3h`: two units at most.
pub(crate) fn length(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..=9 => format!("{}.{}s", s, ms % 1000 / 100),
        10..=59 => format!("{s}s"),
        60..=3599 => format!("{}m {}s", s / 60, s % 60),
        3600..=86_399 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// How long ago something was: `3m 20s ago`; what lies in the future by another clock was just now.
pub(crate) fn ago(unix_ms: u64) -> String {
    match now_unix_ms().saturating_sub(unix_ms) {
        0..=999 => "just now".to_owned(),
        ms => format!("{} ago", length(ms / 1000 * 1000).replace(".0s", "s")),
    }
}

/// `4.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units_at_most() {
        let cases = [
            (0, "0.0s"),
            (450, "0.4s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (200_000, "3m 20s"),
            (7_500_000, "2h 5m"),
            (356_400_000, "4d 3h"),
        ];
        for (ms, wanted) in cases {
            assert_eq!(length(ms), wanted, "{ms}");
        }
    }

    #[test]
    fn stamps_are_utc_and_never_panic() {
        assert_eq!(stamp(0), "1970-01-01 00:00:00");
        assert_eq!(stamp(1_795_261_013_000), "2026-11-21 11:36:53");
        assert_eq!(stamp(u64::MAX), "9999-12-31 23:59:59");
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, wanted) in
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (4_250_000, "4.2 MB"), (3_000_000_000, "3.0 GB")]
        {
            assert_eq!(size(bytes), wanted);
        }
    }
}
