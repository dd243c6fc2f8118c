//! A candidate that answers every fifth request with an error gets a tenth of a steady load: how soon it is found and has no
//! traffic any more, what users saw of it, and whether every acknowledged score is still there.

use std::{
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    super::{Bench, deploys::lost_scores, project::Project},
    timeline::Timeline,
};
use crate::{
    load::{Load, Pace, Tally},
    setup::Outcome,
};

const REQUESTS_PER_S: u32 = 500;
const CONNECTIONS: usize = 50;
/// Every so many requests of a connection one is a score.
const SCORE_EVERY: u64 = 10;
const ROUNDS: u32 = 3;
const ROUNDS_SHORT: u32 = 1;
const LOAD_MAX: Duration = Duration::from_secs(30);
/// The faults of the first round are those of the game's own seed; each other round has others. They are fixed, so that a run
/// can be repeated: of the seeds there are, 1 in 15 would put 3 % of failures into a window by chance.
const FIRST_SEED: u32 = 42;
const BACK_MS_MAX: u64 = 3_000;
const FAILED_MAX: f64 = 0.03;
/// A load that falls below this share of its rate shows nothing.
const RATE_MIN: f64 = 0.95;

/// What differs from what every environment shares: a canary that is looked at every second.
const ENVIRONMENT: &str = r#"[health]
interval = "1s"
timeout = "1s"

[rollout]
strategy = "canary"
weight = 10
pause = "60s"
bake = "0s"

[analysis]
interval = "1s"
"#;

/// One rollout.
struct Figures {
    /// From the candidate's first traffic to the first bad look.
    decided_ms: u64,
    /// From the end of that look's window until dbird knew that all traffic is back.
    told_ms: u64,
    /// From the same moment to the last request that failed; 0 where none failed after it.
    last_failed_ms: u64,
    window_ms: u64,
    /// In the window.
    requests: usize,
    failed: usize,
    /// From its first traffic until all traffic was back.
    failed_in_all: usize,
}

impl Figures {
    fn back_ms(&self) -> u64 {
        self.told_ms.max(self.last_failed_ms)
    }

    fn share(&self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.requests as f64 * 1000.0 / self.window_ms.max(1) as f64
    }
}

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let project = Project::new(bench, ENVIRONMENT)?;
    project.run(&["deploy"])?;
    let clock = Clock::start()?;
    let load = Load::start(project.front, CONNECTIONS, SCORE_EVERY, Pace::PerSecond(REQUESTS_PER_S));
    let rounds = if bench.short { ROUNDS_SHORT } else { ROUNDS };
    let mut timelines = Vec::new();
    for round in 0..rounds {
        load.wait_for_more(u64::from(REQUESTS_PER_S), LOAD_MAX);
        timelines.push(candidate(&project, FIRST_SEED + round));
    }
    load.wait_for_more(u64::from(REQUESTS_PER_S), LOAD_MAX);
    let tally = load.stop();
    project.run(&["destroy"])?;
    let lost = lost_scores(bench, &project, &tally.acknowledged)?;

    let ends = timelines.iter().skip(1).map(|next| next.as_ref().map_or(u64::MAX, |next| next.traffic_at));
    let ends = ends.chain([u64::MAX]);
    let figures: Vec<_> =
        timelines.iter().zip(ends).map(|(t, end)| Ok(figures(t.as_ref()?, end, &tally, clock))).collect();
    rows(bench, &figures);
    let acknowledged = tally.acknowledged.len();
    bench.row(
        "scores of these rollouts that were acknowledged and are not in the database afterwards",
        format!("{lost} of {acknowledged}"),
        "0",
        Some(lost == 0 && acknowledged > 0),
    );
    Ok(())
}

/// Deploys it and waits until it is gone.
fn candidate(project: &Project, seed: u32) -> Outcome<Timeline> {
    let seed = format!("env.CHAOS_SEED={seed}");
    let words = [
        "deploy",
        "-o",
        "json",
        "--set",
        "env.CHAOS_ENABLED=true",
        "--set",
        "env.CHAOS_ERROR_RATE=0.2",
        "--set",
        &seed,
    ];
    let ran = project.command(&words).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    Timeline::of(&String::from_utf8_lossy(&ran.stdout), ran.status.code())
}

/// What the load saw of a rollout; what failed from `end` on belongs to the next one.
fn figures(timeline: &Timeline, end: u64, tally: &Tally, clock: Clock) -> Figures {
    let Timeline { traffic_at, bad_at, window_ms, back_at } = *timeline;
    let good: Vec<u64> = tally.answers.iter().map(|(began, took)| clock.unix_ms(*began + *took)).collect();
    let failed: Vec<u64> = tally.failed_at.iter().map(|at| clock.unix_ms(*at)).collect();
    let within = |all: &[u64], from: u64, to: u64| all.iter().filter(|at| (from..to).contains(at)).count();
    let began = bad_at.saturating_sub(window_ms);
    let last_failed = failed.iter().copied().filter(|at| (traffic_at..end).contains(at)).max().unwrap_or_default();
    let failed_within = within(&failed, began, bad_at);
    Figures {
        decided_ms: bad_at - traffic_at,
        told_ms: back_at - bad_at,
        last_failed_ms: last_failed.saturating_sub(bad_at),
        window_ms,
        requests: within(&good, began, bad_at) + failed_within,
        failed: failed_within,
        failed_in_all: within(&failed, traffic_at, back_at.max(last_failed + 1)),
    }
}

fn rows(bench: &mut Bench, figures: &[Result<Figures, &String>]) {
    let what = format!(
        "a candidate with 20 % errors at 10 % weight under {REQUESTS_PER_S} requests/s on the local cloud: all traffic is back \
         after the end of its first bad window, worst of {}",
        figures.len()
    );
    let seen: Vec<&Figures> = figures.iter().flatten().collect();
    let missing: Vec<&str> = figures.iter().filter_map(|f| f.as_ref().err()).map(|why| why.as_str()).collect();
    let (Some(slow), Some(hurt)) =
        (seen.iter().max_by_key(|f| f.back_ms()), seen.iter().max_by(|a, b| a.share().total_cmp(&b.share())))
    else {
        return bench.row(&what, missing.join("; "), "≤ 3 s", Some(false));
    };
    let all = seen.len() == figures.len();
    let but = if all { String::new() } else { format!("; but {}", missing.join("; ")) };
    bench.row(
        &what,
        format!(
            "{} ms (told by dbird after {} ms, last failed request after {} ms); found {:.1} s after its first traffic, in a \
             window of {} ms; exit code 3{but}",
            slow.back_ms(),
            slow.told_ms,
            slow.last_failed_ms,
            slow.decided_ms as f64 / 1000.0,
            slow.window_ms,
        ),
        "≤ 3 s",
        Some(all && slow.back_ms() <= BACK_MS_MAX),
    );
    let rate = seen.iter().map(|f| f.rate()).fold(f64::INFINITY, f64::min);
    let in_all: Vec<_> = seen.iter().map(|f| f.failed_in_all.to_string()).collect();
    bench.row(
        "requests of that window that failed, as the load saw it, the worst of these",
        format!(
            "{:.1} % ({} of {}; the slowest window had {rate:.0} requests/s); failed in the whole rollout: {}",
            hurt.share() * 100.0,
            hurt.failed,
            hurt.requests,
            in_all.join(", "),
        ),
        "< 3 %",
        Some(all && hurt.share() < FAILED_MAX && rate >= f64::from(REQUESTS_PER_S) * RATE_MIN),
    );
}

/// Both of this machine's clocks at one moment: the load's, and that of dbird's events.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    unix: Duration,
}

impl Clock {
    fn start() -> Outcome<Clock> {
        let unix =
            SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| format!("the clock is before 1970: {e}"))?;
        Ok(Clock { instant: Instant::now(), unix })
    }

    /// A moment after the start.
    fn unix_ms(self, at: Instant) -> u64 {
        (self.unix + at.saturating_duration_since(self.instant)).as_millis() as u64
    }
}
