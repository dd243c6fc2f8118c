//! Sends a request on to its target and the answer back, body by body, over connections that are kept. A request is sent a
//! second time only if it never reached the target, or if it changes nothing and the kept connection was closed under it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Empty};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    front::{Answered, Through, page},
    group::Chosen,
    tally::Passing,
};

/// How long a connection to a target may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Idle connections to one target.
const IDLE_MAX: usize = 64;
/// How long one is kept; servers often close theirs after five seconds.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// What concerns one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

type Sent = Either<Incoming, Empty<Bytes>>;
type Sender = SendRequest<Sent>;

/// One door's connections to targets.
#[derive(Debug, Default)]
pub(super) struct Relay {
    idle: Mutex<HashMap<SocketAddr, Vec<(Sender, Instant)>>>,
}

impl Relay {
    /// Sends a request on; what a load balancer says where that fails is the answer then.
    pub(super) async fn send(self: Arc<Self>, request: Request<Incoming>, to: Chosen, by: Through) -> Answered {
        let Chosen { address, tally, passing } = to;
        let (mut head, body) = request.into_parts();
        let upgrade = wants_upgrade(&head.headers).then(|| head.extensions.remove::<hyper::upgrade::OnUpgrade>());
        prepare(&mut head, &by);
        if let Some(protocol) = upgrade.as_ref().and_then(|_| head.headers.get(header::UPGRADE).cloned()) {
            strip(&mut head.headers);
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
        } else {
            strip(&mut head.headers);
        }
        let empty = body.is_end_stream();
        let repeatable = empty && matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let again = repeatable.then(|| copy(&head));
        let body = if empty { Either::Right(Empty::new()) } else { Either::Left(body) };
        let begun = Instant::now();
        let exchanged = tokio::time::timeout(by.idle, self.exchange(address, Request::from_parts(head, body), again));
        let (response, sender) = match exchanged.await {
            Ok(Ok(done)) => done,
            Ok(Err(status)) => {
                tally.own(status.as_u16());
                by.tally.own(status.as_u16());
                return page(status);
            }
            Err(_) => {
                tally.own(504);
                by.tally.own(504);
                return page(StatusCode::GATEWAY_TIMEOUT);
            }
        };
        let (status, took) = (response.status().as_u16(), begun.elapsed());
        tally.answered(status, took);
        by.tally.answered(status, took);
        self.give_back(response, sender, address, passing, upgrade.flatten(), by.idle)
    }

    /// The answer's head, with the connection that its body comes by.
    async fn exchange(
        &self,
        address: SocketAddr,
        request: Request<Sent>,
        again: Option<Request<Sent>>,
    ) -> Result<(Response<Incoming>, Sender), StatusCode> {
        let mut request = request;
        if let Some(mut sender) = self.take(address) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(StatusCode::BAD_GATEWAY),
                },
            }
        }
        let mut sender = open(address).await?;
        match sender.send_request(request).await {
            Ok(response) => Ok((response, sender)),
            Err(_) => Err(StatusCode::BAD_GATEWAY),
        }
    }

    fn take(&self, address: SocketAddr) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&address)?;
        kept.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_FOR);
        let (sender, _) = kept.pop()?;
        if kept.is_empty() {
            idle.remove(&address);
        }
        sender.is_ready().then_some(sender)
    }

    fn keep(&self, address: SocketAddr, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_FOR);
            !kept.is_empty()
        });
        let kept = idle.entry(address).or_default();
        if kept.len() < IDLE_MAX {
            kept.push((sender, Instant::now()));
        }
    }

    /// A target's answer as the client's.
    fn give_back(
        self: Arc<Self>,
        mut response: Response<Incoming>,
        sender: Sender,
        address: SocketAddr,
        passing: Passing,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
        idle: Duration,
    ) -> Answered {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = upgrade else { return page(StatusCode::BAD_GATEWAY) };
            let target = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                let _passing = passing;
                let (Ok(client), Ok(target)) = (client.await, target.await) else { return };
                let (mut client, mut target) = (TokioIo::new(client), TokioIo::new(target));
                // An error is a side that went away.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut target).await;
            });
            return response.map(|_| Either::Left(http_body_util::Full::default()));
        }
        strip(response.headers_mut());
        response.map(|body| {
            Either::Right(Relayed {
                body,
                connection: Some((self, address, sender)),
                idle,
                silence: Box::pin(tokio::time::sleep(idle)),
                over: false,
                _passing: passing,
            })
        })
    }
}

async fn open(address: SocketAddr) -> Result<Sender, StatusCode> {
    let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?.map_err(|_| StatusCode::BAD_GATEWAY)?;
    stream.set_nodelay(true).map_err(|_| StatusCode::BAD_GATEWAY)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    // It ends with its sender, or when the target closes it.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(header::UPGRADE)
        && named.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// What a load balancer tells the target of the caller.
fn prepare(head: &mut http::request::Parts, by: &Through) {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        head.uri = uri;
    }
    head.version = http::Version::HTTP_11;
    let headers = &mut head.headers;
    let before: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let source = by.source.to_string();
    let forwarded = before.into_iter().chain([source.as_str()]).collect::<Vec<_>>().join(", ");
    let trace = format!("Root=1-{:08x}-{:024x}", fastrand::u32(..), fastrand::u128(..) >> 32);
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-for", &forwarded);
    set("x-forwarded-proto", by.scheme);
    set("x-forwarded-port", &by.port.to_string());
    if !headers.contains_key("x-amzn-trace-id")
        && let Ok(trace) = HeaderValue::from_str(&trace)
    {
        headers.insert(HeaderName::from_static("x-amzn-trace-id"), trace);
    }
}

fn copy(head: &http::request::Parts) -> Request<Sent> {
    let mut request = Request::new(Either::Right(Empty::new()));
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    request
}

/// A target's body on its way to the client. Its connection is used again once all of it has passed.
pub(super) struct Relayed {
    body: Incoming,
    connection: Option<(Arc<Relay>, SocketAddr, Sender)>,
    idle: Duration,
    silence: Pin<Box<tokio::time::Sleep>>,
    over: bool,
    _passing: Passing,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let until = tokio::time::Instant::now() + self.idle;
                self.silence.as_mut().reset(until);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(None)
            }
            Poll::Pending => match self.silence.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.connection = None;
                    Poll::Ready(Some(Err("the target said nothing for the load balancer's idle timeout".into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if !self.over && !self.body.is_end_stream() {
            return;
        }
        let Some((relay, address, mut sender)) = self.connection.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if sender.ready().await.is_ok() {
                    relay.keep(address, sender);
                }
            });
        }
    }
}
