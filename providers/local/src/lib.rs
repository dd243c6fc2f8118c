//! The local cloud: what a container platform with a load balancer does, on this machine, for real.
//!
//! A release's tasks are processes (or podman's containers) that an agent looks after, behind a front door that never
//! refuses a client while releases come and go. [`LocalProvider`] is the agent's client; the agent itself is this program
//! again, started on demand with hidden arguments, which is why [`entry`] comes first in `main`.
//!
//! Nothing here reads an environment file or decides what a rollout should do next.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod apply;
#[cfg(target_os = "linux")]
mod client;
pub mod config;
pub mod document;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod fault;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod observe;
#[cfg(target_os = "linux")]
mod provider;
#[cfg(target_os = "linux")]
mod rollout;
mod status;
#[cfg(target_os = "linux")]
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

pub use config::{Config, folder, secrets_file};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::LocalProvider;
#[cfg(target_os = "linux")]
pub use provider::LocalProvider;
pub use status::AgentStatus;

/// Runs this process as a part of an agent, if that is what its arguments (program's name first) ask for; then the
/// process is to end with the code. Call it before anything else in `main`.
pub fn entry(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    #[cfg(target_os = "linux")]
    return dataplane::shim::entry(&args).or_else(|| agent::entry(&args));
    #[cfg(not(target_os = "linux"))]
    {
        drop(args);
        None
    }
}
