//! The engine: a state machine that follows one service step from its candidate to its end. It decides when traffic
//! moves, when hooks run and when everything is undone; it never acts, and it reads no clock.

use crate::{
    Outcome, Phase, Progress, ReleaseId, Steer, Weights,
    rollout::Course,
    spec::{HookWhen, WeightStep},
};

/// A steer that seems to have been lost is repeated after this long.
const STEER_AGAIN_MS: u64 = 2_000;
/// Finishing (draining the previous release) and undoing may each take this long.
const SETTLE_LIMIT_MS: u64 = 600_000;
/// A provider that fails while undoing is asked this often.
const UNDO_TRIES_MAX: u32 = 5;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The provider was polled.
    Progress(Progress),
    /// Only time has passed.
    Tick,
    /// A hook ended.
    HookEnded {
        /// Its place in [`Course::hooks`].
        index: usize,
        /// Why it failed; none when it succeeded.
        failure: Option<String>,
    },
    /// Somebody wants something.
    Request(Request),
}

/// What people ask of a rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Go on now: past the gate, or past the rest of the pause.
    Promote,
    /// Undo.
    Abort {
        /// Who or why, for the record.
        why: String,
    },
    /// Stay at this weight.
    Pause,
    /// Go on from a pause.
    Resume,
    /// Whoever drives has to leave: undo, or, where the candidate has all traffic, finish at once.
    Interrupt,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ask the provider for this, then poll.
    Steer(Steer),
    /// Run this hook, then say how it ended.
    RunHook {
        /// Its place in [`Course::hooks`].
        index: usize,
    },
    /// Poll until something changes.
    Wait {
        /// Say [`Event::Tick`] at this time at the latest.
        until_ms: Option<u64>,
        /// What is being waited for, in a few words; empty where the provider says it better.
        waiting_for: String,
    },
    /// The step has ended.
    Done {
        /// How.
        outcome: Outcome,
        /// Why, in a sentence; empty for a plain success.
        why: String,
        /// The failing task's last log lines.
        logs: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
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
enum After {
    Shift(usize),
    Hold(usize),
    End(Outcome),
}

/// Follows one service step.
#[derive(Debug, Clone)]
pub struct Engine {
    course: Course,
    candidate: ReleaseId,
    parent: Option<ReleaseId>,
    stage: Stage,
    /// Traffic has moved by then, or the rollout has failed.
    deadline_ms: u64,
    /// Since when a person paused it.
    paused_ms: Option<u64>,
    /// Leave as soon as that is safe.
    hurry: bool,
    why: String,
    logs: Vec<String>,
    /// What the provider last said that it waits for, for the sentence about a deadline.
    last_wait: String,
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

    /// Takes in what the provider says. Afterwards the stage is right for it.
    fn follow(&mut self, now_ms: u64, progress: &Progress) {
        self.last_wait.clone_from(&progress.waiting_for);
        match &progress.phase {
            Phase::Failed { why, logs } => self.failed(now_ms, why, logs),
            Phase::RolledBack => self.gone_back(),
            Phase::RollingBack if !self.is_undoing() => {
                self.undo(now_ms, "the cloud undid it".to_owned());
                if let Stage::Undoing { asked_ms, .. } = &mut self.stage {
                    *asked_ms = Some(now_ms);
                }
            }
            Phase::Finished => self.finished(now_ms, progress),
            Phase::Ready => self.ready(now_ms, progress),
            _ => {}
        }
    }

    fn ready(&mut self, now_ms: u64, progress: &Progress) {
        let share = progress.weights.of(self.candidate);
        match self.stage {
            Stage::Making => self.run_hooks(HookWhen::BeforeTraffic, After::Shift(0)),
            Stage::Shifting { step, asked_ms: Some(asked_ms) } => {
                if share == self.weight(step).weight {
                    self.run_hooks(HookWhen::Step, After::Hold(step));
                } else if now_ms.saturating_sub(asked_ms) >= STEER_AGAIN_MS {
                    self.stage = Stage::Shifting { step, asked_ms: None };
                }
            }
            Stage::Finishing { since_ms, asked_ms: Some(asked_ms) }
                if now_ms.saturating_sub(asked_ms) >= STEER_AGAIN_MS =>
            {
                self.stage = Stage::Finishing { since_ms, asked_ms: None };
            }
            Stage::Undoing { since_ms, asked_ms: Some(asked_ms), tries }
                if now_ms.saturating_sub(asked_ms) >= STEER_AGAIN_MS =>
            {
                self.stage = Stage::Undoing { since_ms, asked_ms: None, tries };
            }
            _ => {}
        }
    }

    fn failed(&mut self, now_ms: u64, why: &str, logs: &[String]) {
        if !logs.is_empty() {
            self.logs = logs.to_vec();
        }
        match self.stage {
            Stage::Undoing { since_ms, asked_ms, tries } => {
                if asked_ms.is_some_and(|asked_ms| now_ms.saturating_sub(asked_ms) < STEER_AGAIN_MS) {
                    return; // maybe still the failure that is being undone
                }
                if tries >= UNDO_TRIES_MAX {
                    self.why = format!("{}; undoing it failed too: {why}", self.why);
                    self.stage = Stage::Ended(Outcome::Failed);
                } else {
                    self.stage = Stage::Undoing { since_ms, asked_ms: None, tries };
                }
            }
            Stage::Ended(_) => {}
            Stage::Hooks { then: After::End(_), .. } => {}
            _ => self.undo(now_ms, why.to_owned()),
        }
    }

    fn gone_back(&mut self) {
        if matches!(self.stage, Stage::Ended(_) | Stage::Hooks { then: After::End(_), .. }) {
            return;
        }
        if self.why.is_empty() {
            self.why = "the cloud undid it".to_owned();
        }
        match self.parent {
            Some(_) => self.run_hooks(HookWhen::Rollback, After::End(Outcome::RolledBack)),
            None => self.stage = Stage::Ended(Outcome::Removed),
        }
    }

    fn finished(&mut self, now_ms: u64, progress: &Progress) {
        if let Stage::Undoing { asked_ms: Some(asked_ms), .. } = self.stage {
            if now_ms.saturating_sub(asked_ms) >= STEER_AGAIN_MS {
                self.why = format!("{}; it was too late to undo it", self.why);
                self.stage = Stage::Ended(Outcome::Failed);
            }
            return;
        }
        if matches!(self.stage, Stage::Ended(_) | Stage::Hooks { then: After::End(_), .. }) {
            return;
        }
        if progress.weights.of(self.candidate) == 100 {
            self.run_hooks(HookWhen::After, After::End(Outcome::Succeeded));
        } else {
            self.why = "the cloud calls it finished, but it does not have all traffic".to_owned();
            self.stage = Stage::Ended(Outcome::Failed);
        }
    }

    fn hook_ended(&mut self, now_ms: u64, index: usize, failure: Option<String>) {
        let Stage::Hooks { left, then, .. } = &self.stage else { return };
        if left.first() != Some(&index) {
            return;
        }
        let (mut left, then) = (left.clone(), *then);
        left.remove(0);
        match (failure, then) {
            // Whoever has to leave stopped the hook, not the release.
            (Some(_), After::Hold(step)) if self.hurry && self.weight(step).weight == 100 => {
                self.stage = Stage::Hooks { left: Vec::new(), asked: false, then };
            }
            // What has ended can't be undone by a hook that fails afterwards.
            (Some(why), After::End(_)) => {
                if self.why.is_empty() {
                    self.why = why;
                }
                self.stage = Stage::Hooks { left, asked: false, then };
            }
            (Some(why), _) => self.undo(now_ms, why),
            (None, _) => self.stage = Stage::Hooks { left, asked: false, then },
        }
    }

    fn obey(&mut self, now_ms: u64, request: Request) {
        let ending = self.is_undoing()
            || matches!(self.stage, Stage::Finishing { .. } | Stage::Ended(_))
            || matches!(self.stage, Stage::Hooks { then: After::End(_), .. });
        if ending {
            return;
        }
        match request {
            Request::Promote => {
                self.unpause(now_ms);
                if let Stage::Holding { step, since_ms } = self.stage {
                    if self.weight(step).gate {
                        self.deadline_ms = self.deadline_ms.saturating_add(now_ms.saturating_sub(since_ms));
                    }
                    self.leave(now_ms, step);
                }
            }
            Request::Abort { why } => self.undo(now_ms, why),
            Request::Pause => self.paused_ms = self.paused_ms.or(Some(now_ms)),
            Request::Resume => self.unpause(now_ms),
            Request::Interrupt => {
                self.hurry = true;
                let everything = match self.stage {
                    Stage::Holding { step, .. } | Stage::Hooks { then: After::Hold(step), .. } => {
                        self.weight(step).weight == 100
                    }
                    _ => false,
                };
                if !everything {
                    self.undo(now_ms, "interrupted".to_owned());
                }
            }
        }
    }

    fn unpause(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.paused_ms.take() {
            self.deadline_ms = self.deadline_ms.saturating_add(now_ms.saturating_sub(since_ms));
        }
    }

    fn undo(&mut self, now_ms: u64, why: String) {
        if self.why.is_empty() {
            self.why = why;
        }
        self.stage = Stage::Undoing { since_ms: now_ms, asked_ms: None, tries: 0 };
    }

    fn run_hooks(&mut self, when: HookWhen, then: After) {
        self.stage = Stage::Hooks { left: self.course.hooks_at(when), asked: false, then };
    }

    fn leave(&mut self, now_ms: u64, step: usize) {
        self.stage = if step + 1 < self.course.weights.len() {
            Stage::Shifting { step: step + 1, asked_ms: None }
        } else {
            Stage::Finishing { since_ms: now_ms, asked_ms: None }
        };
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
                        self.why = "it serves, but the previous release has not stopped yet".to_owned();
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
                    return Decision::Done { outcome, why: self.why.clone(), logs: self.logs.clone() };
                }
            }
        }
    }

    /// What to do at a weight; none when the stage has moved on.
    fn hold(&mut self, now_ms: u64, step: usize, since_ms: u64) -> Option<Decision> {
        let WeightStep { weight, pause_ms, gate } = *self.weight(step);
        if self.hurry {
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
        let late = self.paused_ms.is_none() && now_ms >= self.deadline_ms;
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

    fn weight(&self, step: usize) -> &WeightStep {
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
