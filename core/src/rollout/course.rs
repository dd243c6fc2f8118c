//! How a release takes over, decided once when it is planned: the weights on the way, the pauses, the hooks. It turns the
//! strategy that was asked for into what this cloud can do, and says so; it never moves anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Capabilities, Cloud, ReleaseId, Spec,
    provider::Driver,
    spec::{Hook, HookWhen, Strategy, WeightStep, Writer},
};

/// The longest that requests are held while two processes swap a store.
pub const SWAP_HOLD_LIMIT_MS: u64 = 1_500;

/// How a release takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        let swap = spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Exclusive);
        let weights = match &rollout.strategy {
            _ if swap => all_at_once(),
            Strategy::Canary { steps } => steps.clone(),
            Strategy::Linear { percent, every_ms } => linear(*percent, *every_ms),
            Strategy::AllAtOnce | Strategy::BlueGreen | Strategy::Rolling { .. } | Strategy::Recreate => all_at_once(),
        };
        if swap {
            if !capabilities.swap {
                return Err(Unsupported::Swap { cloud });
            }
        } else {
            let carried_out_as = match rollout.strategy {
                Strategy::Rolling { .. } | Strategy::Recreate => "blue-green",
                _ => strategy.as_str(),
            };
            match capabilities.strategies.get(carried_out_as) {
                Some(Driver::Dbird) => {}
                Some(Driver::Cloud) => return Err(Unsupported::CloudDriven { strategy, cloud }),
                None => {
                    let known = capabilities.strategies.keys().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Unsupported::Strategy { strategy, cloud, known });
                }
            }
            if weights.len() > 1 && !capabilities.any_weights {
                return Err(Unsupported::Weights { strategy, cloud });
            }
        }
        Ok(Course {
            strategy,
            swap,
            weights,
            bake_ms: rollout.bake_ms,
            deadline_ms: rollout.deadline_ms,
            pause_limit_ms: rollout.pause_limit_ms,
            hooks: rollout.hooks.clone(),
        })
    }

    /// The same with the previous release stopped before this one opens the store, whatever was asked for.
    pub fn stopping_first(&self) -> Course {
        Course { strategy: "recreate".to_owned(), swap: true, weights: all_at_once(), ..self.clone() }
    }

    /// The hooks that run at this point, by their place in [`Course::hooks`].
    pub fn hooks_at(&self, when: HookWhen) -> Vec<usize> {
        self.hooks.iter().enumerate().filter(|(_, h)| h.when == when).map(|(i, _)| i).collect()
    }

    /// What will happen to traffic, in a sentence.
    pub fn describe(&self, parent: Option<ReleaseId>) -> String {
        let mut text = match parent {
            None => "first release: all traffic as soon as it is ready".to_owned(),
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
                "rolling" => "blue-green of all copies at once (how rolling is carried out here)".to_owned(),
                "recreate" => "blue-green (how recreate is carried out for a store that releases may share)".to_owned(),
                name => format!("{name}: all traffic moves once the new release is ready"),
            };
        }
        let steps: Vec<_> = self
            .weights
            .iter()
            .map(|w| match (w.gate, w.pause_ms) {
                (true, _) => format!("{} % until somebody goes on", w.weight),
                (false, 0) => format!("{} %", w.weight),
                (false, pause) => format!("{} % for {}", w.weight, span(pause)),
            })
            .collect();
        format!("{}: {} (by time; metrics are not judged)", self.strategy, shorten(&steps))
    }
}

fn all_at_once() -> Vec<WeightStep> {
    vec![WeightStep { weight: 100, pause_ms: 0, gate: false }]
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
