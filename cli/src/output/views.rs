//! What events hold: releases, looks, tasks and faults as commands show them. They hold names, numbers and states, never a
//! secret's value.

use std::collections::BTreeMap;

use dbird_core::{Change, Cloud, Outcome, Reason, Release, TaskState, release::LastLook, snapshot::Snapshot};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

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

/// A look.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LookView {
    /// Its number in this rollout, from 1.
    pub(crate) look: u32,
    /// The time that it is about.
    pub(crate) window_ms: u64,
    /// The traffic in percent by release.
    pub(crate) weights: BTreeMap<String, u8>,
    /// The new release's requests; none where nobody could say.
    pub(crate) candidate: Option<SideView>,
    /// Those of the release that serves beside it.
    pub(crate) current: Option<SideView>,
    /// Of the new release's, those that dbird made itself.
    pub(crate) probes: u64,
    /// `good`, `bad` or `unclear`.
    pub(crate) verdict: String,
    /// What was found bad: `error-rate`, `p99`.
    pub(crate) check: Option<String>,
    /// Why it is bad or unclear; empty for a good one.
    pub(crate) text: String,
}

/// What one side's requests were like.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct SideView {
    /// The release, as `r4`.
    pub(crate) release: String,
    /// How many.
    pub(crate) requests: u64,
    /// Of these, failed.
    pub(crate) errors: u64,
    /// The share of these, 0 to 1.
    pub(crate) error_rate: f64,
    /// The 99th percentile of the latency in milliseconds; none without latencies.
    pub(crate) p99_ms: Option<f64>,
}

/// Something that a person can type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Choice {
    /// The command.
    pub(crate) command: String,
    /// What it does, in a few words.
    pub(crate) does: String,
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
    /// What it changed of what was live before.
    pub(crate) changes: Vec<Change>,
    /// What the last look at it said of both sides; none where it was not judged.
    pub(crate) looked: Option<LastLook>,
    /// The copy of the data that was taken before it.
    pub(crate) snapshot: Option<Snapshot>,
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
            changes: release.changes.clone(),
            looked: release.looked.clone(),
            snapshot: release.snapshot.clone(),
        }
    }
}

/// Something that is not as it was released.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct DriftView {
    /// Of what: `service`, `stack`, or another step.
    pub(crate) of: String,
    /// The object.
    pub(crate) what: String,
    /// The field, dotted; empty where the whole object is gone.
    pub(crate) path: String,
    /// What was released.
    pub(crate) expected: Option<Value>,
    /// What is there.
    pub(crate) actual: Option<Value>,
}

/// A release that the cloud itself remembers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct RememberedView {
    /// Its number, as `r4`.
    pub(crate) id: String,
    /// The digest of its image, where the cloud knows.
    pub(crate) image: Option<String>,
    /// When it was made there, in Unix milliseconds of the cloud's time.
    pub(crate) at_unix_ms: u64,
    /// How it ended, where the cloud knows.
    pub(crate) outcome: Option<Outcome>,
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
    /// A rollout that has begun and not ended.
    pub(crate) rollout: Option<RolloutView>,
}

/// A rollout that has begun and not ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct RolloutView {
    /// The release that it makes, as `r4`.
    pub(crate) release: String,
    /// Why.
    pub(crate) reason: Reason,
    /// Who began it.
    pub(crate) actor: String,
    /// When, in Unix milliseconds.
    pub(crate) started_unix_ms: u64,
    /// Somebody drives it now.
    pub(crate) driven: bool,
    /// Its share of the traffic at the gate that it was left at; none where it was not.
    pub(crate) parked: Option<u8>,
    /// What to type, each with what it does.
    pub(crate) choices: Vec<Choice>,
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
