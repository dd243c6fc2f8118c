//! A service whose behaviour its environment sets, for the tests of the agent: it can be late, never ready, die, stop
//! slowly, or insist on having its store alone. With arguments it is a one-off command instead.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program: what it can't do it should die of, and say"
)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn ms(name: &str) -> Option<Duration> {
    Some(Duration::from_millis(var(name)?.parse().unwrap()))
}

struct Service {
    begun: Instant,
    has_store: AtomicBool,
    stopping: AtomicBool,
    busy: AtomicUsize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("exit") => return ExitCode::from(args[1].parse::<u8>().unwrap()),
        Some("lines") => (1..=args[1].parse::<u32>().unwrap()).for_each(|n| println!("line {n}")),
        Some("env") => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        Some("sleep") => std::thread::sleep(Duration::from_secs(600)),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve()),
    }
    ExitCode::SUCCESS
}

async fn serve() {
    println!("{} begins", var("VERSION").unwrap_or_default());
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    if let Some(message) = var("DIE_SAYING") {
        println!("{message}");
        std::process::exit(3);
    }
    let _alone = var("ALONE").map(alone);
    if let Some(path) = var("DIE_WHEN").filter(|path| std::fs::exists(path).unwrap()) {
        println!("dying because of {path}");
        std::process::exit(7);
    }
    sleep(ms("START_MS").unwrap_or_default()).await;
    let listener = TcpListener::bind(format!("0.0.0.0:{}", var("PORT").unwrap())).await.unwrap();
    let service = Arc::new(Service {
        begun: Instant::now(),
        has_store: AtomicBool::new(var("STORE").is_none()),
        stopping: AtomicBool::new(false),
        busy: AtomicUsize::new(0),
    });
    if let Some(path) = var("STORE") {
        tokio::spawn(open(Arc::clone(&service), path));
    }
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let service = Arc::clone(&service);
                tokio::spawn(async move { attend(&service, stream).await });
            }
            _ = terminate.recv() => break,
            () = die(service.begun) => {
                println!("dying as told");
                std::process::exit(4);
            }
        }
    }
    service.stopping.store(true, SeqCst);
    drop(listener);
    while service.busy.load(SeqCst) > 0 {
        sleep(Duration::from_millis(2)).await;
    }
    sleep(ms("STOP_MS").unwrap_or_default()).await;
    println!("{} ends", var("VERSION").unwrap_or_default());
}

async fn die(begun: Instant) {
    match ms("DIE_AFTER_MS") {
        Some(after) => sleep(after.saturating_sub(begun.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// Makes sure that no other version runs, and leaves a note where one does.
fn alone(path: String) -> File {
    let version = var("VERSION").unwrap();
    let mut lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
    if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        // Time for the other one to say who it is; it may be this one's predecessor that was killed.
        std::thread::sleep(Duration::from_millis(50));
        let other = std::fs::read_to_string(&path).unwrap();
        if other.trim() != version {
            let mut notes = OpenOptions::new().append(true).create(true).open(path + ".overlaps").unwrap();
            writeln!(notes, "{version} was started beside {other}").unwrap();
        }
        std::process::exit(6);
    }
    lock.set_len(0).unwrap();
    write!(lock, "{version}").unwrap();
    lock
}

/// Waits for the store as the real service does, and never gives it back before it ends.
async fn open(service: Arc<Service>, path: String) {
    let store = OpenOptions::new().append(true).create(true).open(path).unwrap();
    while flock(store.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    if var("DIE_WITH_STORE").is_some() {
        println!("dying with the store");
        std::process::exit(5);
    }
    sleep(ms("OPEN_MS").unwrap_or_default()).await;
    service.has_store.store(true, SeqCst);
    let _kept: File = store;
    std::future::pending().await
}

async fn attend(service: &Service, mut stream: TcpStream) {
    let mut head = Vec::new();
    loop {
        let mut part = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(length) => head.extend_from_slice(&part[..length]),
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
        head.clear();
        service.busy.fetch_add(1, SeqCst);
        let done = answer(service, &mut stream, &path).await;
        service.busy.fetch_sub(1, SeqCst);
        if done.is_err() || service.stopping.load(SeqCst) {
            return;
        }
    }
}

async fn answer(service: &Service, stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    let store = service.has_store.load(SeqCst);
    let age = service.begun.elapsed();
    let (status, body) = match path.split('?').next().unwrap_or("/") {
        "/healthz" if ms("SICK_AFTER_MS").is_some_and(|after| age > after) => ("500 X", "{}".to_owned()),
        "/healthz" => ("200 OK", "{}".to_owned()),
        "/readyz" if var("NEVER_READY").is_some() => {
            ("503 X", r#"{"status":"not_ready","reason":"told so"}"#.to_owned())
        }
        "/readyz" if !store => ("503 X", r#"{"status":"not_ready","waiting_for":"store"}"#.to_owned()),
        "/readyz" => ("200 OK", r#"{"status":"ready","storage_mode":"file"}"#.to_owned()),
        "/slow" => {
            sleep(Duration::from_millis(path.split('=').nth(1).unwrap().parse().unwrap())).await;
            ("200 OK", "slow".to_owned())
        }
        // `/status/503/any/path`
        failing if failing.starts_with("/status/") => {
            let code = failing.split('/').nth(2).unwrap();
            (
                ["200 OK", "404 X", "500 X", "503 X"].into_iter().find(|known| known.starts_with(code)).unwrap(),
                String::new(),
            )
        }
        "/hang-up" => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        "/break-off" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        "/stream" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"6\r\ndata\n\n\r\n").await?;
                sleep(Duration::from_millis(20)).await;
            }
        }
        "/write" if !store => ("503 X", "no store".to_owned()),
        "/write" => {
            let entry = path.split('=').nth(1).unwrap_or_default();
            let mut file = OpenOptions::new().append(true).open(var("STORE").unwrap())?;
            file.write_all(format!("{entry}\n").as_bytes())?;
            ("200 OK", "written".to_owned())
        }
        _ => ("200 OK", format!("{} {}", var("VERSION").unwrap_or_default(), std::process::id())),
    };
    let text =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await
}
