//! The process around the game: arguments, settings from the environment, ports, signals and exit codes.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spool::mount;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::commands;
use crate::game::Game;
use crate::serve::run;
use crate::settings::Settings;
use crate::telemetry::Telemetry;

const HELP: &str = "\
Drafty Bird: a small browser game with a leaderboard.

Usage: drafty-bird                    serve the game until SIGTERM or SIGINT
       drafty-bird check-mount DIR    try out whether DIR can hold the scores, and say what to change if not
       drafty-bird backup TARGET      copy the scores to a file or an object store; the service may go on
       drafty-bird restore SOURCE     replace the scores by those of a backup
       drafty-bird stored PREFIX      print the identities of stored scores; the service may go on
       drafty-bird downgrade          move the scores back to where a release without a spool looks for them
       drafty-bird gc                 remove what dead processes left beside the scores
       drafty-bird --version | --help; each command has a --help of its own

Settings are environment variables:
  PORT (8080)              port of the game; 0 lets the system choose
  HOST (0.0.0.0)           address to listen on
  METRICS_PORT             /metrics on a port of its own instead of PORT
  DRAIN_DELAY_MS (5000)    after SIGTERM: not ready, but still accepting; a second signal ends it
  STOP_GRACE_MS (20000)    after that: for requests in flight
  SCORE_STORAGE (spool)    spool (SQLite for any number of processes that share the folder of SCORE_DB_PATH),
                           direct (SQLite, one process) or memory
  SCORE_DB_PATH            /data/db.sqlite; a database that is there is taken over by the spool
  SPOOL_SILENCE_MS (10000) where file locks can't be trusted: silence of the writer after which another takes over
  SCORE_DB_FALLBACK        memory: start without a database if it is unusable
  LOG_LEVEL (info)         trace, debug, info, warn, error, fatal, silent
  OTEL_EXPORTER_OTLP_ENDPOINT and other OTEL_*   where spans go, over HTTP; none if unset
  CHAOS_ENABLED=true, CHAOS_ERROR_RATE, CHAOS_LATENCY_MS_P50, CHAOS_LATENCY_MS_P99,
  CHAOS_ROUTES (/score,/leaderboard), CHAOS_SEED (42)   faults on purpose
  DBIRD_RELEASE            name of the release, shown in /readyz and the metrics

Exit codes: 0 stopped as asked, 1 could not serve, 2 wrong arguments or settings
";

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Threads that answer requests: the work is short, and one process is one of many on its machine.
const WORKERS_MAX: usize = 4;
/// Connections the system may hold until they are accepted.
const BACKLOG: u32 = 1024;

/// Runs the program with its arguments (without its name) and returns what the process exits with.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        [] => serve(),
        ["--version" | "-V"] => say(&format!("drafty-bird {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h" | "help"] => say(HELP),
        ["check-mount", _] => {
            let report = mount::check(Path::new(&arguments[1]), Some(&mount::this_program));
            say(&report.to_string());
            ExitCode::from(if report.verdict.ingest.is_ok() { 0 } else { FAILED })
        }
        [name, ..] if commands::NAMES.contains(name) => commands::main(&words),
        [mount::LOCK_PROBE, _] => ExitCode::from(mount::probe_lock(Path::new(&arguments[1]))),
        _ => fail(USAGE, &format!("unknown arguments: {}; see drafty-bird --help", words.join(" "))),
    }
}

/// Standard output may be closed; there is nobody to tell then.
fn say(text: &str) -> ExitCode {
    drop(io::stdout().write_all(text.as_bytes()));
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    drop(writeln!(io::stderr(), "drafty-bird: {message}"));
    ExitCode::from(code)
}

fn serve() -> ExitCode {
    let (mut settings, warnings) = match Settings::read(|name| std::env::var(name).ok()) {
        Ok(read) => read,
        Err(fault) => return fail(USAGE, &fault.to_string()),
    };
    let telemetry = match Telemetry::install(&settings) {
        Ok(telemetry) => telemetry,
        Err(fault) => return fail(FAILED, &format!("no thread for the log: {fault}")),
    };
    std::panic::set_hook(Box::new(report_panic));
    for warning in warnings {
        warn!("{warning}");
    }
    settings.limits.connections_max = settings.limits.connections_max.min(connections_possible());
    let code = match runtime().map_err(|fault| format!("no threads to answer requests: {fault}")) {
        Ok(runtime) => match runtime.block_on(serve_until_signal(settings)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(FAILED, &message),
        },
        Err(message) => fail(FAILED, &message),
    };
    telemetry.flush();
    code
}

/// Past the log, which may be what panicked.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let line = serde_json::json!({"level": "ERROR", "message": "a fault of this program", "panic": panic.to_string()});
    drop(writeln!(io::stderr(), "{line}"));
}

/// How many threads answer requests here.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(workers()).enable_all().build()
}

/// Raises the soft limit on open files as far as allowed and leaves some for the store and the log.
fn connections_possible() -> usize {
    const WANTED: u64 = 8192;
    const RESERVED: u64 = 64;
    const LEAST: u64 = 16;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let aim = maximum.unwrap_or(WANTED).min(WANTED);
    let files = match current {
        Some(current) if current < aim => {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(aim), maximum });
            if raised.is_ok() { aim } else { current }
        }
        Some(current) => current,
        None => WANTED,
    };
    usize::try_from(files.saturating_sub(RESERVED).max(LEAST)).unwrap_or(usize::MAX)
}

async fn serve_until_signal(settings: Settings) -> Result<(), String> {
    // Caught before anything else, so that no stop is missed, however early.
    let no_signal = |fault: io::Error| format!("signals can't be caught: {fault}");
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    // A file-size limit then is a failed write like any other, instead of the end of the process.
    let _file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map_err(no_signal)?;
    let listener = listen(SocketAddr::new(settings.host, settings.port), "PORT")?;
    let metrics_listener = match settings.metrics_port {
        Some(port) => Some(listen(SocketAddr::new(settings.host, port), "METRICS_PORT")?),
        None => None,
    };
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string()).ok();
    info!(
        address = address(&listener),
        metrics_address = metrics_listener.as_ref().and_then(address),
        version = env!("CARGO_PKG_VERSION"),
        release = settings.release,
        "listening"
    );
    let game = Game::start(settings).map_err(|fault| fault.to_string())?;
    let (stop, stopping) = tokio::sync::oneshot::channel();
    let hurried = game.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        let _: Result<(), ()> = stop.send(());
        either(&mut terminate, &mut interrupt).await;
        hurried.hurry();
    });
    let fenced = game.clone();
    let stop = async {
        tokio::select! {
            _ = stopping => None,
            () = fenced.store().fenced() => Some("a write could not be made durable; see the log"),
        }
    };
    let mut why = None;
    run(listener, metrics_listener, async { why = stop.await }, game).await;
    why.map_or(Ok(()), |why| Err(why.to_owned()))
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn listen(address: SocketAddr, variable: &str) -> Result<TcpListener, String> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|fault| format!("can't listen on {address}: {fault}; set {variable} to a free port"))
}
