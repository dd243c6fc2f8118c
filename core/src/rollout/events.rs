//! The words between an engine and whoever drives it: what happened, what people want, and what is to be done next.

use serde::{Deserialize, Serialize};

use super::Waiting;
use crate::{
    Outcome, Progress, Steer,
    analysis::{Health, Look},
};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The provider was polled.
    Progress(Progress),
    /// Only time has passed.
    Tick,
    /// A hook ended.
    HookEnded {
        /// Its place in [`Course::hooks`](crate::rollout::Course::hooks).
        index: usize,
        /// Why it failed; none when it succeeded.
        failure: Option<String>,
    },
    /// Somebody wants something.
    Request(Request),
}

/// How a look was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Looked<'a> {
    /// A window begins now.
    Opened,
    /// What the window was like.
    At(&'a Look),
    /// Nobody could say what requests were like; how tasks are may be known all the same.
    Unreadable(Option<Health>),
}

/// What people ask of a rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
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
    /// Look what requests were like, then say so with [`Engine::looked`](crate::rollout::Engine::looked).
    Look {
        /// Over the time up to now, in milliseconds; 0 where a window only begins.
        window_ms: u64,
    },
    /// Run this hook, then say how it ended.
    RunHook {
        /// Its place in [`Course::hooks`](crate::rollout::Course::hooks).
        index: usize,
    },
    /// Poll until something changes.
    Wait {
        /// Say [`Event::Tick`] at this time at the latest.
        until_ms: Option<u64>,
        /// What is being waited for.
        waiting_for: Waiting,
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
