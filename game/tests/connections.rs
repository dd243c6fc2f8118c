//! Slow, broken, half-closed and too many clients against a real socket: each costs a bounded amount and gets JSON.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{Answer, Client, raw, read_answer, until};
use drafty_bird::{Game, Limits, Settings, Stopped, run};
use tokio::sync::oneshot;

/// A game served by this process, with bounds that fit a test.
struct Served {
    address: SocketAddr,
    game: Game,
    stop: oneshot::Sender<()>,
    stopped: std::thread::JoinHandle<Stopped>,
}

fn serve(variables: &[(&str, &str)], change: impl FnOnce(&mut Limits)) -> Served {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let mut settings = Settings::read(variable).unwrap().0;
    settings.storage = drafty_bird::Storage::Memory;
    settings.drain_delay = Duration::ZERO;
    change(&mut settings.limits);
    let game = Game::start(settings).unwrap();
    let (stop, stopping) = oneshot::channel();
    let (told, address) = std::sync::mpsc::channel();
    let served = game.clone();
    let stopped = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            run(listener, None, async { drop(stopping.await) }, served).await
        })
    });
    let address = address.recv().unwrap();
    until("opening", || game.is_open());
    Served { address, game, stop, stopped }
}

impl Served {
    fn stop(self) -> Stopped {
        self.stop.send(()).unwrap();
        self.stopped.join().unwrap()
    }

    fn metric(&self, name: &str) -> String {
        let text = Client::new(self.address).ask("GET", "/metrics", &[], "").unwrap().body;
        let text = String::from_utf8(text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    }
}

fn answer(stream: TcpStream) -> Answer {
    read_answer(&mut BufReader::new(stream), true).unwrap()
}

fn is_refusal(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status);
    let body = answer.json();
    assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}");
    assert_eq!(body["request_id"], answer.headers["x-request-id"].as_str());
}

/// Reads to the end; the server must end the connection.
fn ends(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut rest));
    rest
}

#[test]
fn what_is_not_http_gets_a_json_error_with_an_identity() {
    let served = serve(&[], |_| {});
    let huge_path = format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(70_000));
    let huge_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "h".repeat(70_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let table: &[(&str, u16)] = &[
        ("this is not http\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("GET /\r\nbad header\r\n\r\n", 400),
        ("POST /score HTTP/1.1\r\ncontent-length: many\r\n\r\n", 400),
        ("POST /score HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nna me: x\r\n\r\n", 400),
        (&many_headers, 431),
        (&huge_head, 431),
        (&huge_path, 431),
    ];
    for (text, status) in table {
        let mut stream = raw(served.address).unwrap();
        // The server may close while we still send.
        drop(stream.write_all(text.as_bytes()));
        let answer = answer(stream);
        is_refusal(&answer, *status);
        assert!(answer.closes(), "{text:.40}");
    }
    // A valid request first, then rubbish, in one packet.
    let mut stream = raw(served.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\nrubbish\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(read_answer(&mut reader, true).unwrap().status, 200);
    let second = read_answer(&mut reader, true).unwrap();
    assert_eq!(second.status, 400);
    assert!(
        served.metric("drafty_bird_connections_refused_total{reason=\"malformed\"}").parse::<usize>().unwrap()
            >= table.len()
    );
    assert!(served.stop().drained);
}

#[test]
fn slow_requests_are_given_up() {
    let served = serve(&[], |limits| {
        limits.head_timeout = Duration::from_millis(80);
        limits.body_timeout = Duration::from_millis(80);
        limits.idle_timeout = Duration::from_millis(160);
    });
    let mut slow_head = raw(served.address).unwrap();
    slow_head.write_all(b"GET /healthz HTTP/1.1\r\nhost:").unwrap();
    let mut slow_body = raw(served.address).unwrap();
    slow_body
        .write_all(b"POST /score HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{")
        .unwrap();
    let silent = raw(served.address).unwrap();
    let mut idle = raw(served.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let started = Instant::now();
    let answered = answer(slow_head);
    is_refusal(&answered, 408);
    assert!(answered.closes());
    is_refusal(&answer(slow_body), 408);
    assert_eq!(ends(silent), b"");
    assert!(ends(idle).starts_with(b"HTTP/1.1 200"));
    assert!(started.elapsed() < Duration::from_secs(5));
    // A trickle of bytes does not count as progress.
    let mut trickle = raw(served.address).unwrap();
    let mut sent = 0;
    until("an end of the trickle", || {
        sent += 1;
        std::thread::sleep(Duration::from_millis(10));
        trickle.write_all(b"G").is_err()
    });
    assert!(sent < 100, "{sent}");
    until("no connection left", || served.metric("drafty_bird_connections ") == "1");
    assert_eq!(served.metric("drafty_bird_connections_refused_total{reason=\"slow\"}"), "2");
}

#[test]
fn half_closed_and_early_leaving_clients() {
    let served =
        serve(&[("CHAOS_ENABLED", "true"), ("CHAOS_LATENCY_MS_P50", "20"), ("CHAOS_LATENCY_MS_P99", "20")], |_| {});
    // Says everything, closes its side, still wants the answer.
    let mut stream = raw(served.address).unwrap();
    stream
        .write_all(b"POST /score HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"score\":1}")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(stream).status, 201);
    // Closes its side in the middle of the body.
    let mut stream = raw(served.address).unwrap();
    stream
        .write_all(b"POST /score HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"sco")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    is_refusal(&answer(stream), 400);
    // Leaves before the answer.
    for _ in 0..20 {
        let mut stream = raw(served.address).unwrap();
        stream.write_all(b"GET /leaderboard HTTP/1.1\r\n\r\n").unwrap();
    }
    // An old client.
    let mut stream = raw(served.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let text = String::from_utf8(ends(stream)).unwrap();
    assert!(text.starts_with("HTTP/1.0 200") && text.ends_with("{\"status\":\"ok\"}"), "{text}");
    until("no connection left", || served.metric("drafty_bird_connections ") == "1");
    assert!(served.stop().drained);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read_and_the_client_sees_it() {
    let served = serve(&[], |_| {});
    let part = vec![b'x'; 512 * 1024];
    for head in ["content-length: 524288\r\n\r\n", "transfer-encoding: chunked\r\n\r\n80000\r\n"] {
        let mut stream = raw(served.address).unwrap();
        write!(stream, "POST /score HTTP/1.1\r\ncontent-type: application/json\r\n{head}").unwrap();
        stream.write_all(&part).unwrap();
        is_refusal(&answer(stream), 413);
    }
    // Who asks first is told before sending anything.
    let mut stream = raw(served.address).unwrap();
    stream.write_all(b"POST /score HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 99999\r\n\r\n").unwrap();
    is_refusal(&answer(stream), 413);
    assert_eq!(Client::new(served.address).post("/score", r#"{"score":1}"#).unwrap().status, 201);
}

#[test]
fn many_requests_in_one_packet_are_answered_in_order() {
    let served = serve(&[], |_| {});
    let mut stream = raw(served.address).unwrap();
    let paths = ["/healthz", "/missing.txt", "/leaderboard", "/healthz"];
    let text: String =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nx-request-id: {path}\r\n\r\n")).collect();
    stream.write_all(text.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    for path in paths {
        assert_eq!(read_answer(&mut reader, true).unwrap().headers["x-request-id"], path);
    }
}

#[test]
fn too_many_connections_are_told_so_and_places_come_back() {
    let served = serve(&[], |limits| limits.connections_max = 2);
    let mut first = Client::new(served.address);
    let mut second = Client::new(served.address);
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask("GET", "/healthz", &[], "").unwrap().status, 200);
    }
    let refused = answer(raw(served.address).unwrap());
    is_refusal(&refused, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    drop(first);
    until("a free place", || {
        Client::new(served.address).ask("GET", "/healthz", &[], "").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_stop_waits_for_requests_but_not_for_idle_connections() {
    let served = serve(&[], |limits| limits.body_timeout = Duration::from_millis(300));
    let mut idle = Client::new(served.address);
    assert_eq!(idle.ask("GET", "/healthz", &[], "").unwrap().status, 200);
    let mut busy = raw(served.address).unwrap();
    busy.write_all(b"POST /score HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"sc")
        .unwrap();
    until("two connections", || served.metric("drafty_bird_connections ") == "3");
    let (address, game) = (served.address, served.game.clone());
    let stopping = std::thread::spawn(move || served.stop());
    until("a closed port", || TcpStream::connect(address).is_err());
    assert!(game.is_open(), "the store stays open for what is in flight");
    busy.write_all(b"ore\":7}").unwrap();
    let answered = answer(busy);
    assert!(answered.status == 201 && answered.closes());
    assert_eq!(stopping.join().unwrap(), Stopped { drained: true, closed: true });
    assert!(!game.is_open() && idle.ask("GET", "/healthz", &[], "").is_err());
}

#[test]
fn a_request_that_outlives_the_grace_time_is_dropped() {
    let served = serve(&[("STOP_GRACE_MS", "50")], |_| {});
    let mut busy = raw(served.address).unwrap();
    busy.write_all(b"POST /score HTTP/1.1\r\ncontent-length: 11\r\n\r\n{").unwrap();
    until("a connection", || served.metric("drafty_bird_connections ") == "2");
    let stopped = served.stop();
    assert_eq!(stopped, Stopped { drained: false, closed: true });
    assert_eq!(ends(busy), b"");
}
