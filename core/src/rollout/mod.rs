//! The course of a rollout: which weights, how long, which hooks, and the engine that says what comes next. Time, the
//! provider's progress and people's requests enter as events; nothing here acts, waits or reads a clock.

mod course;
mod engine;
mod events;
mod reactions;

pub use course::{Course, SWAP_HOLD_LIMIT_MS, Unsupported};
pub use engine::Engine;
pub use events::{Decision, Event, Request};
