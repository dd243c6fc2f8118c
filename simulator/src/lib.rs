//! AWS as its clients see it, over real processes on this machine: an address that answers AWS's own protocols, and behind it
//! load balancers that route, tasks that run, deployments that shift traffic and alarms that follow what happened.
//!
//! It knows nothing of dbird and shares no code with it but the data plane, so that it shares no mistake with the provider
//! that it judges. What it does not answer is told so by name, or is passed on to a server that somebody names.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

pub mod aws;
pub mod clock;

pub use aws::{FAULTS, Running, Settings, start, start_at};
pub use clock::Clock;
