//! The heads of requests and responses as they pass. It decides which requests are sent on at all and which fields go
//! with them; it never decides where to.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request, response};

use super::answer::{BAD_HOST, BAD_TARGET, NO_HOST, NO_TUNNELS, Refusal, UNKNOWN_CODING, UNKNOWN_EXPECTATION};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Not a field of HTTP, but programs that follow the CGI conventions take it for their own proxy setting.
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// What a request asks of the proxy itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// To go on as another protocol.
    pub(super) upgrade: bool,
    /// To be told whether its body is wanted before it sends it.
    pub(super) proceed: bool,
}

/// Makes the head of a client's request the head of the one that is sent on. Without a Host field (HTTP/1.0) the sender
/// has to add one.
pub(super) fn admit(
    head: &mut request::Parts,
    found: &mut Found,
    has_body: bool,
    client: &HeaderValue,
) -> Result<Wishes, Refusal> {
    if head.method == Method::CONNECT {
        return Err(NO_TUNNELS);
    }
    if found.coding && !is_chunked(&head.headers) {
        return Err(UNKNOWN_CODING);
    }
    target(head, found)?;
    let headers = &mut head.headers;
    let named = strip_connection(headers, found);
    let http11 = head.version == Version::HTTP_11;
    head.version = Version::HTTP_11;

    let proceed = found.expect && has_body && http11;
    if proceed && !headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(UNKNOWN_EXPECTATION);
    }
    if found.expect && !proceed {
        headers.remove(EXPECT);
    }
    if found.proxy {
        headers.remove(PROXY);
    }
    let trailers = found.te && tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    if found.te {
        headers.remove(TE);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    let upgrade = found.upgrade && named.upgrade && http11 && !has_body && may_upgrade(headers);
    if upgrade {
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if found.upgrade {
        headers.remove(UPGRADE);
    }

    let from = if found.forwarded_for { through(headers, client) } else { client.clone() };
    headers.insert(X_FORWARDED_FOR, from);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    match found.host.clone() {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    Ok(Wishes { upgrade, proceed })
}

/// Makes the head of a backend's response the head of the one that is relayed; `None` if its body is in a coding that
/// can't be passed on, or of no one length.
pub(super) fn relay(head: &mut response::Parts) -> Option<Body> {
    let found = Found::look(&head.headers);
    let headers = &mut head.headers;
    if found.coding {
        if !is_chunked(headers) {
            return None;
        }
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
    } else if found.length {
        let length = one_length(headers)?;
        headers.insert(CONTENT_LENGTH, length);
    }
    strip_connection(headers, &found);
    if found.te {
        headers.remove(TE);
    }
    if found.upgrade {
        // 101 and 426 are about the connection to the client too.
        if matches!(head.status.as_u16(), 101 | 426) {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(UPGRADE);
        }
    }
    head.version = Version::HTTP_11;
    Some(if found.events { Body::Events } else { Body::Plain })
}

/// What to expect of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Plain,
    /// It may be silent for long.
    Events,
}

/// What a head has that does not just pass. Most have next to nothing, so one look saves many searches.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) host: Option<HeaderValue>,
    pub(super) request_id: Option<HeaderValue>,
    hosts: usize,
    connection: bool,
    length: bool,
    keep_alive: bool,
    proxy_connection: bool,
    proxy: bool,
    te: bool,
    coding: bool,
    upgrade: bool,
    expect: bool,
    forwarded_for: bool,
    events: bool,
}

impl Found {
    pub(super) fn look(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "connection" => found.connection = true,
                "content-length" => found.length = true,
                "content-type" => found.events = value.as_bytes().starts_with(b"text/event-stream"),
                "expect" => found.expect = true,
                "host" => {
                    found.hosts += 1;
                    found.host = Some(value.clone());
                }
                "keep-alive" => found.keep_alive = true,
                "proxy" => found.proxy = true,
                "proxy-connection" => found.proxy_connection = true,
                "te" => found.te = true,
                "transfer-encoding" => found.coding = true,
                "upgrade" => found.upgrade = true,
                "x-forwarded-for" => found.forwarded_for = true,
                "x-request-id" => found.request_id = Some(value.clone()),
                _ => {}
            }
        }
        found
    }
}

/// What the Connection field named.
#[derive(Default)]
struct Named {
    upgrade: bool,
}

/// Removes the fields that are about one connection, and those that the Connection field names.
fn strip_connection(headers: &mut HeaderMap, found: &Found) -> Named {
    let mut named = Named::default();
    if found.connection {
        let mut more = Vec::new();
        for token in tokens(headers, &CONNECTION) {
            match token.to_ascii_lowercase().as_str() {
                "upgrade" => named.upgrade = true,
                // The fields that frame a message or route it are not the sender's to remove; the rest is looked after
                // by name.
                "close" | "keep-alive" | "te" | "host" | "content-length" | "transfer-encoding" | "" => {}
                name => more.extend(HeaderName::from_bytes(name.as_bytes()).ok()),
            }
        }
        headers.remove(CONNECTION);
        for name in more {
            headers.remove(name);
        }
    }
    if found.keep_alive {
        headers.remove(KEEP_ALIVE);
    }
    if found.proxy_connection {
        headers.remove(PROXY_CONNECTION);
    }
    named
}

/// The comma-separated members of a field's values.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The length that all Content-Length fields agree on. The parser looks after it only where a body follows, not in the
/// answer to a HEAD.
fn one_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let length = values.next()?;
    let is_number = length.as_bytes().iter().all(u8::is_ascii_digit);
    let fits = is_number && length.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
    (fits && values.all(|other| other == length)).then(|| length.clone())
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let only = values.next().is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    only && values.next().is_none()
}

/// HTTP/2 and TLS begun this way would carry requests past the proxy unseen.
fn may_upgrade(headers: &HeaderMap) -> bool {
    let refused = |token: &str| {
        let name = token.split('/').next().unwrap_or_default();
        name.eq_ignore_ascii_case("h2c") || name.eq_ignore_ascii_case("h2") || name.eq_ignore_ascii_case("tls")
    };
    !tokens(headers, &UPGRADE).any(refused)
}

/// The client's address behind those of the proxies before it.
fn through(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let before = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = before.filter(|hop| !hop.trim_ascii().is_empty()).chain([client.as_bytes()]).collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).unwrap_or_else(|_| client.clone())
}

/// Brings the target into the form a server expects, a path, and the host into the Host field.
fn target(head: &mut request::Parts, found: &mut Found) -> Result<(), Refusal> {
    if found.hosts > 1 || !found.host.as_ref().is_none_or(|host| is_host(host.as_bytes())) {
        return Err(BAD_HOST);
    }
    let Some(authority) = head.uri.authority() else {
        return if found.hosts == 0 && head.version != Version::HTTP_10 { Err(NO_HOST) } else { Ok(()) };
    };
    // RFC 9112: a target that names a host overrules the Host field.
    if head.uri.scheme().is_none() || !is_host(authority.as_str().as_bytes()) {
        return Err(BAD_TARGET);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BAD_TARGET)?;
    head.headers.insert(HOST, host.clone());
    found.host = Some(host);
    head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(())
}

/// `name`, `1.2.3.4` or `[::1]`, each with an optional port; one of them, without a user.
fn is_host(value: &[u8]) -> bool {
    let is_port = |rest: &[u8]| match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
        return end > 1
            && rest[..end].iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
            && is_port(&rest[end + 1..]);
    }
    let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
    end > 0
        && value[..end].iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte))
        && is_port(&value[end..])
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use proptest::prelude::*;

    use super::*;

    /// Fields that mean something to the proxy, and some that don't.
    const NAMES: [&str; 20] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "content-type",
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "cookie",
        "set-cookie",
        "x-a",
        "x-b",
    ];

    fn fields() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
        let words = prop::sample::select(vec![
            "close",
            "keep-alive",
            "upgrade",
            "te",
            "x-a",
            "X-B",
            "host",
            "cookie",
            "trailers",
            "chunked",
            "gzip",
            "websocket",
            "h2c",
            "100-continue",
            "1.2.3.4",
            ", ",
            ",",
            " ",
            "",
            "b:80",
            "text/event-stream",
        ]);
        let value = prop_oneof![
            4 => prop::collection::vec(words, 0..5).prop_map(|words| words.concat().into_bytes()),
            1 => prop::collection::vec(prop_oneof![b' '..=b'~', 128u8..=255], 0..12),
        ];
        let length = prop::sample::select(vec!["5", "5", "5", "0", "05", "", "+5", "5, 5", "99999999999999999999"]);
        let field = (prop::sample::select(&NAMES[..]), value, length).prop_map(|(name, value, length)| match name {
            "content-length" => (name, length.as_bytes().to_vec()),
            _ => (name, value),
        });
        prop::collection::vec(field, 0..14)
    }

    fn map(fields: &[(&'static str, Vec<u8>)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, Vec<u8>)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("only visible bytes"))
        };
        fields.iter().map(field).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
        headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    /// What the Connection field of a head named, as lower case.
    fn named(headers: &HeaderMap) -> Vec<String> {
        tokens(headers, &CONNECTION).map(str::to_ascii_lowercase).collect()
    }

    proptest! {
        #[test]
        fn a_request_is_sent_on_without_what_is_the_connection_s(
            fields in fields(), has_body: bool, old: bool, client in prop::sample::select(vec!["10.0.0.1", "::1"]),
        ) {
            let headers = map(&fields);
            let named = named(&headers);
            let version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
            let mut request = Request::builder().version(version).uri("/x").body(()).expect("a valid request");
            *request.headers_mut() = headers.clone();
            let (mut head, ()) = request.into_parts();
            let client = HeaderValue::from_static(client);
            let mut found = Found::look(&head.headers);
            let Ok(wishes) = admit(&mut head, &mut found, has_body, &client) else { return Ok(()) };
            let sent = &head.headers;
            for name in ["keep-alive", "proxy-connection", "proxy"] {
                prop_assert!(!sent.contains_key(name), "{}", name);
            }
            for name in ["x-a", "x-b", "cookie", "x-request-id"] {
                let kept = if named.iter().any(|token| token == name) { Vec::new() } else { values(&headers, name) };
                prop_assert_eq!(values(sent, name), kept, "{}", name);
            }
            prop_assert_eq!(values(sent, "content-length"), values(&headers, "content-length"));
            prop_assert_eq!(sent.contains_key(UPGRADE), wishes.upgrade);
            prop_assert_eq!(tokens(sent, &CONNECTION).any(|token| token == "upgrade"), wishes.upgrade);
            prop_assert!(!wishes.upgrade || named.iter().any(|token| token == "upgrade") && !old && !has_body);
            prop_assert!(tokens(sent, &CONNECTION).all(|token| matches!(token, "upgrade" | "te")));
            prop_assert!(values(sent, "te").iter().all(|value| value == b"trailers"));
            prop_assert_eq!(sent.contains_key(EXPECT), wishes.proceed);
            prop_assert!(values(sent, "transfer-encoding").len() <= 1);
            prop_assert_eq!(values(sent, "x-forwarded-proto"), [b"http"]);
            prop_assert_eq!(values(sent, "x-forwarded-host"), values(sent, "host"));
            let through = values(sent, "x-forwarded-for");
            prop_assert_eq!(through.len(), 1);
            prop_assert!(through[0].ends_with(client.as_bytes()));
            if !named.iter().any(|token| token == "x-forwarded-for") {
                let before = values(&headers, "x-forwarded-for");
                let mut hops = before.into_iter().filter(|hop| !hop.trim_ascii().is_empty()).collect::<Vec<_>>();
                hops.push(client.as_bytes());
                prop_assert_eq!(through[0], hops.join(&b", "[..]));
            }
        }

        #[test]
        fn a_response_is_relayed_without_what_is_the_connection_s(
            fields in fields(), status in prop::sample::select(vec![101u16, 200, 204, 304, 426, 500]),
        ) {
            let headers = map(&fields);
            let named = named(&headers);
            let mut response = Response::builder().status(status).version(Version::HTTP_10).body(()).expect("valid");
            *response.headers_mut() = headers.clone();
            let (mut head, ()) = response.into_parts();
            let mut lengths = values(&headers, "content-length");
            lengths.dedup();
            let framed = match &lengths[..] {
                _ if headers.contains_key(TRANSFER_ENCODING) => is_chunked(&headers),
                lengths => matches!(lengths, [] | [b"5" | b"0" | b"05"]),
            };
            let body = relay(&mut head);
            prop_assert_eq!(body.is_some(), framed);
            let Some(body) = body else { return Ok(()) };
            let sent = &head.headers;
            for name in ["keep-alive", "proxy-connection", "te", "transfer-encoding"] {
                prop_assert!(!sent.contains_key(name), "{}", name);
            }
            for name in ["x-a", "x-b", "set-cookie", "content-type"] {
                let kept = if named.iter().any(|token| token == name) { Vec::new() } else { values(&headers, name) };
                prop_assert_eq!(values(sent, name), kept, "{}", name);
            }
            let upgrade = matches!(status, 101 | 426) && headers.contains_key(UPGRADE);
            prop_assert_eq!(sent.contains_key(UPGRADE), upgrade);
            prop_assert_eq!(values(sent, "connection"), if upgrade { vec![&b"upgrade"[..]] } else { Vec::new() });
            let chunked = headers.contains_key(TRANSFER_ENCODING);
            prop_assert_eq!(values(sent, "content-length"), if chunked { Vec::new() } else { lengths });
            let events = values(&headers, "content-type").last().is_some_and(|t| t.starts_with(b"text/event-stream"));
            prop_assert_eq!(body == Body::Events, events);
        }

        #[test]
        fn a_host_is_what_a_url_can_have(value in "[a-z0-9.:@/\\[\\],% -]{0,12}") {
            if is_host(value.as_bytes()) {
                let uri: Uri = format!("http://{value}/").parse().expect("a host makes a URL");
                prop_assert_eq!(uri.authority().map(|authority| authority.as_str()), Some(&*value));
            }
        }
    }
}
