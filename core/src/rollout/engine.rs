//! The engine: a state machine that follows one service step from its candidate to its end. It decides when traffic
//! moves, when hooks run and when everything is undone; it never acts, and it reads no clock.

use std::{collections::BTreeMap, time::Duration};

use super::{cloud::Followed, hold::Holding, waiting::Waiting};
use crate::{
    Outcome, Phase, Progress, ReleaseId, Steer, Weights,
    analysis::{Judge, Unclear, Verdict},
    rollout::{Course, Decision, Event},
    spec::{HookWhen, WeightStep},
};

/// A steer that seems to have been lost is repeated after this long.
pub(super) const STEER_AGAIN_MS: u64 = 2_000;
/// Finishing (draining the previous release) and undoing may each take this long.
const SETTLE_LIMIT_MS: u64 = 600_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// The candidate is being made.
    Making,
    /// Hooks run one after the other; then comes the next stage.
    Hooks { left: Vec<usize>, asked: bool, then: After },
    /// Traffic moves to a weight.
    Shifting { step: usize, asked_ms: Option<u64> },
    /// Traffic stays at a weight.
    Holding(Holding),
    /// The previous release is going away.
    Finishing { since_ms: u64, asked_ms: Option<u64> },
    /// Traffic goes back.
    Undoing { since_ms: u64, asked_ms: Option<u64>, tries: u32 },
    /// It ended.
    Ended(Outcome),
}

/// What follows hooks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum After {
    Shift(usize),
    Hold(usize),
    /// The gate before any traffic, where the cloud drives.
    Gate,
    End(Outcome),
}

/// Follows one service step.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) course: Course,
    pub(super) candidate: ReleaseId,
    pub(super) parent: Option<ReleaseId>,
    pub(super) stage: Stage,
    /// Traffic has moved by then, or the rollout has failed.
    pub(super) deadline_ms: u64,
    /// Since when a person paused it.
    pub(super) paused_ms: Option<u64>,
    /// Leave as soon as that is safe.
    pub(super) hurry: bool,
    /// Why it is being undone.
    pub(super) why: String,
    /// What is to be said of a success.
    pub(super) remark: String,
    pub(super) logs: Vec<String>,
    /// What the provider last said that it waits for, for the sentence about a deadline.
    pub(super) last_wait: String,
    /// When the provider last said something new, and what: its phase, traffic, and number of events.
    pub(super) moved_ms: u64,
    pub(super) last_seen: Option<(Phase, Weights, usize)>,
    /// The step that traffic was last asked to move to.
    pub(super) shifted: Option<usize>,
    pub(super) judge: Option<Judge>,
    pub(super) verdict: Verdict,
    pub(super) bad_looks: u32,
    /// What the cloud does, where it drives.
    pub(super) cloud: Option<Followed>,
}

impl Engine {
    /// An engine for a candidate that is being made.
    pub fn new(mut course: Course, candidate: ReleaseId, parent: Option<ReleaseId>, now_ms: u64) -> Self {
        if parent.is_none() {
            // Nobody to share traffic with, and nothing to keep.
            course.weights = vec![WeightStep { weight: 100, pause_ms: 0, gate: false }];
            course.bake_ms = 0;
            course.batches.clear();
        }
        let judge = course.analysis.clone().filter(|a| a.count > 0).map(|a| Judge::new(a, course.one_writer));
        let cloud = course.is_cloud_driven().then(Followed::default);
        Engine {
            deadline_ms: now_ms.saturating_add(course.deadline_ms),
            course,
            candidate,
            parent,
            stage: Stage::Making,
            paused_ms: None,
            hurry: false,
            why: String::new(),
            remark: String::new(),
            logs: Vec::new(),
            last_wait: String::new(),
            moved_ms: now_ms,
            last_seen: None,
            shifted: None,
            judge,
            verdict: Verdict::Unclear(Unclear::NotYet),
            bad_looks: 0,
            cloud,
        }
    }

    /// An engine for a candidate that was found at a weight, where it stays until somebody says how it goes on.
    pub fn holding(course: Course, candidate: ReleaseId, parent: Option<ReleaseId>, step: usize, now_ms: u64) -> Self {
        let engine = Engine::new(course, candidate, parent, now_ms);
        let step = step.min(engine.course.weights.len().saturating_sub(1));
        Engine { stage: Stage::Holding(Holding::new(step, now_ms)), ..engine }
    }

    /// An engine for a candidate that was found with all traffic: it finishes.
    pub fn finishing(course: Course, candidate: ReleaseId, parent: Option<ReleaseId>, now_ms: u64) -> Self {
        let stage = Stage::Finishing { since_ms: now_ms, asked_ms: None };
        Engine { stage, ..Engine::new(course, candidate, parent, now_ms) }
    }

    /// An engine for a candidate that must go.
    pub fn undoing(
        course: Course,
        candidate: ReleaseId,
        parent: Option<ReleaseId>,
        now_ms: u64,
        why: impl Into<String>,
    ) -> Self {
        let stage = Stage::Undoing { since_ms: now_ms, asked_ms: None, tries: 0 };
        Engine { stage, why: why.into(), ..Engine::new(course, candidate, parent, now_ms) }
    }

    /// True once it was decided to undo, or undone.
    pub fn is_undoing(&self) -> bool {
        matches!(
            self.stage,
            Stage::Undoing { .. } | Stage::Ended(Outcome::RolledBack | Outcome::Removed | Outcome::Failed)
        ) || matches!(self.stage, Stage::Hooks { then: After::End(Outcome::RolledBack | Outcome::Removed), .. })
    }

    /// Why it is being undone; empty otherwise.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The failing task's last log lines, once it failed.
    pub fn logs(&self) -> &[String] {
        &self.logs
    }

    /// What the last look said.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Adds to the reason what was found out after the decision.
    pub fn explain(&mut self, more: &str, logs: Vec<String>) {
        if !more.is_empty() {
            self.why = format!("{}; {more}", self.why);
        }
        if self.logs.is_empty() {
            self.logs = logs;
        }
    }

    /// What comes next, now that this happened.
    pub fn next(&mut self, now_ms: u64, event: Event) -> Decision {
        match event {
            Event::Progress(progress) => self.follow(now_ms, &progress),
            Event::HookEnded { index, failure } => self.hook_ended(now_ms, index, failure),
            Event::Request(request) => self.obey(now_ms, request),
            Event::Tick => {}
        }
        self.decide(now_ms)
    }

    /// What the stage asks for now.
    pub(super) fn decide(&mut self, now_ms: u64) -> Decision {
        // Each turn either returns or moves the stage strictly on: hooks -> what follows them -> undoing.
        loop {
            match &mut self.stage {
                Stage::Making | Stage::Shifting { asked_ms: Some(_), .. } => {
                    if self.late(now_ms) || self.stuck(now_ms) {
                        continue;
                    }
                    if let Some(steer) = self.pass_first_gate(now_ms) {
                        return steer;
                    }
                    let until_ms = self.latest_ms().min(self.moved_ms.saturating_add(self.course.progress_deadline_ms));
                    return wait(Some(until_ms), Waiting::Provider);
                }
                Stage::Hooks { left, asked, then } => match (left.first(), *asked) {
                    (Some(_), true) => return wait(None, Waiting::Provider),
                    (Some(&index), false) => {
                        *asked = true;
                        return Decision::RunHook { index };
                    }
                    (None, _) => {
                        self.stage = match *then {
                            After::Shift(step) => Stage::Shifting { step, asked_ms: None },
                            After::Hold(step) => Stage::Holding(Holding::new(step, now_ms)),
                            After::Gate => {
                                self.moved_ms = now_ms;
                                Stage::Making
                            }
                            After::End(outcome) => Stage::Ended(outcome),
                        };
                    }
                },
                &mut Stage::Shifting { step, asked_ms: None } => {
                    if self.late(now_ms) {
                        continue;
                    }
                    self.stage = Stage::Shifting { step, asked_ms: Some(now_ms) };
                    // A steer that is repeated is no progress.
                    if self.shifted.replace(step) != Some(step) {
                        self.moved_ms = now_ms;
                    }
                    return Decision::Steer(self.shift(step));
                }
                &mut Stage::Holding(holding) => {
                    let decision = match self.cloud.take() {
                        Some(cloud) => self.hold_beside(now_ms, holding, cloud),
                        None => self.hold(now_ms, holding),
                    };
                    if let Some(decision) = decision {
                        return decision;
                    }
                }
                &mut Stage::Finishing { since_ms, asked_ms } => {
                    if now_ms.saturating_sub(since_ms) >= SETTLE_LIMIT_MS {
                        self.remark = "it serves, but the previous release has not stopped yet".to_owned();
                        self.run_hooks(HookWhen::After, After::End(Outcome::Succeeded));
                    } else if asked_ms.is_none() {
                        self.stage = Stage::Finishing { since_ms, asked_ms: Some(now_ms) };
                        return Decision::Steer(Steer::Finish);
                    } else {
                        return wait(Some(since_ms.saturating_add(SETTLE_LIMIT_MS)), Waiting::Provider);
                    }
                }
                &mut Stage::Undoing { since_ms, asked_ms, tries } => {
                    if now_ms.saturating_sub(since_ms) >= SETTLE_LIMIT_MS {
                        self.why = format!("{}; undoing it has not ended after {} s", self.why, SETTLE_LIMIT_MS / 1000);
                        self.stage = Stage::Ended(Outcome::Failed);
                    } else if asked_ms.is_none() {
                        self.stage = Stage::Undoing { since_ms, asked_ms: Some(now_ms), tries: tries + 1 };
                        return Decision::Steer(Steer::Stop { roll_back: true });
                    } else {
                        return wait(Some(since_ms.saturating_add(SETTLE_LIMIT_MS)), Waiting::Provider);
                    }
                }
                &mut Stage::Ended(outcome) => {
                    let why = if outcome == Outcome::Succeeded { &self.remark } else { &self.why };
                    return Decision::Done { outcome, why: why.clone(), logs: self.logs.clone() };
                }
            }
        }
    }

    /// The deadline. A person's pause suspends it, but no longer than a pause may last.
    fn latest_ms(&self) -> u64 {
        let suspended_until_ms =
            self.paused_ms.map_or(0, |since_ms| since_ms.saturating_add(self.course.pause_limit_ms));
        self.deadline_ms.max(suspended_until_ms)
    }

    /// Past the deadline: then it is being undone from here on.
    pub(super) fn late(&mut self, now_ms: u64) -> bool {
        let late = now_ms >= self.latest_ms();
        if late {
            let what =
                if self.last_wait.is_empty() { String::new() } else { format!(": waiting for {}", self.last_wait) };
            let limit = humantime::format_duration(Duration::from_millis(self.course.deadline_ms));
            self.undo(now_ms, format!("not done within the deadline of {limit}{what}"));
        }
        late
    }

    /// Nothing new was heard of the provider for too long.
    fn stuck(&mut self, now_ms: u64) -> bool {
        let limit_ms = self.course.progress_deadline_ms;
        let stuck = now_ms >= self.moved_ms.saturating_add(limit_ms);
        if stuck {
            let what =
                if self.last_wait.is_empty() { String::new() } else { format!(": waiting for {}", self.last_wait) };
            let limit = humantime::format_duration(Duration::from_millis(limit_ms));
            self.undo(now_ms, format!("nothing moved for {limit}{what}"));
        }
        stuck
    }

    /// Remembers when the provider last said something new.
    pub(super) fn watch(&mut self, now_ms: u64, progress: &Progress) {
        let same = self.last_seen.as_ref().is_some_and(|(phase, weights, events)| {
            *phase == progress.phase && *weights == progress.weights && *events == progress.events.len()
        });
        if !same {
            self.moved_ms = now_ms;
            self.last_seen = Some((progress.phase.clone(), progress.weights.clone(), progress.events.len()));
        }
        if self.last_wait != progress.waiting_for {
            self.last_wait.clone_from(&progress.waiting_for);
        }
    }

    /// The shift to a weight, with the copies that go with it in a rolling release.
    fn shift(&self, step: usize) -> Steer {
        let weights = self.split(self.weight(step).weight);
        let copies = match (self.course.batches.get(step), self.parent) {
            (Some(new), Some(parent)) => {
                BTreeMap::from([(self.candidate, *new), (parent, self.course.copies_left(*new))])
            }
            _ => BTreeMap::new(),
        };
        Steer::Shift { weights, copies }
    }

    /// The share that the candidate has when it is at a step.
    pub(super) fn share_at(&self, step: usize) -> u8 {
        self.cloud.as_ref().map_or(self.weight(step).weight, |cloud| cloud.share)
    }

    pub(super) fn weight(&self, step: usize) -> &WeightStep {
        const ALL: &WeightStep = &WeightStep { weight: 100, pause_ms: 0, gate: false };
        self.course.weights.get(step).unwrap_or(ALL)
    }

    fn split(&self, share: u8) -> Weights {
        match self.parent {
            Some(parent) if share < 100 => Weights([(self.candidate, share), (parent, 100 - share)].into()),
            _ => Weights::all(self.candidate),
        }
    }
}

pub(super) fn wait(until_ms: Option<u64>, waiting_for: Waiting) -> Decision {
    Decision::Wait { until_ms, waiting_for }
}
