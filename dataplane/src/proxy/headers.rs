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
pub(super) fn admit(head: &mut request::Parts, has_body: bool, client: &HeaderValue) -> Result<Wishes, Refusal> {
    if head.method == Method::CONNECT {
        return Err(NO_TUNNELS);
    }
    let found = Found::look(&head.headers);
    if found.coding && !is_chunked(&head.headers) {
        return Err(UNKNOWN_CODING);
    }
    target(head, found.hosts)?;
    let headers = &mut head.headers;
    let named = strip_connection(headers, &found);
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
    match headers.get(HOST).cloned() {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    Ok(Wishes { upgrade, proceed })
}

/// Makes the head of a backend's response the head of the one that is relayed; false if its body is in a coding that
/// can't be passed on.
pub(super) fn relay(head: &mut response::Parts) -> bool {
    let found = Found::look(&head.headers);
    let headers = &mut head.headers;
    if found.coding {
        if !is_chunked(headers) {
            return false;
        }
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
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
    true
}

/// Which fields a head has that do not just pass. Most have none, so one look saves many searches.
#[derive(Debug, Default)]
struct Found {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    proxy: bool,
    te: bool,
    coding: bool,
    upgrade: bool,
    expect: bool,
    forwarded_for: bool,
    hosts: usize,
}

impl Found {
    fn look(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => found.connection = true,
                "keep-alive" => found.keep_alive = true,
                "proxy-connection" => found.proxy_connection = true,
                "proxy" => found.proxy = true,
                "te" => found.te = true,
                "transfer-encoding" => found.coding = true,
                "upgrade" => found.upgrade = true,
                "expect" => found.expect = true,
                "x-forwarded-for" => found.forwarded_for = true,
                "host" => found.hosts = headers.get_all(HOST).iter().count(),
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
fn target(head: &mut request::Parts, hosts: usize) -> Result<(), Refusal> {
    if hosts > 1 {
        return Err(BAD_HOST);
    }
    if hosts == 1 && !head.headers.get(HOST).is_some_and(|host| is_host(host.as_bytes())) {
        return Err(BAD_HOST);
    }
    let Some(authority) = head.uri.authority() else {
        return if hosts == 0 && head.version != Version::HTTP_10 { Err(NO_HOST) } else { Ok(()) };
    };
    // RFC 9112: a target that names a host overrules the Host field.
    if head.uri.scheme().is_none() || !is_host(authority.as_str().as_bytes()) {
        return Err(BAD_TARGET);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BAD_TARGET)?;
    head.headers.insert(HOST, host);
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
            && rest[..end].iter().all(|byte| byte.is_ascii_hexdigit() || b":.%".contains(byte))
            && is_port(&rest[end + 1..]);
    }
    let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
    end > 0
        && value[..end].iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte))
        && is_port(&value[end..])
}
