//! What the agent must know after a crash, and where it is kept. It decides what is written before something is done;
//! what runs is not in it but in the tasks' folders.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::Path;

use dataplane::files::{self, Lasting};
use dbird_core::provider::ProgressEvent;
use dbird_core::{Digest, Phase, ReleaseId, Start, StepId, Weights};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::ServiceDocument;

/// The version of the file's format.
pub(crate) const STATE_FORMAT: u32 = 1;
/// Rollouts that ended and are still told about.
const ENDED_MAX: usize = 20;
/// Events of one rollout.
const EVENTS_MAX: usize = 1000;

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) format: u32,
    /// Whose releases these are; set by the first.
    pub(crate) service: Option<String>,
    /// The documents of steps that are no service, as they were applied.
    pub(crate) documents: BTreeMap<StepId, StepRecord>,
    pub(crate) releases: BTreeMap<ReleaseId, ReleaseRecord>,
    /// The traffic, as it is or, during a shift, was.
    pub(crate) weights: Weights,
    pub(crate) rollout: Option<Rollout>,
    /// How earlier rollouts ended, oldest first.
    pub(crate) ended: VecDeque<Rollout>,
    /// Everything but the data is being taken away.
    pub(crate) removing: bool,
}

/// A step that is no service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) kind: dbird_core::StepKind,
    pub(crate) body: Value,
}

/// A release that has tasks, or had them and may get them back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReleaseRecord {
    pub(crate) step: StepId,
    pub(crate) document: Digest,
    pub(crate) body: ServiceDocument,
    pub(crate) since_unix_ms: u64,
    /// False for one whose tasks are stopped while another release takes its turn.
    pub(crate) up: bool,
    /// How many copies run where that is fewer than the document says: a rolling release on its way.
    #[serde(default)]
    pub(crate) copies: Option<u32>,
}

impl ReleaseRecord {
    /// How many copies are to run.
    pub(crate) fn wanted(&self) -> u32 {
        if self.up { self.copies.unwrap_or(u32::MAX).min(self.body.replicas) } else { 0 }
    }

    /// So many copies are to run, and never more than the document says.
    pub(crate) fn want(&mut self, copies: u32) {
        self.copies = (copies < self.body.replicas).then_some(copies);
    }
}

/// The way of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) step: StepId,
    pub(crate) release: ReleaseId,
    pub(crate) document: Digest,
    /// The traffic before.
    pub(crate) before: Weights,
    pub(crate) stage: Stage,
    /// How much of it is started before it gets traffic.
    #[serde(default)]
    pub(crate) start: Start,
    /// The copies of each release that the last shift asks for.
    #[serde(default)]
    pub(crate) copies: BTreeMap<ReleaseId, u32>,
    /// The traffic, once it has ended.
    pub(crate) weights: Weights,
    pub(crate) events: Vec<ProgressEvent>,
    pub(crate) endpoints: BTreeMap<String, String>,
}

/// Where a rollout is, or is to get to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Starting,
    Ready,
    Shifting(Weights),
    Finishing,
    RollingBack,
    Failed { why: String, logs: Vec<String> },
    Finished,
    RolledBack,
}

impl Stage {
    pub(crate) fn phase(&self) -> Phase {
        match self.clone() {
            Stage::Starting => Phase::Working,
            Stage::Ready => Phase::Ready,
            Stage::Shifting(_) => Phase::Shifting,
            Stage::Finishing => Phase::Finishing,
            Stage::RollingBack => Phase::RollingBack,
            Stage::Failed { why, logs } => Phase::Failed { why, logs },
            Stage::Finished => Phase::Finished,
            Stage::RolledBack => Phase::RolledBack,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Stage::Finished | Stage::RolledBack)
    }
}

impl Rollout {
    /// The release that served before, if one did.
    pub(crate) fn parent(&self) -> Option<ReleaseId> {
        self.before
            .0
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .max_by_key(|(id, weight)| (**weight, **id))
            .map(|(id, _)| *id)
    }

    pub(crate) fn say(&mut self, at_unix_ms: u64, text: String) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(ProgressEvent { at_unix_ms, text });
        }
    }
}

impl State {
    /// Whether nothing of the candidate may run before the other release has stopped.
    pub(crate) fn is_cold(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.start == Start::Nothing)
    }

    /// Whether one release may serve at a time: it was asked for, or one of them says that the store takes no more, or
    /// they use it by different versions of a protocol.
    pub(crate) fn takes_turns(&self) -> bool {
        let protocol = self.releases.values().next().map(|record| record.body.storage_protocol);
        let differs = |body: &ServiceDocument| Some(body.storage_protocol) != protocol;
        self.is_cold() || self.releases.values().any(|record| record.body.is_exclusive() || differs(&record.body))
    }

    /// The rollout of a release, under way or ended.
    pub(crate) fn rollout_of(&self, release: ReleaseId) -> Option<&Rollout> {
        self.rollout.iter().chain(self.ended.iter().rev()).find(|rollout| rollout.release == release)
    }

    /// Ends the rollout that is under way.
    pub(crate) fn end_rollout(&mut self, stage: Stage) {
        if let Some(mut rollout) = self.rollout.take() {
            rollout.stage = stage;
            rollout.weights = self.weights.clone();
            self.ended.push_back(rollout);
            while self.ended.len() > ENDED_MAX {
                self.ended.pop_front();
            }
        }
    }

    /// The release with the most traffic.
    pub(crate) fn current(&self) -> Option<ReleaseId> {
        self.weights
            .0
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .max_by_key(|(id, weight)| (**weight, **id))
            .map(|(id, _)| *id)
    }

    /// Whether there is anything to look after.
    pub(crate) fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.rollout.is_none() && !self.removing
    }

    /// What was written, or nothing where nothing ever was.
    pub(crate) fn load(path: &Path) -> Result<State, String> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(State { format: STATE_FORMAT, ..State::default() });
            }
            bytes => bytes.map_err(|error| format!("can't read {}: {error}", path.display()))?,
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| format!("{} is damaged: {error}", path.display());
        let Format { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > STATE_FORMAT {
            return Err(format!("{} was written by a newer dbird (format {format}); use that one", path.display()));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &serde_json::to_vec(self)?, Lasting::PowerCut)
    }
}

/// True where an agent has something to look after, by what it wrote; for those who don't want to start one in vain.
pub(crate) fn has_releases(path: &Path) -> bool {
    // What can't be read is for the agent to complain about.
    path.exists() && State::load(path).map_or(true, |state| !state.is_empty())
}
