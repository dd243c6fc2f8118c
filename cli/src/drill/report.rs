//! A drill's report in the project's `.dbird/drills`: Markdown for people and JSON for machines, named by the time. It says what
//! the drill's value holds, and nothing else.

use std::{fmt::Write as _, fs, path::Path};

use dbird_core::analysis::percent;

use crate::{
    failure::{Failure, Result},
    output::{
        drill::{DrillView, PartState, injected},
        events::{LookView, SideView},
        look::milliseconds,
        time,
    },
    project::state_folder,
};

/// Writes both, and the Markdown once more where a person wants it; the files' names are added to the drill's.
pub(crate) fn write(project: &Path, also: Option<&Path>, drill: &mut DrillView) -> Result<()> {
    let folder = state_folder(project).map(|folder| folder.join("drills")).and_then(|folder| {
        fs::create_dir_all(&folder)?;
        Ok(folder)
    });
    let folder = folder.map_err(|e| Failure::io("make the folder of reports in", project, &e))?;
    let name = time::stamp(drill.started_unix_ms).replace(['-', ':'], "").replace(' ', "T");
    let (markdown, json) = (folder.join(format!("{name}.md")), folder.join(format!("{name}.json")));
    drill.files = [Some(markdown.as_path()), Some(json.as_path()), also]
        .into_iter()
        .flatten()
        .map(|path| path.strip_prefix(project).unwrap_or(path).display().to_string())
        .collect();
    let text = text(drill);
    let machine =
        serde_json::to_vec_pretty(&drill).map_err(|e| Failure::failed("the report can't be made").because(&e))?;
    let files = [(markdown.as_path(), text.as_bytes()), (json.as_path(), machine.as_slice())];
    for (path, bytes) in files.into_iter().chain(also.map(|path| (path, text.as_bytes()))) {
        fs::write(path, bytes).map_err(|e| Failure::io("write", path, &e))?;
    }
    Ok(())
}

fn text(drill: &DrillView) -> String {
    let mut text = format!(
        "# Drill of {} in {}: {}\n\n",
        drill.service,
        drill.environment,
        if drill.passed { "passed" } else { "not passed" }
    );
    let _ = writeln!(
        text,
        "{} UTC, by {}, took {}. {} had the faults, {} served before.\n",
        time::stamp(drill.started_unix_ms),
        cell(&drill.actor),
        time::length(drill.took_ms),
        drill.release,
        drill.previous
    );
    let _ = writeln!(text, "## What was injected\n\n{}.\n", injected(&drill.injected));
    for (name, value) in &drill.injected.variables {
        let _ = writeln!(text, "- `{name}={value}`");
    }
    text.push_str("\n## What was found\n\n| part | | |\n|---|---|---|\n");
    for part in &drill.parts {
        let state = match part.state {
            PartState::Passed => "passed",
            PartState::Failed => "**not passed**",
            PartState::Skipped => "not looked at",
        };
        let _ = writeln!(text, "| {} | {state} | {} |", part.name, cell(&part.detail));
    }
    if !drill.why.is_empty() {
        let _ = writeln!(text, "\nThe release's record says: {}", cell(&drill.why));
    }
    text.push_str("\n## Numbers\n\n| | requests | failed | |\n|---|---|---|---|\n");
    let rate = |failed: u64, requests: u64| if requests == 0 { 0.0 } else { failed as f64 / requests as f64 };
    if let Some(load) = &drill.load {
        let p99 = load.p99_shared_ms.map(|ms| format!("p99 {}", milliseconds(ms))).unwrap_or_default();
        let _ = writeln!(
            text,
            "| the drill's, {} a second | {} | {} | {} answered with 4xx, {} left out |",
            load.rate, load.requests, load.failed, load.refused, load.left_out
        );
        let (requests, failed) = (load.requests_shared, load.failed_shared);
        let _ = writeln!(
            text,
            "| of these, while the release had traffic | {requests} | {failed} ({}) | {p99} |",
            percent(rate(failed, requests))
        );
        let _ = writeln!(text, "| scores acknowledged | {} | | |", load.acknowledged);
    }
    let (requests, failed) = (drill.door.requests, drill.door.failed);
    let _ = writeln!(
        text,
        "| at the front door, in all looks | {requests} | {failed} ({}) | |",
        percent(rate(failed, requests))
    );
    let limits = &drill.limits;
    let _ = writeln!(
        text,
        "\nAllowed: undone within {} of its first traffic, {} of requests failed. Without anything found it ends after {}.",
        time::length(limits.undone_within_ms),
        percent(limits.errors_max),
        time::length(limits.for_ms)
    );
    text.push_str("\n## What happened\n\n| after | | candidate | current |\n|---|---|---|---|\n");
    for moment in &drill.timeline {
        let (candidate, current) = moment.look.as_ref().map(sides).unwrap_or_default();
        let _ =
            writeln!(text, "| {} | {} | {candidate} | {current} |", time::length(moment.after_ms), cell(&moment.text));
    }
    text
}

fn sides(look: &LookView) -> (String, String) {
    let side = |side: &SideView| {
        let p99 = side.p99_ms.map(|ms| format!(", p99 {}", milliseconds(ms))).unwrap_or_default();
        format!("{}: {} requests, {} failed{p99}", side.release, side.requests, percent(side.error_rate))
    };
    (look.candidate.as_ref().map(side).unwrap_or_default(), look.current.as_ref().map(side).unwrap_or_default())
}

/// As one cell of a table, or one line.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn nothing_breaks_a_table() {
        assert_eq!(cell("a|b\nc"), "a\\|b c");
    }
}
