//! What commands say, as values: `--output json` writes them one a line, `--output text` writes what `text` makes of them,
//! and every run's log keeps them. They hold names and states, never a secret's value.

use std::collections::BTreeMap;

use dbird_core::{Cloud, Plan, Release, snapshot::Snapshot, spec::HookWhen};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

pub(crate) use super::drill::DrillView;
pub(crate) use super::views::{
    CheckState, Choice, DriftView, FaultView, Live, LookView, ReleaseView, RememberedView, RolloutView, SideView,
    StatusRelease, StatusTask, StatusView, StepState,
};

/// The version of the event format: a field may be added without changing it, none is renamed or removed.
pub(crate) const EVENT_FORMAT: u32 = 1;

/// One line of `--output json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line<'a> {
    /// The version of this format.
    pub(crate) v: u32,
    /// When, in Unix milliseconds.
    pub(crate) at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub(crate) event: &'a Event,
}

/// Something that a command has to say.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The command began.
    Started {
        /// Its name.
        command: String,
        /// dbird's version.
        version: String,
        /// The run, which names its log.
        run: String,
    },
    /// Something worth knowing.
    Note {
        /// A sentence.
        text: String,
    },
    /// Something that may hurt.
    Warning {
        /// A sentence.
        text: String,
    },
    /// Something is wrong with a configuration.
    Fault(FaultView),
    /// An environment was checked.
    Validated {
        /// The environment.
        environment: String,
        /// For this cloud.
        cloud: Cloud,
        /// Faults that stop a deploy.
        errors: usize,
        /// Faults that don't.
        warnings: usize,
    },
    /// The text of an explanation, a schema or a script.
    Text {
        /// What it explains or describes.
        topic: String,
        /// The text.
        text: String,
    },
    /// A policy.
    Policy {
        /// Its code.
        code: String,
        /// In a sentence.
        title: String,
    },
    /// A JSON schema.
    Schema {
        /// Of what.
        of: String,
        /// The schema.
        schema: Value,
    },
    /// A rendered document.
    Document {
        /// The environment.
        environment: String,
        /// The step.
        step: String,
        /// In a few words.
        title: String,
        /// Its digest.
        digest: String,
        /// The file that it was written to.
        file: Option<String>,
        /// The document.
        body: Value,
    },
    /// A file was written.
    Written {
        /// Its path.
        path: String,
    },
    /// The build command runs.
    Building {
        /// The command.
        command: String,
    },
    /// A line of the build command's output.
    Build {
        /// The line.
        line: String,
    },
    /// The image that will run.
    Image {
        /// Where it lies.
        repository: String,
        /// Its digest.
        digest: String,
        /// It was there already.
        reused: bool,
        /// How long packing took.
        took_ms: u64,
    },
    /// What is to be done.
    Plan {
        /// The plan.
        plan: Box<Plan>,
    },
    /// An interrupted run was found, and finished or undone.
    Recovered {
        /// What was found and done, in a sentence.
        text: String,
    },
    /// A step of the plan.
    Step {
        /// Its name.
        step: String,
        /// In a few words.
        title: String,
        /// How it stands.
        state: StepState,
        /// How long it took so far.
        took_ms: u64,
    },
    /// What is being waited for.
    Waiting {
        /// The step.
        step: String,
        /// In a few words.
        waiting_for: String,
        /// The traffic in percent by release.
        weights: BTreeMap<String, u8>,
        /// How long the command has taken so far.
        elapsed_ms: u64,
    },
    /// Something happened in the cloud.
    Happened {
        /// The step.
        step: String,
        /// When, in Unix milliseconds, as the cloud says.
        happened_unix_ms: u64,
        /// A sentence.
        text: String,
    },
    /// Traffic moves, or has moved.
    Traffic {
        /// It has arrived at these weights.
        reached: bool,
        /// In percent by release.
        weights: BTreeMap<String, u8>,
    },
    /// A look at what both sides' requests are like.
    Look(LookView),
    /// It goes on only when a person says so.
    PersonNeeded {
        /// The release, as `r4`.
        release: String,
        /// What for, in a few words.
        waiting_for: String,
        /// What to type, each with what it does.
        choices: Vec<Choice>,
        /// It is undone when nobody comes within this time.
        undone_in_ms: u64,
    },
    /// The command leaves a release at a gate.
    Parked {
        /// The release, as `r4`.
        release: String,
        /// Its share of the traffic in percent.
        weight: u8,
        /// What to type, each with what it does.
        choices: Vec<Choice>,
    },
    /// Whoever drives a rollout took up what this command asked for.
    Taken {
        /// The release, as `r4`.
        release: String,
        /// For what: `promote`, `abort`, `pause` or `resume`.
        request: String,
        /// Who drives it, in a sentence.
        by: String,
        /// It is written down only, and is heard when whoever drives looks next.
        pending: bool,
    },
    /// Somebody asked for something from elsewhere, and it is done now.
    Requested {
        /// Who asked.
        by: String,
        /// For what: `promote`, `abort`, `pause` or `resume`.
        request: String,
        /// Why; empty where nothing was said.
        why: String,
    },
    /// A copy of the data was taken.
    Copied {
        /// Where it lies, as the service sees it.
        place: String,
        /// How long it took.
        took_ms: u64,
    },
    /// A copy of the data was brought back.
    Restored {
        /// Where the copy lies, as the service sees it.
        from: String,
        /// Where the data of before was copied to.
        saved: Option<String>,
    },
    /// How a drill went.
    Drill(Box<DrillView>),
    /// The release failed, and what was there before is brought back.
    RollingBack {
        /// Why.
        why: String,
    },
    /// A hook of the rollout.
    Hook {
        /// When it runs: `before-traffic`.
        when: HookWhen,
        /// Program and arguments.
        command: Vec<String>,
        /// How it stands.
        state: StepState,
        /// Why it failed, or its exit code.
        detail: String,
    },
    /// A line that a one-off task or a hook wrote.
    Output {
        /// The task.
        task: String,
        /// It belongs to a hook of the rollout.
        hook: bool,
        /// `stdout` or `stderr`.
        stream: String,
        /// The line.
        text: String,
    },
    /// A release ended.
    Released {
        /// The release.
        release: ReleaseView,
        /// `service` -> URL, `test` -> URL.
        endpoints: BTreeMap<String, String>,
    },
    /// What is live.
    Status(StatusView),
    /// Releases of the past, newest first.
    History {
        /// The releases.
        releases: Vec<ReleaseView>,
        /// The copies of the data that still stand, oldest first.
        snapshots: Vec<Snapshot>,
    },
    /// Releases that the cloud itself remembers, newest first, where there are no records.
    Remembered {
        /// The releases.
        releases: Vec<RememberedView>,
    },
    /// Something is not as it was released.
    Drift(DriftView),
    /// One release of the past, whole.
    Release {
        /// What it was.
        release: Box<ReleaseView>,
        /// The copy of the data that was taken before it still stands.
        snapshot_stands: bool,
        /// Its record.
        record: Box<Release>,
    },
    /// There is nothing to do.
    Unchanged {
        /// What serves, in a sentence.
        text: String,
    },
    /// A line that a task wrote.
    Log {
        /// When.
        written_at_unix_ms: u64,
        /// The release.
        release: String,
        /// The task.
        task: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// The line.
        text: String,
    },
    /// A one-off command ended.
    Exited {
        /// Its exit code.
        exit_code: i32,
    },
    /// Data that stays.
    Kept {
        /// Its name.
        name: String,
        /// Where it is.
        place: String,
    },
    /// One check of `doctor`.
    Check {
        /// What was checked.
        name: String,
        /// How it is.
        state: CheckState,
        /// What was found.
        detail: String,
        /// What to do.
        remedy: Option<String>,
    },
    /// Why the command failed.
    Error {
        /// What happened.
        message: String,
        /// Why, outermost cause first.
        causes: Vec<String>,
        /// What to do next.
        hint: Option<String>,
        /// The failing task's or build's last lines.
        logs: Vec<String>,
        /// Trying again may help.
        retry: bool,
    },
    /// The last line: how the command ended.
    Finished {
        /// The exit code.
        exit_code: u8,
        /// In a word: `done`, `unchanged`, `changes`, `parked`, `left`, `failed`, `refused`, `rolled-back`, `busy`,
        /// `interrupted`.
        outcome: String,
        /// What is live now, as far as the command knows.
        live: Option<Live>,
        /// How long the command took.
        took_ms: u64,
    },
}
