//! What a driver needs of whatever decides: the engine, or, in tests, one that is broken on purpose so that a driver's tests
//! prove that they would notice.

use super::{Decision, Engine, Event, Looked, Request};
use crate::analysis::Verdict;

/// Decides what comes next in one rollout.
pub trait Decide: Send {
    /// What comes next, now that this happened.
    fn next(&mut self, now_ms: u64, event: Event) -> Decision;

    /// What comes next, now that [`Decision::Look`] was answered. Apart from [`Decide::next`], so that a look is lent and not
    /// moved.
    fn looked(&mut self, now_ms: u64, looked: Looked<'_>) -> Decision;

    /// What the last look said.
    fn verdict(&self) -> Verdict;

    /// True once it was decided to undo, or undone.
    fn is_undoing(&self) -> bool;

    /// True once nobody can ask for anything any more: it is being finished or undone.
    fn is_ending(&self) -> bool;

    /// Why it is being undone; empty otherwise.
    fn why(&self) -> &str;

    /// The failing task's last log lines, once it failed.
    fn logs(&self) -> &[String];

    /// Adds to the reason what was found out after the decision: which requests, which lines.
    fn explain(&mut self, more: &str, logs: Vec<String>);

    /// The weight's place in the course at which a person is waited for, if that is a gate.
    fn gate(&self) -> Option<usize>;

    /// Why this can't be done where the rollout stands; none where it can.
    fn refuses(&self, request: &Request) -> Option<String>;

    /// True where the cloud goes on alone, so that nobody has to stay.
    fn may_leave(&self) -> bool;
}

impl Decide for Engine {
    fn next(&mut self, now_ms: u64, event: Event) -> Decision {
        Engine::next(self, now_ms, event)
    }

    fn looked(&mut self, now_ms: u64, looked: Looked<'_>) -> Decision {
        Engine::looked(self, now_ms, looked)
    }

    fn verdict(&self) -> Verdict {
        Engine::verdict(self)
    }

    fn is_undoing(&self) -> bool {
        Engine::is_undoing(self)
    }

    fn is_ending(&self) -> bool {
        Engine::is_ending(self)
    }

    fn why(&self) -> &str {
        Engine::why(self)
    }

    fn logs(&self) -> &[String] {
        Engine::logs(self)
    }

    fn explain(&mut self, more: &str, logs: Vec<String>) {
        Engine::explain(self, more, logs);
    }

    fn gate(&self) -> Option<usize> {
        Engine::gate(self)
    }

    fn refuses(&self, request: &Request) -> Option<String> {
        Engine::refuses(self, request)
    }

    fn may_leave(&self) -> bool {
        Engine::may_leave(self)
    }
}
