//! What commands say, as values: `--output json` writes them one a line, `--output text` writes what `text` makes of them,
//! and every run's log keeps them. They hold names and states, never a secret's value.

use std::collections::BTreeMap;

use dbird_core::{Cloud, Outcome, Plan, Reason, Release, TaskState, spec::HookWhen};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

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
        /// In a word: `done`, `unchanged`, `changes`, `failed`, `refused`, `rolled-back`, `busy`, `interrupted`.
        outcome: String,
        /// What is live now, as far as the command knows.
        live: Option<Live>,
        /// How long the command took.
        took_ms: u64,
    },
}

/// What serves.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Live {
    /// The release, as `r4`; none where nothing serves.
    pub(crate) release: Option<String>,
    /// The digest of its image.
    pub(crate) image: Option<String>,
    /// Where it answers.
    pub(crate) url: Option<String>,
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct FaultView {
    /// `error` or `warning`.
    pub(crate) severity: String,
    /// The policy's code.
    pub(crate) code: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
    /// In which file, or `--set`.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column, from 1.
    pub(crate) column: usize,
    /// What could stand there instead.
    pub(crate) suggestion: Option<String>,
    /// What to do.
    pub(crate) help: Option<String>,
    /// The environments and clouds that have it: `dev for local`.
    pub(crate) seen_in: Vec<String>,
    /// The excerpt with a caret, for people.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) drawing: String,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepState {
    /// Under way.
    Started,
    /// Done.
    Done,
    /// Failed.
    Failed,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum CheckState {
    /// As it should be.
    Ok,
    /// Not good.
    Ng,
    /// Could not or need not be checked.
    Skip,
}

/// A release in lists.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ReleaseView {
    /// Its number, as `r4`.
    pub(crate) id: String,
    /// It serves now.
    pub(crate) live: bool,
    /// What served before it.
    pub(crate) parent: Option<String>,
    /// Why it was made.
    pub(crate) reason: Reason,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why it ended so.
    pub(crate) why: String,
    /// Who made it.
    pub(crate) actor: String,
    /// The project's git revision.
    pub(crate) git_revision: String,
    /// The digest of its image.
    pub(crate) image: Option<String>,
    /// When it began, in Unix milliseconds.
    pub(crate) started_unix_ms: u64,
    /// How long it took.
    pub(crate) took_ms: u64,
    /// How long each step took.
    pub(crate) step_ms: Vec<(String, u64)>,
}

impl ReleaseView {
    /// The view of a record.
    pub(crate) fn of(release: &Release, live: bool) -> Self {
        ReleaseView {
            id: release.id.to_string(),
            live,
            parent: release.parent.map(|p| p.to_string()),
            reason: release.reason.clone(),
            outcome: release.outcome,
            why: release.why.clone(),
            actor: release.actor.clone(),
            git_revision: release.git_revision.clone(),
            image: release.image.as_ref().map(|i| i.digest.to_string()),
            started_unix_ms: release.started_unix_ms,
            took_ms: release.took_ms,
            step_ms: release.step_ms.iter().map(|(s, ms)| (s.0.clone(), *ms)).collect(),
        }
    }
}

/// What is live in one environment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StatusView {
    /// The service.
    pub(crate) service: String,
    /// The environment.
    pub(crate) environment: String,
    /// The cloud.
    pub(crate) cloud: Cloud,
    /// `service` -> URL, `test` -> URL.
    pub(crate) endpoints: BTreeMap<String, String>,
    /// Every release that has tasks, newest first.
    pub(crate) releases: Vec<StatusRelease>,
    /// Data: name -> where.
    pub(crate) data: BTreeMap<String, String>,
    /// What somebody should know.
    pub(crate) notes: Vec<String>,
    /// Another command that is at work here.
    pub(crate) busy: Option<String>,
}

/// A release that has tasks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StatusRelease {
    /// Its number, as `r4`.
    pub(crate) id: String,
    /// Its share of the traffic in percent.
    pub(crate) weight: u8,
    /// Every task is ready.
    pub(crate) ready: bool,
    /// The digest of its image.
    pub(crate) image: String,
    /// Since when it exists, in Unix milliseconds.
    pub(crate) since_unix_ms: u64,
    /// Its tasks.
    pub(crate) tasks: Vec<StatusTask>,
}

/// A running copy of the service.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StatusTask {
    /// Its name.
    pub(crate) id: String,
    /// How it is.
    pub(crate) state: TaskState,
    /// Why it is so.
    pub(crate) detail: String,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Where it listens.
    pub(crate) address: Option<String>,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// What it says of itself: `storage_mode`, `role`.
    pub(crate) reported: BTreeMap<String, Value>,
}
