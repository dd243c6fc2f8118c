//! The real program as a child process, and a small HTTP client that says exactly what happened.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Polls until `done`, with a deadline.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A running `drafty-bird`; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    lines: Arc<Mutex<Vec<String>>>,
}

/// The program in an empty environment, on a free port of this machine only.
pub(crate) fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drafty-bird"));
    configure(&mut command, variables);
    command
}

pub(crate) fn configure(command: &mut Command, variables: &[(&str, &str)]) {
    command.env_clear().envs([
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("DRAIN_DELAY_MS", "0"),
        ("SCORE_STORAGE", "direct"),
    ]);
    command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

impl Server {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::spawn(&mut program(variables))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, out) = (lines.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut listening = None;
        until("listening", || {
            let found = lines.lock().unwrap().iter().find(|line| line.contains("\"listening\"")).cloned();
            listening = found.map(|line| serde_json::from_str::<Value>(&line).unwrap());
            assert!(listening.is_some() || child.try_wait().unwrap().is_none(), "the server ended");
            listening.is_some()
        });
        let listening = listening.unwrap();
        let address = |key: &str| listening[key].as_str().map(|text| text.parse().unwrap());
        Self { child, address: address("address").unwrap(), metrics_address: address("metrics_address"), lines }
    }

    pub(crate) fn start_ready(variables: &[(&str, &str)]) -> Self {
        let server = Self::start(variables);
        server.until_ready();
        server
    }

    pub(crate) fn until_ready(&self) {
        until("being ready", || self.get("/readyz").is_ok_and(|answer| answer.status == 200));
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub(crate) fn until_line(&self, part: &str) -> String {
        let mut found = None;
        until(part, || {
            found = self.lines().into_iter().find(|line| line.contains(part));
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        Client::new(self.address).ask("GET", path, &[], "")
    }

    pub(crate) fn post_score(&self, body: &str) -> io::Result<Answer> {
        Client::new(self.address).post("/score", body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn closes(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value == "close")
    }
}

/// One keep-alive connection, made again when the server closed it.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        self.ask("POST", path, &[("content-type", "application/json")], body)
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Answer> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body);
        let answer = self.connect().and_then(|connection| {
            connection.get_mut().write_all(text.as_bytes())?;
            read_answer(connection, method != "HEAD")
        });
        if answer.as_ref().map_or(true, Answer::closes) {
            self.connection = None;
        }
        answer
    }

    fn connect(&mut self) -> io::Result<&mut BufReader<TcpStream>> {
        if self.connection.is_none() {
            self.connection = Some(BufReader::new(raw(self.address)?));
        }
        self.connection.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// A bare connection.
pub(crate) fn raw(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(crate) fn read_answer(stream: &mut impl BufRead, with_body: bool) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad(&line))?;
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let trimmed = line.trim_end();
        if trimmed.is_empty() {
            break;
        }
        let (name, value) = trimmed.split_once(": ").ok_or_else(|| bad(trimmed))?;
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; if with_body { length } else { 0 }];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, headers, body })
}

/// Run identities of the scores that a load of `threads` clients saw acknowledged, until each client sees an error or
/// `keep_going` says stop. Also returns how often another status came back.
pub(crate) fn load(
    address: SocketAddr,
    threads: usize,
    keep_going: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> std::thread::JoinHandle<(Vec<String>, usize)> {
    let keep_going = Arc::new(keep_going);
    std::thread::spawn(move || {
        let clients: Vec<_> = (0..threads)
            .map(|thread| {
                let keep_going = keep_going.clone();
                std::thread::spawn(move || {
                    let (mut client, mut acknowledged, mut refused) = (Client::new(address), Vec::new(), 0);
                    for n in 0.. {
                        if !keep_going(n) {
                            break;
                        }
                        let run_id = format!("t{thread}-{n}");
                        let body = format!(r#"{{"player":"load","score":{n},"runId":"{run_id}"}}"#);
                        match client.post("/score", &body) {
                            Ok(answer) if answer.status == 201 => acknowledged.push(run_id),
                            Ok(_) => refused += 1,
                            Err(_) => break,
                        }
                    }
                    (acknowledged, refused)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(
            (Vec::new(), 0),
            |mut all, (acknowledged, refused)| {
                all.0.extend(acknowledged);
                (all.0, all.1 + refused)
            },
        )
    })
}

/// All run identities in a database, which is checked for corruption first.
pub(crate) fn stored_runs(path: &std::path::Path) -> std::collections::HashSet<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    // A UUID is stored as its 16 bytes.
    let uuid = "lower(printf('%s-%s-%s-%s-%s', substr(hex(run_id), 1, 8), substr(hex(run_id), 9, 4), \
                substr(hex(run_id), 13, 4), substr(hex(run_id), 17, 4), substr(hex(run_id), 21)))";
    let query = format!("SELECT CASE typeof(run_id) WHEN 'blob' THEN {uuid} ELSE run_id END FROM scores");
    let mut statement = connection.prepare(&query).unwrap();
    let runs = statement.query_map([], |row| row.get(0)).unwrap();
    runs.collect::<Result<_, _>>().unwrap()
}
