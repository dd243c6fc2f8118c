//! Whether a release is good, judged from what its requests were like. It decides look by look and remembers only fixed
//! counts; it never asks for numbers, waits, or moves traffic.
//!
//! Two kinds of questions are asked at each look, of the last window and of everything since this weight was reached: is the
//! candidate over a limit, and is it worse than what serves beside it in the same time? A yes must be more than chance: see
//! [`evidence`]. A candidate that is over a limit by numbers too small to be sure of is neither good nor bad.

pub mod evidence;
mod judge;
mod latency;
mod look;
mod verdict;

pub use judge::Judge;
pub use latency::Latency;
pub use look::{Health, Look, Side};
pub use verdict::{Check, Fault, Unclear, Verdict, percent};
