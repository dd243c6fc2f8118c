//! How a release takes over, decided once when it is planned: the weights on the way, the pauses, the hooks. It turns the
//! strategy that was asked for into what this cloud can do, and says so; it never moves anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Capabilities, Cloud, ReleaseId, Spec,
    delivery::MINUTE_MS,
    provider::{Driver, Start},
    snapshot::Copying,
    spec::{Analysis, AnalysisSource, Hook, HookWhen, Strategy, WeightStep, Writer},
};

/// The longest that requests are held while two processes swap a store.
pub const SWAP_HOLD_LIMIT_MS: u64 = 1_500;

/// A candidate that nothing new is heard of for this long has failed, unless something else is said.
pub const PROGRESS_DEADLINE_MS: u64 = 600_000;

/// How a release takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Course {
    /// The strategy as it is spelled in environment files.
    pub strategy: String,
    /// One process may open the store: the previous release stops before this one opens it, requests are held meanwhile.
    pub swap: bool,
    /// The candidate's shares in order; never empty, the last is 100.
    pub weights: Vec<WeightStep>,
    /// How long the previous release is kept after all traffic has moved.
    pub bake_ms: u64,
    /// The candidate has all traffic within this, time at gates and pauses by people apart, or the rollout has failed.
    pub deadline_ms: u64,
    /// How long a gate or a pause waits for a person before the rollout is undone.
    pub pause_limit_ms: u64,
    /// Commands on the way, in the order in which they were written.
    pub hooks: Vec<Hook>,
    /// Nothing of the candidate is started before the previous release has stopped.
    #[serde(default)]
    pub cold: bool,
    /// Rolling: the candidate's copies at each weight; empty otherwise.
    #[serde(default)]
    pub batches: Vec<u32>,
    /// Rolling: the copies of a whole release.
    #[serde(default)]
    pub copies: u32,
    /// Rolling: the copies of the release that serves before it; 0 for as many.
    #[serde(default)]
    pub copies_before: u32,
    /// Nothing new from the provider for this long, while it makes the candidate or moves traffic, is a failure.
    #[serde(default = "progress_deadline_ms")]
    pub progress_deadline_ms: u64,
    /// How the candidate is judged; none where nobody can say what its requests are like.
    #[serde(default)]
    pub analysis: Option<Analysis>,
    /// The copy of the data that is taken before anything else; none where none is wanted, or possible.
    #[serde(default)]
    pub copy: Option<Copying>,
    /// Exactly one process writes to the store, and says so when it is asked whether it is ready.
    #[serde(default)]
    pub one_writer: bool,
    /// Who moves traffic.
    #[serde(default, skip_serializing_if = "Driver::is_dbird")]
    pub driven: Driver,
    /// A cloud that moves traffic waits at each weight on the way until it is let on, and undoes it when nobody does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

fn progress_deadline_ms() -> u64 {
    PROGRESS_DEADLINE_MS
}

impl Default for Course {
    /// All traffic at once, judged by nothing but readiness, with half an hour for everything.
    fn default() -> Self {
        Course {
            strategy: "all-at-once".to_owned(),
            swap: false,
            weights: all_at_once(),
            bake_ms: 0,
            deadline_ms: 1_800_000,
            pause_limit_ms: 1_800_000,
            hooks: Vec::new(),
            cold: false,
            batches: Vec::new(),
            copies: 0,
            copies_before: 0,
            progress_deadline_ms: PROGRESS_DEADLINE_MS,
            analysis: None,
            copy: None,
            one_writer: false,
            driven: Driver::Dbird,
            waits: false,
        }
    }
}

/// This cloud can't carry out the rollout that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// The strategy is not among those that the cloud has.
    #[error("{cloud} has no `{strategy}` rollout; it has {known}")]
    Strategy {
        /// What was asked for.
        strategy: String,
        /// Where.
        cloud: Cloud,
        /// What there is.
        known: String,
    },
    /// Only all traffic at once.
    #[error("{cloud} can't split traffic, which a `{strategy}` rollout needs; use blue-green")]
    Weights {
        /// What was asked for.
        strategy: String,
        /// Where.
        cloud: Cloud,
    },
    /// Nobody holds requests while a store changes hands.
    #[error("{cloud} can't swap a service whose store only one process may open")]
    Swap {
        /// Where.
        cloud: Cloud,
    },
}

impl Course {
    /// The course of a release of this service in this cloud.
    pub fn of(spec: &Spec, capabilities: &Capabilities) -> Result<Course, Unsupported> {
        let rollout = &spec.rollout;
        let cloud = capabilities.cloud;
        let exclusive = spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Exclusive);
        let delivery = spec.delivery();
        let delivered = delivery.strategy.clone();
        let (asked, name) = (rollout.strategy.name().to_owned(), delivered.name());
        let driven = match capabilities.strategies.get(name) {
            Some(driven) => *driven,
            None if exclusive && capabilities.swap => Driver::Dbird,
            None => {
                let known = capabilities.strategies.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Unsupported::Strategy { strategy: asked, cloud, known });
            }
        };
        let cold = delivered == Strategy::Recreate;
        let swap = exclusive || cold;
        if swap && driven == Driver::Dbird && !capabilities.swap {
            return Err(Unsupported::Swap { cloud });
        }
        let mut batches = Vec::new();
        let weights = match &delivered {
            _ if swap => all_at_once(),
            Strategy::Canary { steps } => steps.clone(),
            Strategy::Linear { percent, every_ms } => linear(*percent, *every_ms),
            // How far a cloud has come with its copies shows in whatever shares there are.
            Strategy::Rolling { .. } if driven == Driver::Cloud => all_at_once(),
            Strategy::Rolling { batch_percent, .. } => {
                batches = rolling(spec.scale.min, *batch_percent);
                batches.iter().map(|new| step(share(*new, spec.scale.min))).collect()
            }
            Strategy::AllAtOnce | Strategy::BlueGreen | Strategy::Recreate => all_at_once(),
        };
        if weights.len() > 1 && !capabilities.any_weights && driven == Driver::Dbird {
            return Err(Unsupported::Weights { strategy: asked, cloud });
        }
        let own_numbers = matches!(spec.analysis.source, AnalysisSource::Metrics | AnalysisSource::Prometheus);
        Ok(Course {
            strategy: asked,
            swap,
            weights,
            bake_ms: match driven {
                // What ECS replaced task by task it does not keep.
                Driver::Cloud if matches!(delivered, Strategy::Rolling { .. } | Strategy::Recreate) => 0,
                Driver::Cloud => rollout.bake_ms.div_ceil(MINUTE_MS).saturating_mul(MINUTE_MS),
                Driver::Dbird => rollout.bake_ms,
            },
            deadline_ms: rollout.deadline_ms,
            pause_limit_ms: rollout.pause_limit_ms,
            hooks: rollout.hooks.clone(),
            cold,
            copies: if batches.is_empty() { 0 } else { spec.scale.min },
            batches,
            copies_before: 0,
            progress_deadline_ms: rollout.progress_deadline_ms,
            analysis: (spec.analysis.count > 0 && (capabilities.samples || own_numbers)).then(|| spec.analysis.clone()),
            copy: spec.storage.as_ref().and_then(Copying::of),
            one_writer: spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Protocol),
            driven,
            waits: driven == Driver::Cloud && delivery.waits_at_weights(spec.analysis.count > 0),
        })
    }

    /// The same where time passes so many times as fast. A hook's time is its own: what it runs is no faster.
    #[must_use]
    pub fn at_speed(mut self, speed: u32) -> Course {
        let faster = |ms: u64| ms.div_ceil(u64::from(speed.max(1)));
        for step in &mut self.weights {
            step.pause_ms = faster(step.pause_ms);
        }
        self.bake_ms = faster(self.bake_ms);
        self.deadline_ms = faster(self.deadline_ms);
        self.pause_limit_ms = faster(self.pause_limit_ms);
        self.progress_deadline_ms = faster(self.progress_deadline_ms);
        if let Some(analysis) = &mut self.analysis {
            analysis.interval_ms = faster(analysis.interval_ms);
        }
        self
    }

    /// The cloud moves traffic; dbird lets it go on, ends it, and watches.
    pub fn is_cloud_driven(&self) -> bool {
        self.driven == Driver::Cloud
    }

    /// How much of the candidate is started before it gets traffic.
    pub fn start(&self, parent: Option<ReleaseId>) -> Start {
        match (self.batches.first(), parent) {
            (_, None) => Start::All,
            _ if self.cold => Start::Nothing,
            (Some(count), _) => Start::Copies { count: *count },
            (None, _) => Start::All,
        }
    }

    /// How many of the previous release's copies are left beside so many new ones: the same share of them.
    pub fn copies_left(&self, new: u32) -> u32 {
        let before = if self.copies_before == 0 { self.copies } else { self.copies_before };
        let left = u64::from(before) * u64::from(self.copies.saturating_sub(new));
        u32::try_from(left.div_ceil(u64::from(self.copies.max(1)))).unwrap_or(before)
    }

    /// The same with the previous release stopped before this one opens the store, whatever was asked for.
    pub fn stopping_first(&self) -> Course {
        Course {
            strategy: "recreate".to_owned(),
            swap: true,
            weights: all_at_once(),
            batches: Vec::new(),
            copies: 0,
            ..self.clone()
        }
    }

    /// How long traffic stays at a weight, by its place in [`Course::weights`]; at a gate a person decides how long.
    pub fn hold_ms(&self, step: usize) -> u64 {
        let Some(&WeightStep { weight, pause_ms, gate }) = self.weights.get(step) else { return 0 };
        let last = step + 1 == self.weights.len();
        let held_ms = if last { pause_ms.max(self.bake_ms) } else { pause_ms };
        // As many good looks in a row as are wanted must fit.
        let looks_ms = |a: &Analysis| a.interval_ms.saturating_mul(u64::from(a.success_limit));
        let held_ms = match &self.analysis {
            Some(analysis) if held_ms > 0 && analysis.success_limit > 1 => held_ms.max(looks_ms(analysis)),
            _ => held_ms,
        };
        if last {
            return held_ms;
        }
        match &self.analysis {
            Some(analysis) if pause_ms == 0 && !gate && weight < 100 && self.batches.is_empty() => {
                analysis.interval_ms.saturating_mul(u64::from(analysis.count))
            }
            _ => held_ms,
        }
    }

    pub(super) fn gated(&self, step: usize) -> bool {
        self.weights.get(step).is_some_and(|w| w.gate)
    }

    /// Traffic stays somewhere long enough to be judged there.
    pub(super) fn is_held(&self) -> bool {
        (0..self.weights.len()).any(|step| self.hold_ms(step) > 0 || self.gated(step))
    }

    /// The hooks that run at this point, by their place in [`Course::hooks`].
    pub fn hooks_at(&self, when: HookWhen) -> Vec<usize> {
        self.hooks.iter().enumerate().filter(|(_, h)| h.when == when).map(|(i, _)| i).collect()
    }
}

fn step(weight: u8) -> WeightStep {
    WeightStep { weight, pause_ms: 0, gate: false }
}

fn all_at_once() -> Vec<WeightStep> {
    vec![step(100)]
}

/// How many copies are new after each batch; the last is all.
fn rolling(copies: u32, batch_percent: u8) -> Vec<u32> {
    let copies = copies.max(1);
    let batch = (u64::from(copies) * u64::from(batch_percent)).div_ceil(100).max(1);
    let batch = u32::try_from(batch).unwrap_or(copies);
    (1..=copies.div_ceil(batch)).map(|n| n.saturating_mul(batch).min(copies)).collect()
}

/// Copies as a share of the traffic: at least 1 %, and 100 only for all.
fn share(new: u32, copies: u32) -> u8 {
    let percent = u64::from(new) * 100 / u64::from(copies.max(1));
    u8::try_from(percent.clamp(1, 100)).unwrap_or(100)
}

fn linear(percent: u8, every_ms: u64) -> Vec<WeightStep> {
    let percent = percent.clamp(1, 100);
    let mut weights: Vec<_> = (1..=100 / percent)
        .map(|n| WeightStep { weight: n * percent, pause_ms: every_ms, gate: false })
        .filter(|w| w.weight < 100)
        .collect();
    weights.extend(all_at_once());
    weights
}
