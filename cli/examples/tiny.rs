//! The smallest service that dbird can deploy; the end-to-end tests deploy it. What it does is told by its environment:
//! `PORT` (needed), `GREETING` (what `/` answers), `STORE` (a file that it locks before it is ready), `READY=never`,
//! `DIE=start`, `DIE=soon`, `FAIL=N` (every Nth request but probes is answered with 500). As a command, `tiny exit N` prints something and ends with N.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what the tests read in the logs")]

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("exit") => {
            println!("said on stdout");
            eprintln!("said on stderr");
            exit(arguments.get(2).and_then(|n| n.parse().ok()).unwrap_or(0));
        }
        Some("env") => return env::vars().for_each(|(k, v)| println!("{k}={v}")),
        Some("sleep") => return thread::sleep(Duration::from_secs(60)),
        _ => {}
    }
    if env::var("DIE").is_ok_and(|d| d == "start") {
        eprintln!("could not find the flux capacitor");
        exit(7);
    }
    let port = env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(0);
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { exit(8) };
    let ready = Arc::new(AtomicBool::new(false));
    let holder = ready.clone();
    thread::spawn(move || become_ready(&holder));
    println!("listening on port {port}");
    for stream in listener.incoming().flatten() {
        let ready = ready.clone();
        thread::spawn(move || serve(&stream, &ready));
    }
}

fn become_ready(ready: &AtomicBool) {
    let lock = env::var_os("STORE").and_then(|path| {
        let file = File::options().create(true).append(true).open(path);
        file.inspect_err(|e| eprintln!("the store can't be opened: {e}")).ok()
    });
    while lock.as_ref().is_some_and(|f| f.try_lock().is_err()) {
        thread::sleep(Duration::from_millis(10));
    }
    if env::var("READY").is_ok_and(|r| r == "never") {
        return;
    }
    ready.store(true, Ordering::SeqCst);
    if env::var("DIE").is_ok_and(|d| d == "soon") {
        thread::sleep(Duration::from_millis(200));
        eprintln!("lost the plot");
        exit(9);
    }
    // The lock is held as long as the process lives.
    std::mem::forget(lock);
}

fn serve(stream: &TcpStream, ready: &AtomicBool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if std::io::Read::read_exact(&mut reader, &mut body).is_err() {
            return;
        }
        let path = request.split_whitespace().nth(1).unwrap_or("/").to_owned();
        if respond(stream, &path, ready).is_err() {
            return;
        }
    }
}

/// Requests so far, to fail every Nth.
static ASKED: AtomicU64 = AtomicU64::new(0);

fn fails() -> bool {
    let every: u64 = env::var("FAIL").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    every > 0 && (ASKED.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every)
}

fn respond(mut stream: &TcpStream, path: &str, ready: &AtomicBool) -> std::io::Result<()> {
    let is_ready = ready.load(Ordering::SeqCst);
    let (status, body) = match path {
        "/healthz" => ("200 OK", r#"{"status":"ok"}"#.to_owned()),
        "/readyz" if is_ready => ("200 OK", r#"{"status":"ready","storage_mode":"file"}"#.to_owned()),
        "/readyz" if env::var_os("STORE").is_some() => {
            ("503 Service Unavailable", r#"{"status":"not_ready","waiting_for":"store"}"#.to_owned())
        }
        "/readyz" => ("503 Service Unavailable", r#"{"status":"not_ready"}"#.to_owned()),
        _ if fails() => {
            eprintln!("the flux capacitor is empty: {path}");
            ("500 Internal Server Error", "failed".to_owned())
        }
        _ => ("200 OK", env::var("GREETING").unwrap_or_else(|_| "hello".to_owned())),
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
