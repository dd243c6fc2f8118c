//! Connections that are no request with an answer: upgrades, events, long bodies.

use std::time::Duration;

use dataplane::proxy::Limits;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Act, Backend, Client, Script, door_to, eventually, pieces, text, within};

/// Says hello, then sends everything back.
async fn echo_upgraded(mut request: Request<Incoming>) -> Response<crate::support::Body> {
    let Some(protocol) = request.headers().get("upgrade").cloned() else {
        return Response::new(text("no upgrade"));
    };
    assert_eq!(request.headers()["connection"], "upgrade");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        io.write_all(b"hello").await.unwrap();
        let (mut read, mut write) = tokio::io::split(io);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let mut response = Response::new(text(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("upgrade", protocol);
    response.headers_mut().insert("connection", "upgrade".parse().unwrap());
    response
}

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nhost: b\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[tokio::test]
async fn an_upgraded_connection_carries_anything_both_ways() {
    let backend = Backend::start(echo_upgraded).await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.get("/").await.body, b"no upgrade", "a connection may be used before it is upgraded");
    // The first bytes of the new protocol come right with the request.
    client.send(format!("{WEBSOCKET}\x00\x01early")).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    assert_eq!(client.exactly(12).await, b"hello\x00\x01early");
    assert_eq!((route.upgraded("a"), route.in_flight("a")), (1, 0));
    assert!(route.drained("a", Duration::ZERO).await, "it does not hold up a drain");
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = client.tcp.into_split();
    let writing = tokio::spawn({
        let sent = sent.clone();
        async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        }
    });
    let mut got = Vec::new();
    within(read.read_to_end(&mut got)).await.unwrap();
    writing.await.unwrap();
    assert!(got == sent, "after one side's end the other's bytes still come");
    eventually("it is over", || route.upgraded("a") == 0).await;
    eventually("it is over", || door.connections() == 0).await;
    assert_eq!(route.counts()["a"].responses, [1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn not_everything_that_asks_is_upgraded() {
    let backend = Backend::start(|request: Request<Incoming>| async move {
        Response::new(text(format!("{:?}", request.headers().get("upgrade"))))
    })
    .await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    for (request, seen) in [
        (WEBSOCKET.to_owned(), "Some(\"websocket\")"),
        (WEBSOCKET.replace("keep-alive, Upgrade", "keep-alive"), "None"),
        (WEBSOCKET.replace("upgrade: websocket", "upgrade: h2c, websocket"), "None"),
        (WEBSOCKET.replace("upgrade: websocket", "upgrade: TLS/1.3"), "None"),
        (WEBSOCKET.replace("\r\n\r\n", "\r\ncontent-length: 1\r\n\r\nx"), "None"),
        (WEBSOCKET.replace("HTTP/1.1", "HTTP/1.0"), "None"),
    ] {
        client.send(&request).await;
        assert_eq!(String::from_utf8(client.reply().await.body).unwrap(), seen, "{request}");
    }
}

#[tokio::test]
async fn a_silent_upgraded_connection_ends() {
    let backend = Backend::start(echo_upgraded).await;
    let (door, route) =
        door_to(&[backend.address], Limits { stream_idle: Duration::from_millis(60), ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    client.send(WEBSOCKET).await;
    client.head().await.unwrap();
    client.exactly(5).await;
    assert!(client.ended().await);
    eventually("it is over", || route.upgraded("a") == 0).await;
}

/// The backend's refusal of an upgrade is an answer like any other.
#[tokio::test]
async fn an_upgrade_may_be_refused() {
    let refusal =
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: x/2\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nno";
    let backend = Script::start([Act::Answer(refusal)]).await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..2 {
        client.send(WEBSOCKET).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("upgrade"), reply.body.as_slice()), (426, Some("x/2"), &b"no"[..]));
    }
    assert_eq!(backend.connections(), 1);
}

/// Each event is there before the next one is sent, and silence within the stream's own bound is no end of it.
#[tokio::test]
async fn events_arrive_one_by_one() {
    let (next, gate) = tokio::sync::watch::channel(0);
    let backend = Backend::start(move |_| {
        let mut gate = gate.clone();
        async move {
            let (sender, body) = pieces();
            tokio::spawn(async move {
                for n in 1.. {
                    if gate.wait_for(|next| *next >= n).await.is_err() {
                        return;
                    }
                    let event = format!("data: {n}\n\n");
                    sender.send(Frame::data(event.into())).await.unwrap();
                }
            });
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
            response
        }
    })
    .await;
    let (door, route) = door_to(&[backend.address], Limits { stall: Duration::from_millis(50), ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert!(head.contains("text/event-stream"), "the head does not wait for the first event: {head}");
    for n in 1..=5 {
        // Longer than other bodies may be silent.
        assert!(tokio::time::timeout(Duration::from_millis(100), client.tcp.readable()).await.is_err());
        next.send(n).unwrap();
        assert_eq!(client.exactly(14).await, format!("9\r\ndata: {n}\n\n\r\n").as_bytes());
    }
    drop(client);
    eventually("the backend's side ends with the client", || route.in_flight("a") == 0).await;
    drop(next);
}

/// A body of 64 MiB up and down passes through buffers, not through memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_stream_at_the_pace_of_the_slower_side() {
    const PIECES: usize = 1024;
    let backend =
        Backend::start(|request: Request<Incoming>| async move { Response::new(echo(request.into_body())) }).await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let client = Client::connect(door.local_addr()).await;
    let (mut read, mut write) = client.tcp.into_split();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let piece = vec![b'x'; 64 * 1024];
    let upload = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\n\r\n", PIECES * piece.len());
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..PIECES {
            write.write_all(&piece).await.unwrap();
            counter.fetch_add(piece.len(), std::sync::atomic::Ordering::SeqCst);
        }
        write
    });
    // Nobody reads the echo, so all buffers fill and the upload comes to a stand.
    let mut before = 0;
    let mut same = 0;
    eventually("the upload stands", || {
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        same = if now == before && now > 0 { same + 1 } else { 0 };
        before = now;
        same > 200
    })
    .await;
    assert!(before < 32 << 20, "{before} bytes are somewhere");
    let mut total = 0;
    let mut buffer = vec![0; 256 * 1024];
    while total < PIECES * 64 * 1024 {
        total += within(read.read(&mut buffer)).await.unwrap();
    }
    upload.await.unwrap();
}

/// A body as it comes, each piece once the one before was taken.
fn echo(mut body: Incoming) -> crate::support::Body {
    let (sender, echo) = pieces();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    echo
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let backend = Script::start([Act::AnswerAndStay(b"")]).await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    eventually("it is in flight", || route.in_flight("a") == 1).await;
    drop(client);
    eventually("it is gone", || route.in_flight("a") == 0 && door.connections() == 0).await;
    let counts = &route.counts()["a"];
    assert_eq!((counts.abandoned, counts.requests), (1, 1));
}
