//! What an event reads like on a terminal. It writes nothing itself, and says nothing that the event does not hold.

use std::fmt::Write as _;

use dbird_core::Outcome;

use super::{
    Stream, drill,
    events::{CheckState, Choice, DriftView, Event, FaultView, Live, ReleaseView, StepState},
    history::{self, outcome},
    plan, status,
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
        // A look is said by whoever draws the live lines, or instead of them.
        Event::Look(_) => None,
        Event::PersonNeeded { release, waiting_for, choices, undone_in_ms } => {
            progress(person_text(release, waiting_for, choices, *undone_in_ms))
        }
        Event::Parked { release, weight, choices } => {
            let head = format!("{release} is left at {weight} %: nobody drives it, and the weights stand.");
            result(format!("{}\n{}", paint(YELLOW, head), choices_text(choices)))
        }
        Event::Taken { release, request, by, pending: false } => {
            result(format!("{release}: {request} was taken up; {by}"))
        }
        Event::Taken { release, request, by, .. } => {
            result(format!("{release}: {request} is written down, and is heard at the next poll; {by}"))
        }
        Event::Requested { by, request, why } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            progress(format!("{} {by} asked to {request}{why}", paint(CYAN, "Request:")))
        }
        Event::Copied { place, took_ms } => progress(format!(
            "{} the data was copied to {place} {}",
            paint(GREEN, look.tick()),
            paint(DIM, time::length(*took_ms))
        )),
        Event::Restored { from, saved } => result(match saved {
            Some(saved) => format!("the data is that of {from}; what was there before is at {saved}"),
            None => format!("the data is that of {from}"),
        }),
        Event::Drill(drill) => result(drill::text(drill, look)),
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
        Event::Status(view) => result(status::text(view)),
        Event::History { releases, snapshots } => result(history::text(releases, snapshots)),
        Event::Remembered { releases } => result(history::remembered(releases)),
        Event::Drift(drift) => result(drift_text(drift)),
        Event::Release { release, snapshot_stands, record } => {
            result(history::whole(release, *snapshot_stands, record.image.as_ref(), look))
        }
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

fn drift_text(drift: &DriftView) -> String {
    let DriftView { of, what, path, expected, actual } = drift;
    let head = format!("{} {}", padded(YELLOW, of, 8), paint(BOLD, what));
    let plain = |value: &Option<serde_json::Value>| match value {
        None => "nothing".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match (path.is_empty(), expected, actual) {
        (true, _, _) => format!("{head} is gone, or is not as it was made"),
        _ => format!("{head} {path}: {} was released, {} is there", plain(expected), plain(actual)),
    }
}

/// Why a person is needed, what to type, and what happens when nobody does.
fn person_text(release: &str, waiting_for: &str, choices: &[Choice], undone_in_ms: u64) -> String {
    let limit = time::length(undone_in_ms);
    format!(
        "{} {release} waits for {waiting_for}; undone by itself in {limit}. In another terminal:\n{}",
        paint(YELLOW, "Your turn:"),
        choices_text(choices)
    )
}

/// Commands to type, each with what it does.
pub(super) fn choices_text(choices: &[Choice]) -> String {
    let width = choices.iter().map(|c| c.command.chars().count()).max().unwrap_or(0);
    let lines: Vec<_> =
        choices.iter().map(|c| format!("  {}  {}", padded(BOLD, &c.command, width), paint(DIM, &c.does))).collect();
    lines.join("\n")
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
