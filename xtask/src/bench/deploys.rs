//! Ten deploys and three rollbacks under load: every request and every acknowledged score is accounted for. Then the same
//! deploys without load, for what dbird adds to the time that the game itself needs.

use std::time::Duration;

use super::{Bench, median, project::Project, server::peak_mb, share::Share};
use crate::{
    load::{Load, Pace},
    setup::Outcome,
};

/// Every so many requests of a connection one is a score.
const SCORE_EVERY: u64 = 4;
/// All traffic at once: rollouts that take their time and are judged have a part of their own.
const ENVIRONMENT: &str = r#"[health]
interval = "1s"
timeout = "1s"

[rollout]
strategy = "blue-green"
bake = "0s"
"#;

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    under_load(bench)?;
    overhead(bench)
}

fn under_load(bench: &mut Bench) -> Outcome {
    let project = Project::new(bench, ENVIRONMENT)?;
    project.run(&["deploy"])?;
    let (deploys, rollbacks) = if bench.short { (2, 1) } else { (10, 3) };
    let load = Load::start(project.front, 64, SCORE_EVERY, Pace::After(Duration::ZERO));
    let mut took = Vec::new();
    let mut outcome = Ok(());
    for n in 0..deploys + rollbacks {
        load.wait_for_more(500, Duration::from_secs(10));
        let setting = format!("env.GREETING=number {n}");
        let words: &[&str] = if n < deploys { &["deploy", "--set", &setting] } else { &["rollback"] };
        match project.run(words) {
            Ok(ran) => took.push(ran.took.as_secs_f64() * 1000.0),
            Err(why) => {
                outcome = Err(why);
                break;
            }
        }
    }
    load.wait_for_more(500, Duration::from_secs(10));
    let agent_mb = largest_agent_mb(&project);
    let tally = load.stop();
    outcome?;
    for failure in &tally.failures {
        println!("  failed: {failure}");
    }
    project.run(&["destroy"])?;
    let lost = lost_scores(bench, &project, &tally.acknowledged)?;
    bench.row(
        &format!("{deploys} deploys and {rollbacks} rollbacks in a row under a constant load of 64 connections"),
        format!(
            "{} failed of {} requests, {lost} lost of {} scores; p99 {:.0} ms, longest {:.0} ms; a deploy took {:.0} ms",
            tally.failed,
            tally.good + tally.failed,
            tally.acknowledged.len(),
            tally.quantile_ms(0.99),
            tally.quantile_ms(1.0),
            median(&mut took),
        ),
        "0 failed requests, 0 lost scores",
        Some(tally.failed == 0 && lost == 0 && tally.good > 0),
    );
    bench.row(
        "peak memory of the agent under that load",
        format!("{agent_mb:.1} MB"),
        "≤ 40 MB",
        Some(agent_mb <= 40.0),
    );
    Ok(())
}

/// How many acknowledged scores are not in the database, after everything stopped and what was left in the spool was moved.
pub(super) fn lost_scores(bench: &Bench, project: &Project, acknowledged: &[String]) -> Outcome<usize> {
    let share = Share::new(&project.folder().join(".dbird/local/dev/data/data"));
    share.ingest_rest(&bench.game)?;
    let stored = share.run_ids()?;
    Ok(acknowledged.iter().filter(|run| !stored.contains(*run)).count())
}

/// The peak memory of the largest of this project's agent processes.
fn largest_agent_mb(project: &Project) -> f64 {
    let mark = project.folder().display().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return f64::NAN };
    let pids = processes.flatten().filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    let agents = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("__agent") && line.contains(&mark)
    });
    agents.filter_map(peak_mb).fold(f64::NAN, f64::max)
}

fn overhead(bench: &mut Bench) -> Outcome {
    let project = Project::new(bench, ENVIRONMENT)?;
    project.run(&["deploy"])?;
    let rounds = if bench.short { 2 } else { 15 };
    let share = Share::make(&project.folder().join("alone"))?;
    let (mut alone, mut deploy, mut nothing, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    for n in 0..rounds {
        let start = std::time::Instant::now();
        let game = share.start(&bench.game, &[])?;
        let ready = start.elapsed();
        alone.push((ready + game.terminate()?).as_secs_f64() * 1000.0);
        let setting = format!("env.GREETING=number {n}");
        let ran = project.run(&["deploy", "--set", &setting])?;
        deploy.push(ran.took.as_secs_f64() * 1000.0);
        peak = peak.max(ran.peak_mb);
        let ran = project.run(&["deploy", "--set", &setting])?;
        nothing.push(ran.took.as_secs_f64() * 1000.0);
        peak = peak.max(ran.peak_mb);
    }
    let (alone, deploy, nothing) = (median(&mut alone), median(&mut deploy), median(&mut nothing));
    bench.row(
        "`deploy` of a changed setting, beyond the time the game needs to become ready and to drain; it copies the data first",
        format!("{:.0} ms ({deploy:.0} ms, of which the game {alone:.0} ms)", deploy - alone),
        "≤ 400 ms",
        Some(deploy - alone <= 400.0),
    );
    bench.row(
        "`deploy` with nothing to do, `[service.build]` apart",
        format!("{nothing:.0} ms"),
        "≤ 150 ms",
        Some(nothing <= 150.0),
    );
    bench.row("peak memory of `dbird deploy`", format!("{peak:.1} MB"), "≤ 40 MB", Some(peak <= 40.0));
    Ok(())
}
