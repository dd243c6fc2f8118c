//! AWS's protocols: what a request asks of which service, and how an answer is written back. It knows the shape of protocols,
//! never the meaning of a member.

pub(crate) mod cbor;
pub(crate) mod json;
pub(crate) mod query;
pub(crate) mod rest;
pub(crate) mod time;
pub(crate) mod xml;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, Call, Fault};

/// A request, all of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Who signed a request, as far as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signer {
    pub(crate) access_key: String,
    /// The signing name of the service.
    pub(crate) service: String,
}

/// How a call came and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    Query,
    Cbor,
    Rest,
}

/// What `X-Amz-Target` begins with, and the signing name of the service that it means.
const TARGETS: &[(&str, &str)] = &[
    ("AmazonEC2ContainerServiceV20141113", "ecs"),
    ("AmazonEC2ContainerRegistry_V20150921", "ecr"),
    ("AmazonSSM", "ssm"),
    ("AnyScaleFrontendService", "application-autoscaling"),
    ("CertificateManager", "acm"),
    ("CodeDeploy_20141006", "codedeploy"),
    ("GraniteServiceVersion20100801", "monitoring"),
    ("Logs_20140328", "logs"),
    ("ServiceQuotasV20190624", "servicequotas"),
    ("secretsmanager", "secretsmanager"),
];

/// The namespaces of the services that answer in XML.
const NAMESPACES: &[(&str, &str)] = &[
    ("cloudformation", "http://cloudformation.amazonaws.com/doc/2010-05-15/"),
    ("elasticloadbalancing", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"),
    ("iam", "https://iam.amazonaws.com/doc/2010-05-08/"),
    ("monitoring", "http://monitoring.amazonaws.com/doc/2010-08-01/"),
    ("sts", "https://sts.amazonaws.com/doc/2011-06-15/"),
];

impl Request {
    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A member of the query string.
    pub(crate) fn asked(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Who signed it, from the header or from a signed address.
    pub(crate) fn signer(&self) -> Option<Signer> {
        let credential = match self.header("authorization").split_once("Credential=") {
            Some((_, rest)) => rest.split([',', ' ']).next().unwrap_or_default().to_owned(),
            None => self.asked("X-Amz-Credential")?,
        };
        let mut parts = credential.split('/');
        let access_key = parts.next()?.to_owned();
        let service = parts.nth(2)?.to_owned();
        Some(Signer { access_key, service })
    }
}

/// What a request asks. None where it has the shape of no protocol.
pub(crate) fn decode(request: &Request, signed_for: &str) -> Option<(Protocol, Call)> {
    if request.header("smithy-protocol").eq_ignore_ascii_case("rpc-v2-cbor") {
        let mut parts = request.path.trim_start_matches('/').split('/');
        let ("service", target, "operation", operation) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
        else {
            return None;
        };
        let input = cbor::decode(&request.body)?;
        return Some((Protocol::Cbor, call(service_of(target).unwrap_or(signed_for), operation, input)));
    }
    let target = request.header("x-amz-target");
    if let Some((prefix, operation)) = target.rsplit_once('.') {
        let input = json::decode(&request.body)?;
        return Some((Protocol::Json, call(service_of(prefix).unwrap_or(signed_for), operation, input)));
    }
    if signed_for == "elasticfilesystem" {
        let (operation, input) = rest::decode(&request.method, &request.path, &request.query, &request.body)?;
        return Some((Protocol::Rest, call(signed_for, &operation, input)));
    }
    let form = if request.method == Method::POST { &request.body[..] } else { request.query.as_bytes() };
    let (operation, input) = query::decode(form);
    (!operation.is_empty()).then(|| (Protocol::Query, call(signed_for, &operation, input)))
}

/// The answer to a call.
pub(crate) fn encode(protocol: Protocol, call: &Call, answer: &Answer, request_id: &str) -> Response<Bytes> {
    let (status, content, body) = match (protocol, answer) {
        (Protocol::Json, Ok(value)) => (200, "application/x-amz-json-1.1", json::answer(value.clone()).to_string()),
        (Protocol::Rest, Ok(value)) => {
            let status = rest::status(&call.operation);
            let body = if status == 204 { String::new() } else { json::answer(value.clone()).to_string() };
            (status, "application/json", body)
        }
        (Protocol::Query, Ok(value)) => {
            let body = xml::answer(namespace(&call.service), &call.operation, value, request_id);
            (200, "text/xml", body)
        }
        (Protocol::Cbor, Ok(value)) => return cbor_response(200, value, request_id, None),
        (Protocol::Json, Err(fault)) => {
            let body = json!({ "__type": fault.code, "message": fault.message });
            (fault.status, "application/x-amz-json-1.1", body.to_string())
        }
        (Protocol::Rest, Err(fault)) => {
            let body = json!({ "ErrorCode": fault.code, "Message": fault.message });
            (fault.status, "application/json", body.to_string())
        }
        (Protocol::Query, Err(fault)) => {
            let sender = fault.status < 500;
            let body = xml::error(namespace(&call.service), &fault.code, &fault.message, sender, request_id);
            (fault.status, "text/xml", body)
        }
        (Protocol::Cbor, Err(fault)) => {
            let body = json!({ "__type": fault.code, "message": fault.message });
            return cbor_response(fault.status, &body, request_id, Some(fault));
        }
    };
    let mut response = Response::new(Bytes::from(body));
    finish(&mut response, status, content, request_id);
    if let Err(fault) = answer {
        set(&mut response, "x-amzn-errortype", &fault.code);
    }
    response
}

fn cbor_response(status: u16, body: &Value, request_id: &str, fault: Option<&Fault>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(cbor::encode(body)));
    finish(&mut response, status, "application/cbor", request_id);
    set(&mut response, "smithy-protocol", "rpc-v2-cbor");
    if let Some(fault) = fault {
        let whose = if fault.status < 500 { "Sender" } else { "Receiver" };
        set(&mut response, "x-amzn-query-error", &format!("{};{whose}", fault.code));
    }
    response
}

/// Status, type and request id.
pub(crate) fn finish(response: &mut Response<Bytes>, status: u16, content: &str, request_id: &str) {
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !response.body().is_empty() {
        set(response, header::CONTENT_TYPE.as_str(), content);
    }
    set(response, "x-amzn-requestid", request_id);
}

/// Sets a header; a value that no header can have is left out.
pub(crate) fn set(response: &mut Response<Bytes>, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}

/// A path's segment as it was meant.
pub(crate) fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = match (first, tail) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|two| u8::from_str_radix(two, 16).ok())
            }
            _ => None,
        };
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn call(service: &str, operation: &str, input: Value) -> Call {
    Call { service: service.to_owned(), operation: operation.to_owned(), input }
}

fn service_of(target: &str) -> Option<&'static str> {
    TARGETS.iter().find(|(prefix, _)| *prefix == target).map(|(_, service)| *service)
}

fn namespace(service: &str) -> &'static str {
    NAMESPACES.iter().find(|(name, _)| *name == service).map_or("urn:simulator", |(_, namespace)| *namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, query: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Request {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        Request {
            method: Method::POST,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: all,
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn every_protocol_is_told_from_the_others() {
        let cbor = cbor::encode(&json!({ "Namespace": "A" }));
        type Row = (&'static str, Request, Option<(Protocol, &'static str, &'static str)>);
        let table: &[Row] = &[
            (
                "sts",
                request("/", "", &[], b"Action=GetCallerIdentity"),
                Some((Protocol::Query, "sts", "GetCallerIdentity")),
            ),
            (
                "ecs",
                request("/", "", &[("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks")], b"{}"),
                Some((Protocol::Json, "ecs", "ListTasks")),
            ),
            (
                "monitoring",
                request(
                    "/service/GraniteServiceVersion20100801/operation/PutMetricData",
                    "",
                    &[("smithy-protocol", "rpc-v2-cbor")],
                    &cbor,
                ),
                Some((Protocol::Cbor, "monitoring", "PutMetricData")),
            ),
            (
                "elasticfilesystem",
                request("/2015-02-01/access-points", "", &[], b"{}"),
                Some((Protocol::Rest, "elasticfilesystem", "CreateAccessPoint")),
            ),
            ("sts", request("/", "", &[], b""), None),
            ("ecs", request("/", "", &[("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks")], b"{"), None),
        ];
        for (service, request, expected) in table {
            let found = decode(request, service);
            let found =
                found.as_ref().map(|(protocol, call)| (*protocol, call.service.as_str(), call.operation.as_str()));
            assert_eq!(found, *expected, "{}", request.path);
        }
    }

    #[test]
    fn the_signer_is_in_the_header_or_in_the_address() {
        let signer = Signer { access_key: "AKID".to_owned(), service: "ecs".to_owned() };
        let header =
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/ecs/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(request("/", "", &[("authorization", header)], b"").signer(), Some(signer.clone()));
        let query = "X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fecs%2Faws4_request";
        assert_eq!(request("/", query, &[], b"").signer(), Some(signer));
        assert_eq!(request("/", "", &[], b"").signer(), None);
    }

    #[test]
    fn escaped_text_is_read() {
        for (from, to) in [("a%20b", "a b"), ("a%2Fb", "a/b"), ("100%", "100%"), ("%zz", "%zz"), ("", "")] {
            assert_eq!(unescaped(from), to);
        }
    }
}
