//! The boundary to a cloud: the only calls that touch one. Every argument and result is a serialisable value, no SDK type
//! crosses, and no method decides anything that `core` could decide.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Action, Cloud, Digest, Documents, Observed, Preview, ReleaseId, StepId, StepKind};

/// A result of a provider call.
pub type Result<T> = std::result::Result<T, ProviderError>;

/// One service in one environment: what every call is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The service's name.
    pub service: String,
    /// The environment's name.
    pub environment: String,
}

/// A cloud that runs releases.
///
/// `observe` and `preview` change nothing. `apply` and `steer` are idempotent: repeating one that was carried out, or
/// whose answer was lost, does nothing more and succeeds. A [`Handle`] survives serialisation and a crash of its holder.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What this cloud can do; constant.
    fn capabilities(&self) -> Capabilities;

    /// What is live.
    async fn observe(&self, target: &Target) -> Result<Observed>;

    /// What the cloud's own engine says the documents would change, and what stands in the way.
    async fn preview(&self, target: &Target, documents: &Documents) -> Result<Preview>;

    /// Starts one step. For a [`StepKind::Service`] step it makes a candidate that gets no traffic.
    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle>;

    /// How a started step stands. May wait up to a second for news, never longer.
    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress>;

    /// Moves a service step on: shift, continue, finish, stop. Returns once it is accepted; `poll` follows it.
    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()>;

    /// What the releases' traffic was like within a window that ends now.
    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>>;

    /// Starts a one-off task of a release's image with its environment and mounts.
    async fn run(&self, target: &Target, command: &Command) -> Result<Handle>;

    /// A page of log lines, oldest first. With a cursor: what came after it.
    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage>;
}

/// What a cloud can do. Later fields select which provider laws apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Which cloud this is.
    pub cloud: Cloud,
    /// The strategies that work here, and who moves the traffic in each.
    pub strategies: BTreeMap<String, Driver>,
    /// Weights may be any whole percentage, in any number of steps.
    pub any_weights: bool,
    /// A rollout can stop at a gate between weights.
    pub gates: bool,
    /// The candidate can be reached before it gets traffic.
    pub test_traffic: bool,
    /// A writer that takes its store alone is swapped: requests are held, not failed.
    pub swap: bool,
    /// [`Provider::sample`] answers.
    pub samples: bool,
    /// [`Provider::run`] works.
    pub one_off_tasks: bool,
}

/// Who moves traffic during a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// dbird steers every weight.
    #[default]
    Dbird,
    /// The cloud's engine does; dbird may only continue, stop and wait.
    Cloud,
}

impl Driver {
    /// True where dbird moves traffic.
    pub fn is_dbird(&self) -> bool {
        *self == Driver::Dbird
    }
}

/// A step, ready to be applied: references filled, release number given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The step; with the release it is the key of idempotency.
    pub step: StepId,
    /// What it makes.
    pub kind: StepKind,
    /// What is done: never [`Action::None`] or [`Action::Keep`].
    pub action: Action,
    /// The release that this belongs to.
    pub release: ReleaseId,
    /// The digest of the document before its references were filled.
    pub document: Digest,
    /// The document with its references filled; `null` for [`Action::Delete`].
    pub body: Value,
    /// How much of a service's candidate is started before it gets traffic.
    #[serde(default)]
    pub start: Start,
}

/// How much of a candidate is started before it gets traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "start", rename_all = "kebab-case")]
pub enum Start {
    /// All its copies.
    #[default]
    All,
    /// So many of its copies: the first batch of a rolling release.
    Copies {
        /// At least 1.
        count: u32,
    },
    /// None: it is prepared, and started by the shift once the previous release has stopped.
    Nothing,
}

/// A step under way. Journalled before its first poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The step.
    pub step: StepId,
    /// The release.
    pub release: ReleaseId,
    /// The provider's own name for it: a deployment id, a stack operation, a task.
    pub token: String,
}

/// How a started step stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// What is being waited for, in a few words: `readiness of r4 (waiting for the store)`.
    pub waiting_for: String,
    /// The traffic now, in percent.
    pub weights: Weights,
    /// The gates it waits at; `Steer::Continue` takes one of these.
    pub gates: Vec<String>,
    /// What later steps may refer to.
    pub outputs: BTreeMap<String, Value>,
    /// `service` -> URL, `test` -> URL.
    pub endpoints: BTreeMap<String, String>,
    /// What happened, oldest first, all of it so far (at most 1,000 lines); each poll returns a longer or equal list.
    pub events: Vec<ProgressEvent>,
    /// A one-off task's exit code, once it ended.
    pub exit_code: Option<i32>,
}

impl Progress {
    /// A progress in this phase with nothing else to say.
    pub fn in_phase(phase: Phase) -> Self {
        Progress {
            phase,
            waiting_for: String::new(),
            weights: Weights::default(),
            gates: Vec::new(),
            outputs: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            events: Vec::new(),
            exit_code: None,
        }
    }
}

/// Where a started step is.
///
/// Steps other than a service's go `Working -> Finished | Failed`. A service that dbird drives goes `Working -> Ready`,
/// stays `Shifting -> Ready` for each shift, then `Finishing -> Finished`; stopped, it goes `RollingBack -> RolledBack`.
///
/// A service that its cloud drives: `Working`; `Ready` with a gate while it waits before any traffic; `Shifting` while the
/// cloud moves traffic or holds it on its way; `Ready` with a gate where it waits at a weight; `Ready` with all traffic while
/// the previous release is kept, with a gate where `Steer::Finish` can end that; `Finishing -> Finished`. A gate's name is
/// never used again, so that a late `Steer::Continue` passes no other. It may go `RollingBack -> RolledBack` by itself: then
/// `waiting_for` says why.
///
/// `Failed` at any time means that the provider gave up on the candidate; traffic is where `weights` says, and
/// `Steer::Stop` still works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Phase {
    /// Being made.
    Working,
    /// The candidate is ready for (more) traffic; nothing moves.
    Ready,
    /// Traffic is moving to the weights that were asked for.
    Shifting,
    /// The other releases are draining and stopping.
    Finishing,
    /// Done.
    Finished,
    /// Traffic is going back.
    RollingBack,
    /// The previous release has all the traffic and the candidate is gone.
    RolledBack,
    /// It failed.
    Failed {
        /// Why, in a sentence.
        why: String,
        /// The failing task's last log lines, oldest first, at most 50.
        logs: Vec<String>,
    },
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// When, in Unix milliseconds by the provider's clock.
    pub at_unix_ms: u64,
    /// What, in a sentence.
    pub text: String,
}

/// Traffic in percent by release; sums to 100, or is empty where nothing serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(pub BTreeMap<ReleaseId, u8>);

impl Weights {
    /// All traffic to one release.
    pub fn all(release: ReleaseId) -> Self {
        Weights(BTreeMap::from([(release, 100)]))
    }

    /// The share of one release.
    pub fn of(&self, release: ReleaseId) -> u8 {
        self.0.get(&release).copied().unwrap_or(0)
    }
}

/// What the engine asks of a rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Steer {
    /// Move traffic to these weights. For a writer that takes its store alone, all of it at once: the swap. Where nothing of
    /// the candidate was started, the previous release is stopped first.
    Shift {
        /// The weights to reach.
        weights: Weights,
        /// How many copies of each release are to run then; empty: as many as run now. More are started and ready
        /// before traffic moves, fewer are drained and stopped after it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        copies: BTreeMap<ReleaseId, u32>,
    },
    /// Pass a gate.
    Continue {
        /// The gate, as `Progress::gates` named it.
        gate: String,
    },
    /// The candidate keeps all traffic: drain and stop the others.
    Finish,
    /// End the rollout.
    Stop {
        /// Give all traffic back to the previous release and take the candidate away.
        roll_back: bool,
    },
}

/// A span of time that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How long.
    pub length_ms: u64,
}

impl Steer {
    /// Moves traffic to these weights, with as many copies as run now.
    pub fn shift(weights: Weights) -> Self {
        Steer::Shift { weights, copies: BTreeMap::new() }
    }
}

/// What one release's traffic was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The release.
    pub release: ReleaseId,
    /// Requests answered.
    pub requests: u64,
    /// Of these, answered with 5xx, or not at all.
    pub errors: u64,
    /// Requests by latency: upper bound in milliseconds (`u64::MAX` for the rest) -> count, not cumulative. Below each count
    /// stands the next lower bound that there is, with 0 where nothing ended: otherwise nobody knows where a bucket begins.
    pub latency_ms: BTreeMap<u64, u64>,
    /// Which requests failed, most first and others last; at most 32.
    #[serde(default)]
    pub failing: Vec<Failing>,
    /// The time that was really covered; 0 where the provider can't tell.
    #[serde(default)]
    pub window_ms: u64,
}

impl Samples {
    /// No requests of a release.
    pub fn none(release: ReleaseId) -> Self {
        Samples { release, requests: 0, errors: 0, latency_ms: BTreeMap::new(), failing: Vec::new(), window_ms: 0 }
    }
}

/// Requests of one kind that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Method and path without its query, as `POST /score`, or a route's pattern; `(others)` for what has no row of its own.
    pub request: String,
    /// The status; 0 where there was no answer to its end, or where others had several.
    pub status: u16,
    /// How many.
    pub count: u64,
    /// How long the slowest took; 0 where that is not known.
    pub slowest_ms: u64,
}

/// A command for a one-off task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The release whose image, environment and mounts it gets.
    pub release: ReleaseId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// It is stopped after this long.
    pub timeout_ms: Option<u64>,
    /// A name that is unique to this run, so that a repeated call does not start it twice.
    pub key: String,
}

/// Which log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Only of this release.
    pub release: Option<ReleaseId>,
    /// Only of this task (or one-off task, by its handle's token).
    pub task: Option<String>,
    /// Without a cursor: the last so many lines (at most 10,000).
    pub tail_lines: u32,
}

/// Where reading goes on. Opaque; the provider's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A page of log lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Where to go on; the same cursor again when nothing came.
    pub next: Cursor,
    /// False once nothing more can come: the task ended and everything was read.
    pub more: bool,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// By which release.
    pub release: ReleaseId,
    /// By which task.
    pub task: String,
    /// True for the error stream.
    pub stderr: bool,
    /// The line without its end.
    pub text: String,
}

/// What went wrong in a cloud, and whether asking again helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderError {
    /// The kind, which picks the hint and the exit code.
    pub kind: ErrorKind,
    /// True when the same call may succeed later; set where the response was read.
    pub retry: bool,
    /// The provider.
    pub cloud: Cloud,
    /// The operation: `apply service`, `observe`.
    pub operation: String,
    /// What it was done to: a port, a path, an ARN.
    pub object: String,
    /// What happened, then its causes, outermost first. The first stands alone as a sentence.
    pub causes: Vec<String>,
    /// What to do next, if that is known.
    pub hint: Option<String>,
}

/// The kinds of provider errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The document or the request can't be carried out as it is.
    Invalid,
    /// No such release, step or task.
    NotFound,
    /// Something else has it: a port, a name, another operation.
    Conflict,
    /// Not allowed.
    Denied,
    /// Out of disk, quota, processes.
    Exhausted,
    /// The cloud or the agent can't be reached, or didn't answer in time.
    Unavailable,
    /// This provider can't do that.
    Unsupported,
    /// Anything else.
    Internal,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.causes.first().map_or("failed", String::as_str))?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " ({})", self.object) }
    }
}

impl std::error::Error for ProviderError {}
