//! Backends that misbehave: what the client is told, and which requests are tried again.

use std::time::Duration;

use dataplane::proxy::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Act, Backend, Client, PATIENCE, Script, door_to, eventually, read_head, share};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How a backend ends a request, and what that means for one that can be repeated and for one that can't.
#[tokio::test]
async fn each_failure_has_its_answer_and_only_safe_requests_are_repeated() {
    let head: &'static [u8] = Vec::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000)).into_bytes());
    let fields: &'static [u8] = Vec::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101)).into_bytes());
    for (what, act, again, status, reason) in [
        ("closes after the request", Act::AnswerAndClose(b""), true, 502, "closed the connection before it answered"),
        ("resets after the request", Act::AnswerAndReset(b""), true, 502, "closed the connection before it answered"),
        ("half a head", Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nx"), false, 502, "within the head"),
        ("half a head and a reset", Act::AnswerAndReset(b"HTTP/1.1 200 OK\r\nx"), false, 502, "within the head"),
        (
            "only an interim answer",
            Act::AnswerAndClose(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            false,
            502,
            "within the head",
        ),
        ("nonsense", Act::AnswerAndClose(b"hello hello hello\r\n\r\n"), false, 502, "not valid HTTP"),
        ("a version of nowhere", Act::AnswerAndClose(b"HTTP/3.3 200 OK\r\n\r\n"), false, 502, "not valid HTTP"),
        (
            "two lengths",
            Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            false,
            502,
            "not valid HTTP",
        ),
        (
            "an unknown coding",
            Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            false,
            502,
            "not valid HTTP",
        ),
        ("a huge head", Act::AnswerAndStay(head), false, 502, "head is too large"),
        ("a hundred fields", Act::AnswerAndStay(fields), false, 502, "head is too large"),
        (
            "an upgrade nobody wanted",
            Act::AnswerAndStay(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            false,
            502,
            "without being asked",
        ),
        ("silence", Act::AnswerAndStay(b""), false, 504, "did not answer in time"),
        ("silence within a head", Act::AnswerAndStay(b"HTTP/1.1 200 O"), false, 504, "did not answer in time"),
    ] {
        let response_head = if status == 504 { Duration::from_millis(60) } else { PATIENCE };
        let limits = Limits { response_head, ..Limits::default() };
        for method in ["GET", "OPTIONS", "POST", "DELETE"] {
            let repeats = again && matches!(method, "GET" | "OPTIONS");
            let backend = Script::start([act.clone()]).await;
            let (door, route) = door_to(&[backend.address], limits.clone());
            let mut client = Client::connect(door.local_addr()).await;
            client.send(format!("{method} / HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n")).await;
            let reply = client.reply().await;
            assert_eq!(reply.status, status, "{what}, {method}: {reply:?}");
            assert!(reply.error().contains(reason), "{what}, {method}: {reply:?}");
            assert_eq!(backend.connections(), if repeats { 2 } else { 1 }, "{what}, {method}");
            let counts = &route.counts()["a"];
            assert_eq!(counts.retries, u64::from(repeats), "{what}, {method}");
            assert_eq!(
                (counts.failed_timeout, counts.failed_reset),
                if status == 504 { (1, 0) } else { (0, 1) },
                "{what}"
            );
            assert_eq!(route.in_flight("a"), 0, "{what}");

            // The client's connection is fit for the next request; and where it is safe, nobody notices the first.
            route.set(vec![share("b", 1, &[Script::start([act.clone(), Act::Answer(OK)]).await.address])]);
            client.send(format!("{method} / HTTP/1.1\r\nhost: b\r\n\r\n")).await;
            assert_eq!(client.reply().await.status, if repeats { 200 } else { status }, "{what}, {method}");
        }
    }
}

/// It never read the request, so any may be repeated; but if the end is seen only after the request was written, nobody
/// can know.
#[tokio::test]
async fn a_backend_that_hangs_up_at_once() {
    for (method, statuses) in [("GET", &[200][..]), ("POST", &[200, 502])] {
        let backend = Script::start([Act::Hang, Act::Answer(OK)]).await;
        let (door, _route) = door_to(&[backend.address], Limits::default());
        let mut client = Client::connect(door.local_addr()).await;
        client.send(format!("{method} / HTTP/1.1\r\nhost: b\r\n\r\n")).await;
        let reply = client.reply().await;
        assert!(statuses.contains(&reply.status), "{method}: {reply:?}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_not_repeated() {
    let backend = Script::start([Act::AnswerAndClose(b"")]).await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\ncontent-length: 1\r\n\r\nx").await;
    assert_eq!(client.reply().await.status, 502);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_broken_body_breaks_the_client_s_connection() {
    for act in [
        Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzzz\r\n"),
        Act::AnswerAndReset(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
        Act::AnswerAndStay(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
    ] {
        let backend = Script::start([act.clone()]).await;
        let (door, route) =
            door_to(&[backend.address], Limits { stall: Duration::from_millis(60), ..Limits::default() });
        let mut client = Client::connect(door.local_addr()).await;
        let reply = client.get("/").await;
        assert_eq!((reply.status, reply.cut), (200, true), "{act:?}");
        assert!(b"hello".starts_with(&reply.body), "{act:?}: {reply:?}");
        eventually("it is over", || route.in_flight("a") == 0).await;
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_and_then_left_alone_for_a_while() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    let (door, route) = door_to(&[closed], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.get("/").await.error(), "the release's backend refuses connections");
    let counts = &route.counts()["a"];
    assert_eq!((counts.failed_connect, counts.retries, counts.responses[4]), (1, 1, 1));

    let backend = Backend::named("a").await;
    route.set(vec![share("b", 1, &[closed, backend.address, closed])]);
    for n in 0..30 {
        assert_eq!(client.post("/", "once").await.status, 200, "{n}");
    }
    assert_eq!(backend.seen(), 30);
    assert!(route.counts()["b"].retries <= 2, "{:?}", route.counts());
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_over() {
    // It does not read the body, and closes with it unread: a reset on the wire.
    let refuse = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
    for act in [Act::AnswerAndClose(refuse), Act::AnswerAndReset(refuse), Act::AnswerAndStay(refuse)] {
        let backend = Script::start([act.clone()]).await;
        let (door, _route) = door_to(&[backend.address], Limits::default());
        for _ in 0..10 {
            let client = Client::connect(door.local_addr()).await;
            let (mut read, mut write) = client.tcp.into_split();
            let upload = tokio::spawn(async move {
                write
                    .write_all(b"POST / HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: 3000000\r\n\r\n")
                    .await
                    .unwrap();
                for _ in 0..300 {
                    if write.write_all(&[b'x'; 10_000]).await.is_err() {
                        break;
                    }
                }
                // Dropping it would end the connection.
                write
            });
            let mut answer = Vec::new();
            let read = crate::support::within(tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"), "{act:?}, {read:?}: {answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            drop(upload.await.unwrap());
        }
    }
}

/// The backend closes a connection that is idle in the pool. The next request, of whatever kind, must not notice.
#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_not_used() {
    let (close, when) = watch::channel(false);
    let backend = Script::start([Act::AnswerThenCloseWhen(OK, when), Act::Answer(OK)]).await;
    let (door, route) = door_to(&[backend.address], Limits { workers: 1, ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.post("/", "1").await.status, 200);
    close.send(true).unwrap();
    close.closed().await;
    assert_eq!(client.post("/", "2").await.status, 200);
    assert_eq!(backend.connections(), 2);
    assert_eq!(route.counts()["a"].responses, [0, 2, 0, 0, 0]);
}

/// A backend that closes a connection in the very moment at which a request is on its way. A GET is repeated; a POST
/// may have had an effect, so it is not.
#[tokio::test]
async fn a_connection_closed_under_a_request_is_a_failure_only_if_it_must_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut spare = Vec::new();
                // Every second request of a connection is not answered.
                read_head(&mut tcp, &mut spare).await;
                let _ = tcp.write_all(OK).await;
                read_head(&mut tcp, &mut spare).await;
            });
        }
    });
    let (door, route) = door_to(&[address], Limits { workers: 1, ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let retries = route.counts()["a"].retries;
    assert!(retries >= 4, "{retries}");
    for _ in 0..4 {
        let statuses = [client.post("/", "x").await.status, client.post("/", "x").await.status];
        assert!(statuses == [200, 502] || statuses == [502, 200], "{statuses:?}");
    }
    assert_eq!(route.counts()["a"].retries, retries);
}
