//! What is live in a cloud, as a provider saw it. Providers fill these in; only `plan` and the engine read them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Handle, ReleaseId, StepId};

/// What is live for one service in one environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The bodies that are live now, by step, as far as the provider owns and can read them. The service's is that of
    /// the release with the most traffic.
    pub documents: BTreeMap<StepId, Value>,
    /// Every release that still has tasks, oldest first.
    pub releases: Vec<LiveRelease>,
    /// Where the service answers: `service` -> URL, `test` -> URL.
    pub endpoints: BTreeMap<String, String>,
    /// Data that exists and is kept by `destroy`: name -> where.
    pub data: BTreeMap<String, String>,
    /// A rollout that has not ended, where the cloud knows of one; how to ask for it.
    #[serde(default)]
    pub unfinished: Option<Handle>,
    /// The highest number of a release that the cloud remembers, also of one that is gone: no number is given twice.
    #[serde(default)]
    pub last: Option<ReleaseId>,
    /// What somebody should know, each a sentence: adopted after a crash, drifted, half-made.
    pub notes: Vec<String>,
}

impl Observed {
    /// The release that gets the most traffic.
    pub fn current(&self) -> Option<&LiveRelease> {
        self.releases.iter().filter(|r| r.weight > 0).max_by_key(|r| (r.weight, r.id))
    }

    /// What a saved plan compares to know that nothing moved since: the live documents, releases and weights, without
    /// anything that changes by itself (task ids, restarts, times, a release without traffic that goes away).
    pub fn digest(&self) -> Digest {
        let serving = self.releases.iter().filter(|r| r.weight > 0);
        let releases: Vec<_> = serving.map(|r| (r.id, r.weight, &r.image)).collect();
        Digest::of_json(&serde_json::json!([self.documents, releases, self.data]))
    }
}

/// A release that has tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRelease {
    /// Its number.
    pub id: ReleaseId,
    /// Its share of the traffic in percent.
    pub weight: u8,
    /// The digest of the image that it runs.
    pub image: Digest,
    /// True once every task is ready.
    pub ready: bool,
    /// Since when it exists, in Unix milliseconds by the provider's clock.
    pub since_unix_ms: u64,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
}

/// One running copy of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The provider's name for it.
    pub id: String,
    /// How it is.
    pub state: TaskState,
    /// Why it is not ready, or why it stopped; empty when there is nothing to say.
    pub detail: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Where it listens, as far as it can be reached from here.
    pub address: Option<String>,
    /// The process id where that means something here.
    pub pid: Option<u32>,
    /// What its readiness answer says of itself (`storage_mode`, `role`, ...), for `status`.
    pub reported: BTreeMap<String, Value>,
}

/// How a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Started, not ready yet.
    Starting,
    /// Alive, waiting for what another release holds (`waiting_for` in its readiness answer).
    Waiting,
    /// Ready.
    Ready,
    /// Was ready, is not now.
    Unready,
    /// Asked to stop, finishing what it has.
    Draining,
    /// Died and waits to be started again.
    BackingOff,
    /// Gone.
    Stopped,
}

/// What the cloud's own engine says it would do (a change set, a what-if), by step: one sentence a change. Empty where
/// the plan's own field diff is the whole truth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Changes by step.
    pub changes: BTreeMap<StepId, Vec<crate::Change>>,
    /// What a change would do to what runs or is kept, each a sentence: a replacement, data that is lost.
    #[serde(default)]
    pub risks: BTreeMap<StepId, Vec<String>>,
    /// What stands in the way, each a sentence: a port in use by another program, a quota.
    pub obstacles: Vec<String>,
}
