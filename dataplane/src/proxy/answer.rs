//! The answers the proxy makes itself. It decides their form, JSON with a cause that a person understands; it never
//! decides when one is due.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::RelayBody;
use super::counts::Failed;
use super::visit::Visit;

/// Longest request id that is repeated in an error.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// An answer without a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) cause: &'static str,
    pub(super) failed: Option<Failed>,
}

const fn refusal(status: StatusCode, cause: &'static str) -> Refusal {
    Refusal { status, cause, failed: None }
}

const fn failure(status: StatusCode, cause: &'static str, failed: Failed) -> Refusal {
    Refusal { status, cause, failed: Some(failed) }
}

pub(super) const NO_RELEASE: Refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, "no release serves here");
pub(super) const HOLD_FULL: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "a release is being replaced and too many requests wait for it");
pub(super) const HOLD_LATE: Refusal =
    refusal(StatusCode::SERVICE_UNAVAILABLE, "a release is being replaced and the next one is not there yet");
pub(super) const CROWDED: Refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
pub(super) const UNREACHABLE: Refusal =
    failure(StatusCode::BAD_GATEWAY, "the release's backend refuses connections", Failed::Connect);
pub(super) const EXHAUSTED: Refusal = failure(
    StatusCode::SERVICE_UNAVAILABLE,
    "no connection to a backend could be opened: too many open files or no free port on this machine",
    Failed::Connect,
);
pub(super) const CONNECT_LATE: Refusal =
    failure(StatusCode::GATEWAY_TIMEOUT, "the release's backend does not accept connections in time", Failed::Connect);
pub(super) const CLOSED: Refusal =
    failure(StatusCode::BAD_GATEWAY, "the backend closed the connection before it answered", Failed::Reset);
pub(super) const CUT_OFF: Refusal =
    failure(StatusCode::BAD_GATEWAY, "the backend closed the connection within the head of its answer", Failed::Reset);
pub(super) const GARBAGE: Refusal =
    failure(StatusCode::BAD_GATEWAY, "the backend's answer is not valid HTTP or its head is too large", Failed::Reset);
pub(super) const UNASKED_UPGRADE: Refusal =
    failure(StatusCode::BAD_GATEWAY, "the backend switched protocols without being asked", Failed::Reset);
pub(super) const RESPONSE_LATE: Refusal =
    failure(StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time", Failed::Timeout);
pub(super) const UPLOAD_STALLED: Refusal =
    refusal(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time");
pub(super) const UPLOAD_BROKEN: Refusal = refusal(StatusCode::BAD_REQUEST, "the request body is not valid HTTP");
pub(super) const UPLOAD_TOO_LARGE: Refusal =
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than this server takes");
pub(super) const HEAD_LATE: Refusal = refusal(StatusCode::REQUEST_TIMEOUT, "the request head did not arrive in time");
pub(super) const HEAD_BROKEN: Refusal = refusal(StatusCode::BAD_REQUEST, "the request is not valid HTTP/1.1");
pub(super) const HEAD_TOO_LARGE: Refusal =
    refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large or has too many fields");
pub(super) const TARGET_TOO_LONG: Refusal = refusal(StatusCode::URI_TOO_LONG, "the request target is too long");
pub(super) const HTTP2: Refusal =
    refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 is not spoken here, only HTTP/1.1 and 1.0");
pub(super) const NO_HOST: Refusal = refusal(StatusCode::BAD_REQUEST, "an HTTP/1.1 request needs a Host field");
pub(super) const BAD_HOST: Refusal =
    refusal(StatusCode::BAD_REQUEST, "the Host field is not one valid host name with an optional port");
pub(super) const BAD_TARGET: Refusal =
    refusal(StatusCode::BAD_REQUEST, "the request target is not a path or an http URL");
pub(super) const NO_TUNNELS: Refusal =
    refusal(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not allowed: this is a reverse proxy");
pub(super) const UNKNOWN_CODING: Refusal =
    refusal(StatusCode::NOT_IMPLEMENTED, "the only transfer coding that is known here is chunked");
pub(super) const UNKNOWN_EXPECTATION: Refusal =
    refusal(StatusCode::EXPECTATION_FAILED, "the only expectation that can be met is 100-continue");

impl Refusal {
    /// The answer to a request; the rest of its body, if any, is not read, so `close` is due then.
    pub(super) fn respond(self, visit: Visit, request_id: Option<&HeaderValue>, close: bool) -> Response<RelayBody> {
        let text = self.text(request_id);
        let mut visit = visit;
        visit.decided(self.status);
        if let Some(failed) = self.failed {
            visit.failed(failed);
        }
        let mut response = Response::new(RelayBody::text(text, visit));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The whole message as bytes, for where the parser can't send it; the connection ends after it.
    pub(super) fn message(self) -> Vec<u8> {
        let text = self.text(None);
        let retry = if self.status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{retry}connection: close\r\n\r\n",
            status = self.status,
            length = text.len(),
        );
        [head.as_bytes(), &text].concat()
    }

    fn text(self, request_id: Option<&HeaderValue>) -> Bytes {
        let id = request_id.and_then(|id| id.to_str().ok()).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX);
        let value = match id {
            Some(id) => serde_json::json!({ "error": self.cause, "request_id": id }),
            None => serde_json::json!({ "error": self.cause }),
        };
        value.to_string().into()
    }
}
