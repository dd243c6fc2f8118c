//! The game alone: reads and durable scores, each against an empty axum handler in a process of its own.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Bench, client::Client, median, wrk};
use crate::setup::Outcome;

/// Rows in the database that is read from.
const ROWS: i64 = 1_000_000;

/// A server process that is killed when this value goes.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `program` on a free port, which it is told through `PORT` and wherever an argument is `ADDRESS`, and waits until
    /// `path` answers 200.
    pub(crate) fn start(program: &Path, args: &[&str], env: &[(&str, &str)], path: &str) -> Outcome<Server> {
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(args.iter().map(|a| if *a == "ADDRESS" { address.to_string() } else { (*a).to_owned() }));
        command.env_clear().env("PORT", address.port().to_string()).envs(env.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let child = child.map_err(|e| format!("{}: {e}", program.display()))?;
        let server = Server { child, address };
        wait_for_200(address, path, Duration::from_secs(60))?;
        Ok(server)
    }

    /// Asks it to stop and waits until it did; returns how long that took.
    pub(crate) fn terminate(mut self) -> Outcome<Duration> {
        let start = Instant::now();
        self.signal("TERM")?;
        self.child.wait().map_err(|e| e.to_string())?;
        Ok(start.elapsed())
    }

    /// Sends it a signal, and does not wait for what comes of it.
    pub(crate) fn signal(&self, name: &str) -> Outcome {
        crate::setup::run(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]))
    }

    /// Its peak resident memory so far, in MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        peak_mb(self.child.id()).unwrap_or(f64::NAN)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process' peak resident memory so far, in MB.
pub(crate) fn peak_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kb = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(kb.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}

/// An address nobody listens on at this moment.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.local_addr().map_err(|e| e.to_string())
}

/// Asks a path every millisecond until it answers 200.
pub(crate) fn wait_for_200(address: SocketAddr, path: &str, deadline: Duration) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < deadline {
        if Client::new(address).get(path).is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("http://{address}{path} did not answer 200 within {deadline:?}"))
}

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    let folder = tempfile::tempdir_in(crate::setup::target()).map_err(|e| e.to_string())?;
    let floor = Server::start(&bench.bin.join("examples/floor"), &["ADDRESS"], &[], "/leaderboard")?;
    reads(bench, folder.path(), &floor)?;
    scores(bench, folder.path(), &floor)
}

fn reads(bench: &mut Bench, folder: &Path, floor: &Server) -> Outcome {
    let database = folder.join("million.sqlite");
    let rows = if bench.short { 10_000 } else { ROWS };
    fill(&database, rows).map_err(|e| format!("filling {}: {e}", database.display()))?;
    let path = database.display().to_string();
    let (mut ratios, mut ratios_default) = (Vec::new(), Vec::new());
    let (mut peak, mut rate, mut floor_rate) = (0.0_f64, Vec::new(), Vec::new());
    for level in ["warn", "info"] {
        let game = Server::start(
            &bench.game,
            &[],
            &[("SCORE_STORAGE", "direct"), ("SCORE_DB_PATH", &path), ("LOG_LEVEL", level), ("DRAIN_DELAY_MS", "0")],
            "/readyz",
        )?;
        for _ in 0..bench.rounds() {
            let below = wrk::round(&format!("http://{}/leaderboard", floor.address), bench.round(), None)?;
            let ours = wrk::round(&format!("http://{}/leaderboard", game.address), bench.round(), None)?;
            let ratio = ours.per_second / below.per_second;
            if level == "warn" {
                ratios.push(ratio);
                rate.push(ours.per_second);
                floor_rate.push(below.per_second);
            } else {
                ratios_default.push(ratio);
            }
        }
        peak = peak.max(game.peak_mb());
        game.terminate()?;
    }
    let ratio = median(&mut ratios);
    let what =
        format!("leaderboard reads against an empty axum handler, 64 connections, {rows} rows, `LOG_LEVEL=warn`");
    let measured = format!("{ratio:.2} x ({:.0}/s against {:.0}/s)", median(&mut rate), median(&mut floor_rate));
    bench.row(&what, measured, "≥ 0.85 x", Some(ratio >= 0.85));
    bench.row("the same at the default log level", format!("{:.2} x", median(&mut ratios_default)), "reported", None);
    bench.row("peak memory of the game under these reads", format!("{peak:.1} MB"), "≤ 30 MB", Some(peak <= 30.0));
    Ok(())
}

fn scores(bench: &mut Bench, folder: &Path, floor: &Server) -> Outcome {
    let script = wrk::scores(folder)?;
    let path = folder.join("scores.sqlite").display().to_string();
    let game = Server::start(
        &bench.game,
        &[],
        &[("SCORE_STORAGE", "direct"), ("SCORE_DB_PATH", &path), ("LOG_LEVEL", "warn"), ("DRAIN_DELAY_MS", "0")],
        "/readyz",
    )?;
    let (mut ours, mut below, mut p99, mut fsyncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        fsyncs.push(fsync_ms(folder)?);
        below.push(wrk::round(&format!("http://{}/score", floor.address), bench.round(), Some(&script))?.per_second);
        let round = wrk::round(&format!("http://{}/score", game.address), bench.round(), Some(&script))?;
        ours.push(round.per_second);
        p99.push(round.p99_ms);
    }
    let (ours, below, p99, fsync) = (median(&mut ours), median(&mut below), median(&mut p99), median(&mut fsyncs));
    let bound = (0.25 * below).min(0.8 * 64.0 / (fsync / 1000.0));
    let p99_bound = 50.0_f64.max(8.0 * fsync);
    bench.row(
        "durable scores against an empty axum POST handler, 64 connections, `SCORE_STORAGE=direct`",
        format!("{ours:.0}/s ({:.2} x {below:.0}/s; median fsync {fsync:.2} ms)", ours / below),
        &format!("≥ {bound:.0}/s: the smaller of 0.25 x and 0.8 x 64 / fsync"),
        Some(ours >= bound),
    );
    bench.row("their p99", format!("{p99:.1} ms"), &format!("≤ {p99_bound:.0} ms"), Some(p99 <= p99_bound));
    let peak = game.peak_mb();
    bench.row("peak memory of the game under these scores", format!("{peak:.1} MB"), "≤ 30 MB", Some(peak <= 30.0));
    game.terminate().map(drop)
}

/// The median time of a durable 4 KiB append, in milliseconds.
pub(crate) fn fsync_ms(folder: &Path) -> Outcome<f64> {
    let path = folder.join("fsync.probe");
    let mut file = std::fs::File::create(&path).map_err(|e| e.to_string())?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(|e| e.to_string())?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let _ = std::fs::remove_file(path);
    Ok(median(&mut times))
}

/// A database as the original leaves it behind, with many rows.
fn fill(path: &Path, rows: i64) -> rusqlite::Result<()> {
    let db = rusqlite::Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         CREATE TABLE scores (id INTEGER PRIMARY KEY AUTOINCREMENT, player TEXT NOT NULL, score INTEGER NOT NULL, created_at TEXT NOT NULL);",
    )?;
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO scores (player, score, created_at)
         SELECT 'player ' || (i % 5000), (i * 7919) % 100000, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i, 'unixepoch') FROM n",
        [rows],
    )?;
    Ok(())
}
