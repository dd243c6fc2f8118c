//! What is too long for every change. Its last result and date stand in docs/soak.md, which it writes itself.

use std::{fmt::Write as _, time::Instant};

use crate::{
    bench::rollout::model,
    setup::{self, Outcome},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each fuzz target runs
    #[arg(long, default_value_t = 300)]
    fuzz_seconds: u32,
    /// Cases of each property test in the libraries
    #[arg(long, default_value_t = 20_000)]
    cases: u32,
    /// Cases of the engine's property: rollouts of any course over a cloud that fails
    #[arg(long, default_value_t = 1_000_000)]
    rollouts: u32,
    /// Rollouts of each kind in the model of the analysis
    #[arg(long, default_value_t = 10_000)]
    simulated: u32,
    /// Seeds of the driver's crash test over the in-memory provider
    #[arg(long, default_value_t = 200_000)]
    seeds: u32,
    /// Rounds of killing the real agent, its watchdog and its tasks at random moments
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Seeds of the spool's protocol over a simulated share
    #[arg(long, default_value_t = 50_000)]
    share_seeds: u32,
    /// How long real processes are killed, paused and lied to, in each of the harness's runs
    #[arg(long, default_value_t = 600)]
    nemesis_seconds: u32,
}

/// The fuzz targets in fuzz/fuzz_targets.
const TARGETS: [&str; 2] = ["environment", "score_body"];

pub(crate) fn run(args: &Args) -> Outcome {
    let mut lines = Vec::new();
    let mut part = |what: String, run: &mut dyn FnMut() -> Outcome| {
        let start = Instant::now();
        let outcome = run();
        println!("{what}: {}", outcome.as_ref().err().map_or("passed", String::as_str));
        lines.push((what, outcome, start.elapsed()));
    };
    part(format!("property tests with {} cases each", args.cases), &mut || {
        test("PROPTEST_CASES", args.cases, &["--lib"])
    });
    part(format!("the rollout engine's property, {} rollouts", args.rollouts), &mut || {
        test("PROPTEST_CASES", args.rollouts, &["--test", "rollout_property"])
    });
    part(
        format!("the model of the analysis, {} rollouts of each kind, within its bounds", args.simulated),
        &mut || model::soak(args.simulated),
    );
    part(format!("the driver's crash test, {} seeds", args.seeds), &mut || {
        test("DBIRD_CRASH_SEEDS", args.seeds, &["--test", "crash", "whatever_happens"])
    });
    part(format!("random kills of the real agent, {} rounds each", args.rounds), &mut || {
        test("DBIRD_SOAK_ROUNDS", args.rounds, &["--test", "crash", "survive_any_kill"])
    });
    part(format!("the spool's protocol over a simulated share, {} seeds", args.share_seeds), &mut || {
        test("SPOOL_SEEDS", args.share_seeds, &["--test", "simulation", "every_acknowledged"])
    });
    part("the model of the spool's protocol within larger bounds".to_owned(), &mut || {
        let mut command = setup::command("cargo", &["test", "--release", "--locked", "-p", "spool", "--test", "model"]);
        setup::run(command.env("SPOOL_MODEL", "big"))
    });
    part(format!("real processes and nemeses, {} s each", args.nemesis_seconds), &mut || {
        test("NEMESIS_SECONDS", args.nemesis_seconds, &["--test", "nemesis", "lose_nothing"])
    });
    for target in TARGETS {
        part(format!("fuzzing `{target}` for {} s", args.fuzz_seconds), &mut || fuzz(target, args.fuzz_seconds));
    }
    let date = setup::output(&mut setup::command("date", &["+%F"])).unwrap_or_default();
    let mut text = format!(
        "# Soak\n\n`cargo xtask soak` makes this page: what is too long to run for every change.\n\nLast run: {}\n\n\
         | what | result | took |\n|---|---|---|\n",
        date.trim()
    );
    let mut failed = 0;
    for (what, outcome, took) in &lines {
        let result = match outcome {
            Ok(()) => "passed",
            Err(_) => "**failed**",
        };
        failed += usize::from(outcome.is_err());
        let _ = writeln!(text, "| {what} | {result} | {} s |", took.as_secs());
    }
    let path = setup::root().join("docs/soak.md");
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} parts failed", lines.len())) }
}

/// Runs some of the tests, more of them than usual.
fn test(variable: &str, number: u32, filter: &[&str]) -> Outcome {
    let mut command = setup::command("cargo", &["test", "--workspace", "--locked"]);
    setup::run(command.args(filter).env(variable, number.to_string()))
}

/// Runs one fuzz target. The fuzzer's instrumentation needs compiler flags that stable Rust keeps behind a variable.
fn fuzz(target: &str, seconds: u32) -> Outcome {
    if !setup::has("cargo-fuzz") {
        setup::run(&mut setup::command("cargo", &["install", "cargo-fuzz", "--locked"]))?;
    }
    let time = format!("-max_total_time={seconds}");
    let mut command =
        setup::command("cargo", &["fuzz", "run", target, "--", &time, "-rss_limit_mb=2048", "-timeout=10"]);
    setup::run(command.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR"))
}
