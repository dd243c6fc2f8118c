//! The local cloud: what a container platform with a load balancer does, on this machine, for real.
//!
//! A release's tasks are processes (or podman's containers) that an agent looks after, behind a front door that never
//! refuses a client while releases come and go. [`LocalProvider`] is the agent's client; the agent itself is this program
//! again, started on demand with hidden arguments, which is why [`entry`] comes first in `main`.
//!
//! Nothing here reads an environment file or decides what a rollout should do next.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

mod agent;
mod apply;
mod client;
pub mod config;
pub mod document;
mod exec;
mod fault;
mod logs;
mod observe;
mod provider;
mod rollout;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

pub use apply::secrets_file;
pub use config::{Config, folder};
pub use provider::LocalProvider;
pub use wire::AgentStatus;

/// Runs this process as a part of an agent, if that is what its arguments (program's name first) ask for; then the
/// process is to end with the code. Call it before anything else in `main`.
pub fn entry(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    dataplane::shim::entry(&args).or_else(|| agent::entry(&args))
}
