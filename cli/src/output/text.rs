//! What an event reads like on a terminal. It writes nothing itself, and says nothing that the event does not hold.

use std::fmt::Write as _;

use dbird_core::{Outcome, Reason, TaskState};

use super::{
    Stream,
    events::{CheckState, Event, FaultView, Live, ReleaseView, StatusRelease, StatusTask, StatusView, StepState},
    plan,
    style::{BOLD, CYAN, DIM, GREEN, Look, RED, RED_BOLD, YELLOW, padded, paint},
    time,
};

/// The text of an event and the stream it belongs to; none for what only machines read.
pub(crate) fn of(event: &Event, look: Look) -> Option<(Stream, String)> {
    let progress = |text: String| Some((Stream::Progress, text));
    let result = |text: String| Some((Stream::Result, text));
    match event {
        Event::Started { .. } | Event::Building { .. } | Event::Waiting { .. } | Event::Exited { .. } => None,
        Event::Note { text } => progress(text.clone()),
        Event::Warning { text } => progress(format!("{} {text}", paint(YELLOW, "Warning:"))),
        Event::Fault(fault) => progress(fault_text(fault)),
        Event::Validated { environment, cloud, errors, warnings } => {
            let found = match (errors, warnings) {
                (0, 0) => paint(GREEN, "valid"),
                (0, w) => format!("{}, {}", paint(GREEN, "valid"), count(*w, "warning")),
                (e, 0) => paint(RED, count(*e, "fault")),
                (e, w) => format!("{}, {}", paint(RED, count(*e, "fault")), count(*w, "warning")),
            };
            result(format!("{} {:<5} {found}", padded(BOLD, environment, 12), cloud.name()))
        }
        Event::Text { text, .. } => result(text.trim_end().to_owned()),
        Event::Policy { code, title } => result(format!("{}  {title}", paint(BOLD, code))),
        Event::Schema { schema, .. } => result(serde_json::to_string_pretty(schema).unwrap_or_default()),
        Event::Document { step, title, digest, file: None, body, .. } => {
            let head = paint(DIM, format!("# {step}: {title}, {digest}"));
            result(format!("{head}\n{}", serde_json::to_string_pretty(body).unwrap_or_default()))
        }
        Event::Document { file: Some(file), .. } => result(file.clone()),
        Event::Written { path } => result(format!("wrote {path}")),
        Event::Build { line } => progress(paint(DIM, format!("  {line}"))),
        Event::Image { digest, reused, took_ms, .. } => {
            let how = if *reused { "unchanged".to_owned() } else { format!("packed in {}", time::length(*took_ms)) };
            progress(format!("{} image {} {}", paint(GREEN, look.tick()), short(digest), paint(DIM, how)))
        }
        Event::Plan { plan } => result(plan::text(plan, look)),
        Event::Recovered { text } => progress(format!("{} {text}", paint(YELLOW, "Recovered:"))),
        Event::Step { state: StepState::Started, .. } => None,
        Event::Step { title, state: StepState::Done, took_ms, .. } => {
            progress(format!("{} {title} {}", paint(GREEN, look.tick()), paint(DIM, time::length(*took_ms))))
        }
        Event::Step { title, state: StepState::Failed, took_ms, .. } => {
            progress(format!("{} {title} {}", paint(RED, look.cross()), paint(DIM, time::length(*took_ms))))
        }
        Event::Happened { text, .. } => progress(paint(DIM, format!("  {text}"))),
        Event::Traffic { reached: false, .. } => None,
        Event::Traffic { weights, .. } => {
            let shares: Vec<_> = weights.iter().map(|(release, percent)| format!("{release} {percent} %")).collect();
            progress(paint(DIM, format!("  traffic: {}", shares.join(", "))))
        }
        Event::RollingBack { why } => progress(format!("{} {why}", paint(YELLOW, "Rolling back:"))),
        Event::Hook { command, state, detail, .. } => match state {
            StepState::Started => None,
            StepState::Done => progress(format!("{} hook {}", paint(GREEN, look.tick()), command.join(" "))),
            StepState::Failed => progress(format!("{} hook {}: {detail}", paint(RED, look.cross()), command.join(" "))),
        },
        Event::Output { hook: true, text, .. } => progress(paint(DIM, format!("  {text}"))),
        Event::Output { stream, text, .. } if stream == "stderr" => progress(text.clone()),
        Event::Output { text, .. } => result(text.clone()),
        Event::Released { release, endpoints } => {
            result(released(release, endpoints.get("service").map(String::as_str), look))
        }
        Event::Status(status) => result(status_text(status)),
        Event::History { releases } => result(history_text(releases)),
        Event::Unchanged { text } => result(text.clone()),
        Event::Log { release, task, stream, text, .. } => {
            let style = if stream == "stderr" { YELLOW } else { CYAN };
            result(format!("{} {text}", paint(style, format!("{release}/{task}"))))
        }
        Event::Kept { name, place } => result(format!("kept {name}: {place}")),
        Event::Check { name, state, detail, remedy } => result(check_text(name, *state, detail, remedy.as_deref())),
        Event::Error { message, causes, hint, logs, .. } => {
            progress(error_text(message, causes, hint.as_deref(), logs))
        }
        Event::Finished { exit_code, live, .. } => match live {
            Some(live) if *exit_code != 0 => progress(live_text(live)),
            _ => None,
        },
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The first digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

fn fault_text(fault: &FaultView) -> String {
    let mut text = fault.drawing.trim_end().to_owned();
    if !fault.seen_in.is_empty() {
        let _ = write!(text, "\n  {}", paint(DIM, format!("in {}", fault.seen_in.join(", "))));
    }
    text.push('\n');
    text
}

fn error_text(message: &str, causes: &[String], hint: Option<&str>, logs: &[String]) -> String {
    let mut text = String::new();
    if !logs.is_empty() {
        let _ = writeln!(text, "{}", paint(DIM, "Last lines of its output:"));
        for line in logs {
            let _ = writeln!(text, "{} {line}", paint(DIM, "  |"));
        }
    }
    let _ = write!(text, "{} {message}", paint(RED_BOLD, "Error:"));
    match causes {
        [] => {}
        [cause] => {
            let _ = write!(text, "\nCaused by: {cause}");
        }
        many => {
            text.push_str("\nCaused by:");
            for (i, cause) in many.iter().enumerate() {
                let _ = write!(text, "\n  {}: {cause}", i + 1);
            }
        }
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\n{} {hint}", paint(CYAN, "Hint:"));
    }
    text
}

fn live_text(live: &Live) -> String {
    let place = live.url.as_ref().map(|u| format!(" at {u}")).unwrap_or_default();
    match (&live.release, &live.image) {
        (Some(release), Some(image)) => format!("Live: {release} serves{place} (image {})", short(image)),
        (Some(release), None) => format!("Live: {release} serves{place}"),
        (None, _) => "Live: nothing serves".to_owned(),
    }
}

fn released(release: &ReleaseView, url: Option<&str>, look: Look) -> String {
    let took = time::length(release.took_ms);
    let place = url.map(|u| format!(" at {}", paint(BOLD, u))).unwrap_or_default();
    match release.outcome {
        Outcome::Succeeded => {
            format!(
                "{} {} serves{place} {}",
                paint(GREEN, look.tick()),
                paint(BOLD, &release.id),
                paint(DIM, format!("after {took}"))
            )
        }
        Outcome::Destroyed => format!("{} everything but the data is gone, after {took}", paint(GREEN, look.tick())),
        Outcome::RolledBack | Outcome::Removed | Outcome::Failed => {
            format!("{} {} {}: {}", paint(RED, look.cross()), release.id, outcome(release.outcome).1, release.why)
        }
    }
}

fn outcome(outcome: Outcome) -> (anstyle::Style, &'static str) {
    match outcome {
        Outcome::Succeeded => (GREEN, "succeeded"),
        Outcome::RolledBack => (YELLOW, "rolled back"),
        Outcome::Removed => (YELLOW, "removed"),
        Outcome::Failed => (RED, "failed"),
        Outcome::Destroyed => (DIM, "destroyed"),
    }
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Deploy => "deploy".to_owned(),
        Reason::Rollback { to } => format!("rollback to {to}"),
        Reason::Restart => "restart".to_owned(),
        Reason::Destroy => "destroy".to_owned(),
    }
}

/// A table; a release that did not simply succeed has its reason below it.
fn history_text(releases: &[ReleaseView]) -> String {
    let git = |r: &ReleaseView| match r.git_revision.split_once('-') {
        _ if r.git_revision.is_empty() => "-".to_owned(),
        Some((hash, _)) => format!("{}+", hash.get(..8).unwrap_or(hash)),
        None => r.git_revision.get(..8).unwrap_or(&r.git_revision).to_owned(),
    };
    let head = ["", "release", "began (UTC)", "outcome", "took", "by", "git", "image", "why"].map(str::to_owned);
    let rows: Vec<[String; 9]> = releases
        .iter()
        .map(|r| {
            [
                if r.live { "*" } else { "" }.to_owned(),
                r.id.clone(),
                time::stamp(r.started_unix_ms),
                outcome(r.outcome).1.to_owned(),
                time::length(r.took_ms),
                r.actor.clone(),
                git(r),
                r.image.as_deref().map_or("-", short).to_owned(),
                reason(&r.reason),
            ]
        })
        .collect();
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |cells: &[String; 9], style: &dyn Fn(usize) -> anstyle::Style| {
        let cells = cells.iter().enumerate().map(|(i, cell)| padded(style(i), cell, widths[i]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(&head, &|_| DIM);
    for (row, r) in rows.iter().zip(releases) {
        let style = |column| match column {
            0 => GREEN,
            1 => BOLD,
            3 => outcome(r.outcome).0,
            _ => anstyle::Style::new(),
        };
        let _ = write!(text, "\n{}", line(row, &style));
        if !r.why.is_empty() {
            let _ = write!(text, "\n   {}", paint(DIM, &r.why));
        }
    }
    text
}

fn status_text(status: &StatusView) -> String {
    let StatusView { service, environment, cloud, endpoints, releases, data, notes, busy } = status;
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
    if let Some(busy) = busy {
        row("busy", busy);
    }
    if releases.is_empty() {
        row("live", "nothing; `dbird deploy` makes the first release");
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

fn check_text(name: &str, state: CheckState, detail: &str, remedy: Option<&str>) -> String {
    let (style, word) = match state {
        CheckState::Ok => (GREEN, "OK"),
        CheckState::Ng => (RED, "NG"),
        CheckState::Skip => (DIM, "SKIP"),
    };
    let mut text = format!("{} {name:<12} {detail}", padded(style, word, 4));
    if let Some(remedy) = remedy {
        let _ = write!(text, "\n     {} {remedy}", paint(CYAN, "Remedy:"));
    }
    text
}
