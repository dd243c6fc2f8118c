//! How an engine takes in what happened: it moves to the stage that is right for it. What that stage asks for is
//! decided afterwards, in `engine`.

use super::{
    engine::{After, Engine, STEER_AGAIN_MS, Stage},
    hold::Holding,
};
use crate::{Outcome, Phase, Progress, rollout::Request, spec::HookWhen};

/// A provider that fails while undoing is asked this often.
const UNDO_TRIES_MAX: u32 = 5;

impl Engine {
    /// Takes in what the provider says. Afterwards the stage is right for it.
    pub(super) fn follow(&mut self, now_ms: u64, progress: &Progress) {
        self.watch(now_ms, progress);
        match &progress.phase {
            Phase::Failed { why, logs } => self.failed(now_ms, why, logs),
            Phase::RolledBack => {
                if self.why.is_empty() {
                    self.why = self.undid(progress);
                }
                self.gone_back();
            }
            Phase::RollingBack if !self.is_undoing() => {
                let why = self.undid(progress);
                self.undo(now_ms, why);
                if let Stage::Undoing { asked_ms, .. } = &mut self.stage {
                    *asked_ms = Some(now_ms);
                }
            }
            Phase::Finished => self.finished(now_ms, progress),
            _ if self.cloud.is_some() => self.follow_cloud(now_ms, progress),
            Phase::Ready => self.ready(now_ms, progress),
            _ => {}
        }
    }

    fn undid(&self, progress: &Progress) -> String {
        match progress.waiting_for.as_str() {
            why if self.cloud.is_some() && !why.is_empty() => format!("the cloud undid it: {why}"),
            _ => "the cloud undid it".to_owned(),
        }
    }

    pub(super) fn ready(&mut self, now_ms: u64, progress: &Progress) {
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

    pub(super) fn failed(&mut self, now_ms: u64, why: &str, logs: &[String]) {
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

    pub(super) fn gone_back(&mut self) {
        if matches!(self.stage, Stage::Ended(_) | Stage::Hooks { then: After::End(_), .. }) {
            return;
        }
        match self.parent {
            Some(_) => self.run_hooks(HookWhen::Rollback, After::End(Outcome::RolledBack)),
            None => self.stage = Stage::Ended(Outcome::Removed),
        }
    }

    pub(super) fn finished(&mut self, now_ms: u64, progress: &Progress) {
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

    pub(super) fn hook_ended(&mut self, now_ms: u64, index: usize, failure: Option<String>) {
        let Stage::Hooks { left, then, .. } = &self.stage else { return };
        if left.first() != Some(&index) {
            return;
        }
        let (mut left, then) = (left.clone(), *then);
        left.remove(0);
        match (failure, then) {
            // Whoever has to leave stopped the hook, not the release.
            (Some(_), After::Hold(step)) if self.hurry && self.share_at(step) == 100 => {
                self.stage = Stage::Hooks { left: Vec::new(), asked: false, then };
            }
            // What has ended can't be undone by a hook that fails afterwards.
            (Some(why), After::End(_)) => {
                self.remark = why;
                self.stage = Stage::Hooks { left, asked: false, then };
            }
            (Some(why), _) => self.undo(now_ms, why),
            (None, _) => self.stage = Stage::Hooks { left, asked: false, then },
        }
    }

    /// True once nobody can ask for anything any more: it is being finished or undone.
    pub fn is_ending(&self) -> bool {
        self.is_undoing()
            || matches!(self.stage, Stage::Finishing { .. } | Stage::Ended(_))
            || matches!(self.stage, Stage::Hooks { then: After::End(_), .. })
    }

    pub(super) fn obey(&mut self, now_ms: u64, request: Request) {
        if self.is_ending() {
            return;
        }
        match request {
            Request::Promote if self.cloud.is_some() => self.promote_beside(now_ms),
            // What moves by itself can't be held.
            Request::Pause if self.refuses(&request).is_some() => {}
            Request::Promote => {
                self.unpause(now_ms);
                if let Stage::Holding(Holding { step, since_ms, .. }) = self.stage {
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
                    Stage::Holding(Holding { step, .. }) | Stage::Hooks { then: After::Hold(step), .. } => {
                        self.share_at(step) == 100
                    }
                    _ => false,
                };
                if !everything {
                    self.undo(now_ms, "interrupted".to_owned());
                }
            }
        }
    }

    pub(super) fn unpause(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.paused_ms.take() {
            self.deadline_ms = self.deadline_ms.saturating_add(now_ms.saturating_sub(since_ms));
        }
    }

    pub(super) fn undo(&mut self, now_ms: u64, why: String) {
        if self.why.is_empty() {
            self.why = why;
        }
        self.stage = Stage::Undoing { since_ms: now_ms, asked_ms: None, tries: 0 };
    }

    pub(super) fn run_hooks(&mut self, when: HookWhen, then: After) {
        self.stage = Stage::Hooks { left: self.course.hooks_at(when), asked: false, then };
    }

    pub(super) fn leave(&mut self, now_ms: u64, step: usize) {
        // Waiting for something to judge by is not held against the deadline.
        if let Stage::Holding(Holding { unclear_since_ms: Some(since_ms), .. }) = self.stage {
            self.deadline_ms = self.deadline_ms.saturating_add(now_ms.saturating_sub(since_ms));
        }
        self.stage = if step + 1 < self.course.weights.len() {
            Stage::Shifting { step: step + 1, asked_ms: None }
        } else {
            Stage::Finishing { since_ms: now_ms, asked_ms: None }
        };
    }
}
