//! What a release was: the record that `history` shows, that `rollback` plans from, and that tells the truth about how it
//! ended. It is written once and never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Cloud, Digest, Documents, ImageRef, Reason, ReleaseId};

/// The version of the record's format.
pub const RELEASE_FORMAT: u32 = 1;

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
