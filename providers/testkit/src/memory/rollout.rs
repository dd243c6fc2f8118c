//! One service step of the in-memory provider: where it is, and how time moves it.

use std::collections::BTreeMap;

use dbird_core::{Handle, Phase, ReleaseId, Start, Weights};

use super::{
    cloud::Cloud,
    document::{Behaviour, ServiceBody},
    journey::Journey,
    running::Running,
};
use crate::broken::Fault;

/// How long things take.
pub(super) const READY_MS: u64 = 300;
pub(super) const SHIFT_MS: u64 = 50;
pub(super) const DRAIN_MS: u64 = 120;
pub(super) const BACK_MS: u64 = 80;

/// A service step.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    pub(super) handle: Handle,
    pub(super) parent: Option<ReleaseId>,
    pub(super) behaviour: Behaviour,
    pub(super) exclusive: bool,
    pub(super) cold: bool,
    /// The copies of each release that the last shift asks for.
    pub(super) copies: BTreeMap<ReleaseId, u32>,
    pub(super) stage: Stage,
    pub(super) events: Vec<(u64, String)>,
    pub(super) first_traffic_ms: Option<u64>,
    /// Where the cloud moves traffic by itself.
    pub(super) journey: Option<Journey>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Making {
        until_ms: u64,
    },
    Ready,
    /// The cloud waits to be let on.
    AtGate {
        gate: String,
        until_ms: u64,
    },
    /// The cloud stays at a share.
    Staying {
        until_ms: u64,
    },
    /// The cloud keeps the previous release.
    Baking {
        until_ms: u64,
    },
    Shifting {
        to: Weights,
        part: Part,
        until_ms: u64,
    },
    Finishing {
        until_ms: u64,
    },
    Finished,
    RollingBack {
        part: Part,
        until_ms: u64,
    },
    RolledBack,
    Failed {
        why: String,
        logs: Vec<String>,
    },
}

/// What a shift or a way back does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A release stops, so that another can be started.
    Stopping,
    /// Copies start that get traffic next.
    Starting,
    /// Traffic moves.
    Moving,
    /// Copies that lost their traffic drain.
    Draining,
}

impl Rollout {
    pub(super) fn new(
        handle: Handle,
        parent: Option<ReleaseId>,
        body: &ServiceBody,
        start: Start,
        now_ms: u64,
    ) -> Self {
        let cold = start == Start::Nothing;
        let (said, stage) = if cold {
            ("is prepared; nothing of it is started before the previous release has stopped", Stage::Ready)
        } else {
            ("starts", Stage::Making { until_ms: now_ms + READY_MS })
        };
        let events = vec![(now_ms, format!("{} {said}", handle.release))];
        let (behaviour, exclusive) = (body.behaves.clone(), body.exclusive);
        let copies = BTreeMap::new();
        let journey = body.beside.clone().map(Journey::new);
        Rollout { handle, parent, behaviour, exclusive, cold, copies, stage, events, first_traffic_ms: None, journey }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.stage, Stage::Finished | Stage::RolledBack)
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Making { .. } => Phase::Working,
            Stage::Ready | Stage::AtGate { .. } | Stage::Baking { .. } => Phase::Ready,
            Stage::Staying { .. } => Phase::Shifting,
            Stage::Shifting { .. } => Phase::Shifting,
            Stage::Finishing { .. } => Phase::Finishing,
            Stage::Finished => Phase::Finished,
            Stage::RollingBack { .. } => Phase::RollingBack,
            Stage::RolledBack => Phase::RolledBack,
            Stage::Failed { why, logs } => Phase::Failed { why: why.clone(), logs: logs.clone() },
        }
    }

    pub(super) fn waiting_for(&self) -> &str {
        match self.stage {
            Stage::RollingBack { .. } | Stage::RolledBack if self.journey.is_some() => {
                self.journey.as_ref().map_or("", |journey| &journey.undone)
            }
            Stage::Staying { .. } => "the time at a share to pass",
            Stage::AtGate { .. } => "somebody to let it on",
            Stage::Baking { .. } => "the bake to pass",
            Stage::Making { .. } => "readiness",
            Stage::Shifting { part: Part::Stopping, .. } => "the previous release to stop",
            Stage::Shifting { part: Part::Starting, .. } => "copies to be ready",
            Stage::Shifting { part: Part::Draining, .. } => "copies to drain",
            Stage::Shifting { .. } => "traffic to move",
            Stage::Finishing { .. } => "the previous release to drain",
            Stage::RollingBack { .. } => "traffic to go back",
            _ => "",
        }
    }

    /// When it moves by itself next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        [self.step_ms(), self.alarm_ms()].into_iter().flatten().min()
    }

    fn step_ms(&self) -> Option<u64> {
        match (&self.stage, &self.behaviour) {
            (Stage::Making { .. } | Stage::Shifting { part: Part::Starting, .. }, Behaviour::NeverReady) => None,
            (Stage::Making { until_ms } | Stage::Shifting { until_ms, .. }, _) => Some(*until_ms),
            (Stage::AtGate { until_ms, .. } | Stage::Staying { until_ms } | Stage::Baking { until_ms }, _) => {
                Some(*until_ms)
            }
            (Stage::Finishing { until_ms } | Stage::RollingBack { until_ms, .. }, _) => Some(*until_ms),
            (Stage::Ready, Behaviour::DiesUnderTraffic { after_ms }) => self.first_traffic_ms.map(|t| t + after_ms),
            _ => None,
        }
    }

    pub(super) fn say(&mut self, now_ms: u64, text: impl Into<String>) {
        self.events.push((now_ms, text.into()));
    }
}

impl Cloud {
    /// Lets the rollout do what it does by that time.
    pub(super) fn advance_rollout(&mut self, mut rollout: Rollout, now_ms: u64) -> Rollout {
        let candidate = rollout.handle.release;
        while let Some(at_ms) = rollout.next_ms().filter(|at| *at <= now_ms) {
            if rollout.alarm_ms() == Some(at_ms) {
                self.alarmed(&mut rollout, at_ms);
                continue;
            }
            match rollout.stage.clone() {
                Stage::AtGate { .. } => self.undone_by_itself(&mut rollout, "nobody let it on in time", at_ms),
                Stage::Staying { .. } => self.goes_on(&mut rollout, at_ms),
                Stage::Baking { .. } => {
                    rollout.say(at_ms, "the previous release drains");
                    rollout.stage = Stage::Finishing { until_ms: at_ms + DRAIN_MS };
                }
                Stage::Making { .. } => self.made(&mut rollout, at_ms),
                Stage::Ready => {
                    self.kill(candidate);
                    rollout.say(at_ms, format!("{candidate} died"));
                    rollout.stage = Stage::Failed { why: format!("{candidate} died under traffic"), logs: Vec::new() };
                }
                Stage::Shifting { to, part, .. } => self.shifted(&mut rollout, to, part, at_ms),
                Stage::Finishing { .. } => {
                    if self.fault != Some(Fault::LeavesThePrevious) {
                        self.running.retain(|id, _| *id == candidate);
                    }
                    self.restore(candidate);
                    self.each_copy(Running::settle);
                    rollout.say(at_ms, "the previous release stopped");
                    rollout.stage = Stage::Finished;
                }
                Stage::RollingBack { part, .. } => self.goes_back(&mut rollout, part, at_ms),
                Stage::Finished | Stage::RolledBack | Stage::Failed { .. } => break,
            }
        }
        rollout
    }

    fn made(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        if matches!(rollout.behaviour, Behaviour::Dies { .. }) {
            return self.died(rollout, at_ms);
        }
        if let Some(running) = self.running.get_mut(&candidate) {
            running.settle();
        }
        if self.fault == Some(Fault::TrafficAtOnce) && rollout.parent.is_some() {
            self.move_traffic(Weights([(candidate, 1), (rollout.parent.unwrap_or(candidate), 99)].into()), at_ms);
        }
        rollout.say(at_ms, format!("{candidate} is ready"));
        rollout.stage = Stage::Ready;
        self.sets_out(rollout, at_ms);
    }

    fn died(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        let words = match &rollout.behaviour {
            Behaviour::Dies { last_words } => last_words.clone(),
            _ => "database is locked".to_owned(),
        };
        self.log(at_ms, candidate, &format!("{candidate}-task-0"), true, &words);
        let logs = if self.fault == Some(Fault::LosesLastWords) { Vec::new() } else { vec![words] };
        rollout.say(at_ms, format!("{candidate} died"));
        rollout.stage = Stage::Failed { why: format!("{candidate} died before it was ready"), logs };
    }

    /// A part of a shift is over.
    fn shifted(&mut self, rollout: &mut Rollout, to: Weights, part: Part, at_ms: u64) {
        let candidate = rollout.handle.release;
        let (next, takes_ms) = match part {
            Part::Stopping => {
                self.each_copy(Running::drop_leaving);
                to.0.keys().for_each(|release| self.restore(*release));
                rollout.say(at_ms, "the previous release has stopped");
                (Part::Starting, READY_MS)
            }
            Part::Starting => {
                let fails = matches!(rollout.behaviour, Behaviour::Dies { .. } | Behaviour::FailsSwap);
                if rollout.cold && fails && to.of(candidate) > 0 {
                    self.stop_all(candidate);
                    self.each_copy(Running::drop_leaving);
                    rollout.parent.into_iter().for_each(|parent| self.restore(parent));
                    self.each_copy(Running::settle);
                    return self.died(rollout, at_ms);
                }
                self.each_copy(Running::settle);
                (Part::Moving, SHIFT_MS)
            }
            Part::Moving if rollout.exclusive && !rollout.cold && rollout.behaviour == Behaviour::FailsSwap => {
                self.move_traffic(rollout.parent.map(Weights::all).unwrap_or_default(), at_ms);
                rollout.say(at_ms, "the previous release has the store again");
                let why = format!("{candidate} could not open the store");
                rollout.stage = Stage::Failed { why, logs: vec!["database is locked".to_owned()] };
                return;
            }
            Part::Moving => {
                let weights = self.rounded(to.clone());
                self.move_traffic(weights, at_ms);
                if self.weights.of(candidate) > 0 {
                    rollout.first_traffic_ms = rollout.first_traffic_ms.or(Some(at_ms));
                }
                rollout.say(at_ms, format!("{candidate} has {} %", self.weights.of(candidate)));
                if !self.shrink(&rollout.copies) {
                    rollout.stage = Stage::Ready;
                    self.arrived(rollout, at_ms);
                    return;
                }
                (Part::Draining, DRAIN_MS)
            }
            Part::Draining => {
                self.each_copy(Running::drop_leaving);
                rollout.say(at_ms, "copies stopped");
                rollout.stage = Stage::Ready;
                return;
            }
        };
        rollout.stage = Stage::Shifting { to, part: next, until_ms: at_ms + takes_ms };
    }

    /// A part of the way back is over.
    fn goes_back(&mut self, rollout: &mut Rollout, part: Part, at_ms: u64) {
        let (next, takes_ms) = match part {
            Part::Stopping => {
                self.each_copy(Running::drop_leaving);
                rollout.parent.into_iter().for_each(|parent| self.restore(parent));
                (Part::Starting, READY_MS)
            }
            Part::Starting => {
                rollout.parent.and_then(|parent| self.running.get_mut(&parent)).into_iter().for_each(Running::settle);
                (Part::Moving, BACK_MS)
            }
            Part::Moving | Part::Draining => return self.gone_back(rollout, at_ms),
        };
        rollout.stage = Stage::RollingBack { part: next, until_ms: at_ms + takes_ms };
    }

    fn gone_back(&mut self, rollout: &mut Rollout, at_ms: u64) {
        let candidate = rollout.handle.release;
        let gone = self.running.get(&candidate).map(|r| r.body.clone());
        if self.fault != Some(Fault::LeavesTheFirst) || rollout.parent.is_some() {
            self.running.remove(&candidate);
        }
        let back = rollout.parent.map(Weights::all).unwrap_or_default();
        match (self.fault, rollout.parent) {
            (Some(Fault::KeepsAShare), Some(parent)) if self.weights.of(candidate) > 0 => {
                self.running.insert(candidate, self.running[&parent].clone());
                self.move_traffic(Weights([(parent, 90), (candidate, 10)].into()), at_ms);
            }
            _ => self.move_traffic(back, at_ms),
        }
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

    /// Starts what is missing of a release.
    pub(super) fn restore(&mut self, release: ReleaseId) {
        if let Some(running) = self.running.get_mut(&release) {
            running.grow(running.replicas());
        }
    }

    pub(super) fn stop_all(&mut self, release: ReleaseId) -> bool {
        self.running.get_mut(&release).is_some_and(|running| running.shrink(0))
    }

    /// Takes the traffic from the copies that are more than asked for; true if there are any.
    pub(super) fn shrink(&mut self, copies: &BTreeMap<ReleaseId, u32>) -> bool {
        let mut any = false;
        for (release, count) in copies {
            any |= self.running.get_mut(release).is_some_and(|running| running.shrink(*count as usize));
        }
        any
    }

    pub(super) fn each_copy(&mut self, change: impl Fn(&mut Running)) {
        self.running.values_mut().for_each(change);
    }
}
