//! A rollout that its cloud drives: the engine follows the weights, looks, passes gates, ends the bake, and stops what is bad.
//! It never moves traffic.

use super::{
    Decision, Request, Waiting,
    engine::{After, Engine, STEER_AGAIN_MS, Stage, wait},
    hold::Holding,
};
use crate::{Phase, Progress, Steer, provider::Driver, spec::HookWhen};

/// A bake without a verdict is ended by dbird before the cloud ends it: so much of the longest pause before, ...
const MARGIN_PART: u64 = 4;
/// ... at most this.
const MARGIN_MS: u64 = 120_000;

/// What the cloud was last seen to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed {
    /// The candidate's share when its present weight was reached.
    pub(super) share: u8,
    /// The gate that it waits at, and since when.
    gate: Option<(String, u64)>,
    /// The gate that it was let past, and when that was last asked for.
    passed: Option<(String, u64)>,
    /// What comes before traffic was done.
    prepared: bool,
    /// Somebody wants it to go on from where it waits.
    promoted: bool,
}

impl Engine {
    /// An engine for a candidate whose cloud drives it, found on its way. `prepared`: what comes before traffic was done.
    pub fn following(
        course: super::Course,
        candidate: crate::ReleaseId,
        parent: Option<crate::ReleaseId>,
        prepared: bool,
        now_ms: u64,
    ) -> Self {
        let course = super::Course { driven: Driver::Cloud, ..course };
        let engine = Engine::new(course, candidate, parent, now_ms);
        Engine { cloud: Some(Followed { prepared, ..Followed::default() }), ..engine }
    }

    /// Takes in what a cloud does by itself.
    pub(super) fn follow_cloud(&mut self, now_ms: u64, progress: &Progress) {
        let share = progress.weights.of(self.candidate);
        let Some(cloud) = &mut self.cloud else { return };
        let waits = (progress.phase == Phase::Ready).then(|| progress.gates.first()).flatten();
        if cloud.gate.as_ref().map(|(gate, _)| gate) != waits {
            cloud.gate = waits.map(|gate| (gate.clone(), now_ms));
        }
        let (gated, reached) = (cloud.gate.is_some(), cloud.share);
        match self.stage {
            Stage::Making if share == 0 => {
                if let (true, Some(cloud @ Followed { prepared: false, .. })) = (gated, &mut self.cloud) {
                    cloud.prepared = true;
                    self.run_hooks(HookWhen::BeforeTraffic, After::Gate);
                }
            }
            Stage::Making => self.arrive(now_ms, share),
            Stage::Holding(_) if progress.phase == Phase::Finishing => {
                self.stage = Stage::Finishing { since_ms: now_ms, asked_ms: Some(now_ms) };
            }
            Stage::Holding(_) if share != reached && share > 0 => self.arrive(now_ms, share),
            Stage::Finishing { .. } if !gated => {}
            // Finishing or undoing that seems to have been lost is asked for again.
            Stage::Finishing { .. } | Stage::Undoing { .. }
                if matches!(progress.phase, Phase::Ready | Phase::Shifting | Phase::Working) =>
            {
                self.ready(now_ms, progress);
            }
            _ => {}
        }
    }

    /// Traffic has come to another weight.
    fn arrive(&mut self, now_ms: u64, share: u8) {
        if let Some(cloud) = &mut self.cloud {
            (cloud.share, cloud.promoted, cloud.prepared) = (share, false, true);
        }
        let last = self.course.weights.len().saturating_sub(1);
        let step = self.course.weights.iter().position(|w| w.weight >= share).unwrap_or(last);
        if self.weight(step).weight == share {
            self.run_hooks(HookWhen::Step, After::Hold(step));
        } else {
            self.stage = Stage::Holding(Holding::new(step, now_ms));
        }
    }

    /// Lets it past the gate before any traffic, once what comes before traffic was done.
    pub(super) fn pass_first_gate(&mut self, now_ms: u64) -> Option<Decision> {
        self.cloud.as_mut().filter(|cloud| cloud.prepared)?.pass(now_ms)
    }

    /// What to do at a weight; none when the stage has moved on.
    pub(super) fn hold_beside(&mut self, now_ms: u64, holding: Holding, cloud: Followed) -> Option<Decision> {
        self.cloud = Some(cloud);
        let share = self.share_at(holding.step);
        if share == 100 { self.bake_beside(now_ms, holding) } else { self.hold_on_the_way(now_ms, holding, share) }
    }

    /// All traffic has moved, and the previous release is kept.
    fn bake_beside(&mut self, now_ms: u64, mut holding: Holding) -> Option<Decision> {
        let gated = self.cloud.as_ref().is_some_and(|cloud| cloud.gate.is_some());
        if self.hurry {
            self.remark = "interrupted once it had all traffic: finished at once".to_owned();
            self.stage = Stage::Finishing { since_ms: now_ms, asked_ms: (!gated).then_some(now_ms) };
            return None;
        }
        let hold_ms = self.hold_ms(holding.step);
        let end_ms = holding.since_ms.saturating_add(hold_ms);
        let watched = self.judge.is_some() && hold_ms > 0;
        let look_ms = if watched { self.next_look_ms(holding, end_ms) } else { u64::MAX };
        if watched && let Some(look) = self.look(now_ms, &mut holding, look_ms) {
            return Some(look);
        }
        let until = |ms: u64, waiting_for| Some(wait(Some(ms.min(look_ms)), waiting_for));
        if now_ms < end_ms {
            return until(end_ms, Waiting::Bake);
        }
        match if watched { self.missing(&holding) } else { None } {
            None if gated => {
                self.stage = Stage::Finishing { since_ms: now_ms, asked_ms: None };
                None
            }
            // It ends by itself, and nobody can hurry it; how long that may take, the deadline says.
            None if now_ms >= end_ms.saturating_add(self.course.deadline_ms) => {
                self.stage = Stage::Finishing { since_ms: now_ms, asked_ms: Some(now_ms) };
                None
            }
            None => until(end_ms.saturating_add(self.course.deadline_ms), Waiting::Bake),
            Some(why) => {
                let limit_ms = end_ms.saturating_add(self.course.pause_limit_ms);
                let limit_ms = limit_ms.saturating_sub((self.course.pause_limit_ms / MARGIN_PART).min(MARGIN_MS));
                self.unclear(now_ms, 100, why, limit_ms)?;
                until(limit_ms, Waiting::Evidence { weight: 100, why })
            }
        }
    }

    /// Some traffic has moved.
    fn hold_on_the_way(&mut self, now_ms: u64, mut holding: Holding, weight: u8) -> Option<Decision> {
        let step = self.weight(holding.step);
        let (known, gate) = (step.weight == weight, step.gate && step.weight == weight);
        let hold_ms = if known { self.hold_ms(holding.step) } else { 0 };
        let end_ms = holding.since_ms.saturating_add(hold_ms);
        // What nobody holds is the cloud's to judge: its tasks share a target group, and what fails in it has no release.
        let watched = self.judge.is_some() && self.course.is_held();
        let look_ms = if watched { self.next_look_ms(holding, end_ms) } else { u64::MAX };
        if watched && let Some(look) = self.look(now_ms, &mut holding, look_ms) {
            return Some(look);
        }
        let until = |ms: u64, waiting_for| Some(wait(Some(ms.min(look_ms)), waiting_for));
        let cloud = self.cloud.as_mut()?;
        let Some((name, gate_since_ms)) = cloud.gate.clone() else {
            if self.late(now_ms) {
                return None;
            }
            return until(self.deadline_ms, Waiting::Cloud { weight });
        };
        if cloud.promoted || cloud.passed.as_ref().is_some_and(|(passed, _)| *passed == name) {
            return self.go_past(now_ms, gate_since_ms, look_ms);
        }
        let person_since_ms = if gate { Some(gate_since_ms) } else { self.paused_ms.map(|p| p.max(gate_since_ms)) };
        if let Some(person_since_ms) = person_since_ms {
            let limit_ms = person_since_ms.saturating_add(self.course.pause_limit_ms);
            if now_ms >= limit_ms {
                self.undo(now_ms, format!("nobody went on from {weight} % in time"));
                return None;
            }
            return until(limit_ms, if gate { Waiting::Gate { weight } } else { Waiting::Resume { weight } });
        }
        if now_ms < end_ms {
            return if self.late(now_ms) { None } else { until(end_ms, Waiting::Pause { weight }) };
        }
        match if watched { self.missing(&holding) } else { None } {
            None => self.go_past(now_ms, gate_since_ms, look_ms),
            Some(why) => {
                let unclear_since_ms = *holding.unclear_since_ms.get_or_insert(now_ms);
                self.stage = Stage::Holding(holding);
                let limit_ms = unclear_since_ms.saturating_add(self.course.pause_limit_ms);
                self.unclear(now_ms, weight, why, limit_ms)?;
                until(limit_ms, Waiting::Evidence { weight, why })
            }
        }
    }

    /// Lets it past the gate at which it waits; the time there is not held against the deadline.
    fn go_past(&mut self, now_ms: u64, gate_since_ms: u64, look_ms: u64) -> Option<Decision> {
        let cloud = self.cloud.as_mut()?;
        let first = cloud.passed.as_ref().map(|(gate, _)| gate) != cloud.gate.as_ref().map(|(gate, _)| gate);
        match cloud.pass(now_ms) {
            Some(steer) => {
                cloud.promoted = false;
                if first {
                    self.deadline_ms = self.deadline_ms.saturating_add(now_ms.saturating_sub(gate_since_ms));
                }
                Some(steer)
            }
            None if self.late(now_ms) => None,
            None => Some(wait(Some(now_ms.saturating_add(STEER_AGAIN_MS).min(look_ms)), Waiting::Provider)),
        }
    }

    /// Somebody wants it to go on.
    pub(super) fn promote_beside(&mut self, now_ms: u64) {
        self.unpause(now_ms);
        let (Stage::Holding(_), Some(cloud)) = (&self.stage, &mut self.cloud) else { return };
        match (cloud.gate.is_some(), cloud.share) {
            (true, 100) => self.stage = Stage::Finishing { since_ms: now_ms, asked_ms: None },
            (true, _) => cloud.promoted = true,
            (false, _) => {}
        }
    }

    /// Why this can't be done where the rollout stands; none where it can.
    pub fn refuses(&self, request: &Request) -> Option<String> {
        let cloud = self.cloud.as_ref()?;
        match request {
            Request::Pause | Request::Promote if cloud.gate.is_some() && matches!(self.stage, Stage::Holding(_)) => {
                None
            }
            Request::Pause => {
                Some("the cloud moves the traffic and can't be held where it is; it can be aborted".to_owned())
            }
            Request::Promote => Some("the cloud moves the traffic, and goes on by itself".to_owned()),
            _ => None,
        }
    }

    /// True where the cloud goes on alone, so that nobody has to stay.
    pub fn may_leave(&self) -> bool {
        let Some(cloud) = &self.cloud else { return false };
        let course = &self.course;
        let needed = course.analysis.is_some()
            || course.weights.iter().any(|w| w.gate)
            || !course.hooks_at(HookWhen::BeforeTraffic).is_empty();
        !self.is_ending() && (!needed || cloud.share == 100 || cloud.share > 0 && !course.waits)
    }
}

impl Followed {
    /// Lets it past the gate at which it waits, and asks again when that seems to have been lost.
    fn pass(&mut self, now_ms: u64) -> Option<Decision> {
        let (gate, _) = self.gate.as_ref()?;
        let asked = self.passed.as_ref().filter(|(passed, _)| passed == gate);
        if asked.is_some_and(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < STEER_AGAIN_MS) {
            return None;
        }
        self.passed = Some((gate.clone(), now_ms));
        Some(Decision::Steer(Steer::Continue { gate: gate.clone() }))
    }
}
