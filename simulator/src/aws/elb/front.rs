//! A listener's door: the real socket that callers come to. It decides who may come in and what each request gets by the rules
//! as they are at that instant; sending it on is the relay's.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, task::JoinSet};

use super::{
    action::Action,
    condition::host_of,
    group::Chosen,
    relay::{Relay, Relayed},
    tally::Tally,
};
use crate::aws::{Fault, World};

/// Connections of a door; one more is closed at once.
const CONNECTIONS_MAX: usize = 8192;
/// How long a client may take for a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long accepting rests after the machine ran out of something.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What is answered.
pub(super) type Answered = Response<Either<Full<Bytes>, Relayed>>;

/// An open door. Dropping it closes it and every connection that came by it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    serving: tokio::task::AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    /// Listens at a load balancer's address. Ports below 1024 are moved up by the account's offset.
    pub(super) fn open(world: &Arc<World>, listener: &str, address: Ipv4Addr, port: u16) -> Result<Self, Fault> {
        let offset = if port < 1024 { world.settings.port_offset } else { 0 };
        let failed = |what: String| Fault::new("InternalFailure", what).with_status(500);
        let Some(real) = port.checked_add(offset) else { return Err(failed(format!("no port is {port} + {offset}"))) };
        let socket = TcpListener::bind((address, real))
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|error| failed(format!("no listener can be opened at {address}:{real}: {error}")))?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| failed(error.to_string()))?;
        let _in = runtime.enter();
        let address = SocketAddr::from((address, real));
        let socket = tokio::net::TcpListener::from_std(socket).map_err(|error| failed(error.to_string()))?;
        let (world, listener) = (Arc::downgrade(world), listener.to_owned());
        let serving = runtime.spawn(serve(socket, world, listener.into(), port)).abort_handle();
        Ok(Door { address, serving })
    }
}

async fn serve(socket: tokio::net::TcpListener, world: Weak<World>, listener: Arc<str>, port: u16) {
    let relay = Arc::new(Relay::default());
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a listener can't accept");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Some(now) = world.upgrade() else { return };
        if connections.len() >= CONNECTIONS_MAX || !is_let_in(&now, &listener, port, peer.ip()) {
            continue;
        }
        connections.spawn(connection(stream, peer, Weak::clone(&world), Arc::clone(&listener), Arc::clone(&relay)));
    }
}

/// What the load balancer's security groups say.
fn is_let_in(world: &Arc<World>, listener: &str, port: u16, source: IpAddr) -> bool {
    let security_groups = {
        let inside = world.elb.lock();
        let balancer = inside.listeners.get(listener).and_then(|of| inside.balancers.get(&of.balancer));
        let Some(balancer) = balancer else { return false };
        balancer.security_groups.clone()
    };
    world.network.ingress_allows(&security_groups, port, source)
}

async fn connection(stream: TcpStream, peer: SocketAddr, world: Weak<World>, listener: Arc<str>, relay: Arc<Relay>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let answer = service_fn(|request: Request<Incoming>| {
        let (world, listener, relay) = (Weak::clone(&world), Arc::clone(&listener), Arc::clone(&relay));
        async move { Ok::<_, Infallible>(answer(world, &listener, relay, request, peer.ip()).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    // An error is a client that went away or does not speak HTTP.
    let _ = server.serve_connection(TokioIo::new(stream), answer).with_upgrades().await;
}

/// What becomes of a request.
enum Decision {
    To(Chosen),
    Nobody,
    Redirect { permanent: bool, location: String },
    Fixed { status: u16, content_type: String, body: String },
}

/// What the relay has to know of the listener.
pub(super) struct Through {
    pub(super) tally: Arc<Tally>,
    /// `http` or `https`, as callers are supposed to speak.
    pub(super) scheme: &'static str,
    pub(super) port: u16,
    pub(super) source: IpAddr,
    pub(super) idle: Duration,
}

fn decide(world: &Arc<World>, listener: &str, head: &Parts, source: IpAddr) -> Option<(Decision, Through)> {
    let mut inside = world.elb.lock();
    let inside = &mut *inside;
    let listener = inside.listeners.get_mut(listener)?;
    let balancer = inside.balancers.get(&listener.balancer)?;
    let idle_s = balancer.attributes.get("idle_timeout.timeout_seconds").and_then(|s| s.parse().ok()).unwrap_or(60);
    let through = Through {
        tally: Arc::clone(&balancer.tally),
        scheme: if listener.protocol == "HTTPS" { "https" } else { "http" },
        port: listener.port,
        source,
        idle: Duration::from_secs(idle_s),
    };
    let own = listener.rules.iter_mut().find(|rule| rule.applies(head, source)).map(|rule| &mut rule.action);
    let decision = match own.unwrap_or(&mut listener.usual) {
        Action::Forward(forward) => {
            let turn = forward.turns.next(forward.groups.iter().map(|(_, weight)| *weight));
            let group = turn.and_then(|at| forward.groups.get(at)).and_then(|(arn, _)| inside.groups.get_mut(arn));
            group.and_then(super::group::Group::choose).map_or(Decision::Nobody, Decision::To)
        }
        Action::Redirect(to) => {
            let query = head.uri.query().unwrap_or_default();
            let location = to.location(&listener.protocol, &host_of(head), listener.port, head.uri.path(), query);
            Decision::Redirect { permanent: to.permanent, location }
        }
        Action::Fixed { status, content_type, body } => {
            Decision::Fixed { status: *status, content_type: content_type.clone(), body: body.clone() }
        }
    };
    Some((decision, through))
}

async fn answer(
    world: Weak<World>,
    listener: &str,
    relay: Arc<Relay>,
    request: Request<Incoming>,
    source: IpAddr,
) -> Answered {
    let (head, body) = request.into_parts();
    let decided = world.upgrade().and_then(|world| decide(&world, listener, &head, source));
    drop(world);
    let Some((decision, through)) = decided else { return page(StatusCode::SERVICE_UNAVAILABLE) };
    match decision {
        Decision::To(chosen) => relay.send(Request::from_parts(head, body), chosen, through).await,
        Decision::Nobody => {
            through.tally.own(503);
            page(StatusCode::SERVICE_UNAVAILABLE)
        }
        Decision::Redirect { permanent, location } => {
            let status = if permanent { StatusCode::MOVED_PERMANENTLY } else { StatusCode::FOUND };
            let mut response = page(status);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Decision::Fixed { status, content_type, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            told(status, &content_type, body)
        }
    }
}

/// A page of the load balancer's own.
pub(super) fn page(status: StatusCode) -> Answered {
    let title = match status {
        StatusCode::SERVICE_UNAVAILABLE => "503 Service Temporarily Unavailable",
        StatusCode::BAD_GATEWAY => "502 Bad Gateway",
        StatusCode::GATEWAY_TIMEOUT => "504 Gateway Time-out",
        StatusCode::FOUND => "302 Found",
        StatusCode::MOVED_PERMANENTLY => "301 Moved Permanently",
        _ => "500 Internal Server Error",
    };
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    told(status, "text/html", body)
}

fn told(status: StatusCode, content_type: &str, body: String) -> Answered {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}
