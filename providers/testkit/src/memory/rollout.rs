//! One service step of the in-memory provider: where it is, and how time and steering move it.

use dbird_core::{Handle, Phase, ProviderError, ReleaseId, Steer, Weights, provider::ErrorKind};

use super::{
    cloud::{Cloud, error},
    document::Behaviour,
};
use crate::broken::Fault;

/// How long things take.
const READY_MS: u64 = 300;
const SHIFT_MS: u64 = 50;
const DRAIN_MS: u64 = 120;
const BACK_MS: u64 = 80;

/// A service step.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    pub(super) handle: Handle,
    pub(super) parent: Option<ReleaseId>,
    pub(super) behaviour: Behaviour,
    pub(super) exclusive: bool,
    pub(super) stage: Stage,
    pub(super) events: Vec<(u64, String)>,
    first_traffic_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Making { until_ms: u64 },
    Ready,
    Shifting { to: Weights, until_ms: u64 },
    Finishing { until_ms: u64 },
    Finished,
    RollingBack { until_ms: u64 },
    RolledBack,
    Failed { why: String, logs: Vec<String> },
}

impl Rollout {
    pub(super) fn new(
        handle: Handle,
        parent: Option<ReleaseId>,
        behaviour: Behaviour,
        exclusive: bool,
        now_ms: u64,
    ) -> Self {
        let events = vec![(now_ms, format!("{} starts", handle.release))];
        let stage = Stage::Making { until_ms: now_ms + READY_MS };
        Rollout { handle, parent, behaviour, exclusive, stage, events, first_traffic_ms: None }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.stage, Stage::Finished | Stage::RolledBack)
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Making { .. } => Phase::Working,
            Stage::Ready => Phase::Ready,
            Stage::Shifting { .. } => Phase::Shifting,
            Stage::Finishing { .. } => Phase::Finishing,
            Stage::Finished => Phase::Finished,
            Stage::RollingBack { .. } => Phase::RollingBack,
            Stage::RolledBack => Phase::RolledBack,
            Stage::Failed { why, logs } => Phase::Failed { why: why.clone(), logs: logs.clone() },
        }
    }

    pub(super) fn waiting_for(&self) -> &'static str {
        match self.stage {
            Stage::Making { .. } => "readiness",
            Stage::Shifting { .. } => "traffic to move",
            Stage::Finishing { .. } => "the previous release to drain",
            Stage::RollingBack { .. } => "traffic to go back",
            _ => "",
        }
    }

    /// When it moves by itself next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        match (&self.stage, &self.behaviour) {
            (Stage::Making { .. }, Behaviour::NeverReady) => None,
            (Stage::Making { until_ms } | Stage::Shifting { until_ms, .. }, _) => Some(*until_ms),
            (Stage::Finishing { until_ms } | Stage::RollingBack { until_ms }, _) => Some(*until_ms),
            (Stage::Ready, Behaviour::DiesUnderTraffic { after_ms }) => self.first_traffic_ms.map(|t| t + after_ms),
            _ => None,
        }
    }

    fn say(&mut self, now_ms: u64, text: impl Into<String>) {
        self.events.push((now_ms, text.into()));
    }
}

impl Cloud {
    /// Lets the rollout do what it does by that time.
    pub(super) fn advance_rollout(&mut self, mut rollout: Rollout, now_ms: u64) -> Rollout {
        let candidate = rollout.handle.release;
        while let Some(at_ms) = rollout.next_ms().filter(|at| *at <= now_ms) {
            match rollout.stage.clone() {
                Stage::Making { .. } => self.made(&mut rollout, at_ms),
                Stage::Ready => {
                    self.kill(candidate);
                    rollout.say(at_ms, format!("{candidate} died"));
                    rollout.stage = Stage::Failed { why: format!("{candidate} died under traffic"), logs: Vec::new() };
                }
                Stage::Shifting { .. } if rollout.exclusive && rollout.behaviour == Behaviour::FailsSwap => {
                    self.weights = rollout.parent.map(Weights::all).unwrap_or_default();
                    rollout.say(at_ms, "the previous release has the store again");
                    let why = format!("{candidate} could not open the store");
                    rollout.stage = Stage::Failed { why, logs: vec!["database is locked".to_owned()] };
                }
                Stage::Shifting { to, .. } => {
                    self.weights = self.rounded(to);
                    rollout.first_traffic_ms = rollout.first_traffic_ms.or(Some(at_ms));
                    rollout.say(at_ms, format!("{candidate} has {} %", self.weights.of(candidate)));
                    rollout.stage = Stage::Ready;
                }
                Stage::Finishing { .. } => {
                    if self.fault != Some(Fault::LeavesThePrevious) {
                        self.running.retain(|id, _| *id == candidate);
                    }
                    rollout.say(at_ms, "the previous release stopped");
                    rollout.stage = Stage::Finished;
                }
                Stage::RollingBack { .. } => self.gone_back(&mut rollout, at_ms),
                Stage::Finished | Stage::RolledBack | Stage::Failed { .. } => break,
            }
        }
        rollout
    }

    fn made(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        if let Behaviour::Dies { last_words } = &rollout.behaviour {
            let words = last_words.clone();
            self.log(at_ms, candidate, &format!("{candidate}-task-0"), true, &words);
            let logs = if self.fault == Some(Fault::LosesLastWords) { Vec::new() } else { vec![words] };
            rollout.say(at_ms, format!("{candidate} died"));
            rollout.stage = Stage::Failed { why: format!("{candidate} died before it was ready"), logs };
            return;
        }
        if let Some(running) = self.running.get_mut(&candidate) {
            running.ready = true;
        }
        if self.fault == Some(Fault::TrafficAtOnce) && rollout.parent.is_some() {
            self.weights = Weights([(candidate, 1), (rollout.parent.unwrap_or(candidate), 99)].into());
        }
        rollout.say(at_ms, format!("{candidate} is ready"));
        rollout.stage = Stage::Ready;
    }

    fn gone_back(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        let gone = self.running.get(&candidate).map(|r| r.body.clone());
        if self.fault != Some(Fault::LeavesTheFirst) || rollout.parent.is_some() {
            self.running.remove(&candidate);
        }
        self.weights = rollout.parent.map(Weights::all).unwrap_or_default();
        if self.fault == Some(Fault::RestoresAnotherDocument)
            && let (Some(parent), Some(body)) = (rollout.parent, gone)
            && let Some(running) = self.running.get_mut(&parent)
        {
            running.body = body;
        }
        rollout.say(at_ms, format!("{candidate} is gone"));
        rollout.stage = Stage::RolledBack;
    }

    fn rounded(&self, weights: Weights) -> Weights {
        if self.fault != Some(Fault::RoundsWeights) {
            return weights;
        }
        let mut rounded = Weights(weights.0.iter().map(|(id, w)| (*id, w / 10 * 10)).collect());
        let rest = 100 - rounded.0.values().sum::<u8>();
        if let Some(first) = rounded.0.values_mut().next() {
            *first += rest;
        }
        rounded
    }

    /// Moves a rollout on. A call that comes after its end changes nothing.
    pub(super) fn steer(&mut self, release: ReleaseId, steer: &Steer, now_ms: u64) -> Result<(), ProviderError> {
        let Some(mut rollout) = self.rollouts.get(&release).cloned() else {
            return Err(error(ErrorKind::NotFound, "steer", format!("no rollout of {release}")));
        };
        let conflict = |why: &str| Err(error(ErrorKind::Conflict, "steer", format!("{release} {why}")));
        let everything = self.weights.of(release) == 100;
        match (steer, rollout.stage.clone()) {
            (Steer::Shift { .. }, Stage::RolledBack) if self.fault == Some(Fault::ObeysLateCalls) => {
                rollout.stage = Stage::Ready;
                self.weights = Weights::all(release);
                self.restart(release, now_ms);
            }
            (Steer::Shift { weights }, Stage::Ready | Stage::Shifting { .. }) => {
                self.check_weights(release, weights, &rollout)?;
                let same = match &rollout.stage {
                    Stage::Shifting { to, .. } => to == weights,
                    _ => self.weights == *weights,
                };
                if !same {
                    rollout.say(now_ms, "traffic moves");
                    rollout.stage = Stage::Shifting { to: weights.clone(), until_ms: now_ms + SHIFT_MS };
                }
            }
            (Steer::Shift { .. }, Stage::Making { .. }) => return conflict("is not ready for traffic"),
            (Steer::Shift { .. }, _) => return conflict("gets no traffic any more"),
            (Steer::Finish, Stage::Ready) if everything => {
                rollout.say(now_ms, "the previous release drains");
                rollout.stage = Stage::Finishing { until_ms: now_ms + DRAIN_MS };
            }
            (Steer::Finish, Stage::Finishing { .. } | Stage::Finished) if self.fault == Some(Fault::FinishesOnce) => {
                return conflict("was told to finish already");
            }
            (Steer::Finish, Stage::Finishing { .. } | Stage::Finished) => {}
            (Steer::Finish, _) => return conflict("does not have all traffic"),
            (Steer::Stop { .. }, Stage::RollingBack { .. } | Stage::RolledBack) => {}
            (Steer::Stop { .. }, Stage::Finished) => return conflict("has taken over"),
            (Steer::Stop { .. }, _) => {
                rollout.say(now_ms, "traffic goes back");
                rollout.stage = Stage::RollingBack { until_ms: now_ms + BACK_MS };
            }
            (Steer::Continue { .. }, _) => {
                return Err(error(ErrorKind::Unsupported, "steer", "there are no gates here".to_owned()));
            }
        }
        self.rollouts.insert(release, rollout);
        Ok(())
    }

    fn check_weights(&self, release: ReleaseId, weights: &Weights, rollout: &Rollout) -> Result<(), ProviderError> {
        let invalid = |why: String| Err(error(ErrorKind::Invalid, "steer", why));
        let sum: u32 = weights.0.values().map(|w| u32::from(*w)).sum();
        if sum != 100 {
            return invalid(format!("weights sum to {sum}"));
        }
        if let Some(stranger) = weights.0.keys().find(|id| !self.running.contains_key(id)) {
            return invalid(format!("{stranger} does not run"));
        }
        if rollout.exclusive && weights.of(release) != 100 {
            return invalid("only one process may open the store".to_owned());
        }
        Ok(())
    }
}
