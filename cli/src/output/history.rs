//! What `history` reads like: a table of releases, or one release whole. It shows what a record says, in the fewest words that
//! are still true.

use std::fmt::Write as _;

use dbird_core::{Change, ImageRef, Outcome, Reason, analysis::percent, release::Numbers, snapshot::Snapshot};
use serde_json::Value;

use super::{
    events::{ReleaseView, RememberedView},
    look::{count, milliseconds},
    plan,
    style::{BOLD, DIM, GREEN, Look, RED, YELLOW, padded, paint},
    text::short,
    time,
};

/// Changes that are named in a table; the others are counted.
const CHANGES_NAMED_MAX: usize = 3;
/// Longer values are cut in a table.
const VALUE_CHARACTERS_MAX: usize = 28;

/// A table; below each release what it changed, and why it ended so where it did not simply succeed.
pub(crate) fn text(releases: &[ReleaseView], snapshots: &[Snapshot]) -> String {
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
                git(&r.git_revision),
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
        let changed = changed(r);
        if !changed.is_empty() {
            let _ = write!(text, "\n   {}", paint(DIM, changed));
        }
        if !r.why.is_empty() {
            let _ = write!(text, "\n   {}", paint(outcome(r.outcome).0, &r.why));
        }
    }
    if !snapshots.is_empty() {
        text.push_str("\n\nCopies of the data:");
    }
    for copy in snapshots {
        let when = time::stamp(copy.at_unix_ms);
        let _ = write!(text, "\n  {}  before {}, {when} UTC ({})", copy.place, copy.before, time::ago(copy.at_unix_ms));
    }
    text
}

/// What the cloud remembers where there is no record: less than a record has.
pub(crate) fn remembered(releases: &[RememberedView]) -> String {
    let line = |r: &RememberedView| {
        let (style, word) = r.outcome.map_or((DIM, "unknown"), outcome);
        let (image, when) = (r.image.as_deref().map_or("-", short), time::stamp(r.at_unix_ms));
        format!("{}  {when}  {}  {image}", padded(BOLD, &r.id, 4), padded(style, word, 11))
    };
    releases.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Everything that its record says but the documents.
pub(crate) fn whole(r: &ReleaseView, snapshot_stands: bool, image: Option<&ImageRef>, look: Look) -> String {
    let (style, word) = outcome(r.outcome);
    let live = if r.live { ", serves now" } else { "" };
    let mut text = format!("{} {}: {}{live}\n", paint(BOLD, &r.id), paint(style, word), reason(&r.reason));
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<8} {value}");
    };
    row("by", r.actor.clone());
    row("git", git(&r.git_revision));
    let (began, ago) = (time::stamp(r.started_unix_ms), time::ago(r.started_unix_ms));
    row("began", format!("{began} UTC ({ago}), took {}", time::length(r.took_ms)));
    row("before", r.parent.clone().unwrap_or_else(|| "nothing served".to_owned()));
    if let Some(image) = image {
        row("image", format!("{} {}", short(&image.digest.to_string()), paint(DIM, &image.repository)));
    }
    if !r.why.is_empty() {
        row("why", paint(style, &r.why));
    }
    if let Some(copy) = &r.snapshot {
        let stands = if snapshot_stands { "it stands" } else { "a later one is at its place" };
        row("copy", format!("{} of the data, taken before it by {}: {stands}", copy.place, copy.taken_by));
    }
    if !r.step_ms.is_empty() {
        let steps: Vec<_> = r.step_ms.iter().map(|(step, ms)| format!("{step} {}", time::length(*ms))).collect();
        row("steps", steps.join(", "));
    }
    if let Some(looked) = &r.looked {
        let nth = if looked.looks == 1 { "1 look".to_owned() } else { format!("{} looks", looked.looks) };
        let _ = writeln!(text, "\nAt {} %, after {nth}:", looked.weight);
        let current = r.parent.as_deref().zip(looked.current.as_ref());
        let sides = [Some((r.id.as_str(), &looked.candidate)), current];
        for (release, numbers) in sides.into_iter().flatten() {
            let _ = writeln!(text, "  {}  {}", padded(BOLD, release, 4), side(numbers));
        }
    }
    // Of a first release everything is new.
    if r.parent.is_some() && !r.changes.is_empty() {
        text.push_str("\nChanged:\n");
        text.push_str(&plan::fields(&r.changes, "  ", look));
    }
    text.trim_end().to_owned()
}

fn side(numbers: &Numbers) -> String {
    let Numbers { requests, error_rate, p99_ms } = *numbers;
    if requests == 0 {
        return "     0 requests".to_owned();
    }
    let p99 = p99_ms.map(|ms| format!("  p99 {}", milliseconds(ms))).unwrap_or_default();
    format!("{:>6} requests  {} failed{p99}", count(requests), percent(error_rate))
}

/// What a release changed, in a line; empty for a first release, which changed everything, and for one that changed nothing.
fn changed(r: &ReleaseView) -> String {
    if r.parent.is_none() || r.changes.is_empty() {
        return String::new();
    }
    let mut named: Vec<_> = r.changes.iter().take(CHANGES_NAMED_MAX).map(change).collect();
    if r.changes.len() > named.len() {
        named.push(format!("+{} more", r.changes.len() - named.len()));
    }
    named.join(", ")
}

fn change(change: &Change) -> String {
    let path = change.path.strip_suffix(".digest").unwrap_or(&change.path);
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("{path} {} -> {}", value(before), value(after)),
        (None, Some(after)) => format!("+ {path} {}", value(after)),
        (Some(_), None) => format!("- {path}"),
        (None, None) => path.to_owned(),
    }
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::String(s) if s.starts_with("sha256:") => short(s).to_owned(),
        Value::String(s) if !s.is_empty() && !s.contains(char::is_whitespace) => s.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARACTERS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARACTERS_MAX - 3).chain("...".chars()).collect()
}

fn git(revision: &str) -> String {
    match revision.split_once('-') {
        _ if revision.is_empty() => "-".to_owned(),
        Some((hash, _)) => format!("{}+", hash.get(..8).unwrap_or(hash)),
        None => revision.get(..8).unwrap_or(revision).to_owned(),
    }
}

/// An outcome in a word, with its colour.
pub(super) fn outcome(outcome: Outcome) -> (anstyle::Style, &'static str) {
    match outcome {
        Outcome::Succeeded => (GREEN, "succeeded"),
        Outcome::RolledBack => (YELLOW, "rolled back"),
        Outcome::Removed => (YELLOW, "removed"),
        Outcome::Failed => (RED, "failed"),
        Outcome::Destroyed => (DIM, "destroyed"),
    }
}

/// Why a release was made, in a few words.
pub(super) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Deploy => "deploy".to_owned(),
        Reason::Rollback { to } => format!("rollback to {to}"),
        Reason::Restart => "restart".to_owned(),
        Reason::Destroy => "destroy".to_owned(),
        Reason::Drill => "drill".to_owned(),
    }
}
