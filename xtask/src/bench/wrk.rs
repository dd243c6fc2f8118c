//! Runs `wrk` and reads what it says. Any answer but 2xx, and any socket error, makes a round invalid.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::setup::{self, Outcome};

/// One round of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Requests per second.
    pub(crate) per_second: f64,
    /// 99th percentile of latency, in milliseconds.
    pub(crate) p99_ms: f64,
}

/// A round with 64 connections; `script` makes the requests where it isn't a plain GET.
pub(crate) fn round(url: &str, length: Duration, script: Option<&Path>) -> Outcome<Round> {
    round_with(64, url, length, script)
}

/// A round with so many connections from two threads.
pub(crate) fn round_with(connections: u32, url: &str, length: Duration, script: Option<&Path>) -> Outcome<Round> {
    let mut command = Command::new("wrk");
    command.args(["-t2", &format!("-c{connections}"), "--latency", &format!("-d{}s", length.as_secs())]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let text = setup::output(command.arg(url))?;
    for bad in ["Non-2xx", "Socket errors"] {
        if let Some(line) = text.lines().find(|l| l.contains(bad)) {
            return Err(format!("{url}: {}", line.trim()));
        }
    }
    let field = |name: &str| {
        let line = text.lines().map(str::trim).find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().last()).ok_or_else(|| format!("wrk said no `{name}`:\n{text}"))
    };
    let per_second = field("Requests/sec:")?.parse().map_err(|e| format!("wrk's rate: {e}"))?;
    Ok(Round { per_second, p99_ms: milliseconds(field("99%")?)? })
}

/// Scores without run ids, which the server makes.
pub(crate) fn scores(folder: &Path) -> Outcome<PathBuf> {
    script(folder, "scores.lua", include_str!("scores.lua"))
}

/// Scores with random run ids, as the page makes them.
pub(crate) fn scores_with_run_ids(folder: &Path) -> Outcome<PathBuf> {
    script(folder, "scores_with_run_ids.lua", include_str!("scores_with_run_ids.lua"))
}

fn script(folder: &Path, name: &str, lua: &str) -> Outcome<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, lua).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

fn milliseconds(text: &str) -> Outcome<f64> {
    let split = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => return Err(format!("wrk's unit `{unit}`")),
    };
    number.parse::<f64>().map(|n| n * factor).map_err(|e| format!("wrk's `{text}`: {e}"))
}
