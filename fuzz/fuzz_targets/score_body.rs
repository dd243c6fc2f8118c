//! The body of a score: whatever the bytes are, it is a score within its bounds or a refusal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (kind, body) = match bytes.split_first() {
        Some((0, body)) => (None, body),
        Some((1, body)) => (Some("text/plain"), body),
        Some((_, body)) => (Some("application/json"), body),
        None => (None, bytes),
    };
    if let Ok(parsed) = drafty_bird::parse_score_body(kind, body) {
        assert!(body.len() <= drafty_bird::BODY_BYTES_MAX);
        let _ = format!("{parsed:?}");
    }
});
