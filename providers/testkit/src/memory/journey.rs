//! How the in-memory provider moves traffic by itself, as a cloud's own engine does: gates, shares, a bake, an alarm.

use dbird_core::{ProviderError, ReleaseId, Weights, provider::ErrorKind};

use super::{
    cloud::{Cloud, error},
    document::{Behaviour, Beside},
    rollout::{DRAIN_MS, Part, Rollout, SHIFT_MS, Stage},
};
use crate::broken::Fault;

/// How far it has come.
#[derive(Debug, Clone)]
pub(super) struct Journey {
    pub(super) beside: Beside,
    /// The next share.
    next: usize,
    gates: u32,
    passed: Vec<String>,
    /// Why it undid it by itself.
    pub(super) undone: String,
}

impl Journey {
    pub(super) fn new(beside: Beside) -> Self {
        Journey { beside, next: 0, gates: 0, passed: Vec::new(), undone: String::new() }
    }
}

impl Rollout {
    /// The gate that it shows.
    pub(super) fn gate(&self) -> Option<String> {
        match (&self.stage, &self.journey) {
            (Stage::AtGate { gate, .. }, _) => Some(gate.clone()),
            (Stage::Baking { .. }, Some(journey)) if journey.beside.bake_gate => Some("end-of-bake".to_owned()),
            _ => None,
        }
    }

    /// When its cloud undoes it by itself.
    pub(super) fn alarm_ms(&self) -> Option<u64> {
        let since_ms = self.first_traffic_ms?;
        let under_way = matches!(
            self.stage,
            Stage::Shifting { .. } | Stage::AtGate { .. } | Stage::Staying { .. } | Stage::Baking { .. }
        );
        let journey = self.journey.as_ref().filter(|_| under_way && self.parent.is_some())?;
        let dies_ms = match self.behaviour {
            Behaviour::DiesUnderTraffic { after_ms } => Some(after_ms),
            _ => None,
        };
        [journey.beside.alarm_ms, dies_ms].into_iter().flatten().min().map(|after_ms| since_ms + after_ms)
    }
}

impl Cloud {
    /// The candidate is ready.
    pub(super) fn sets_out(&mut self, rollout: &mut Rollout, at_ms: u64) {
        match &rollout.journey {
            Some(journey) if journey.beside.first_gate => self.waits(rollout, at_ms),
            Some(_) => self.goes_on(rollout, at_ms),
            None => {}
        }
    }

    /// Traffic has come to a share.
    pub(super) fn arrived(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let everything = self.weights.of(rollout.handle.release) == 100;
        let Some(journey) = &mut rollout.journey else { return };
        if everything {
            let bake_ms = if rollout.parent.is_some() { journey.beside.bake_ms } else { 0 };
            rollout.stage = Stage::Baking { until_ms: at_ms + bake_ms };
        } else {
            let stays_ms = journey.beside.shares.get(journey.next).map_or(0, |(_, ms)| *ms);
            journey.next += 1;
            rollout.stage = Stage::Staying { until_ms: at_ms + stays_ms };
        }
    }

    fn waits(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let Some(journey) = &mut rollout.journey else { return };
        journey.gates += 1;
        let gate = match self.fault {
            Some(Fault::ReusesGates) => "gate".to_owned(),
            _ => format!("gate-{}", journey.gates),
        };
        rollout.stage = Stage::AtGate { gate, until_ms: at_ms + journey.beside.gate_limit_ms };
    }

    /// The time at a share has passed, or it was never at one.
    pub(super) fn goes_on(&mut self, rollout: &mut Rollout, at_ms: u64) {
        match &rollout.journey {
            Some(journey) if journey.beside.gates && journey.next > 0 => self.waits(rollout, at_ms),
            _ => self.moves_on(rollout, at_ms),
        }
    }

    fn moves_on(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        let share = rollout.journey.as_ref().and_then(|journey| journey.beside.shares.get(journey.next));
        let to = match (rollout.parent, share) {
            (Some(parent), Some((share, _))) => Weights([(parent, 100 - share), (candidate, *share)].into()),
            _ => Weights::all(candidate),
        };
        rollout.stage = Stage::Shifting { to, part: Part::Moving, until_ms: at_ms + SHIFT_MS };
    }

    /// Somebody lets it past a gate. One that was passed before is not passed again.
    pub(super) fn let_on(&mut self, rollout: &mut Rollout, gate: &str, now_ms: u64) -> Result<(), ProviderError> {
        let waits = matches!(&rollout.stage, Stage::AtGate { gate: at, .. } if at == gate);
        match &mut rollout.journey {
            None => Err(error(ErrorKind::Unsupported, "steer", "there are no gates here".to_owned())),
            Some(journey) if waits => {
                journey.passed.push(gate.to_owned());
                self.moves_on(rollout, now_ms);
                Ok(())
            }
            Some(journey) if journey.passed.iter().any(|passed| passed == gate) => Ok(()),
            Some(_) => Err(error(ErrorKind::Conflict, "steer", format!("it does not wait at {gate}"))),
        }
    }

    /// Somebody ends the bake.
    pub(super) fn ends_bake(&mut self, rollout: &mut Rollout, now_ms: u64) {
        if rollout.journey.as_ref().is_some_and(|journey| journey.beside.bake_gate) {
            rollout.say(now_ms, "the previous release drains");
            rollout.stage = Stage::Finishing { until_ms: now_ms + DRAIN_MS };
        }
    }

    pub(super) fn alarmed(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate: ReleaseId = rollout.handle.release;
        if matches!(rollout.behaviour, Behaviour::DiesUnderTraffic { .. }) {
            self.kill(candidate);
            self.undone_by_itself(rollout, &format!("{candidate} died under traffic"), at_ms);
        } else {
            self.undone_by_itself(rollout, &format!("the alarm of {candidate}"), at_ms);
        }
    }

    pub(super) fn undone_by_itself(&mut self, rollout: &mut Rollout, why: &str, at_ms: u64) {
        if let Some(journey) = &mut rollout.journey {
            journey.undone = why.to_owned();
        }
        rollout.say(at_ms, format!("traffic goes back: {why}"));
        self.begin_way_back(rollout, at_ms);
    }
}
