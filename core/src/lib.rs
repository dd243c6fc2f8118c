//! What dbird decides, as values: the specification of an environment, the documents it renders to, the plan over what
//! is live, the course of a rollout, and what a release was.
//!
//! Nothing here does I/O, reads a clock or the process environment, or needs an async runtime; the crate's `clippy.toml`
//! holds that. Data flows forward: environment files -> [`Spec`] -> [`Documents`] -> [`Plan`] -> applied steps ->
//! [`Release`].

pub mod analysis;
pub mod delivery;
pub mod document;
pub mod environment;
pub mod history;
pub mod ids;
pub mod journal;
pub mod observed;
pub mod plan;
pub mod planning;
pub mod policy;
pub mod provider;
pub mod recovery;
pub mod release;
pub mod rollout;
pub mod schema;
pub mod snapshot;
pub mod spec;

pub use delivery::Delivery;
pub use document::{Document, Documents, ImageRef, Outputs, StepKind};
pub use ids::{Cloud, Digest, ReleaseId, StepId};
pub use observed::{LiveRelease, Observed, Preview, TaskState, TaskStatus};
pub use plan::{Action, Change, Plan, Reason, Risk, Scope, Step};
pub use provider::{
    Capabilities, Command, Cursor, Handle, LogLine, LogPage, LogQuery, Phase, Progress, Provider, ProviderError,
    Samples, Start, Steer, Target, Weights, Window, Work,
};
pub use release::{Outcome, Release};
pub use spec::Spec;
