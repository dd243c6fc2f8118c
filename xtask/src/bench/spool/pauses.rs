//! What the clients of one process notice when the ingester beside it is stopped or killed: how long their answers take in
//! that second, and how soon the last scores of the other one are on the leaderboard.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::super::{
    Bench, median,
    server::Server,
    share::{Share, wait_for_role},
};
use super::probe::{Probe, Watch};
use crate::{
    load::{Load, Pace, quantile_ms},
    setup::Outcome,
};

const CONNECTIONS: usize = 64;
/// Between an answer and the next request of a connection: a load that leaves the machine room, so that what is waited for
/// is the game.
const PAUSE: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
/// The other process's scores come often, this one's seldom: no score is pushed off the list before it can be seen.
const OTHER_EVERY: Duration = Duration::from_millis(10);
const OWN_EVERY: Duration = Duration::from_millis(300);
const VISIBLE_MS_MAX: f64 = 1000.0;

/// How the ingester ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Asked to stop, still accepting for a second.
    Asked,
    Killed,
}

/// What one end came to, in milliseconds.
#[derive(Default)]
struct Figures {
    /// p99 of all seconds before.
    usual_p99: Vec<f64>,
    /// p99 of the worst of these seconds.
    worst_p99: Vec<f64>,
    usual_longest: Vec<f64>,
    /// p99 of the second that begins with the end.
    p99: Vec<f64>,
    longest: Vec<f64>,
    /// p99 of the last second, in which the other process ingests.
    after_p99: Vec<f64>,
    active: Vec<f64>,
    visible: Vec<f64>,
    failed: u64,
}

pub(super) fn run(bench: &mut Bench, folder: &Path, large: &Share) -> Outcome {
    let small = Share::make(&folder.join("pauses"))?;
    row(bench, "hand-over", End::Asked, large)?;
    row(bench, "kill -9 of the ingester, small database", End::Killed, &small)?;
    row(bench, "kill -9 of the ingester, large database", End::Killed, large)
}

fn row(bench: &mut Bench, what: &str, end: End, share: &Share) -> Outcome {
    let mut figures = Figures::default();
    let env = [("DRAIN_DELAY_MS", "1000")];
    let mut ingester = share.start(&bench.game, &env)?;
    wait_for_role(&ingester, "active", Duration::from_secs(60))?;
    for _ in 0..bench.rounds() {
        ingester = round(bench, end, ingester, share.start(&bench.game, &env)?, &mut figures)?;
    }
    ingester.terminate()?;
    let rows = share.rows()?;
    let [usual, worst, usual_longest, p99, longest, after, active] = [
        &mut figures.usual_p99,
        &mut figures.worst_p99,
        &mut figures.usual_longest,
        &mut figures.p99,
        &mut figures.longest,
        &mut figures.after_p99,
        &mut figures.active,
    ]
    .map(|values| median(values));
    let visible = figures.visible.iter().copied().fold(0.0, f64::max);
    bench.row(
        &format!("acknowledgements of the survivor in the second of a {what} ({rows} rows)"),
        format!(
            "p99 {p99:.1} ms, {:.2} x the usual {usual:.1} ms (worst usual second {worst:.1} ms); longest {longest:.0} ms, \
             usually {usual_longest:.0} ms; p99 later, as ingester, {after:.1} ms; ingester after {active:.0} ms; \
             {} failed",
            p99 / usual,
            figures.failed
        ),
        "0 failed, p99 no worse than the worst usual second's",
        Some(figures.failed == 0 && p99 <= worst),
    );
    bench.row(
        "until every score of that time is on the survivor's leaderboard",
        format!("{visible:.0} ms at most"),
        "≤ 1 s",
        Some(visible <= VISIBLE_MS_MAX),
    );
    Ok(())
}

/// Ends the ingester while the survivor is under load; returns the survivor, which then ingests.
fn round(bench: &Bench, end: End, ingester: Server, survivor: Server, figures: &mut Figures) -> Outcome<Server> {
    let usual = if bench.short { SECOND } else { SECOND * 5 };
    let load = Load::start(survivor.address, CONNECTIONS, 1, Pace::After(PAUSE));
    let watches = [Watch::start(survivor.address, "other"), Watch::start(survivor.address, "own")];
    let probes =
        [Probe::start(ingester.address, "other", OTHER_EVERY), Probe::start(survivor.address, "own", OWN_EVERY)];
    // The first connections and the first segment are not what is usual.
    std::thread::sleep(SECOND / 2);
    let from = Instant::now();
    std::thread::sleep(usual);
    let event = Instant::now();
    match end {
        End::Asked => ingester.signal("TERM")?,
        End::Killed => ingester.signal("KILL")?,
    }
    let active = wait_for_role(&survivor, "active", Duration::from_secs(60))?;
    let until = Instant::now().max(event + 2 * SECOND);
    // Later scores must not push off what is looked for, and what was accepted last must be seen.
    while Instant::now() < until + SECOND {
        std::thread::sleep(Duration::from_millis(5));
    }
    let [other, own] = probes.map(Probe::stop);
    std::thread::sleep(SECOND);
    let seen = watches.map(Watch::stop);
    let tally = load.stop();
    let stopped = Instant::now();
    if end == End::Asked {
        ingester.terminate()?;
    }

    let mut lags = Vec::new();
    for (sent, seen) in [&other, &own].into_iter().zip(&seen) {
        let of_that_time: Vec<_> = sent.acknowledged.iter().copied().filter(|(_, at)| *at + SECOND >= event).collect();
        lags.extend(seen.lags(&of_that_time)?);
    }
    for failure in &tally.failures {
        println!("  failed: {failure}");
    }
    figures.failed += tally.failed + own.failed;
    figures.usual_p99.push(tally.quantile_between_ms(from, event, 0.99));
    figures.usual_longest.push(tally.quantile_between_ms(from, event, 1.0));
    let seconds = (0..usual.as_secs() as u32).map(|n| from + SECOND * n);
    let seconds = seconds.map(|second| tally.quantile_between_ms(second, second + SECOND, 0.99));
    figures.worst_p99.push(seconds.fold(0.0, f64::max));
    figures.p99.push(tally.quantile_between_ms(event, event + SECOND, 0.99));
    figures.longest.push(tally.quantile_between_ms(event, event + SECOND, 1.0));
    figures.after_p99.push(tally.quantile_between_ms(stopped - SECOND, stopped, 0.99));
    figures.active.push(active.as_secs_f64() * 1000.0);
    figures.visible.push(quantile_ms(lags, 1.0));
    Ok(survivor)
}
