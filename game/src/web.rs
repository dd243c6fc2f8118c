//! The browser client, inside the binary. Paths without an extension get the page, others must name one of its files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::app::not_found;

struct File {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const INDEX: File =
    File { name: "index.html", content_type: "text/html; charset=utf-8", bytes: include_bytes!("../web/index.html") };
const JS: &str = "text/javascript; charset=utf-8";
const FILES: [File; 7] = [
    File { name: "main.js", content_type: JS, bytes: include_bytes!("../web/main.js") },
    File { name: "core.js", content_type: JS, bytes: include_bytes!("../web/core.js") },
    File { name: "draw.js", content_type: JS, bytes: include_bytes!("../web/draw.js") },
    File { name: "api.js", content_type: JS, bytes: include_bytes!("../web/api.js") },
    File { name: "quips.js", content_type: JS, bytes: include_bytes!("../web/quips.js") },
    File { name: "style.css", content_type: "text/css; charset=utf-8", bytes: include_bytes!("../web/style.css") },
    File { name: "bird.svg", content_type: "image/svg+xml", bytes: include_bytes!("../web/bird.svg") },
];

/// The same for all files: the page and its parts only fit together as one version.
static VERSION: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for file in std::iter::once(&INDEX).chain(&FILES) {
        (file.name, file.bytes).hash(&mut hasher);
    }
    HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())).unwrap_or(HeaderValue::from_static("\"0\""))
});

pub(crate) async fn index(headers: HeaderMap) -> Response {
    send(&INDEX, &headers)
}

pub(crate) async fn asset(request: Request) -> Response {
    // The names need no decoding, and what can't be decoded is no name.
    let name = request.uri().path().strip_prefix("/assets/").unwrap_or_default();
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => send(file, request.headers()),
        None => not_found().await.into_response(),
    }
}

/// The page for what looks like one of its own paths.
pub(crate) async fn fallback(request: Request) -> Response {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    // A path below /assets/ that got here names no file.
    if readable && !last.contains('.') && !request.uri().path().starts_with("/assets/") {
        return send(&INDEX, request.headers());
    }
    not_found().await.into_response()
}

fn send(file: &'static File, headers: &HeaderMap) -> Response {
    const POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'self'";
    let version = VERSION.clone();
    let known = headers.get(IF_NONE_MATCH).is_some_and(|sent| {
        sent.to_str().is_ok_and(|sent| {
            sent.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == "*" || version == tag.as_bytes())
        })
    });
    let mut response = Response::new(if known { Body::empty() } else { Body::from(Bytes::from_static(file.bytes)) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    // Asked for again each time, sent again only when it changed: a new release is seen at once.
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.insert(ETAG, version);
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
