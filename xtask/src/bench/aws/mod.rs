//! What dbird asks of AWS and how long it needs beyond AWS's own time, against the simulated account: real processes, real
//! requests, time that passes faster. What is counted is what the simulator recorded, not what dbird says of itself.

mod account;
mod own_time;
mod pace;
mod project;
mod requests;

use account::Account;
use pace::Pace;
use project::Project;
use requests::Requests;

use super::{Bench, median};
use crate::setup::Outcome;

/// How many times as fast as here the account's time passes.
const SPEED: u32 = 100;
/// The same where a rollout has to grow old here: 30 minutes there are 3 here.
const SPEED_OF_THE_LONG: u32 = 10;
/// Nothing is judged and nothing copied: what is measured is dbird's own.
const UNJUDGED: &str = r#"[health]
interval = "5s"
timeout = "2s"

[storage]
snapshot = "none"

[rollout]
strategy = "blue-green"
bake = "0s"

[analysis]
count = 0
"#;
/// All traffic at once, then looks for five minutes.
const JUDGED: &str = r#"[health]
interval = "5s"
timeout = "2s"

[storage]
snapshot = "none"

[rollout]
strategy = "blue-green"
bake = "5m"

[analysis]
interval = "1m"
count = 4
min_samples = 0
no_data = "pass"
baseline = false
"#;
/// The second weight comes when the rollout is no longer young.
const LONG: &str = r#"[health]
interval = "5s"
timeout = "2s"

[storage]
snapshot = "none"

[rollout]
strategy = "canary"
weight = 20
pause = "30m"
bake = "0s"
deadline = "2h"

[analysis]
count = 0
"#;

const REQUESTS_UNCHANGED_MAX: usize = 8;
const REQUESTS_PLAN_MAX: usize = 10;
const REQUESTS_NEW_IMAGE_MAX: usize = 14;
const OWN_TIME_COLD_MAX_S: f64 = 3.0;
const OWN_TIME_NEW_IMAGE_MAX_S: f64 = 1.0;
const PEAK_MAX_MB: f64 = 60.0;

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    let mut peak = releases(bench)?;
    peak = peak.max(judged(bench)?);
    if !bench.short {
        peak = peak.max(long(bench)?);
    }
    bench.row(
        "peak memory of `dbird` against AWS, all of these",
        format!("{peak:.1} MB"),
        "≤ 60 MB",
        Some(peak <= PEAK_MAX_MB),
    );
    Ok(())
}

/// From an empty account to its first release, and what is asked for after it. The most memory that a command needed.
fn releases(bench: &mut Bench) -> Outcome<f64> {
    let mut account = Account::start(bench, SPEED)?;
    let project = Project::new(bench, &account, UNJUDGED)?;
    let cold = project.run(&mut account, &["deploy"])?;
    own_time_row(bench, "a cold environment", &mut [cold.own_s], &cold, OWN_TIME_COLD_MAX_S);
    store_row(bench, "a cold environment", &cold.requests);

    let unchanged = project.run(&mut account, &["deploy"])?;
    requests_row(bench, "`deploy` with nothing to do on AWS", &unchanged.requests, REQUESTS_UNCHANGED_MAX);
    let plan = project.run(&mut account, &["plan"])?;
    requests_row(bench, "`plan` on AWS", &plan.requests, REQUESTS_PLAN_MAX);
    let changed = project.run(&mut account, &["plan", "--set", "env.GREETING=another"])?;
    requests_row(bench, "`plan` on AWS with a change to show", &changed.requests, REQUESTS_PLAN_MAX);

    let mut own = Vec::new();
    let mut peak = [&cold, &unchanged, &plan, &changed].map(|ran| ran.peak_mb).into_iter().fold(0.0, f64::max);
    let mut paces = vec![cold.pace];
    for round in 0..if bench.short { 1 } else { 5 } {
        project.change_image(round)?;
        let ran = project.run(&mut account, &["deploy"])?;
        own.push(ran.own_s);
        peak = peak.max(ran.peak_mb);
        paces.push(ran.pace.clone());
        if round == 0 {
            requests_row(bench, "a new image on AWS", &ran.requests, REQUESTS_NEW_IMAGE_MAX);
            store_row(bench, "a new image", &ran.requests);
        }
        if own.len() == if bench.short { 1 } else { 5 } {
            own_time_row(bench, "a new image", &mut own, &ran, OWN_TIME_NEW_IMAGE_MAX_S);
        }
    }
    let copying =
        project.run(&mut account, &["deploy", "--set", "storage.snapshot=before-release", "--set", "env.A=b"])?;
    let what = "distinct requests for a changed setting on AWS that copies the data first, by a task of its own";
    bench.row(what, copying.requests.told(), "reported", None);
    paces.push(copying.pace);
    pace_rows(bench, "young rollouts on AWS", &Pace::worst(paces), false);
    Ok(peak.max(copying.peak_mb))
}

/// A release that is judged while it bakes: what that asks for besides.
fn judged(bench: &mut Bench) -> Outcome<f64> {
    let mut account = Account::start(bench, SPEED)?;
    let project = Project::new(bench, &account, JUDGED)?;
    project.run(&mut account, &["deploy"])?;
    project.change_image(0)?;
    let ran = project.run(&mut account, &["deploy"])?;
    bench.row(
        "distinct requests for a new image on AWS that is judged four times",
        ran.requests.told(),
        "reported",
        None,
    );
    pace_rows(bench, "a judged rollout on AWS", &ran.pace, false);
    Ok(ran.peak_mb)
}

/// A rollout that lasts longer than it is young.
fn long(bench: &mut Bench) -> Outcome<f64> {
    let mut account = Account::start(bench, SPEED_OF_THE_LONG)?;
    let project = Project::new(bench, &account, LONG)?;
    project.run(&mut account, &["deploy"])?;
    project.change_image(0)?;
    let ran = project.run(&mut account, &["deploy"])?;
    pace_rows(bench, "a rollout of more than two minutes on AWS", &ran.pace, true);
    Ok(ran.peak_mb)
}

fn requests_row(bench: &mut Bench, what: &str, requests: &Requests, most: usize) {
    println!("{}", requests.listed());
    let holds = requests.distinct <= most;
    bench.row(&format!("distinct requests for {what}"), requests.told(), &format!("≤ {most}"), Some(holds));
}

fn store_row(bench: &mut Bench, what: &str, requests: &Requests) {
    let most = 3 * requests.changing + 4;
    bench.row(
        &format!("requests to the store for {what} on AWS, state in S3"),
        format!(
            "{} ({} calls that change something; besides: {} looks for what others asked for)",
            requests.store, requests.changing, requests.store_polls
        ),
        &format!("≤ {most}: 3 for each call that changes something, and 4"),
        Some(requests.store <= most),
    );
}

fn own_time_row(bench: &mut Bench, what: &str, own: &mut [f64], last: &project::Ran, most_s: f64) {
    let own = median(own);
    bench.row(
        &format!("`deploy` of {what} on AWS, beyond the cloud's own time (it is {SPEED} times as fast here)"),
        format!("{own:.2} s (of {:.2} s in all)", last.took_s),
        &format!("≤ {most_s:.0} s"),
        Some(own <= most_s),
    );
}

fn pace_rows(bench: &mut Bench, what: &str, pace: &Pace, grows_old: bool) {
    bench.row(
        &format!("polls in {what}: the shortest time between two of one API"),
        pace.told_gaps(),
        "≥ 1 s: never over 1 call/s",
        Some(pace.keeps_its_rate()),
    );
    let (bound, holds) = match grows_old {
        true => ("≤ 2 s while young, ≤ 10 s later", pace.is_prompt() && pace.saw_old_events()),
        false => ("≤ 2 s while young", pace.is_prompt()),
    };
    bench.row(&format!("until an event of {what} is shown"), pace.told_lags(), bound, Some(holds));
}
