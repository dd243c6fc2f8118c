//! Whose errors are counted as what: which requests a release failed, and which only their client did.

use std::sync::Arc;
use std::time::Duration;

use dataplane::proxy::{Counts, Failing, Limits, OTHERS, Route};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;

use crate::support::{Act, Backend, Client, Script, door_to, door_with, eventually, pieces, share, text, within};

/// Answers with the status that the path begins with, as `/503/...`.
async fn as_asked(request: Request<Incoming>) -> Response<crate::support::Body> {
    let status = request.uri().path().split('/').nth(1).unwrap().parse().unwrap();
    let mut response = Response::new(text("as asked"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn rows(route: &Route, release: &str) -> Vec<(String, u16, u64)> {
    let rows = route.take_failures().remove(release).unwrap_or_default().into_rows();
    rows.into_iter().map(|row| (row.request, row.status, row.count)).collect()
}

fn counts(route: &Route) -> Counts {
    route.counts().remove("a").unwrap_or_default()
}

#[tokio::test]
async fn only_failures_are_told_and_each_once() {
    let backend = Backend::start(as_asked).await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    for path in ["/200/a", "/404/a", "/500/a?key=1", "/500/a?key=2", "/503/a", "/599/a", "/301/a"] {
        client.get(path).await;
    }
    client.post("/500/a", "x").await;
    eventually("all are over", || route.in_flight("a") == 0).await;
    assert_eq!((counts(&route).answered(), counts(&route).errors()), (8, 5));
    let expected = [("GET /500/a", 500, 2), ("GET /503/a", 503, 1), ("GET /599/a", 599, 1), ("POST /500/a", 500, 1)];
    assert_eq!(rows(&route, "a"), expected.map(|(request, status, count)| (request.to_owned(), status, count)));
    assert_eq!(route.take_failures().len(), 0, "told once");
    client.get("/500/a").await;
    eventually("it is over", || route.in_flight("a") == 0).await;
    assert_eq!(rows(&route, "a"), [("GET /500/a".to_owned(), 500, 1)]);
}

/// What the proxy answers because of the backend is the release's error; of an answer that broke off, too.
#[tokio::test]
async fn a_backend_that_does_not_answer_well_fails_its_release() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refuses = free.local_addr().unwrap();
    drop(free);
    for (what, act, status, told) in [
        ("refuses", None, 502, 502),
        ("hangs up", Some(Act::AnswerAndClose(b"")), 502, 502),
        ("talks nonsense", Some(Act::AnswerAndClose(b"hello hello hello\r\n\r\n")), 502, 502),
        ("is silent", Some(Act::AnswerAndStay(b"")), 504, 504),
        ("breaks off", Some(Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")), 200, 0),
        (
            "breaks off an error",
            Some(Act::AnswerAndClose(b"HTTP/1.1 500 X\r\ncontent-length: 10\r\n\r\nhello")),
            500,
            500,
        ),
    ] {
        let response_head = Duration::from_millis(if status == 504 { 60 } else { 20_000 });
        let address = match act {
            Some(act) => Script::start([act]).await.address,
            None => refuses,
        };
        let (door, route) = door_to(&[address], Limits { response_head, ..Limits::default() });
        let mut client = Client::connect(door.local_addr()).await;
        assert_eq!(client.post("/score?key=1", "x").await.status, status, "{what}");
        eventually("it is over", || counts(&route).requests == 1 && route.in_flight("a") == 0).await;
        assert_eq!((counts(&route).answered(), counts(&route).errors()), (1, 1), "{what}");
        let failing = route.take_failures().remove("a").unwrap().into_rows();
        let slow = failing[0].slowest;
        let expected = Failing { request: "POST /score".to_owned(), status: told, count: 1, slowest: slow };
        assert_eq!(failing, [expected], "{what}");
        assert!(slow > Duration::ZERO && (status != 504 || slow >= response_head / 2), "{what}: {slow:?}");
        assert!(!route.counts().contains_key(""), "{what}: it is the release's");
    }
}

/// What a client broke, or what no release got, is no release's error.
#[tokio::test]
async fn what_a_client_breaks_is_nobody_s_failure() {
    // Before an answer.
    let silent = Script::start([Act::AnswerAndStay(b"")]).await;
    let (door, route) = door_to(&[silent.address], Limits::default());
    for request in [
        "GET /gone HTTP/1.1\r\nhost: b\r\n\r\n",
        "POST /half HTTP/1.1\r\nhost: b\r\ncontent-length: 10\r\n\r\nhello",
        "POST /chunks HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = Client::connect(door.local_addr()).await;
        client.send(request).await;
        eventually("it is in flight", || route.in_flight("a") == 1).await;
        drop(client);
        eventually("it is gone", || route.in_flight("a") == 0 && door.connections() == 0).await;
    }
    let mut client = Client::connect(door.local_addr()).await;
    client.send("POST /chunks HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n").await;
    assert_eq!(client.reply().await.status, 400);
    eventually("it is gone", || route.in_flight("a") == 0).await;
    let (counts_a, failing) = (counts(&route), rows(&route, "a"));
    assert_eq!((counts_a.requests, counts_a.errors(), failing), (4, 0, Vec::new()), "{counts_a:?}");

    // In the middle of one.
    let backend = Backend::start(|_| async {
        let (sender, body) = pieces();
        tokio::spawn(async move { while sender.send(Frame::data("more".into())).await.is_ok() {} });
        Response::new(body)
    })
    .await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET /long HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    drop(client);
    eventually("it is gone", || route.in_flight("a") == 0 && door.connections() == 0).await;
    let counts_a = counts(&route);
    assert_eq!((counts_a.answered(), counts_a.errors(), rows(&route, "a")), (1, 0, Vec::new()), "{counts_a:?}");

    // Without a release.
    let (door, route) = door_with(Limits::default());
    assert_eq!(Client::connect(door.local_addr()).await.get("/nowhere").await.status, 503);
    eventually("it is counted", || route.counts().get("").is_some_and(|counts| counts.requests == 1)).await;
    assert_eq!(route.take_failures().len(), 0);
}

/// An upload that its client breaks while the answer is already on its way.
#[tokio::test]
async fn an_answer_that_ends_with_its_client_s_upload_is_not_cut_off_by_the_backend() {
    let backend = Script::start([Act::AnswerAndStay(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst")]).await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    client.send("xyz\r\n").await;
    assert!(client.ended().await || !client.exactly(5).await.is_empty());
    eventually("it is over", || route.in_flight("a") == 0).await;
    let counts = counts(&route);
    assert_eq!((counts.answered(), counts.errors(), rows(&route, "a")), (1, 0, Vec::new()), "{counts:?}");
}

/// Eight threads, each with clients of its own, two releases, more kinds than are told apart, and somebody who keeps
/// asking: every failure is told once, at the release that it happened to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_is_told_once_whatever_the_threads_do() {
    const THREADS: usize = 8;
    const CLIENTS: usize = 32;
    const EACH: usize = 150;
    let backends = [Backend::start(as_asked).await, Backend::start(as_asked).await];
    let (door, route) = {
        let route = Route::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let limits = Limits { workers: THREADS, ..Limits::default() };
        (dataplane::proxy::Door::start(listener, Arc::clone(&route), limits).unwrap(), route)
    };
    let shares = || vec![share("a", 50, &[backends[0].address]), share("b", 50, &[backends[1].address])];
    route.set(shares());
    let address = door.local_addr();
    let clients = (0..CLIENTS).map(|n| {
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut failed = 0;
            for m in 0..EACH {
                let path = match m % 5 {
                    0 | 1 => "/200/fine".to_owned(),
                    2 => "/500/often".to_owned(),
                    3 => format!("/502/birds/{n}/{m}"),
                    _ => format!("/{}/sometimes", 500 + m % 20),
                };
                let status = client.get(&path).await.status;
                failed += u64::from(status >= 500);
            }
            failed
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut told = std::collections::BTreeMap::<String, dataplane::proxy::Failures>::new();
    let mut take = || {
        for (release, failures) in route.take_failures() {
            told.entry(release).or_default().merge(failures);
        }
    };
    while clients.iter().any(|client| !client.is_finished()) {
        take();
        tokio::task::yield_now().await;
    }
    let mut failed = 0;
    for client in clients {
        failed += within(client).await.unwrap();
    }
    eventually("all are over", || route.in_flight("a") + route.in_flight("b") == 0).await;
    take();
    let counts = route.counts();
    let mut all = 0;
    for release in ["a", "b"] {
        let rows = told.remove(release).unwrap().into_rows();
        assert!(rows.len() <= 32, "{rows:?}");
        let sum: u64 = rows.iter().map(|row| row.count).sum();
        assert_eq!(sum, counts[release].errors(), "{release}: {rows:?}");
        assert_eq!((rows[0].request.as_str(), rows[0].status), ("GET /500/often", 500), "{rows:?}");
        assert!(rows.iter().any(|row| row.request == OTHERS && row.status == 502), "{rows:?}");
        all += sum;
    }
    assert_eq!(all, failed);
    assert_eq!(failed, (CLIENTS * EACH * 3 / 5) as u64);
}
