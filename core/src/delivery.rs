//! Who moves the traffic of a release on AWS, and how, decided from the specification alone. Templates and the course of a
//! rollout both ask here, so that neither can decide otherwise.

use crate::{
    Cloud, Spec,
    spec::{Controller, Strategy, WeightStep, Writer},
};

/// The engines of AWS count in whole minutes.
pub const MINUTE_MS: u64 = 60_000;

/// Who moves the traffic, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The engine, where the cloud is AWS.
    pub controller: Controller,
    /// What is really done. On AWS its times are whole minutes.
    pub strategy: Strategy,
}

impl Delivery {
    /// True where AWS waits at each weight until it is let on: for a person at a gate, or for the looks.
    pub fn waits_at_weights(&self, judged: bool) -> bool {
        let in_parts = match &self.strategy {
            Strategy::Canary { steps } => judged || steps.iter().any(|step| step.gate),
            Strategy::Linear { .. } => judged,
            _ => false,
        };
        self.controller == Controller::Ecs && in_parts
    }
}

impl Spec {
    /// What is done on the way to a release. Elsewhere than on AWS that is what was asked for.
    ///
    /// On AWS a store that one process may open leaves one way only: the old task stops before the new one starts, and only
    /// ECS itself can do that. A pause that is left to the looks is as long as they take, and every time is rounded up.
    pub fn delivery(&self) -> Delivery {
        let Spec { rollout, analysis, .. } = self;
        if self.cloud != Cloud::Aws {
            return Delivery { controller: rollout.controller, strategy: rollout.strategy.clone() };
        }
        if self.storage.as_ref().is_some_and(|storage| storage.writer == Writer::Exclusive) {
            return Delivery { controller: Controller::Ecs, strategy: Strategy::Recreate };
        }
        let looks_ms = analysis.interval_ms.saturating_mul(u64::from(analysis.count));
        let pause_ms = |step: &WeightStep| match step.pause_ms {
            0 if step.weight < 100 && !step.gate => whole_minutes(looks_ms.max(1)),
            pause_ms => whole_minutes(pause_ms),
        };
        let strategy = match &rollout.strategy {
            Strategy::Canary { steps } if steps.iter().all(|step| step.weight == 100) => Strategy::BlueGreen,
            Strategy::Canary { steps } => Strategy::Canary {
                steps: steps.iter().map(|step| WeightStep { pause_ms: pause_ms(step), ..step.clone() }).collect(),
            },
            Strategy::Linear { percent, every_ms } => {
                Strategy::Linear { percent: *percent, every_ms: whole_minutes((*every_ms).max(1)) }
            }
            other => other.clone(),
        };
        Delivery { controller: rollout.controller, strategy }
    }
}

/// Rounded up.
fn whole_minutes(ms: u64) -> u64 {
    ms.div_ceil(MINUTE_MS).saturating_mul(MINUTE_MS)
}
