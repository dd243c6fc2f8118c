//! What the simulator's tests run in its tasks, and under: with `__shim` it is the data plane's shim, else the smallest service.
//! Its environment says what it does: `PORT` (needed), `GREETING` (what `/` answers), `STORE` (a database that it holds open),
//! `READY=never`, `DIE=start`. As a command, `guest exit N` prints something and ends with N, `guest lines N` prints so many
//! lines, and `guest sleep` does not end for minutes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what the tests read in the logs")]

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{ExitCode, exit},
    thread,
    time::Duration,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    if let Some(code) = dataplane::shim::entry(&arguments) {
        return code;
    }
    let words: Vec<String> = env::args().collect();
    if words.get(1).is_some_and(|word| word == "exit") {
        println!("said on stdout: {}", env::var("SAYS").unwrap_or_default());
        exit(words.get(2).and_then(|n| n.parse().ok()).unwrap_or(0));
    }
    match (words.get(1).map(String::as_str), words.get(2).and_then(|n| n.parse::<u32>().ok())) {
        (Some("lines"), Some(count)) => {
            (1..=count).for_each(|line| println!("line {line}"));
            return ExitCode::SUCCESS;
        }
        (Some("sleep"), _) => {
            thread::sleep(Duration::from_secs(600));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if env::var("DIE").is_ok_and(|d| d == "start") {
        eprintln!("could not find the flux capacitor");
        return ExitCode::from(7);
    }
    let port = env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(0);
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { return ExitCode::from(8) };
    println!("listening on port {port}");
    let store = env::var_os("STORE").and_then(|path| File::options().create(true).append(true).open(path).ok());
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(&stream));
    }
    drop(store);
    ExitCode::SUCCESS
}

fn serve(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 && !line.trim().is_empty() {
            line.clear();
        }
        let is_probe = request.split_whitespace().nth(1) == Some("/readyz");
        let is_never = env::var("READY").is_ok_and(|r| r == "never");
        let (status, body) = match (is_probe, is_never) {
            (true, true) => ("503 Service Unavailable", "not ready".to_owned()),
            (true, false) => ("200 OK", "ready".to_owned()),
            _ => ("200 OK", env::var("GREETING").unwrap_or_else(|_| "hello".to_owned())),
        };
        if write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).is_err() {
            return;
        }
    }
}
