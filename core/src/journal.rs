//! What whoever carries out a plan writes down: each intent before it acts, each outcome after. From this alone, and from
//! what a provider then says, somebody else can finish or undo it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rollout::{Course, Request};
use crate::snapshot::Snapshot;
use crate::{Digest, Documents, Handle, Outcome, Outputs, Plan, ReleaseId, Steer, Step, StepId, StepKind};

/// The version of an entry's format. 2: gates that are left, requests, copies of the data, and courses that know of them.
pub const JOURNAL_FORMAT: u32 = 2;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`JOURNAL_FORMAT`].
    pub format: u32,
    /// The run that wrote it; no two runs share one.
    pub run: String,
    /// When, in Unix milliseconds by the writer's clock; for people.
    pub at_unix_ms: u64,
    /// What was written down.
    pub what: What,
}

/// What was written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum What {
    /// A plan begins.
    Begin(Box<Begun>),
    /// Somebody else goes on with it.
    TakenOver {
        /// Who.
        by: String,
    },
    /// A step is about to be applied.
    Intent {
        /// The step.
        step: StepId,
        /// The digest of its document with references filled; the plan has the one without.
        body: Digest,
    },
    /// The provider took the step.
    Applied {
        /// How to ask for it.
        handle: Handle,
    },
    /// A service step is about to be moved on.
    Steering {
        /// How.
        steer: Steer,
        /// Why it is being undone; empty otherwise.
        why: String,
        /// The failing task's last log lines.
        logs: Vec<String>,
    },
    /// Traffic stays at a gate, and whoever brought it there has left: somebody else goes on when a person says so.
    Parked {
        /// The weight's place in the course.
        step: usize,
    },
    /// What somebody asked for was taken up.
    Requested {
        /// The request's number.
        number: u64,
        /// Who asked.
        by: String,
        /// For what.
        request: Request,
    },
    /// A copy of the data is about to be written.
    Copying {
        /// Where to; what was there before may be lost from now on.
        place: String,
    },
    /// A copy of the data was taken.
    Copied {
        /// The copy.
        snapshot: Snapshot,
    },
    /// A step is done.
    Done {
        /// The step.
        step: StepId,
        /// What later steps may refer to.
        outputs: BTreeMap<String, Value>,
        /// How long it took.
        took_ms: u64,
    },
    /// It ended, and its record is written.
    End {
        /// The release.
        release: ReleaseId,
        /// How.
        outcome: Outcome,
    },
}

/// All that is needed to go on with a plan that somebody else began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The release that it makes.
    pub release: ReleaseId,
    /// The plan.
    pub plan: Plan,
    /// The digest of the plan.
    pub plan_digest: Digest,
    /// The documents that the plan was made from.
    pub documents: Documents,
    /// Who began it.
    pub actor: String,
    /// The git revision of the project.
    pub git_revision: String,
    /// When, in Unix milliseconds by the clock of whoever began it.
    pub started_unix_ms: u64,
}

impl Begun {
    /// The step that makes a release, if the plan has one that acts.
    pub fn service_step(&self) -> Option<&Step> {
        self.plan.steps.iter().find(|s| s.kind == StepKind::Service && s.action.acts())
    }
}

/// A plan that was begun and has not ended, as far as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// How it began.
    pub begun: Begun,
    /// The steps that may have been asked for.
    pub intended: Vec<StepId>,
    /// The handles that the provider gave, by step.
    pub handles: BTreeMap<StepId, Handle>,
    /// The steps that are done, with how long they took.
    pub done: Vec<(StepId, u64)>,
    /// What the done steps gave.
    pub outputs: Outputs,
    /// Why it was being undone, and the failing task's last lines, once that was decided.
    pub undoing: Option<(String, Vec<String>)>,
    /// The gate that it was left at, if nobody has gone on since.
    pub parked: Option<usize>,
    /// The numbers of the requests that were taken up.
    pub requests_taken: BTreeSet<u64>,
    /// The candidate's share of the traffic that was last asked for.
    pub weight: Option<u8>,
    /// It was told to finish: from then on nobody can undo it.
    pub finishing: bool,
    /// It was let past a gate: what comes before traffic was done.
    pub continued: bool,
    /// The place that a copy of the data was being written to, if that did not end well.
    pub copying: Option<String>,
    /// The copy of the data that was taken for it.
    pub snapshot: Option<Snapshot>,
}

/// Why a release was undone that somebody aborted.
pub fn aborted(by: &str, why: &str) -> String {
    if why.is_empty() { format!("aborted by {by}") } else { format!("aborted by {by}: {why}") }
}

impl Unfinished {
    /// How far it came, from the entries since the last end. None when the last thing has ended, or nothing ever began.
    pub fn from_tail<'a>(entries: impl IntoIterator<Item = &'a What>) -> Option<Unfinished> {
        let mut found: Option<Unfinished> = None;
        for what in entries {
            match (what, &mut found) {
                (What::Begin(begun), _) => {
                    found = Some(Unfinished {
                        begun: (**begun).clone(),
                        intended: Vec::new(),
                        handles: BTreeMap::new(),
                        done: Vec::new(),
                        outputs: Outputs::default(),
                        undoing: None,
                        parked: None,
                        requests_taken: BTreeSet::new(),
                        weight: None,
                        finishing: false,
                        continued: false,
                        copying: None,
                        snapshot: None,
                    });
                }
                (What::End { .. }, _) => found = None,
                (_, None) => {}
                (What::TakenOver { .. }, Some(found)) => found.parked = None,
                (What::Parked { step }, Some(found)) => found.parked = Some(*step),
                (What::Requested { number, by, request }, Some(found)) => {
                    found.requests_taken.insert(*number);
                    // Whoever was told that he was heard is heard, also when the one who said so died.
                    if let (Request::Abort { why }, None, false) = (request, &found.undoing, found.finishing) {
                        found.undoing = Some((aborted(by, why), Vec::new()));
                    }
                }
                (What::Copying { place }, Some(found)) => found.copying = Some(place.clone()),
                (What::Copied { snapshot }, Some(found)) => {
                    found.copying = None;
                    found.snapshot = Some(snapshot.clone());
                }
                (What::Intent { step, .. }, Some(found)) => {
                    if !found.intended.contains(step) {
                        found.intended.push(step.clone());
                    }
                }
                (What::Applied { handle }, Some(found)) => {
                    found.handles.insert(handle.step.clone(), handle.clone());
                }
                (What::Steering { steer: Steer::Stop { .. }, why, logs }, Some(found)) => {
                    found.undoing = Some((why.clone(), logs.clone()));
                }
                (What::Steering { steer: Steer::Shift { weights, .. }, .. }, Some(found)) => {
                    found.weight = Some(weights.of(found.begun.release));
                }
                (What::Steering { steer: Steer::Finish, .. }, Some(found)) => found.finishing = true,
                (What::Steering { steer: Steer::Continue { .. }, .. }, Some(found)) => found.continued = true,
                (What::Done { step, outputs, took_ms }, Some(found)) => {
                    found.outputs.insert(step.clone(), outputs.clone());
                    found.done.push((step.clone(), *took_ms));
                }
            }
        }
        found
    }

    /// Its share of the traffic at the gate that it was left at, if nobody has gone on since.
    pub fn parked_at(&self) -> Option<u8> {
        let step = self.parked?;
        Some(self.begun.plan.course.as_ref().and_then(|c| c.weights.get(step)).map_or(0, |w| w.weight))
    }

    /// True where its cloud has its service step, and drives it to its end.
    pub fn goes_on_alone(&self) -> bool {
        let driven = self.begun.plan.course.as_ref().is_some_and(Course::is_cloud_driven);
        driven && self.begun.service_step().is_some_and(|s| self.handles.contains_key(&s.id) && !self.is_done(&s.id))
    }

    /// True once this step is done.
    pub fn is_done(&self, step: &StepId) -> bool {
        self.done.iter().any(|(done, _)| done == step)
    }
}
