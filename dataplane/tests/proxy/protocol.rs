//! What passes, and in which form, when everybody behaves.

use dataplane::proxy::Limits;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;

use crate::support::{Act, Backend, Client, Script, door_to, text, within};

/// A request, and what the backend must have seen of it.
struct Passes {
    what: &'static str,
    request: &'static str,
    target: &'static str,
    body: &'static str,
    has: &'static [(&'static str, &'static str)],
    has_not: &'static [&'static str],
}

const PASSES: &[Passes] = &[
    Passes {
        what: "a plain request",
        request: "GET /a/b?c=d%20e HTTP/1.1\r\nHost: bird.example:8080\r\nAccept: */*\r\n\r\n",
        target: "/a/b?c=d%20e",
        body: "",
        has: &[
            ("host", "bird.example:8080"),
            ("accept", "*/*"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "bird.example:8080"),
        ],
        has_not: &["connection", "content-length", "transfer-encoding"],
    },
    Passes {
        what: "what other proxies said is kept or replaced",
        request: "GET / HTTP/1.1\r\nhost: b\r\nX-Forwarded-For: 1.2.3.4, ::5\r\nX-Forwarded-For: 6.7.8.9\r\n\
                  X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n",
        target: "/",
        body: "",
        has: &[
            ("x-forwarded-for", "1.2.3.4, ::5, 6.7.8.9, 127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "b"),
        ],
        has_not: &[],
    },
    Passes {
        what: "fields of the connection",
        request: "GET / HTTP/1.1\r\nhost: b\r\nConnection: keep-alive, X-Private, , host, upgrade\r\nX-Private: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nProxy: x\r\n\
                  X-Public: 2\r\n\r\n",
        target: "/",
        body: "",
        has: &[("x-public", "2"), ("host", "b")],
        has_not: &["connection", "x-private", "keep-alive", "proxy-connection", "te", "upgrade", "proxy"],
    },
    Passes {
        what: "a URL as the target",
        request: "GET http://other.example:81/x?y HTTP/1.1\r\nHost: b\r\n\r\n",
        target: "/x?y",
        body: "",
        has: &[("host", "other.example:81"), ("x-forwarded-host", "other.example:81")],
        has_not: &[],
    },
    Passes {
        what: "a URL without a path",
        request: "GET http://other.example HTTP/1.1\r\nHost: b\r\n\r\n",
        target: "/",
        body: "",
        has: &[("host", "other.example")],
        has_not: &[],
    },
    Passes {
        what: "a question about the server",
        request: "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n",
        target: "*",
        body: "",
        has: &[],
        has_not: &[],
    },
    Passes {
        what: "a body with a length",
        request: "POST /p HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello",
        target: "/p",
        body: "hello",
        has: &[("content-length", "5")],
        has_not: &["transfer-encoding"],
    },
    Passes {
        what: "an empty body with a length",
        request: "POST /p HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        target: "/p",
        body: "",
        has: &[("content-length", "0")],
        has_not: &["transfer-encoding"],
    },
    Passes {
        what: "a body in chunks",
        request: "PUT /p HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        target: "/p",
        body: "hello",
        has: &[("transfer-encoding", "chunked")],
        has_not: &["content-length"],
    },
    Passes {
        what: "a GET with a body in chunks",
        request: "GET /p HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        target: "/p",
        body: "hello",
        has: &[],
        has_not: &["content-length"],
    },
    Passes {
        what: "both a length and chunks: the chunks count, the length does not pass",
        request: "POST /p HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        target: "/p",
        body: "hello",
        has: &[],
        has_not: &["content-length"],
    },
    Passes {
        what: "an expectation without a body",
        request: "GET / HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\r\n",
        target: "/",
        body: "",
        has: &[],
        has_not: &["expect"],
    },
    Passes {
        what: "an IPv6 host",
        request: "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        target: "/",
        body: "",
        has: &[("host", "[::1]:8080")],
        has_not: &[],
    },
];

#[tokio::test]
async fn requests_arrive_as_they_should() {
    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    for case in PASSES {
        let mut client = Client::connect(door.local_addr()).await;
        client.send(case.request).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 200, "{}: {reply:?}", case.what);
        let seen = reply.json();
        assert_eq!(seen["target"], case.target, "{}", case.what);
        assert_eq!(seen["body"], case.body, "{}", case.what);
        assert_eq!(seen["version"], "HTTP/1.1", "{}", case.what);
        let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
        for (name, value) in case.has {
            let values: Vec<&str> = headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(values, [*value], "{}: {name}", case.what);
        }
        for name in case.has_not {
            assert!(headers.iter().all(|(key, _)| key != name), "{}: {name} in {headers:?}", case.what);
        }
    }
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let backend = Script::start([Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")]).await;
    let (door, _route) = door_to(&[backend.address], Limits { workers: 1, ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, b"ok");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(door.connections(), 1);
}

#[tokio::test]
async fn old_clients_get_what_they_understand() {
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let backend = Script::start([Act::Answer(chunks)]).await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let reply = client.reply().await;
    assert!(reply.head.starts_with("HTTP/1.0 200"), "{reply:?}");
    assert_eq!((reply.body.as_slice(), reply.header("transfer-encoding")), (&b"hello"[..], None));

    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.header("connection"), Some("keep-alive"), "{reply:?}");
        let host = serde_json::json!(["host", backend.address.to_string()]);
        assert!(reply.json()["headers"].as_array().unwrap().contains(&host), "{reply:?}");
    }
    client.send("GET / HTTP/1.1\r\nhost: b\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.reply().await.header("connection"), Some("close"));
    assert!(client.ended().await);
}

/// A backend's answer, and what must become of it.
#[tokio::test]
async fn answers_arrive_as_they_should() {
    let huge: &'static [u8] =
        Vec::leak([b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n", vec![b'x'; 3_000_000].as_slice()].concat());
    for (what, answer, status, body, has, has_not) in [
        ("a body with a length", &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], 200, "ok", "content-length: 2", "transfer"),
        ("no body", b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nx-a: b\r\n\r\n", 201, "", "x-a: b", "transfer"),
        ("204", b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n", 204, "", "x-a: b", "content-length"),
        ("304", b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n", 304, "", "etag: \"1\"", "transfer"),
        ("chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "transfer-encoding: chunked", "content-length"),
        ("an end by closing", b"HTTP/1.1 200 OK\r\n\r\nok", 200, "ok", "transfer-encoding: chunked", "content-length"),
        ("an old server", b"HTTP/1.0 200 OK\r\n\r\nok", 200, "ok", "transfer-encoding: chunked", "content-length"),
        ("both a length and chunks", b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", "transfer-encoding: chunked", "content-length"),
        ("an interim answer", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", "content-length: 2", "link"),
        ("fields of the connection", b"HTTP/1.1 200 OK\r\nconnection: close, x-private\r\nx-private: 1\r\nkeep-alive: 5\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok", 200, "ok", "content-length: 2", "x-private"),
        ("another reason", b"HTTP/1.1 299 Drafty\r\ncontent-length: 2\r\n\r\nok", 299, "ok", "299 Drafty", "transfer"),
        ("several cookies", b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nok", 200, "ok", "set-cookie: b=2", "transfer"),
        ("a large body", huge, 200, "", "content-length: 3000000", "transfer"),
    ] {
        let backend = Script::start([Act::AnswerAndClose(answer)]).await;
        let (door, _route) = door_to(&[backend.address], Limits::default());
        let mut client = Client::connect(door.local_addr()).await;
        let reply = client.get("/").await;
        let head = reply.head.to_lowercase();
        assert_eq!((reply.status, reply.cut), (status, false), "{what}: {head}");
        match body {
            "" if status == 200 => assert_eq!(reply.body.len(), 3_000_000, "{what}"),
            body => assert_eq!(String::from_utf8_lossy(&reply.body), body, "{what}"),
        }
        assert!(head.contains(&has.to_lowercase()), "{what}: {head}");
        assert!(!head.contains(has_not), "{what}: {head}");
        assert!(!head.contains("connection:") && !head.contains("keep-alive") && !head.contains("upgrade"), "{what}: {head}");
        // The client's connection is not the backend's.
        assert_eq!(client.get("/").await.status, status, "{what}");
    }
}

#[tokio::test]
async fn head_has_the_length_but_no_body() {
    let backend = Script::start([Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")]).await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n").await;
        let reply = client.reply_to_head().await;
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("1234")));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_length_is_one_number() {
    let cases: [(&str, &'static [u8], u16, Option<&str>); 5] = [
        ("the same twice", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", 200, Some("5")),
        ("two of them", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 0\r\n\r\n", 502, None),
        ("over 64 bits", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", 502, None),
        ("a sign", b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", 502, None),
        ("a list", b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n", 502, None),
    ];
    for (what, answer, status, length) in cases {
        let backend = Script::start([Act::Answer(answer)]).await;
        let (door, _route) = door_to(&[backend.address], Limits::default());
        let mut client = Client::connect(door.local_addr()).await;
        client.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n").await;
        let reply = client.reply_to_head().await;
        assert_eq!(reply.status, status, "{what}");
        if length.is_some() {
            assert_eq!(reply.header("content-length"), length, "{what}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    let requests: String = (0..50)
        .map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nhost: b\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nhost: b\r\ncontent-length: 4\r\n\r\nGET "),
            _ => format!("PUT /{n} HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n"),
        })
        .collect();
    client.send(requests).await;
    for n in 0..50 {
        let seen = client.reply().await.json();
        assert_eq!(seen["target"], format!("/{n}"));
        assert_eq!(seen["body"], if n % 3 == 0 { "" } else { "GET " });
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = Backend::start(|request: Request<_>| async move {
        let body: http_body_util::Collected<_> = request.into_body().collect().await.unwrap();
        let sum = body.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", sum.expect("the client's trailer"));
        let body = text("hello").with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
        let mut response = Response::new(body);
        response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        response.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        response
    })
    .await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client
        .send(
            "POST / HTTP/1.1\r\nhost: b\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.body, b"hello");
    assert_eq!(reply.header("trailer-x-sum"), Some("42"), "{reply:?}");
    assert_eq!(client.get("/").await.status, 502, "without a trailer this backend breaks off");
}

#[tokio::test]
async fn a_body_is_asked_for_only_if_it_is_wanted() {
    let backend = Backend::start(|request: Request<_>| async move {
        if request.uri().path() == "/no" {
            let mut response = Response::new(text("no"));
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        let body: http_body_util::Collected<_> = BodyExt::collect(request.into_body()).await.unwrap();
        Response::new(text(body.to_bytes()))
    })
    .await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let request =
        |path| format!("POST {path} HTTP/1.1\r\nhost: b\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n");
    let mut client = Client::connect(door.local_addr()).await;
    for _ in 0..2 {
        client.send(request("/yes")).await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 100 "));
        client.send("ok").await;
        assert_eq!(client.reply().await.body, b"ok");
    }
    client.send(request("/no")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.body.as_slice()), (403, &b"no"[..]));
    assert_eq!(reply.header("connection"), Some("close"), "what follows could be a body or a request");

    // A backend that does not know the mechanism gets the body after a while.
    let backend = Script::start([Act::AnswerAndStay(b"")]).await;
    let (door, _route) =
        door_to(&[backend.address], Limits { expect: std::time::Duration::from_millis(20), ..Limits::default() });
    let mut client = Client::connect(door.local_addr()).await;
    client.send(request("/")).await;
    assert!(within(client.head()).await.unwrap().starts_with("HTTP/1.1 100 "));
}
