//! How a release takes over, decided once when it is planned: the weights on the way, the pauses, the hooks. It turns the
//! strategy that was asked for into what this cloud can do, and says so; it never moves anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Capabilities, Cloud, ReleaseId, Spec,
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
    /// The cloud's own engine would move the traffic.
    #[error("this version moves traffic itself, but a `{strategy}` rollout on {cloud} is driven by the cloud")]
    CloudDriven {
        /// What was asked for.
        strategy: String,
        /// Where.
        cloud: Cloud,
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
        let strategy = rollout.strategy.name().to_owned();
        let cloud = capabilities.cloud;
        let exclusive = spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Exclusive);
        let cold = rollout.strategy == Strategy::Recreate;
        let swap = exclusive || cold;
        let mut batches = Vec::new();
        let weights = match &rollout.strategy {
            _ if swap => all_at_once(),
            Strategy::Canary { steps } => steps.clone(),
            Strategy::Linear { percent, every_ms } => linear(*percent, *every_ms),
            Strategy::Rolling { batch_percent, .. } => {
                batches = rolling(spec.scale.min, *batch_percent);
                batches.iter().map(|new| step(share(*new, spec.scale.min))).collect()
            }
            Strategy::AllAtOnce | Strategy::BlueGreen | Strategy::Recreate => all_at_once(),
        };
        if swap && !capabilities.swap {
            return Err(Unsupported::Swap { cloud });
        }
        match capabilities.strategies.get(&strategy) {
            Some(Driver::Dbird) => {}
            _ if exclusive => {}
            Some(Driver::Cloud) => return Err(Unsupported::CloudDriven { strategy, cloud }),
            None => {
                let known = capabilities.strategies.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Unsupported::Strategy { strategy, cloud, known });
            }
        }
        if weights.len() > 1 && !capabilities.any_weights {
            return Err(Unsupported::Weights { strategy, cloud });
        }
        let own_numbers = matches!(spec.analysis.source, AnalysisSource::Metrics | AnalysisSource::Prometheus);
        Ok(Course {
            strategy,
            swap,
            weights,
            bake_ms: rollout.bake_ms,
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
        })
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

    fn gated(&self, step: usize) -> bool {
        self.weights.get(step).is_some_and(|w| w.gate)
    }

    /// The hooks that run at this point, by their place in [`Course::hooks`].
    pub fn hooks_at(&self, when: HookWhen) -> Vec<usize> {
        self.hooks.iter().enumerate().filter(|(_, h)| h.when == when).map(|(i, _)| i).collect()
    }

    /// What will happen to traffic, in a sentence.
    pub fn describe(&self, parent: Option<ReleaseId>) -> String {
        let mut text = match parent {
            None => "first release: all traffic as soon as it is ready".to_owned(),
            Some(_) if self.cold => {
                "recreate: the previous release stops, then this one starts; requests are held meanwhile, and told to come back \
                 when that takes long"
                    .to_owned()
            }
            Some(_) if self.swap => {
                let instead = if matches!(self.strategy.as_str(), "recreate" | "blue-green" | "all-at-once") {
                    String::new()
                } else {
                    format!(" instead of {}", self.strategy)
                };
                format!("swap{instead} (one process may open the store): requests are held while it changes hands")
            }
            Some(_) => self.describe_weights(),
        };
        let gates = self.weights.iter().filter(|w| w.gate).count();
        if gates > 0 && !self.swap && parent.is_some() {
            text += &format!("; undone when nobody goes on within {} at a gate", span(self.pause_limit_ms));
        }
        if self.bake_ms > 0 && parent.is_some() {
            text +=
                &format!("; {parent} is kept for {bake} after that", parent = self.kept(), bake = span(self.bake_ms));
        }
        if let (Some(analysis), Some(_)) = (&self.analysis, parent) {
            text += &format!(
                "; {}",
                judged(analysis, (0..self.weights.len()).any(|step| self.hold_ms(step) > 0 || self.gated(step)))
            );
        }
        if let (Some(copy), Some(_)) = (&self.copy, parent) {
            text += &format!("; the data is copied first (the last {} copies are kept)", copy.kept);
        }
        if !self.hooks.is_empty() {
            let s = if self.hooks.len() == 1 { "" } else { "s" };
            text += &format!("; {} hook{s}", self.hooks.len());
        }
        text
    }

    fn kept(&self) -> &'static str {
        if self.swap { "the way back" } else { "the previous release" }
    }

    fn describe_weights(&self) -> String {
        if self.weights.len() <= 1 {
            return match self.strategy.as_str() {
                "rolling" if self.copies == 1 => "rolling: the new copy is ready before the old one stops".to_owned(),
                "rolling" => format!("rolling: all {} copies at once", self.copies),
                name => format!("{name}: all traffic moves once the new release is ready"),
            };
        }
        if let [first, ..] = self.batches.as_slice() {
            return format!(
                "rolling: {} of {} copies at a time, new ones ready before old ones stop",
                first, self.copies
            );
        }
        let held = |pause_ms: u64| match &self.analysis {
            Some(analysis) if pause_ms == 0 => analysis.interval_ms.saturating_mul(u64::from(analysis.count)),
            _ => pause_ms,
        };
        let steps: Vec<_> = self
            .weights
            .iter()
            .map(|w| match (w.gate, w.pause_ms) {
                (true, _) => format!("{} % until somebody goes on", w.weight),
                (false, _) if w.weight == 100 => "100 %".to_owned(),
                (false, pause) => format!("{} % for {}", w.weight, span(held(pause))),
            })
            .collect();
        format!("{}: {}", self.strategy, shorten(&steps))
    }
}

fn judged(analysis: &Analysis, held: bool) -> String {
    if held {
        format!("judged every {}", span(analysis.interval_ms))
    } else {
        "not judged, since nothing holds it".to_owned()
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

/// The first steps and the last: a linear rollout may have a hundred.
fn shorten(steps: &[String]) -> String {
    match steps {
        [first, second, .., last] if steps.len() > 5 => format!("{first}, {second}, ... {last}"),
        _ => steps.join(", "),
    }
}

fn span(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}
