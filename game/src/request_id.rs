//! Gives every request an identity: the caller's, if it is short and printable, else a new UUID.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Builder, Uuid};

/// The header's name.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CHARS_MAX: usize = 128;

/// The caller's identity or a new one; always printable ASCII.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(&X_REQUEST_ID) {
        Some(sent) if is_acceptable(sent.as_bytes()) => sent.clone(),
        _ => fresh(),
    }
}

fn is_acceptable(sent: &[u8]) -> bool {
    !sent.is_empty() && sent.len() <= CHARS_MAX && sent.iter().all(u8::is_ascii_graphic)
}

/// A random UUID. It names a request and guards nothing, so a fast generator is enough.
pub(crate) fn fresh() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text: &str =
        Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::{X_REQUEST_ID, request_id};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn keeps_what_is_short_and_printable() {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        for (sent, kept) in [
            (b"abc-123".as_slice(), true),
            (longest.as_bytes(), true),
            (too_long.as_bytes(), false),
            (b"", false),
            (b"two words", false),
            (b"tab\there", false),
            (b"caf\xc3\xa9", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
            let id = request_id(&headers);
            assert_eq!(id.as_bytes() == sent, kept, "{sent:?}");
            assert!(!id.is_empty() && id.to_str().is_ok());
        }
        let (one, two) = (request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
        assert_ne!(one, two);
        assert_eq!(uuid::Uuid::parse_str(one.to_str().unwrap()).unwrap().get_version_num(), 4);
    }
}
