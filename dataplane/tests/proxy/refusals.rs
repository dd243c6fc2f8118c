//! What the proxy answers by itself, and that no backend sees any of it.

use std::time::Duration;

use dataplane::proxy::Limits;

use crate::support::{Backend, Client, door_to, door_with, eventually};

#[tokio::test]
async fn what_is_not_http_is_refused_with_a_reason() {
    let backend = Backend::named("a").await;
    let (door, route) = door_to(
        &[backend.address],
        Limits {
            head_bytes_max: 8192,
            buffer_bytes_max: 128 * 1024,
            request_body_bytes_max: Some(10),
            ..Limits::default()
        },
    );
    let large = format!("GET / HTTP/1.1\r\nhost: b\r\nx: {}\r\n\r\n", "y".repeat(9000));
    let endless = format!("GET / HTTP/1.1\r\nhost: b\r\nx: {}", "y".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: b\r\n{}\r\n", "x: y\r\n".repeat(101));
    for (what, request, status, reason) in [
        ("no words of HTTP", "hello\r\n\r\n", 400, "not valid HTTP"),
        ("a broken field", "GET / HTTP/1.1\r\nhost: b\r\nno colon\r\n\r\n", 400, "not valid HTTP"),
        ("a space before the colon", "GET / HTTP/1.1\r\nhost : b\r\n\r\n", 400, "not valid HTTP"),
        ("a folded field", "GET / HTTP/1.1\r\nhost: b\r\nx: y\r\n z\r\n\r\n", 400, "not valid HTTP"),
        ("a control character", "GET / HTTP/1.1\r\nhost: b\r\nx: a\0b\r\n\r\n", 400, "not valid HTTP"),
        ("a bad target", "GET /a b HTTP/1.1\r\nhost: b\r\n\r\n", 400, "not valid HTTP"),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
            "not valid HTTP",
        ),
        ("a signed length", "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: +1\r\n\r\na", 400, "not valid HTTP"),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 1, 1\r\n\r\na", 400, "not valid HTTP"),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "not valid HTTP"),
        (
            "chunks that are not the last coding",
            "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
            400,
            "not valid HTTP",
        ),
        (
            "another coding",
            "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "transfer coding",
        ),
        (
            "two codings",
            "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
            "transfer coding",
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400, "needs a Host"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "not one valid host"),
        ("an empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n", 400, "not one valid host"),
        ("a host with a user", "GET / HTTP/1.1\r\nhost: me@b\r\n\r\n", 400, "not one valid host"),
        ("a host with a path", "GET / HTTP/1.1\r\nhost: b/c\r\n\r\n", 400, "not one valid host"),
        ("a host with a long port", "GET / HTTP/1.1\r\nhost: b:123456\r\n\r\n", 400, "not one valid host"),
        ("a list of hosts", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400, "not one valid host"),
        ("half an IPv6 host", "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n", 400, "not one valid host"),
        ("a user in the target", "GET http://me@b/ HTTP/1.1\r\nhost: b\r\n\r\n", 400, "not a path"),
        ("a tunnel", "CONNECT b:80 HTTP/1.1\r\nhost: b:80\r\n\r\n", 405, "CONNECT"),
        (
            "an unknown expectation",
            "POST / HTTP/1.1\r\nhost: b\r\nexpect: more\r\ncontent-length: 1\r\n\r\na",
            417,
            "100-continue",
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2"),
        ("a large field", &large, 431, "too large"),
        ("a field without end", &endless, 431, "too large"),
        ("many fields", &many, 431, "too many"),
        ("a large body", "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 11\r\n\r\n", 413, "larger"),
        (
            "a large body in chunks",
            "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
            413,
            "larger",
        ),
        (
            "broken chunks",
            "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            400,
            "body is not valid",
        ),
    ] {
        let mut client = Client::connect(door.local_addr()).await;
        client.send(request).await;
        let Some(reply) = client.reply_or_end().await else { panic!("{what}: no answer") };
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert!(reply.error().contains(reason), "{what}: {reply:?}");
        assert!(!reply.cut, "{what}: {reply:?}");
        assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string(), "{what}");
        if request.contains("\r\n\r\n") && (what.contains("body") || reason.contains("not valid HTTP")) {
            assert_eq!(reply.header("connection"), Some("close"), "{what}");
            assert!(client.ended().await, "{what}");
        }
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: b\r\n\r\n", "y".repeat(70_000));
    let (wide, _wide_route) = door_to(
        &[backend.address],
        Limits { head_bytes_max: 128 * 1024, buffer_bytes_max: 128 * 1024, ..Limits::default() },
    );
    let mut client = Client::connect(wide.local_addr()).await;
    client.send(long).await;
    assert_eq!(client.reply().await.status, 414);

    // Three bodies were broken on the way: the backend saw those requests begin, and nothing else.
    assert!(backend.seen() <= 2, "{}", backend.seen());
    let counts = route.counts();
    assert_eq!(counts[""].responses[4] + counts[""].responses[3] + counts["a"].responses[3], 31, "{counts:?}");
}

#[tokio::test]
async fn a_refusal_follows_what_was_asked_before_it() {
    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET /1 HTTP/1.1\r\nhost: b\r\n\r\nGET /2 HTTP/1.1\r\nhost: b\r\n\r\nnonsense\r\n\r\n").await;
    assert_eq!(client.reply().await.json()["target"], "/1");
    assert_eq!(client.reply().await.json()["target"], "/2");
    assert_eq!(client.reply().await.error(), "the request is not valid HTTP/1.1");
    assert!(client.ended().await);
}

#[tokio::test]
async fn without_a_release_there_is_a_503_and_the_connection_stays() {
    let (door, route) = door_with(Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\nx-request-id: \"7\\8\"\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json(), serde_json::json!({"error": "no release serves here", "request_id": "\"7\\8\""}));
    client.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert_eq!(client.reply_to_head().await.status, 503);
    assert_eq!(client.get("/").await.json(), serde_json::json!({"error": "no release serves here"}));
    assert_eq!(client.post("/", "x").await.header("connection"), Some("close"), "its body was not read");
    assert!(client.ended().await);
    assert_eq!(route.counts()[""].responses, [0, 0, 0, 0, 4]);
}

#[tokio::test]
async fn one_client_too_many_is_told_at_once() {
    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits { connections_max: 3, ..Limits::default() });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(door.local_addr()).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.error(), "too many connections");
    clients.pop();
    eventually("a place is free again", || door.connections() == 2).await;
    assert_eq!(Client::connect(door.local_addr()).await.get("/").await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let backend = Backend::named("a").await;
    let short = Duration::from_millis(250);
    let limits = Limits { request_head: short, keep_alive: short, stall: short, linger: short, ..Limits::default() };
    let (door, _route) = door_to(&[backend.address], limits);
    let mut silent = Client::connect(door.local_addr()).await;
    let mut half = Client::connect(door.local_addr()).await;
    half.send("GET / HTTP/1.1\r\nho").await;
    let mut idle = Client::connect(door.local_addr()).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut second_half = Client::connect(door.local_addr()).await;
    assert_eq!(second_half.get("/").await.status, 200);
    second_half.send("GET").await;
    let mut body = Client::connect(door.local_addr()).await;
    body.send("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 10\r\n\r\n12345").await;
    for client in [&mut half, &mut second_half, &mut body] {
        let reply = client.reply().await;
        assert_eq!(reply.status, 408, "{reply:?}");
        assert!(reply.error().contains("did not arrive in time"), "{reply:?}");
        assert!(client.ended().await);
    }
    assert!(silent.ended().await && idle.ended().await, "an idle connection is closed without a word");

    // A client that does not read its answer.
    let backend = Backend::start(|_| async { http::Response::new(crate::support::text(vec![b'x'; 64 << 20])) }).await;
    let (door, _route) = door_to(&[backend.address], limits_of(short));
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    eventually("it is closed", || door.connections() == 0).await;
}

fn limits_of(stall: Duration) -> Limits {
    Limits { stall, ..Limits::default() }
}
