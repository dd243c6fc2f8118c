//! Every number that dbird promises, measured against the peer or the floor that the promise names, within one run on one
//! machine. It reports what it saw; whether a bound holds is written beside it, never turned into a failing test.

mod aws;
mod client;
mod commands;
mod deploys;
mod project;
mod proxy;
pub(crate) mod rollout;
pub(crate) mod server;
mod share;
mod spool;
mod wrk;

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use crate::setup::{self, Outcome};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only prove that everything can be measured: seconds instead of minutes, and no report is written
    #[arg(long)]
    short: bool,
    /// The cargo profile to measure; anything but `release` is for --short
    #[arg(long, default_value = "release")]
    profile: String,
    /// Measure what is built already, as it is
    #[arg(long)]
    no_build: bool,
    /// Only these parts (deploys, rollout, server, spool, proxy, commands, aws); no report is written
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One line of the report.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// What came out.
    pub(crate) measured: String,
    /// What was promised.
    pub(crate) bound: String,
    /// Whether it holds; none for figures without a bound.
    pub(crate) holds: Option<bool>,
}

/// What every part needs.
pub(crate) struct Bench {
    /// Seconds instead of minutes.
    pub(crate) short: bool,
    /// Where this profile's binaries are.
    pub(crate) bin: PathBuf,
    /// The game, as it would be in its image.
    pub(crate) game: PathBuf,
    rows: Vec<Row>,
}

impl Bench {
    /// How long one round of load lasts.
    pub(crate) fn round(&self) -> Duration {
        Duration::from_secs(if self.short { 1 } else { 5 })
    }

    /// How many rounds are compared; the middle one counts.
    pub(crate) fn rounds(&self) -> usize {
        if self.short { 1 } else { 5 }
    }

    /// Adds a line to the report and shows it.
    pub(crate) fn row(&mut self, what: &str, measured: String, bound: &str, holds: Option<bool>) {
        let mark = match holds {
            Some(true) => "holds",
            Some(false) => "FALLS SHORT",
            None => "",
        };
        println!("{what}: {measured}   [{bound}] {mark}");
        self.rows.push(Row { what: what.into(), measured, bound: bound.into(), holds });
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let skipped = setup::ensure(&[&setup::WRK, &setup::NGINX]);
    if !skipped.is_empty() {
        return Err(skipped.join("; "));
    }
    let profile_dir = if args.profile == "dev" { "debug" } else { &args.profile };
    if !args.no_build {
        setup::build(&args.profile)?;
    }
    let bin = setup::target().join(profile_dir);
    let mut bench = Bench { short: args.short, game: bin.join("drafty-bird"), bin, rows: Vec::new() };

    type Part = fn(&mut Bench) -> Outcome;
    let parts: [(&str, Part); 7] = [
        ("deploys", deploys::run),
        ("rollout", rollout::run),
        ("server", server::run),
        ("spool", spool::run),
        ("proxy", proxy::run),
        ("commands", commands::run),
        ("aws", aws::run),
    ];
    for (name, part) in parts {
        if args.only.is_empty() || args.only.iter().any(|o| o == name) {
            part(&mut bench).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    if args.only.is_empty() && !args.short {
        let path = setup::root().join("docs/benchmarks.md");
        std::fs::write(&path, report(&bench.rows)).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

fn report(rows: &[Row]) -> String {
    let first = |command: &str, args: &[&str]| {
        setup::output(&mut setup::command(command, args))
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or("unknown")
            .to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .unwrap_or(": unknown")
        .trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut text = format!(
        "# Benchmarks\n\n`cargo xtask bench` makes this page; anyone can run it. Ratios are taken within one run on one machine, \
         rounds of both\nsides interleaved, the middle one counted.\n\n- machine: {cpu}, {cores} cores, {}\n- date: {}\n- compiler: {}\n\n\
         | what | measured | bound | |\n|---|---|---|---|\n",
        first("uname", &["-sr"]),
        first("date", &["+%F"]),
        first("rustc", &["--version"]),
    );
    for row in rows {
        let holds = match row.holds {
            Some(true) => "holds",
            Some(false) => "**falls short**",
            None => "",
        };
        let _ = writeln!(text, "| {} | {} | {} | {holds} |", row.what, row.measured, row.bound);
    }
    text
}

/// The middle of some values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() { f64::NAN } else { values[values.len() / 2] }
}
