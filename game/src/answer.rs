//! The shapes of answers: JSON bodies, and faults that become JSON once the request's identity is known.
//! It never decides which answer a request gets.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// A refusal. It travels in the response's extensions until the edge writes its body with the request's identity.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after_s: Option<u32>,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), retry_after_s: None }
    }

    /// 503: the same request may succeed in a moment.
    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Serialize)]
struct FaultBody<'a> {
    error: &'a str,
    request_id: &'a str,
}

/// `{"error":"...","request_id":"..."}`.
pub(crate) fn fault_body(message: &str, request_id: &HeaderValue) -> Bytes {
    json_bytes(&FaultBody { error: message, request_id: request_id.to_str().unwrap_or_default() })
}

/// Fills a response that carries a [`Fault`].
pub(crate) fn finish_fault(response: &mut Response, request_id: &HeaderValue) {
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return };
    *response.body_mut() = Body::from(fault_body(&fault.message, request_id));
    let headers = response.headers_mut();
    // The router may have measured the empty body already.
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(seconds) = fault.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_from(status, json_bytes(body))
}

/// A JSON answer whose body was serialised before.
pub(crate) fn json_from(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

pub(crate) fn json_bytes(body: &impl Serialize) -> Bytes {
    // Our own types have string keys only and can't fail.
    serde_json::to_vec(body).unwrap_or_default().into()
}
