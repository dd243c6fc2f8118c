//! Spans against a real receiver, and against collectors that are dead in the two ways there are.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use common::{Client, Server, until};

type Received = Arc<Mutex<Vec<u8>>>;

/// An OTLP receiver that keeps what it gets.
fn receiver() -> (SocketAddr, Received) {
    let received = Received::default();
    let kept = received.clone();
    let app = Router::new().route(
        "/v1/traces",
        post(async move |body: Bytes| {
            kept.lock().unwrap().extend_from_slice(&body);
            ""
        }),
    );
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    (address.recv().unwrap(), received)
}

fn contains(received: &Received, part: &[u8]) -> bool {
    received.lock().unwrap().windows(part.len()).any(|window| window == part)
}

#[test]
fn spans_reach_the_collector_with_their_attributes_and_the_callers_trace() {
    let (address, received) = receiver();
    let endpoint = format!("http://{address}");
    let mut server = Server::start_ready(&[
        ("SCORE_STORAGE", "memory"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("CHAOS_ENABLED", "true"),
        ("CHAOS_LATENCY_MS_P50", "1"),
        ("CHAOS_LATENCY_MS_P99", "1"),
        ("CHAOS_ROUTES", "/leaderboard"),
        ("DBIRD_RELEASE", "release-7"),
    ]);
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    let mut client = Client::new(server.address);
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    assert_eq!(client.ask("POST", "/score", &headers, r#"{"score":5}"#).unwrap().status, 201);
    assert_eq!(client.ask("GET", "/leaderboard", &[], "").unwrap().status, 200);
    assert_eq!(client.ask("GET", "/healthz", &[], "").unwrap().status, 200);
    let bytes: Vec<u8> = (0..16).map(|n| u8::from_str_radix(&trace_id[2 * n..2 * n + 2], 16).unwrap()).collect();
    for part in [
        b"drafty-bird".as_slice(),
        b"release-7",
        b"POST /score",
        b"http.response.status_code",
        b"score.submit",
        b"score.value",
        b"leaderboard.query",
        b"leaderboard.entries",
        b"chaos.inject",
        b"chaos.injected",
        b"chaos.type",
        b"latency",
        &bytes,
        b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7",
    ] {
        until(&String::from_utf8_lossy(part), || contains(&received, part));
    }
    assert!(server.until_line("\"route\":\"/score\"").contains(trace_id), "the log line names the trace");
    assert_eq!(server.stop().code(), Some(0));
    assert!(!contains(&received, b"/healthz"), "probes are not traced");
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let (address, received) = receiver();
    let endpoint = format!("http://{address}/v1/traces");
    let mut server = Server::start_ready(&[
        ("SCORE_STORAGE", "memory"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ]);
    assert_eq!(server.get("/leaderboard").unwrap().status, 200);
    assert_eq!(server.stop().code(), Some(0));
    until("the last span", || contains(&received, b"leaderboard.query"));
}

#[test]
fn a_dead_collector_slows_nothing() {
    // Accepts nothing, and accepts but never answers.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let endpoint = format!("http://{address}");
        let mut server = Server::start_ready(&[
            ("SCORE_STORAGE", "memory"),
            ("LOG_LEVEL", "info"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ]);
        let mut client = Client::new(server.address);
        let mut slowest = Duration::ZERO;
        // More than the span queue holds.
        for _ in 0..3_000 {
            let asked = Instant::now();
            assert_eq!(client.ask("GET", "/leaderboard", &[], "").unwrap().status, 200);
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
        if address == gone {
            server.until_line("spans are dropped until the collector takes them");
        }
        let asked = Instant::now();
        assert_eq!(server.stop().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        let said = server.lines().iter().filter(|line| line.contains("spans are dropped")).count();
        assert!(said <= 1, "said {said} times");
    }
}

#[test]
fn without_a_collector_there_are_no_spans_and_no_noise() {
    let server = Server::start_ready(&[("SCORE_STORAGE", "memory")]);
    assert_eq!(server.get("/leaderboard").unwrap().status, 200);
    let line = server.until_line("\"route\":\"/leaderboard\"");
    assert!(!line.contains("trace_id"), "{line}");
    assert!(!server.lines().iter().any(|line| line.contains("otel") || line.contains("telemetry")));
}
