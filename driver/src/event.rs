//! What a driver says while it works, as values. The command line shows them or prints them as JSON; fields are only added
//! within one version. They never hold a secret: documents only refer to those.

use dbird_core::{
    Action, Outcome, Reason, ReleaseId, StepId, StepKind, Weights, analysis::Check, rollout::Request, spec::HookWhen,
};
use serde::{Deserialize, Serialize};

/// The version of the events' schema.
pub const EVENT_FORMAT: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A plan begins to be carried out.
    Started {
        /// The release that it makes.
        release: ReleaseId,
        /// Why.
        reason: Reason,
        /// What serves now.
        parent: Option<ReleaseId>,
    },
    /// What is being waited for. Said when it changes, and once a second while it does not.
    Waiting {
        /// The step; none before the first.
        step: Option<StepId>,
        /// In a few words.
        waiting_for: String,
        /// The traffic in percent by release.
        weights: Weights,
        /// Since the command began.
        elapsed_ms: u64,
    },
    /// A step begins.
    StepStarted {
        /// The step.
        step: StepId,
        /// What it makes.
        kind: StepKind,
        /// For people.
        title: String,
        /// What is done.
        action: Action,
    },
    /// A step is done.
    StepFinished {
        /// The step.
        step: StepId,
        /// How long it took.
        took_ms: u64,
    },
    /// A step failed, or was undone.
    StepFailed {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
        /// The failing task's last log lines, oldest first.
        logs: Vec<String>,
        /// How long it took.
        took_ms: u64,
    },
    /// A line of what the provider says happened; each comes once.
    Happened {
        /// The step.
        step: StepId,
        /// When, in Unix milliseconds by the provider's clock.
        at_unix_ms: u64,
        /// A sentence.
        text: String,
    },
    /// Traffic was asked to move to these weights.
    Shifting {
        /// In percent by release.
        weights: Weights,
    },
    /// Traffic is at these weights.
    Shifted {
        /// In percent by release.
        weights: Weights,
    },
    /// A look at what requests are like.
    Looked {
        /// Its number in this rollout, from 1.
        look: u32,
        /// The time that it is about.
        window_ms: u64,
        /// The traffic in percent by release.
        weights: Weights,
        /// The candidate's requests; none where nobody could say.
        candidate: Option<SideView>,
        /// Those of the release that serves beside it.
        current: Option<SideView>,
        /// Of the candidate's, those that dbird made itself.
        probes: u64,
        /// `good`, `bad` or `unclear`.
        verdict: String,
        /// What was found bad.
        check: Option<Check>,
        /// Why it is bad or unclear; empty for a good one.
        text: String,
    },
    /// It goes on only when a person says so, or when there is something to judge by.
    PersonNeeded {
        /// The release.
        release: ReleaseId,
        /// What for, in a few words.
        waiting_for: String,
        /// `resume` gets it going, not `promote`.
        resumes: bool,
        /// It is undone when nobody comes within this time.
        undone_in_ms: u64,
    },
    /// What somebody asked for from elsewhere is done.
    Requested {
        /// Who asked.
        by: String,
        /// For what.
        request: Request,
    },
    /// A copy of the data was taken.
    Copied {
        /// Where it lies.
        place: String,
        /// How long it took.
        took_ms: u64,
    },
    /// It is being undone.
    RollingBack {
        /// Why.
        why: String,
    },
    /// A hook begins.
    HookStarted {
        /// Its moment.
        when: HookWhen,
        /// Its place in the list of hooks.
        index: usize,
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A hook succeeded.
    HookFinished {
        /// Its moment.
        when: HookWhen,
        /// Its place in the list of hooks.
        index: usize,
        /// How long it took.
        took_ms: u64,
    },
    /// A hook failed. It depends on its moment whether that undoes the release.
    HookFailed {
        /// Its moment.
        when: HookWhen,
        /// Its place in the list of hooks.
        index: usize,
        /// Why, in a sentence.
        why: String,
        /// Its exit code, when it ended by itself.
        exit_code: Option<i32>,
        /// How long it took.
        took_ms: u64,
    },
    /// A line that a hook or a one-off task wrote.
    TaskOutput {
        /// The task.
        task: String,
        /// True for the error stream.
        stderr: bool,
        /// When, in Unix milliseconds.
        at_unix_ms: u64,
        /// The line without its end.
        text: String,
    },
    /// Something worth knowing.
    Note {
        /// A sentence.
        text: String,
    },
    /// Something that may hurt, and that stops nothing.
    Warning {
        /// A sentence.
        text: String,
    },
    /// An earlier command died; this is what was found and what is done about it.
    Recovered {
        /// The release that it made.
        release: ReleaseId,
        /// What was found, in a sentence.
        found: String,
        /// What is done, in a sentence.
        did: String,
    },
    /// It ended.
    Finished {
        /// The release.
        release: ReleaseId,
        /// How.
        outcome: Outcome,
        /// Why; empty for a plain success.
        why: String,
        /// What serves now.
        live: Option<ReleaseId>,
        /// The exit code that this means.
        exit_code: u8,
        /// How long it took.
        took_ms: u64,
    },
}

/// What one side's requests were like in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideView {
    /// The release.
    pub release: ReleaseId,
    /// How many.
    pub requests: u64,
    /// Of these, failed.
    pub errors: u64,
    /// The share of these, 0 to 1.
    pub error_rate: f64,
    /// The 99th percentile of the latency in milliseconds; none without latencies.
    pub p99_ms: Option<f64>,
}

/// Whoever wants to know. Called from the driver's own task: it must not block.
pub trait Reporter: Send + Sync {
    /// Something happened.
    fn report(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Reporter for F {
    fn report(&self, event: &Event) {
        self(event);
    }
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &Event) {}
}
