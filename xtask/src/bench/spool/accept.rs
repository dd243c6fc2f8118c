//! Durable scores against an empty handler, on this disk and with slower durable writes. Before the other side's turn, all
//! that was accepted is in the database, so that neither side works in the other's time.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::super::{
    Bench,
    client::Client,
    median,
    server::{Server, fsync_ms},
    share::Share,
    wrk,
};
use crate::setup::{self, Outcome};

const CONNECTIONS: u32 = 256;
/// Slower than that, and the disk is the bound.
const FSYNC_MS_MAX: f64 = 1.0;
/// What the preloaded file adds to each durable write, as measured on a network share.
const ADDED_US: u32 = 2_700;
/// Longest wait until all that was accepted is in the database.
const INGEST_MAX: Duration = Duration::from_secs(120);

/// The middle of all rounds.
struct Figures {
    ours: f64,
    floor: f64,
    p99_ms: f64,
    fsync_ms: f64,
    /// From the end of the load until all was in the database.
    behind_s: f64,
    peak_mb: f64,
}

pub(super) fn run(bench: &mut Bench, folder: &Path) -> Outcome {
    let floor = Server::start(&bench.bin.join("examples/floor"), &["ADDRESS"], &[], "/leaderboard")?;
    let plain = measure(bench, &floor, &folder.join("accept"), &[])?;
    let (bound, promised) = if plain.fsync_ms <= FSYNC_MS_MAX {
        (0.5 * plain.floor, "≥ 0.5 x".to_owned())
    } else {
        let bound = 0.8 * f64::from(CONNECTIONS) / (2.0 * plain.fsync_ms / 1000.0);
        (bound, format!("≥ {bound:.0}/s: 0.8 x {CONNECTIONS} / (2 x fsync)"))
    };
    bench.row(
        &format!("durable scores through the spool against an empty axum POST handler, {CONNECTIONS} connections"),
        said(&plain),
        &promised,
        Some(plain.ours >= bound),
    );
    let peak = plain.peak_mb;
    bench.row("peak memory of the game under these scores", format!("{peak:.1} MB"), "reported", None);

    let what = format!("the same with {:.1} ms added to each durable write", f64::from(ADDED_US) / 1000.0);
    let shim = match compile(folder) {
        Ok(shim) => shim.display().to_string(),
        Err(why) => {
            bench.row(&what, format!("skipped: {why}"), "≥ 0.33 x", None);
            return Ok(());
        }
    };
    let added = ADDED_US.to_string();
    let slow = measure(bench, &floor, &folder.join("slow"), &[("LD_PRELOAD", &shim), ("SLOW_SYNC_US", &added)])?;
    bench.row(&what, said(&slow), "≥ 0.33 x", Some(slow.ours >= 0.33 * slow.floor));
    bench.row("their p99", format!("{:.1} ms", slow.p99_ms), "≤ 100 ms", Some(slow.p99_ms <= 100.0));
    Ok(())
}

fn said(figures: &Figures) -> String {
    let Figures { ours, floor, p99_ms, fsync_ms, behind_s, .. } = figures;
    format!(
        "{:.2} x ({ours:.0}/s against {floor:.0}/s; p99 {p99_ms:.1} ms; median fsync {fsync_ms:.2} ms; all in the database \
         {behind_s:.1} s after the load)",
        ours / floor
    )
}

fn measure(bench: &Bench, floor: &Server, folder: &Path, env: &[(&str, &str)]) -> Outcome<Figures> {
    let share = Share::make(folder)?;
    let script = wrk::scores(folder)?;
    let game = share.start(&bench.game, env)?;
    if let Some((_, added)) = env.iter().find(|(name, _)| *name == "SLOW_SYNC_US") {
        let added_ms = added.parse::<f64>().map_err(|e| e.to_string())? / 1000.0;
        let took_ms = one_score_ms(&game)?;
        if took_ms < added_ms {
            return Err(format!(
                "a score takes {took_ms:.2} ms: the preloaded file is not used; is the game linked statically?"
            ));
        }
    }
    let (mut ours, mut below, mut p99, mut fsyncs, mut behind) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds() {
        fsyncs.push(fsync_ms(folder)?);
        let url = |server: &Server| format!("http://{}/score", server.address);
        below.push(wrk::round_with(CONNECTIONS, &url(floor), bench.round(), Some(&script))?.per_second);
        let round = wrk::round_with(CONNECTIONS, &url(&game), bench.round(), Some(&script))?;
        behind.push(share.wait_until_ingested(INGEST_MAX)?.as_secs_f64());
        ours.push(round.per_second);
        p99.push(round.p99_ms);
    }
    let peak_mb = game.peak_mb();
    game.terminate()?;
    Ok(Figures {
        ours: median(&mut ours),
        floor: median(&mut below),
        p99_ms: median(&mut p99),
        fsync_ms: median(&mut fsyncs),
        behind_s: median(&mut behind),
        peak_mb,
    })
}

/// How long one score takes while there is no other.
fn one_score_ms(game: &Server) -> Outcome<f64> {
    let mut client = Client::new(game.address);
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        let answer = client.post("/score", r#"{"player":"bench","score":1}"#).map_err(|e| format!("a score: {e}"))?;
        if answer.status != 201 {
            return Err(format!("a score: {} {}", answer.status, answer.body));
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut times))
}

/// Makes the file to preload.
fn compile(folder: &Path) -> Outcome<PathBuf> {
    if !setup::has("cc") {
        return Err("`cc` is not installed".into());
    }
    let (source, library) = (folder.join("slow_sync.c"), folder.join("slow_sync.so"));
    std::fs::write(&source, include_str!("slow_sync.c")).map_err(|e| e.to_string())?;
    let mut cc = setup::command("cc", &["-shared", "-fPIC", "-O1", "-Wall", "-o"]);
    setup::run(cc.arg(&library).arg(&source))?;
    Ok(library)
}
