//! The plan: ordered steps, each with its document's digest and a field diff against what is live. Making one is pure, and
//! whatever carries it out re-decides nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Cloud, Digest, ImageRef, ReleaseId, StepId, StepKind, rollout::Course};

/// The version of the plan file's format. 2: courses with looks, batches and copies of the data.
pub const PLAN_FORMAT: u32 = 2;

/// Why a plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reason {
    /// `deploy`: bring what is live to the configuration.
    Deploy,
    /// `rollback`: plan again from an older release's documents.
    Rollback {
        /// The release whose documents are planned.
        to: ReleaseId,
    },
    /// `restart`: the same documents, new tasks.
    Restart,
    /// `destroy`: take everything away but the data.
    Destroy,
    /// `drill`: a candidate with faults on purpose, which has to be undone.
    Drill,
}

/// What is to be done, exactly. Serialised by `plan --out`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The service's name.
    pub service: String,
    /// The environment's name.
    pub environment: String,
    /// The cloud.
    pub cloud: Cloud,
    /// Why.
    pub reason: Reason,
    /// The release that serves now.
    pub parent: Option<ReleaseId>,
    /// The digest of all documents: `deploy --plan` refuses when the configuration moved since.
    pub documents: Digest,
    /// The digest of what was live: `deploy --plan` refuses when it moved since.
    pub observed: Digest,
    /// The image that will run.
    pub image: Option<ImageRef>,
    /// How traffic will move, in a sentence: `swap (one process may open the store)`, `blue-green, bake 5m`.
    pub rollout: String,
    /// How traffic will move, exactly; none where no release is made.
    #[serde(default)]
    pub course: Option<Course>,
    /// The steps in order, unchanged ones included with [`Action::None`].
    pub steps: Vec<Step>,
    /// What could hurt, for the confirmation.
    pub risks: Vec<Risk>,
}

impl Plan {
    /// True when carrying it out would do nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|s| matches!(s.action, Action::None | Action::Keep))
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What it makes.
    pub kind: StepKind,
    /// A few words for people.
    pub title: String,
    /// What is done.
    pub action: Action,
    /// Whom it hits.
    pub scope: Scope,
    /// The digest of the step's document.
    pub document: Digest,
    /// The fields that change.
    pub changes: Vec<Change>,
}

/// What is done to a step's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing: live equals wanted.
    None,
    /// It does not exist yet.
    Create,
    /// It changes in place; for a service that is a new release.
    Update,
    /// It is taken away and made anew.
    Replace,
    /// It exists from before and is taken over.
    Adopt,
    /// It is taken away.
    Delete,
    /// It is left as it is, because it holds data.
    Keep,
}

impl Action {
    /// True when a provider is asked to do something.
    pub fn acts(self) -> bool {
        !matches!(self, Action::None | Action::Keep)
    }
}

/// Whom a change hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Only the new release.
    Release,
    /// The serving release as well, at once.
    Shared,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Where, as a dotted path into the document: `env.GREETING`.
    pub path: String,
    /// The live value; absent where there is none.
    pub before: Option<Value>,
    /// The wanted value; absent where the field goes away.
    pub after: Option<Value>,
}

/// Something that could hurt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Risk {
    /// The step that brings it.
    pub step: StepId,
    /// What could happen, in a sentence.
    pub text: String,
}
