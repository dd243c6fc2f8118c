//! Backends, clients and doors for the tests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use dataplane::proxy::{Door, Limits, Route, Share};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The result of something that has to happen.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Waits for something that has to become true.
pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waits = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn share(release: &str, weight: u32, backends: &[SocketAddr]) -> Share {
    Share { release: release.to_owned(), weight, backends: backends.to_vec() }
}

/// A door with two threads, whatever the machine has, and its route.
pub(crate) fn door_with(limits: Limits) -> (Door, Arc<Route>) {
    let route = Route::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Door::start(listener, Arc::clone(&route), Limits { workers: 2, ..limits }).unwrap();
    (door, route)
}

/// A door in front of one release "a".
pub(crate) fn door_to(backends: &[SocketAddr], limits: Limits) -> (Door, Arc<Route>) {
    let (door, route) = door_with(limits);
    route.set(vec![share("a", 100, backends)]);
    (door, route)
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A body that is sent piece by piece, at most one ahead of its reader.
pub(crate) fn pieces() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, mut pieces) = mpsc::channel(1);
    let stream = futures::stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(Ok)));
    (sender, StreamBody::new(stream).boxed())
}

/// A real HTTP server, hyper's, that can be stopped the way services are: no new connections, each request in flight
/// is answered, idle connections are closed.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, answer, Arc::clone(&seen), stopping));
        Self { address, seen, stop, serving }
    }

    /// Says its name, and what it got.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |request| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await;
            let headers: Vec<(String, String)> = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect();
            let (bytes, trailers) = match body {
                Ok(body) => {
                    let trailers = body.trailers().map(|trailers| format!("{trailers:?}"));
                    (body.to_bytes().to_vec(), trailers)
                }
                Err(error) => (error.to_string().into_bytes(), None),
            };
            let seen = serde_json::json!({
                "name": name, "method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers,
                "body": String::from_utf8_lossy(&bytes), "trailers": trailers,
                "version": format!("{:?}", head.version),
            });
            Response::new(text(seen.to_string()))
        })
        .await
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen.load(SeqCst)
    }

    /// As after SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.send(true).unwrap();
        within(self.serving).await.unwrap();
    }
}

async fn serve<F, A>(listener: TcpListener, answer: F, seen: Arc<AtomicUsize>, mut stopping: watch::Receiver<bool>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let tcp = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        tcp.set_nodelay(true).unwrap();
        let (answer, seen, mut stopping) = (answer.clone(), Arc::clone(&seen), stopping.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                seen.fetch_add(1, SeqCst);
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let conn = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            let mut conn = std::pin::pin!(conn.with_upgrades());
            tokio::select! {
                _ = conn.as_mut() => return,
                _ = stopping.wait_for(|stop| *stop) => conn.as_mut().graceful_shutdown(),
            }
            let _ = conn.await;
        });
    }
    drop(listener);
    connections.join_all().await;
}

/// A server that does with each connection, in turn, what it is told; the last one serves all that follow.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// What a script does with a connection: how many requests heads to read first, then what to write, then how to end.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Closes without reading anything.
    Hang,
    /// After each request's head, writes this and goes on.
    Answer(&'static [u8]),
    /// After a request's head, writes this and closes.
    AnswerAndClose(&'static [u8]),
    /// After a request's head, writes this and resets.
    AnswerAndReset(&'static [u8]),
    /// After a request's head, writes this and stays, silent.
    AnswerAndStay(&'static [u8]),
    /// Reads a head, answers, closes only when told, at the next message of the channel.
    AnswerThenCloseWhen(&'static [u8], watch::Receiver<bool>),
}

impl Script {
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let mut acts: VecDeque<Act> = acts.into_iter().collect();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counter.fetch_add(1, SeqCst);
                let act = if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() };
                tokio::spawn(play(tcp, act));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn play(mut tcp: TcpStream, act: Act) {
    let mut spare = Vec::new();
    match act {
        Act::Hang => {}
        Act::Answer(bytes) => {
            while read_head(&mut tcp, &mut spare).await.is_some() {
                let _ = tcp.write_all(bytes).await;
            }
        }
        Act::AnswerAndClose(bytes) => {
            read_head(&mut tcp, &mut spare).await;
            let _ = tcp.write_all(bytes).await;
        }
        Act::AnswerAndReset(bytes) => {
            read_head(&mut tcp, &mut spare).await;
            let _ = tcp.write_all(bytes).await;
            socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        Act::AnswerAndStay(bytes) => {
            read_head(&mut tcp, &mut spare).await;
            let _ = tcp.write_all(bytes).await;
            while tcp.read_buf(&mut spare).await.is_ok_and(|read| read > 0) {
                spare.clear();
            }
        }
        Act::AnswerThenCloseWhen(bytes, mut when) => {
            read_head(&mut tcp, &mut spare).await;
            let _ = tcp.write_all(bytes).await;
            let _ = when.wait_for(|close| *close).await;
        }
    }
}

/// Reads up to the end of a head; what comes after stays in `spare`.
pub(crate) async fn read_head(tcp: &mut TcpStream, spare: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = spare.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = spare.split_off(end + 4);
            let head = std::mem::replace(spare, rest);
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        if !tcp.read_buf(spare).await.is_ok_and(|read| read > 0) {
            return None;
        }
    }
}

/// A client without an HTTP library between it and the socket.
pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    spare: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// The connection ended before the body was complete.
    pub(crate) cut: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, spare: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.tcp.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: bird\r\n\r\n")).await;
        self.reply().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(format!("POST {path} HTTP/1.1\r\nhost: bird\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        self.reply().await
    }

    /// A response to anything but HEAD.
    pub(crate) async fn reply(&mut self) -> Reply {
        within(self.read_reply(false)).await.expect("the connection ended without an answer")
    }

    pub(crate) async fn reply_to_head(&mut self) -> Reply {
        within(self.read_reply(true)).await.expect("the connection ended without an answer")
    }

    /// None if the connection ended before.
    pub(crate) async fn reply_or_end(&mut self) -> Option<Reply> {
        within(self.read_reply(false)).await
    }

    pub(crate) async fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(within(self.tcp.read_to_end(&mut rest)).await, Ok(0) | Err(_)) && self.spare.is_empty()
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        within(read_head(&mut self.tcp, &mut self.spare)).await
    }

    /// The next bytes of a stream.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.spare.len() < count {
            assert!(within(self.tcp.read_buf(&mut self.spare)).await.unwrap() > 0, "ended after {:?}", self.spare);
        }
        let rest = self.spare.split_off(count);
        std::mem::replace(&mut self.spare, rest)
    }

    async fn read_reply(&mut self, to_head: bool) -> Option<Reply> {
        let head = read_head(&mut self.tcp, &mut self.spare).await?;
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { head, status, body: Vec::new(), cut: false };
        if to_head || status < 200 || status == 204 || status == 304 {
            return Some(reply);
        }
        if reply.header("transfer-encoding").is_some() {
            while let Some(size) = self.line().await {
                let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
                if size == 0 {
                    while let Some(line) = self.line().await {
                        if line.is_empty() {
                            return Some(reply);
                        }
                        reply.head.push_str(&format!("trailer-{line}\r\n"));
                    }
                    break;
                }
                if !self.take(size, &mut reply.body).await || self.line().await.is_none() {
                    break;
                }
            }
            reply.cut = true;
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            reply.cut = !self.take(length, &mut reply.body).await;
        } else {
            let _ = self.tcp.read_to_end(&mut self.spare).await;
            reply.body.append(&mut self.spare);
        }
        Some(reply)
    }

    async fn take(&mut self, count: usize, into: &mut Vec<u8>) -> bool {
        while self.spare.len() < count {
            if !self.tcp.read_buf(&mut self.spare).await.is_ok_and(|read| read > 0) {
                into.append(&mut self.spare);
                return false;
            }
        }
        into.extend(self.spare.drain(..count));
        true
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.spare.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.spare.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.tcp.read_buf(&mut self.spare).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }
}
