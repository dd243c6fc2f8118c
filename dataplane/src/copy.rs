//! One copy of a service: what it is made from, how it is probed, how it is. It decides nothing; keeping it running is the
//! supervisor's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::runtime::Recipe;
use crate::shim::Exit;

/// How a copy is found to be alive and ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path of the liveness probe.
    pub live: String,
    /// Path of the readiness probe.
    pub ready: String,
    /// Between probes of a copy that is ready. One that is not yet is asked every few milliseconds.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Consecutive successes that make it ready.
    pub healthy_after: u32,
    /// Consecutive failures that make it unready, or dead.
    pub unhealthy_after: u32,
}

/// How a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Started, not ready yet.
    Starting,
    /// It says itself what it waits for.
    Waiting,
    /// Ready.
    Ready,
    /// Was ready, is not now.
    Unready,
    /// Asked to stop.
    Stopping,
    /// Died, will be started again.
    BackingOff,
    /// Gone, as it was asked to be.
    Stopped,
}

/// All that is known of a copy.
#[derive(Debug, Clone)]
pub struct Status {
    /// How it is.
    pub state: State,
    /// Why it is so, in a few words; empty for ready.
    pub detail: String,
    /// The task that runs, or ran last.
    pub task: Option<String>,
    /// Where it listens, while it runs.
    pub address: Option<SocketAddr>,
    /// The running task was ready at some time.
    pub was_ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How often it ended, or could not be started, without having been asked to stop.
    pub deaths: u32,
    /// The last task that died and how, for its log.
    pub died: Option<(String, Exit)>,
    /// Why it can never start as it is.
    pub hopeless: Option<String>,
    /// What its readiness answer says of itself.
    pub reported: BTreeMap<String, Value>,
}

/// What a copy is made from.
#[derive(Debug, Clone)]
pub struct Copy {
    /// How to start it.
    pub recipe: Arc<Recipe>,
    /// What it belongs to: a release. Part of its tasks' names.
    pub group: String,
    /// Which of the group's copies it is.
    pub slot: u32,
    /// How it is probed.
    pub health: Health,
    /// Where its tasks' folders are.
    pub tasks: PathBuf,
    /// The program that understands `__shim`.
    pub program: PathBuf,
    /// What containers' names begin with; unique on this machine.
    pub container_prefix: String,
}
