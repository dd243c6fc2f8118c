//! Bytes that nobody meant as HTTP, from either side: the proxy neither panics nor hangs nor loses a place.

use std::time::Duration;

use dataplane::proxy::{Door, Limits};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, Client, PATIENCE, door_to, eventually, within};

const SOON: Duration = Duration::from_millis(40);

fn hasty() -> Limits {
    Limits {
        request_head: SOON,
        response_head: SOON,
        stall: SOON,
        stream_idle: SOON,
        keep_alive: SOON,
        linger: SOON,
        expect: SOON,
        ..Limits::default()
    }
}

/// Words of HTTP and of nothing, in any order.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "HEAD * HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 101 X\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.0 204 \r\n",
        "host: b\r\n",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "connection: upgrade\r\n",
        "connection: host, te, x\r\n",
        "upgrade: websocket\r\n",
        "expect: 100-continue\r\n",
        "te: trailers\r\n",
        "trailer: x\r\n",
        "x: y\r\n",
        "\r\n",
        "\r\n\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "ffffffffffffffff\r\n",
        "hello",
        ":",
        " ",
        "\t",
        "\0",
        "\u{e9}",
        "\r",
        "\n",
    ]);
    let word = prop_oneof![
        8 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

async fn still_serves(door: &Door) {
    // Each deadline is so short that a slow machine may miss it now and then.
    let asks = async { while Client::connect(door.local_addr()).await.get("/still").await.status != 200 {} };
    within(asks).await;
}

#[test]
fn any_bytes_from_a_client_end_in_an_answer_or_a_closed_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = runtime.block_on(Backend::named("a"));
    let (door, route) = runtime.block_on(async { door_to(&[backend.address], hasty()) });
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(50) });
    let cases = (prop::collection::vec(bytes(), 64), any::<bool>());
    // Many at once, since each may take as long as a silent client is waited for.
    let runs = runner.run(&cases, |(inputs, closes)| {
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            for input in inputs {
                let address = door.local_addr();
                clients.spawn(async move {
                    let mut tcp = TcpStream::connect(address).await.unwrap();
                    let _ = tcp.write_all(&input).await;
                    if closes {
                        return;
                    }
                    let mut answer = Vec::new();
                    let _ = within(tcp.read_to_end(&mut answer)).await;
                    let (input, answer) = (String::from_utf8_lossy(&input), String::from_utf8_lossy(&answer));
                    assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{input:?} got {answer:?}");
                });
            }
            clients.join_all().await;
        });
        Ok(())
    });
    runs.unwrap();
    runtime.block_on(async {
        still_serves(&door).await;
        eventually("all places are free", || door.connections() == 0 && route.in_flight("a") == 0).await;
    });
}

#[test]
fn any_bytes_from_a_backend_end_in_an_answer_or_a_closed_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(25) });
    // The clients here are no faster than the machine lets them be.
    let limits = Limits { request_head: PATIENCE, ..hasty() };
    let (door, route) = runtime.block_on(async { door_to(&[], limits) });
    let requests = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nhost: b\r\n\r\n",
        "HEAD / HTTP/1.1\r\nhost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello",
        "GET / HTTP/1.1\r\nhost: b\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
        "GET / HTTP/1.0\r\n\r\n",
    ]);
    let cases = (prop::collection::vec((bytes(), requests), 64), any::<bool>());
    let runs = runner.run(&cases, |(pairs, closes)| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            route.set(vec![crate::support::share("a", 1, &[listener.local_addr().unwrap()])]);
            let outputs: Vec<Vec<u8>> = pairs.iter().map(|(output, _)| output.clone()).collect();
            let backend = tokio::spawn(async move {
                for output in outputs.iter().cycle() {
                    let (mut tcp, _) = listener.accept().await.unwrap();
                    let output = output.clone();
                    tokio::spawn(async move {
                        let mut request = [0; 4096];
                        let _ = tcp.read(&mut request).await;
                        let _ = tcp.write_all(&output).await;
                        if !closes {
                            let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
                        }
                    });
                }
            });
            let mut clients = tokio::task::JoinSet::new();
            for (output, request) in pairs {
                let address = door.local_addr();
                clients.spawn(async move {
                    let mut tcp = TcpStream::connect(address).await.unwrap();
                    tcp.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    let _ = within(tcp.read_to_end(&mut answer)).await;
                    let (output, answer) = (String::from_utf8_lossy(&output), String::from_utf8_lossy(&answer));
                    assert!(answer.starts_with("HTTP/1."), "{output:?} became {answer:?}");
                });
            }
            clients.join_all().await;
            backend.abort();
        });
        Ok(())
    });
    runs.unwrap();
    runtime.block_on(async {
        let backend = Backend::named("a").await;
        route.set(vec![crate::support::share("b", 1, &[backend.address])]);
        still_serves(&door).await;
        eventually("all places are free", || {
            door.connections() == 0 && route.in_flight("a") == 0 && route.upgraded("a") == 0
        })
        .await;
    });
}
