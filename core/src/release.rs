//! What a release was: the record that `history` shows, that `rollback` plans from, and that tells the truth about how it
//! ended. It is written once and never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Change, Cloud, Digest, Documents, ImageRef, Reason, ReleaseId, analysis::Side, snapshot::Snapshot};

/// The version of the record's format. 2: what changed, the last look, the copy of the data, and drills.
pub const RELEASE_FORMAT: u32 = 2;

/// One release, as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// [`RELEASE_FORMAT`].
    pub format: u32,
    /// Its number.
    pub id: ReleaseId,
    /// The service's name.
    pub service: String,
    /// The environment's name.
    pub environment: String,
    /// The cloud.
    pub cloud: Cloud,
    /// What served before it.
    pub parent: Option<ReleaseId>,
    /// Why it was made.
    pub reason: Reason,
    /// The digest of all its documents.
    pub digest: Digest,
    /// The documents themselves; they hold references to secrets, never secrets.
    pub documents: Documents,
    /// The image that it runs.
    pub image: Option<ImageRef>,
    /// Who made it: `user@host`, or what CI says of itself.
    pub actor: String,
    /// The git revision of the project, `-dirty` appended with uncommitted changes; empty outside git.
    pub git_revision: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, in a sentence; empty for a plain success.
    pub why: String,
    /// When it began, in Unix milliseconds by the clock of whoever made it.
    pub started_unix_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// How long each step took, in order.
    pub step_ms: Vec<(crate::StepId, u64)>,
    /// What it changed of what was live before, as its plan said; at most [`CHANGES_MAX`].
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What the last look at it said of both sides; none where it was not judged.
    #[serde(default)]
    pub looked: Option<LastLook>,
    /// The copy of the data that was taken before it; none where none was taken.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    /// The place of a copy that did not come to its end; what was there before may be lost.
    #[serde(default)]
    pub copy_lost: Option<String>,
}

/// More changes than this are not kept in a record; the documents are.
pub const CHANGES_MAX: usize = 50;

/// Both sides' requests since the last weight was reached, as the last look found them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastLook {
    /// Looks in the whole rollout.
    pub looks: u32,
    /// The candidate's share of the traffic then.
    pub weight: u8,
    /// The candidate's requests.
    pub candidate: Numbers,
    /// Those of the release that served beside it.
    pub current: Option<Numbers>,
}

/// What requests were like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    /// How many.
    pub requests: u64,
    /// The share that failed, 0 to 1.
    pub error_rate: f64,
    /// The 99th percentile of the latency in milliseconds; none without latencies.
    pub p99_ms: Option<f64>,
}

impl From<&Side> for Numbers {
    fn from(side: &Side) -> Self {
        Numbers { requests: side.requests, error_rate: side.error_rate(), p99_ms: side.p99_ms() }
    }
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It serves (or served, until the next one).
    Succeeded,
    /// It failed and the previous release serves again.
    RolledBack,
    /// It failed, there was no previous release, and it was taken away again.
    Removed,
    /// It failed, and undoing it failed too: `why` says what is live.
    Failed,
    /// Everything but the data was taken away.
    Destroyed,
}
