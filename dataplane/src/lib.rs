//! What a platform does under a release, on one machine: images as folders, tasks that outlive whoever started them,
//! probes, restarts, logs, and a proxy whose routing changes while traffic flows.
//!
//! It decides nothing about releases: which one runs, gets traffic or goes is its caller's, and it knows them only as
//! names of groups. It reads no environment files and no plans. Tasks need Linux (pidfds, `/proc`, subreapers); the rest is
//! portable.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

#[cfg(target_os = "linux")]
pub mod copy;
pub mod files;
pub mod image;
pub mod logs;
#[cfg(target_os = "linux")]
pub mod podman;
pub mod port;
pub mod probe;
#[cfg(target_os = "linux")]
pub mod process;
pub mod proxy;
#[cfg(target_os = "linux")]
pub mod runtime;
pub mod secret;
#[cfg(target_os = "linux")]
pub mod shim;
#[cfg(target_os = "linux")]
pub mod supervise;
#[cfg(target_os = "linux")]
pub mod task;
pub mod volume;

pub use secret::Secret;
