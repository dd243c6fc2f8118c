//! The engine: a state machine that follows one service step from its candidate to its end. It decides when traffic
//! moves, when hooks run and when everything is undone; it never acts, and it reads no clock.

use crate::{
    Outcome, ReleaseId, Steer, Weights,
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
    Holding { step: usize, since_ms: u64 },
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
}

impl Engine {
    /// An engine for a candidate that is being made.
    pub fn new(mut course: Course, candidate: ReleaseId, parent: Option<ReleaseId>, now_ms: u64) -> Self {
        if parent.is_none() {
            // Nobody to share traffic with, and nothing to keep.
            course.weights = vec![WeightStep { weight: 100, pause_ms: 0, gate: false }];
            course.bake_ms = 0;
        }
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
        }
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
    fn decide(&mut self, now_ms: u64) -> Decision {
        // Each turn either returns or moves the stage strictly on: hooks -> what follows them -> undoing.
        loop {
            match self.stage.clone() {
                Stage::Making | Stage::Shifting { asked_ms: Some(_), .. } => match self.late(now_ms) {
                    true => continue,
                    false => return self.wait(Some(self.deadline_ms), String::new()),
                },
                Stage::Hooks { left, asked, then } => match (left.first(), asked) {
                    (Some(_), true) => return self.wait(None, String::new()),
                    (Some(&index), false) => {
                        self.stage = Stage::Hooks { left, asked: true, then };
                        return Decision::RunHook { index };
                    }
                    (None, _) => {
                        self.stage = match then {
                            After::Shift(step) => Stage::Shifting { step, asked_ms: None },
                            After::Hold(step) => Stage::Holding { step, since_ms: now_ms },
                            After::End(outcome) => Stage::Ended(outcome),
                        };
                    }
                },
                Stage::Shifting { step, asked_ms: None } => {
                    if self.late(now_ms) {
                        continue;
                    }
                    self.stage = Stage::Shifting { step, asked_ms: Some(now_ms) };
                    return Decision::Steer(Steer::Shift { weights: self.split(self.weight(step).weight) });
                }
                Stage::Holding { step, since_ms } => {
                    if let Some(decision) = self.hold(now_ms, step, since_ms) {
                        return decision;
                    }
                }
                Stage::Finishing { since_ms, asked_ms } => {
                    if now_ms.saturating_sub(since_ms) >= SETTLE_LIMIT_MS {
                        self.remark = "it serves, but the previous release has not stopped yet".to_owned();
                        self.run_hooks(HookWhen::After, After::End(Outcome::Succeeded));
                    } else if asked_ms.is_none() {
                        self.stage = Stage::Finishing { since_ms, asked_ms: Some(now_ms) };
                        return Decision::Steer(Steer::Finish);
                    } else {
                        return self.wait(Some(since_ms.saturating_add(SETTLE_LIMIT_MS)), String::new());
                    }
                }
                Stage::Undoing { since_ms, asked_ms, tries } => {
                    if now_ms.saturating_sub(since_ms) >= SETTLE_LIMIT_MS {
                        self.why = format!("{}; undoing it has not ended after {} s", self.why, SETTLE_LIMIT_MS / 1000);
                        self.stage = Stage::Ended(Outcome::Failed);
                    } else if asked_ms.is_none() {
                        self.stage = Stage::Undoing { since_ms, asked_ms: Some(now_ms), tries: tries + 1 };
                        return Decision::Steer(Steer::Stop { roll_back: true });
                    } else {
                        return self.wait(Some(since_ms.saturating_add(SETTLE_LIMIT_MS)), String::new());
                    }
                }
                Stage::Ended(outcome) => {
                    let why = if outcome == Outcome::Succeeded { &self.remark } else { &self.why };
                    return Decision::Done { outcome, why: why.clone(), logs: self.logs.clone() };
                }
            }
        }
    }

    /// What to do at a weight; none when the stage has moved on.
    fn hold(&mut self, now_ms: u64, step: usize, since_ms: u64) -> Option<Decision> {
        let WeightStep { weight, pause_ms, gate } = *self.weight(step);
        if self.hurry {
            self.remark = "interrupted once it had all traffic: finished at once".to_owned();
            self.leave(now_ms, step);
            return None;
        }
        let person_since_ms = if gate { Some(since_ms) } else { self.paused_ms.map(|p| p.max(since_ms)) };
        if let Some(person_since_ms) = person_since_ms {
            let limit_ms = person_since_ms.saturating_add(self.course.pause_limit_ms);
            if now_ms >= limit_ms {
                self.undo(now_ms, format!("nobody went on from {weight} % in time"));
                return None;
            }
            let what = if gate { "somebody to go on" } else { "somebody to resume" };
            return Some(self.wait(Some(limit_ms), format!("{what} (at {weight} %)")));
        }
        let last = step + 1 == self.course.weights.len();
        let pause_ms = if last { pause_ms.max(self.course.bake_ms) } else { pause_ms };
        let until_ms = since_ms.saturating_add(pause_ms);
        if now_ms >= until_ms {
            self.leave(now_ms, step);
            return None;
        }
        if !last && self.late(now_ms) {
            return None;
        }
        let what = if last { "the bake time to pass".to_owned() } else { format!("the pause at {weight} % to pass") };
        Some(self.wait(Some(until_ms), what))
    }

    /// Past the deadline: then it is being undone from here on.
    fn late(&mut self, now_ms: u64) -> bool {
        // A person's pause suspends the deadline, but no longer than a pause may last.
        let suspended_until_ms =
            self.paused_ms.map_or(0, |since_ms| since_ms.saturating_add(self.course.pause_limit_ms));
        let late = now_ms >= self.deadline_ms.max(suspended_until_ms);
        if late {
            let what =
                if self.last_wait.is_empty() { String::new() } else { format!(": waiting for {}", self.last_wait) };
            let limit = humantime::format_duration(std::time::Duration::from_millis(self.course.deadline_ms));
            self.undo(now_ms, format!("not done within the deadline of {limit}{what}"));
        }
        late
    }

    fn wait(&self, until_ms: Option<u64>, waiting_for: String) -> Decision {
        Decision::Wait { until_ms, waiting_for }
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
