//! The address that answers for every service of the account: it tells services and protocols apart, lets faults happen, and
//! keeps the record. What a call does is for the services to say.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{
    Call, Fault, Settings, World, dispatch, s3, upstream,
    wire::{self, Protocol, Request, Signer},
};

/// A request's body may be this long.
const BODY_BYTES_MAX: usize = 256 << 20;

/// So many connections are served at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 512;

/// A connection that says nothing for so long in the middle of a request is closed.
const HEADERS_WAIT: Duration = Duration::from_secs(30);

/// The access key that [`Running::env`] gives. Any other is accepted as well: signatures are not checked.
const ACCESS_KEY: &str = "AKIASIMULATEDACCOUNT";

/// A simulated account that answers.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    world: Arc<World>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Starts one, on a free port of this machine's own address.
///
/// # Errors
/// If no address can be bound or its folder can't be made.
pub async fn start(settings: Settings) -> std::io::Result<Running> {
    start_at(settings, 0).await
}

/// Starts one on this port; any free one for 0.
///
/// # Errors
/// If the address can't be bound or its folder can't be made.
pub async fn start_at(settings: Settings, port: u16) -> std::io::Result<Running> {
    std::fs::create_dir_all(&settings.folder)?;
    let world = World::new(settings)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&world), stopped));
    Ok(Running { address, world, stop, accepting })
}

impl Running {
    /// What a client's environment needs to have, as names and values.
    pub fn env(&self) -> Vec<(String, String)> {
        let Settings { port_offset, region, .. } = &self.world.settings;
        let clock = &self.world.clock;
        let time = format!("speed={};origin={};ports={port_offset}", clock.speed(), clock.origin_unix_ms());
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "simulated".to_owned()),
            ("AWS_REGION", region.clone()),
            ("AWS_DEFAULT_REGION", region.clone()),
            ("DBIRD_SIMULATOR", time),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Puts these faults in the place of all before.
    pub fn set_faults(&self, names: &[String]) {
        self.world.faults.set(names.to_vec());
    }

    /// Does what somebody else would have done in the account before: one call, by the service's signing name, not recorded.
    ///
    /// # Errors
    /// The error's code and message, where the service refuses it.
    pub async fn prepare(&self, service: &str, operation: &str, input: Value) -> Result<Value, String> {
        let call = Call { service: service.to_owned(), operation: operation.to_owned(), input };
        let answer = dispatch::call(&self.world, &call).await;
        answer.map_err(|fault| format!("{}: {}", fault.code, fault.message))
    }

    /// Ends everything that runs in the account, and stops answering.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.world.stop().await;
        let _ = self.accepting.await;
    }
}

async fn accept(listener: TcpListener, world: Arc<World>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Too many open files, or a client that left before it was accepted: the next may be better.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let (world, mut stopped) = (Arc::clone(&world), stopped.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| answer(Arc::clone(&world), request));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WAIT);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A lost reply ends here too: the service's error closes the connection.
                _ = connection => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

/// Why no reply goes out.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the reply is lost on purpose")]
    Reply,
    #[error("the request broke off")]
    Request,
}

async fn answer(world: Arc<World>, request: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(Lost::Request),
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    let (method, path) = (head.method, head.uri.path().to_owned());
    let request = Request { method, path, query, headers: head.headers, body: expanded(body) };
    if let Some(rest) = request.path.strip_prefix("/_simulator/") {
        return Ok(told(inside(&world, rest, &request.body)));
    }
    let request_id = uuid::Uuid::new_v4().to_string();
    let Some(signer) = request.signer() else {
        let fault =
            Fault::new("MissingAuthenticationToken", "Request is missing Authentication Token").with_status(403);
        return Ok(refused(&request, "", fault, &request_id));
    };
    if let Some(fault) = gate(&world, &signer) {
        return Ok(refused(&request, &signer.service, fault, &request_id));
    }
    served(&world, &request, &signer, &request_id).await
}

/// A call carried out and recorded.
async fn served(
    world: &Arc<World>,
    request: &Request,
    signer: &Signer,
    request_id: &str,
) -> Result<Response<Full<Bytes>>, Lost> {
    let begun = Instant::now();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let (call, answer, response) = if signer.service == "s3" {
        let (call, answer, response) = s3::serve(world, request, request_id);
        (call, answer, response)
    } else {
        let Some((protocol, call)) = wire::decode(request, &signer.service) else {
            let fault =
                Fault::new("UnknownOperationException", "the request has the shape of no protocol").with_status(404);
            return Ok(refused(request, &signer.service, fault, request_id));
        };
        let answer = match throttled(world, &call) {
            Some(fault) => Err(fault),
            None => dispatch::call(world, &call).await,
        };
        let unknown = matches!(&answer, Err(fault) if fault.code == "UnknownOperationException");
        if let (true, Some(url)) = (unknown, &world.settings.upstream) {
            let response = upstream::pass(url, request).await;
            let status = response.status().as_u16();
            world.record.add(&call, status, &Ok(json!({ "$upstream": true })), at, begun.elapsed());
            return Ok(response.map(Full::new));
        }
        let response = wire::encode(protocol, &call, &answer, request_id);
        (call, answer, response)
    };
    world.record.add(&call, response.status().as_u16(), &answer, at, begun.elapsed());
    if world.faults.take(&format!("lost-reply:{}", call.operation)) {
        return Err(Lost::Reply);
    }
    Ok(response.map(Full::new))
}

/// What every call is refused with, where credentials are at fault.
fn gate(world: &World, signer: &Signer) -> Option<Fault> {
    let query = matches!(signer.service.as_str(), "cloudformation" | "elasticloadbalancing" | "iam" | "sts" | "s3");
    let from = world.faults.argument("expired-credentials").and_then(|from| from.parse::<u64>().ok());
    let expired = match from {
        Some(from) => world.faults.count("expired-credentials") >= from,
        None => world.faults.has("expired-credentials"),
    };
    if expired {
        let code = if query { "ExpiredToken" } else { "ExpiredTokenException" };
        return Some(Fault::new(code, "The security token included in the request is expired").with_status(403));
    }
    if world.faults.has("unknown-credentials") {
        let code = if query { "InvalidClientTokenId" } else { "UnrecognizedClientException" };
        return Some(Fault::new(code, "The security token included in the request is invalid.").with_status(403));
    }
    None
}

fn throttled(world: &World, call: &Call) -> Option<Fault> {
    // Two of seven: a client that asks for the same three things again and again is not always refused the same one.
    let refuse = (world.faults.has("throttle") && matches!(world.faults.count("throttle") % 7, 2 | 5))
        || (world.faults.argument("throttle").as_deref() == Some(call.operation.as_str())
            && world.faults.count(&call.operation) <= 2);
    let code = match call.service.as_str() {
        "cloudformation" | "elasticloadbalancing" | "iam" | "sts" | "monitoring" => "Throttling",
        _ => "ThrottlingException",
    };
    refuse.then(|| Fault::new(code, "Rate exceeded"))
}

/// A refusal before anything was asked of a service, in the shape that its protocol has.
fn refused(request: &Request, service: &str, fault: Fault, request_id: &str) -> Response<Full<Bytes>> {
    if service == "s3" {
        return s3::error(&fault, request_id).map(Full::new);
    }
    let (protocol, call) = wire::decode(request, service).unwrap_or_else(|| {
        let call = Call { service: service.to_owned(), operation: String::new(), input: Value::Null };
        (Protocol::Query, call)
    });
    wire::encode(protocol, &call, &Err(fault), request_id).map(Full::new)
}

/// What tests ask the simulator itself.
fn inside(world: &Arc<World>, what: &str, body: &[u8]) -> Option<Value> {
    match what {
        "spans" => Some(world.spans.report()),
        "calls" => Some(world.record.report()),
        "time" => {
            let clock = &world.clock;
            Some(json!({ "now_ms": clock.now_ms(), "origin_ms": clock.origin_unix_ms(), "speed": clock.speed() }))
        }
        "faults" => {
            if !body.is_empty() {
                world.faults.set(serde_json::from_slice(body).ok()?);
            }
            Some(json!(world.faults.names()))
        }
        other => world.report(other),
    }
}

fn told(value: Option<Value>) -> Response<Full<Bytes>> {
    let status = if value.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let body = value.unwrap_or_else(|| json!({ "error": "nothing here has this name, or the list can't be read" }));
    let mut response = Response::new(Bytes::from(body.to_string()));
    wire::finish(&mut response, status.as_u16(), "application/json", "");
    response.map(Full::new)
}

/// A body that was sent compressed, as it was before. Metrics are sent so.
fn expanded(body: Bytes) -> Bytes {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return body;
    }
    let mut out = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    match flate2::read::GzDecoder::new(&body[..]).take(limit).read_to_end(&mut out) {
        Ok(_) => Bytes::from(out),
        Err(_) => body,
    }
}
