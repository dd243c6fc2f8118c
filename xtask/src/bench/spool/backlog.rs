//! A long spool and one process that moves it: real processes accept the records while the ingester is stopped, then both
//! are gone and a new one begins. Run ids are random, as the page makes them, and then the server's own, in order of time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::super::{
    Bench,
    client::Client,
    server::Server,
    share::{Share, wait_for_role},
    wrk,
};
use crate::setup::Outcome;

const RECORDS: u64 = 1_000_000;
const RECORDS_SHORT: u64 = 10_000;
/// Rounds of load until there are enough records; a machine that needs more is too slow to measure on.
const ROUNDS_MAX: usize = 200;
const INGEST_MAX: Duration = Duration::from_secs(300);
/// Longest wait until the last scores of a load are stored.
const SETTLE_MAX: Duration = Duration::from_secs(5);

struct Figures {
    records: u64,
    per_second: f64,
    /// Of the last tenth.
    end_per_second: f64,
    peak_mb: f64,
}

/// Leaves a share with all of it in its database.
pub(super) fn run(bench: &mut Bench, folder: &Path) -> Outcome<Share> {
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let share = Share::make(&folder.join("backlog"))?;
    row(bench, "random run ids, as the page makes them", &share, &wrk::scores_with_run_ids(folder)?)?;
    row(bench, "run ids of the server", &Share::make(&folder.join("backlog-ordered"))?, &wrk::scores(folder)?)?;
    Ok(share)
}

fn row(bench: &mut Bench, ids: &str, share: &Share, script: &Path) -> Outcome {
    let figures = measure(bench, share, script)?;
    let Figures { records, per_second, end_per_second, peak_mb } = figures;
    bench.row(
        &format!("a spool of {records} records moved into the database, {ids}"),
        format!("{per_second:.0} records/s from the start of the process, the last tenth {end_per_second:.0}/s"),
        "≥ 40000/s to the end",
        Some(per_second >= 40_000.0 && end_per_second >= 40_000.0),
    );
    bench.row("peak memory of that process", format!("{peak_mb:.1} MB"), "≤ 64 MB", Some(peak_mb <= 64.0));
    Ok(())
}

fn measure(bench: &Bench, share: &Share, script: &Path) -> Outcome<Figures> {
    let stopped = share.start(&bench.game, &[])?;
    wait_for_role(&stopped, "active", Duration::from_secs(10))?;
    stopped.signal("STOP")?;
    let accepter = share.start(&bench.game, &[])?;
    let wanted = if bench.short { RECORDS_SHORT } else { RECORDS };
    let mut rounds = 0;
    while accepted(&accepter)? < wanted {
        rounds += 1;
        if rounds > ROUNDS_MAX {
            return Err(format!("{ROUNDS_MAX} rounds of load were not enough for {wanted} records"));
        }
        wrk::round_with(256, &format!("http://{}/score", accepter.address), Duration::from_secs(1), Some(script))?;
    }
    let accepted = settled(&accepter)?;
    accepter.terminate()?;
    // Killed: it must not ingest anything any more.
    drop(stopped);

    let total = share.waiting_bytes();
    let began = Instant::now();
    let server = share.start(&bench.game, &[])?;
    let mut near_end = None;
    let end = loop {
        let waiting = share.waiting_bytes();
        let now = began.elapsed();
        // The last look before the tenth begins, so that the tenth is never too small.
        if waiting > total / 10 || near_end.is_none() {
            near_end = Some((now, waiting));
        }
        if waiting == 0 {
            break now;
        }
        if now > INGEST_MAX {
            return Err(format!("{waiting} of {total} bytes still wait in the spool after {INGEST_MAX:?}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let peak_mb = server.peak_mb();
    server.terminate()?;
    let records = share.rows()?;
    if records != accepted {
        return Err(format!("{records} rows of {accepted} accepted scores"));
    }
    let (from, waiting) = near_end.unwrap_or_default();
    let tenth = records as f64 * waiting as f64 / total.max(1) as f64;
    Ok(Figures {
        records,
        per_second: records as f64 / end.as_secs_f64(),
        end_per_second: tenth / (end - from).as_secs_f64().max(0.001),
        peak_mb,
    })
}

/// Scores that a process stored after all: those whose clients left before the answer are stored a little later.
fn settled(server: &Server) -> Outcome<u64> {
    let until = Instant::now() + SETTLE_MAX;
    let mut before = accepted(server)?;
    while Instant::now() < until {
        std::thread::sleep(SETTLE_MAX / 20);
        let now = accepted(server)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(format!("scores are still being stored {SETTLE_MAX:?} after the load"))
}

/// Scores that a process stored so far.
fn accepted(server: &Server) -> Outcome<u64> {
    const NAME: &str = "drafty_bird_games_completed_total ";
    let answer = Client::new(server.address).get("/metrics").map_err(|e| format!("/metrics: {e}"))?;
    let value = answer.body.lines().find_map(|line| line.strip_prefix(NAME)?.trim().parse::<f64>().ok());
    value.map(|value| value as u64).ok_or_else(|| format!("/metrics has no {NAME}"))
}
