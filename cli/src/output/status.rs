//! What `status` reads like: what is live, what is under way, and what to type next.

use std::fmt::Write as _;

use dbird_core::TaskState;

use super::{
    events::{RolloutView, StatusRelease, StatusTask, StatusView},
    history,
    style::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, padded, paint},
    text::{choices_text, short},
    time,
};

/// All of it.
pub(crate) fn text(status: &StatusView) -> String {
    let StatusView { service, environment, cloud, endpoints, releases, data, notes, busy, rollout } = status;
    let mut text = format!("{} in {environment} on {cloud}\n", paint(BOLD, service));
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    for (name, url) in endpoints {
        let name = if name == "service" { "url" } else { name };
        row(name, url);
    }
    for (name, place) in data {
        row("data", &format!("{name}: {place}"));
    }
    if let Some(rollout) = rollout {
        row("rollout", &rollout_text(rollout));
    }
    if let Some(busy) = busy {
        row("busy", busy);
    }
    if releases.is_empty() {
        row("live", "nothing; `dbird deploy` makes the first release");
    }
    if let Some(rollout) = rollout.as_ref().filter(|r| !r.choices.is_empty()) {
        let _ = write!(text, "\n{}\n", choices_text(&rollout.choices));
    }
    for release in releases {
        text.push('\n');
        text.push_str(&status_release(release));
    }
    if !notes.is_empty() {
        text.push('\n');
        for note in notes {
            let _ = writeln!(text, "{} {note}", paint(YELLOW, "Note:"));
        }
    }
    text.trim_end().to_owned()
}

fn rollout_text(rollout: &RolloutView) -> String {
    let RolloutView { release, reason, actor, started_unix_ms, driven, parked, .. } = rollout;
    let stands = match (parked, driven) {
        (Some(weight), false) => paint(YELLOW, format!("waits at {weight} % for somebody to go on")),
        (_, true) => "is under way".to_owned(),
        (None, false) => paint(YELLOW, "was not finished"),
    };
    let since = format!("{} UTC ({})", time::stamp(*started_unix_ms), time::ago(*started_unix_ms));
    format!("{release} {stands}: {} of {actor}, begun {since}", history::reason(reason))
}

fn status_release(r: &StatusRelease) -> String {
    let state = if r.ready { paint(GREEN, "ready") } else { paint(YELLOW, "not ready") };
    let mut text = format!(
        "{} {:>3} %  {state}  image {}  since {} UTC ({})\n",
        padded(BOLD, &r.id, 4),
        r.weight,
        short(&r.image),
        time::stamp(r.since_unix_ms),
        time::ago(r.since_unix_ms),
    );
    let width = r.tasks.iter().map(|t| t.id.chars().count()).max().unwrap_or(0);
    for task in &r.tasks {
        let _ = writeln!(text, "     {:<width$}  {}", task.id, status_task(task));
    }
    text
}

fn status_task(t: &StatusTask) -> String {
    let (style, state) = match t.state {
        TaskState::Ready => (GREEN, "ready"),
        TaskState::Starting => (CYAN, "starting"),
        TaskState::Waiting => (CYAN, "waiting"),
        TaskState::Draining => (CYAN, "draining"),
        TaskState::Unready => (YELLOW, "unready"),
        TaskState::BackingOff => (RED, "backing off"),
        TaskState::Stopped => (DIM, "stopped"),
    };
    let mut parts = vec![padded(style, state, 11)];
    parts.push(if t.restarts == 1 { "1 restart".to_owned() } else { format!("{} restarts", t.restarts) });
    parts.extend(t.address.clone());
    parts.extend(t.pid.map(|p| format!("pid {p}")));
    let said = t.reported.iter().filter(|(key, _)| *key != "status").take(8);
    parts.extend(said.map(|(key, value)| format!("{key}={}", plain(value))));
    if !t.detail.is_empty() {
        parts.push(paint(DIM, &t.detail));
    }
    parts.join("  ")
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
