//! How a drill went, as a value and as text: what was injected, what was found and when, and whether each part of it was as it
//! should be. It says what was measured; whether that is good enough was decided before.

use std::{collections::BTreeMap, fmt::Write as _};

use dbird_core::analysis::percent;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    events::LookView,
    style::{BOLD, DIM, GREEN, Look, RED, padded, paint},
    time,
};

/// The version of the report's format: a field may be added without changing it.
pub(crate) const DRILL_FORMAT: u32 = 1;

/// A drill, as it went.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct DrillView {
    /// The version of this format.
    pub(crate) format: u32,
    /// Every part of it was as it should be.
    pub(crate) passed: bool,
    /// The service.
    pub(crate) service: String,
    /// The environment.
    pub(crate) environment: String,
    /// Who made it.
    pub(crate) actor: String,
    /// When it began, in Unix milliseconds.
    pub(crate) started_unix_ms: u64,
    /// How long it took.
    pub(crate) took_ms: u64,
    /// The release that had the faults.
    pub(crate) release: String,
    /// The release that served before, and has to serve after it.
    pub(crate) previous: String,
    /// What was injected.
    pub(crate) injected: InjectedView,
    /// What was allowed.
    pub(crate) limits: LimitsView,
    /// How the release ended, as its record says.
    pub(crate) why: String,
    /// The parts, in order.
    pub(crate) parts: Vec<DrillPart>,
    /// What the drill's own requests met; none without any.
    pub(crate) load: Option<LoadView>,
    /// What the front door counted in all looks.
    pub(crate) door: DoorView,
    /// What happened, oldest first.
    pub(crate) timeline: Vec<MomentView>,
    /// The files that hold this.
    pub(crate) files: Vec<String>,
}

/// What was injected.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct InjectedView {
    /// The release's share of the traffic in percent.
    pub(crate) weight: u8,
    /// The share of its requests that were to fail, 0 to 1.
    pub(crate) error_rate: f64,
    /// How long its other requests were to take longer, in milliseconds; 0 for no longer.
    pub(crate) latency_ms: u64,
    /// The variables that told it so.
    pub(crate) variables: BTreeMap<String, String>,
}

/// What was allowed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LimitsView {
    /// From the first traffic of the release to the last.
    pub(crate) undone_within_ms: u64,
    /// The share of users' requests that may fail, 0 to 1.
    pub(crate) errors_max: f64,
    /// After this long it is undone, found or not.
    pub(crate) for_ms: u64,
}

/// A part of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct DrillPart {
    /// `undone`, `alarm`, `users`, `previous` or `scores`.
    pub(crate) name: String,
    /// How it was.
    pub(crate) state: PartState,
    /// The numbers, in a sentence.
    pub(crate) detail: String,
}

/// How a part was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartState {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
    /// Not looked at, and the detail says why.
    Skipped,
}

/// What the drill's own requests met.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LoadView {
    /// Requests a second that were asked for.
    pub(crate) rate: u32,
    /// Requests in the whole drill.
    pub(crate) requests: u64,
    /// Of these, answered with 5xx, or not at all.
    pub(crate) failed: u64,
    /// Of these, answered with 4xx.
    pub(crate) refused: u64,
    /// Requests that began while the release had traffic.
    pub(crate) requests_shared: u64,
    /// Of these, answered with 5xx, or not at all.
    pub(crate) failed_shared: u64,
    /// Left out, because too many were waited for.
    pub(crate) left_out: u64,
    /// The 99th percentile of the latency in milliseconds, while the release had traffic.
    pub(crate) p99_shared_ms: Option<f64>,
    /// Scores that were acknowledged.
    pub(crate) acknowledged: u64,
}

/// What the front door counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct DoorView {
    /// Requests of users and of the drill.
    pub(crate) requests: u64,
    /// Of these, failed.
    pub(crate) failed: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct MomentView {
    /// Since the drill began.
    pub(crate) after_ms: u64,
    /// In a few words.
    pub(crate) text: String,
    /// The look, where it was one.
    pub(crate) look: Option<LookView>,
}

/// What it reads like on a terminal.
pub(crate) fn text(drill: &DrillView, look: Look) -> String {
    let head = if drill.passed {
        format!("{} {}", paint(GREEN, look.tick()), paint(BOLD, "The drill passed."))
    } else {
        format!("{} {}", paint(RED, look.cross()), paint(BOLD, "The drill did not pass."))
    };
    let mut text = format!("{head} {}", injected(&drill.injected));
    for part in &drill.parts {
        let (style, mark) = match part.state {
            PartState::Passed => (GREEN, look.tick()),
            PartState::Failed => (RED, look.cross()),
            PartState::Skipped => (DIM, "-"),
        };
        let _ = write!(text, "\n  {} {} {}", paint(style, mark), padded(BOLD, &part.name, 9), part.detail);
    }
    for file in &drill.files {
        let _ = write!(text, "\n  {}", paint(DIM, format!("report: {file}")));
    }
    text
}

/// `20 % errors in 10 % of the traffic`.
pub(crate) fn injected(injected: &InjectedView) -> String {
    let mut faults = Vec::new();
    if injected.error_rate > 0.0 {
        faults.push(format!("{} errors", percent(injected.error_rate)));
    }
    if injected.latency_ms > 0 {
        faults.push(format!("{} more latency", time::length(injected.latency_ms)));
    }
    let faults = if faults.is_empty() { "no fault".to_owned() } else { faults.join(" and ") };
    format!("{faults} in {} % of the traffic", injected.weight)
}
