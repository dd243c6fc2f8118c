//! The course of a rollout: which weights, how long, which hooks, and the engine that says what comes next. Time, the
//! provider's progress and people's requests enter as events; nothing here acts, waits or reads a clock.

mod cloud;
mod course;
mod decide;
mod describe;
mod engine;
mod events;
mod hold;
mod reactions;
mod waiting;

pub use course::{Course, PROGRESS_DEADLINE_MS, SWAP_HOLD_LIMIT_MS, Unsupported};
pub use decide::Decide;
pub use engine::Engine;
pub use events::{Decision, Event, Looked, Request};
pub use waiting::Waiting;
