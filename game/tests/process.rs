//! The real program: arguments, settings, logs, signals, and what is in the database after it ended in any way.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Server, load, program, stored_runs, until};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn says_who_it_is_and_what_it_takes() {
    for (argument, expected) in [
        ("--version", concat!("drafty-bird ", env!("CARGO_PKG_VERSION"), "\n")),
        ("--help", "Drafty Bird: a small browser game"),
    ] {
        let output = program(&[]).arg(argument).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(expected), "{argument}");
    }
    let output = program(&[]).arg("--fly").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("unknown arguments: --fly"));
    let folder = tempfile::tempdir().unwrap();
    assert!(program(&[]).arg("check-mount").arg(folder.path()).status().unwrap().success());
    assert_eq!(program(&[]).arg("check-mount").arg("/proc").output().unwrap().status.code(), Some(1));
}

#[test]
fn wrong_settings_end_it_with_one_line_that_names_them_all() {
    let output = program(&[("PORT", "abc"), ("SCORE_STORAGE", "postgres"), ("LOG_LEVEL", "loud")]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in [
        "PORT=\"abc\"",
        "SCORE_STORAGE=\"postgres\" is not in this version, which has spool, direct and memory",
        "LOG_LEVEL",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_taken_port_is_said_with_the_variable_to_set() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (variables, variable) in
        [(vec![("PORT", port.as_str())], "PORT"), (vec![("METRICS_PORT", &port)], "METRICS_PORT")]
    {
        let output = program(&variables).env("SCORE_STORAGE", "memory").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(&format!("set {variable} to a free port")), "{stderr}");
    }
}

#[test]
fn one_json_line_per_request_with_its_identity_and_level() {
    let mut server = Server::start_ready(&[("SCORE_STORAGE", "memory"), ("CHAOS_ERROR_RATE", "7")]);
    let mut client = Client::new(server.address);
    for (path, id) in [("/leaderboard", "req-ok"), ("/missing.txt", "req-missing"), ("/healthz", "req-health")] {
        client.ask("GET", path, &[("x-request-id", id)], "").unwrap();
    }
    server.until_line("req-missing");
    assert_eq!(server.stop().code(), Some(0));
    server.until_line("\"stopped\"");
    let lines: Vec<Value> = server.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| lines.iter().filter(|line| line["request_id"] == id).collect::<Vec<_>>();
    let ok = of("req-ok");
    assert_eq!(ok.len(), 1);
    assert_eq!(
        (&ok[0]["level"], &ok[0]["status"], &ok[0]["route"]),
        (&"INFO".into(), &200.into(), &"/leaderboard".into())
    );
    assert!(ok[0]["duration_ms"].is_number() && ok[0]["timestamp"].is_string() && ok[0]["method"] == "GET");
    assert_eq!(of("req-missing")[0]["level"], "WARN");
    assert!(of("req-health").is_empty(), "probes are logged at debug");
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("CHAOS_ERROR_RATE=7"))
    );
}

#[test]
fn an_idle_process_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut server = Server::start_ready(&[("SCORE_DB_PATH", path.to_str().unwrap())]);
    // An open, idle connection holds nothing up.
    let mut client = Client::new(server.address);
    assert_eq!(client.post("/score", r#"{"score":1}"#).unwrap().status, 201);
    let asked = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    assert!(!folder.path().join("db.sqlite-wal").exists(), "checkpointed and closed");
    assert!(client.post("/score", r#"{"score":1}"#).is_err());
}

#[test]
fn a_second_signal_ends_the_drain_delay() {
    let mut server = Server::start_ready(&[("SCORE_STORAGE", "memory"), ("DRAIN_DELAY_MS", "60000")]);
    server.signal(Signal::INT);
    until("being not ready", || server.get("/readyz").is_ok_and(|answer| answer.status == 503));
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_graceful_stop_under_load_fails_no_request_and_loses_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let variables = [("SCORE_DB_PATH", path.to_str().unwrap()), ("DRAIN_DELAY_MS", "400"), ("LOG_LEVEL", "info")];
    let mut server = Server::start_ready(&variables);
    let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = {
        let (sent, stop) = (sent.clone(), stop.clone());
        load(server.address, 16, move |_| {
            sent.fetch_add(1, Ordering::Relaxed);
            !stop.load(Ordering::Relaxed)
        })
    };
    until("some load", || sent.load(Ordering::Relaxed) > 500);
    server.signal(Signal::TERM);
    until("being not ready while still serving", || {
        server.get("/readyz").is_ok_and(|answer| answer.status == 503 && answer.closes())
    });
    let before = sent.load(Ordering::Relaxed);
    until("requests during the drain", || sent.load(Ordering::Relaxed) > before + 100);
    // Clients leave while the port is still open, as a balancer makes them.
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, refused) = clients.join().unwrap();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(refused, 0);
    assert_eq!(acknowledged.len(), sent.load(Ordering::Relaxed) - 16, "every request was answered with 201");
    let stored = stored_runs(&path);
    assert!(acknowledged.iter().all(|run_id| stored.contains(run_id)));
    let last: Value = serde_json::from_str(&server.until_line("\"stopped\"")).unwrap();
    assert_eq!((&last["drained"], &last["closed"]), (&true.into(), &true.into()));
}

#[test]
fn kill_9_under_load_loses_no_acknowledged_score() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut server = Server::start_ready(&[("SCORE_DB_PATH", path.to_str().unwrap()), ("LOG_LEVEL", "info")]);
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let clients = load(server.address, 16, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            true
        });
        until("some load", || sent.load(Ordering::Relaxed) > 300 + 400 * round);
        server.signal(Signal::KILL);
        server.wait();
        acknowledged.extend(clients.join().unwrap().0);
    }
    let stored = stored_runs(&path);
    let lost: Vec<_> = acknowledged.iter().filter(|run_id| !stored.contains(*run_id)).collect();
    assert!(acknowledged.len() > 500 && lost.is_empty(), "{} of {} lost", lost.len(), acknowledged.len());
}

#[test]
fn the_next_process_waits_for_the_store_and_takes_over_fast() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let variables = [("SCORE_DB_PATH", path.to_str().unwrap())];
    let mut blue = Server::start_ready(&variables);
    assert_eq!(blue.post_score(r#"{"player":"Blue","score":7,"runId":"r1"}"#).unwrap().status, 201);
    let mut gaps = Vec::new();
    for round in 0..4 {
        let green = Server::start(&variables);
        until("waiting for the store", || {
            green.get("/readyz").is_ok_and(|answer| answer.status == 503 && answer.json()["waiting_for"] == "store")
        });
        for path in ["/healthz", "/", "/metrics"] {
            assert_eq!(green.get(path).unwrap().status, 200, "{path}");
        }
        for answer in [green.get("/leaderboard").unwrap(), green.post_score(r#"{"score":1}"#).unwrap()] {
            assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "1"));
        }
        if round % 2 == 0 {
            assert_eq!(blue.stop().code(), Some(0));
        } else {
            blue.signal(Signal::KILL);
            blue.wait();
        }
        let gone = Instant::now();
        green.until_ready();
        gaps.push(gone.elapsed());
        assert!(green.get("/leaderboard").unwrap().json()["leaderboard"][0]["player"] == "Blue");
        let repeat = green.post_score(r#"{"player":"Green","score":9,"runId":"r1"}"#).unwrap().json();
        assert_eq!(repeat["stored"]["player"], "Blue", "the run identity is remembered by the database");
        blue = green;
    }
    // Ten milliseconds between tries, and the rest of the bound for a busy machine.
    assert!(gaps.iter().all(|gap| *gap < Duration::from_millis(500)), "{gaps:?}");
}

#[test]
fn racing_for_one_store_never_makes_two_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut racers: Vec<Server> = (0..4).map(|_| Server::start(&[("SCORE_DB_PATH", path.to_str().unwrap())])).collect();
    let mut winners = 0;
    while !racers.is_empty() {
        let ready = |server: &Server| server.get("/readyz").is_ok_and(|answer| answer.status == 200);
        until("one owner", || racers.iter().any(ready));
        assert_eq!(racers.iter().filter(|server| ready(server)).count(), 1);
        let at = racers.iter().position(ready).unwrap();
        let mut owner = racers.swap_remove(at);
        assert_eq!(owner.post_score(r#"{"score":1}"#).unwrap().status, 201);
        assert_eq!(owner.stop().code(), Some(0));
        winners += 1;
    }
    assert_eq!((winners, stored_runs(&path).len()), (4, 4));
}

#[test]
fn requests_in_flight_are_answered_and_chaos_waits_are_cut_short() {
    let variables = [
        ("SCORE_STORAGE", "memory"),
        ("CHAOS_ENABLED", "true"),
        ("CHAOS_LATENCY_MS_P50", "60000"),
        ("CHAOS_LATENCY_MS_P99", "60000"),
    ];
    let mut server = Server::start_ready(&variables);
    let address = server.address;
    let slow = std::thread::spawn(move || Client::new(address).post("/score", r#"{"score":3}"#).unwrap());
    server.until_line("chaos.injected");
    let asked = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    let answer = slow.join().unwrap();
    assert!(answer.status == 201 && answer.closes() && asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_metrics_port_has_the_metrics_and_nothing_else() {
    let server = Server::start_ready(&[("SCORE_STORAGE", "memory"), ("METRICS_PORT", "0")]);
    let mut metrics = Client::new(server.metrics_address.unwrap());
    assert_eq!(metrics.ask("GET", "/metrics", &[], "").unwrap().status, 200);
    assert_eq!(metrics.ask("GET", "/leaderboard", &[], "").unwrap().status, 404);
    assert_eq!(server.get("/metrics").unwrap().status, 404);
}
