//! What an agent says of itself. It decides nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's process.
    pub pid: u32,
    /// The process that starts it again when it dies.
    pub watchdog_pid: Option<u32>,
    /// Its version.
    pub version: String,
    /// Since when it runs, in Unix milliseconds.
    pub since_unix_ms: u64,
    /// Tasks that it looks after.
    pub tasks: u32,
    /// Its folder.
    pub folder: PathBuf,
    /// Its own log.
    pub log: PathBuf,
    /// What it found or did by itself of late.
    pub notes: Vec<String>,
    /// Its resident memory.
    pub memory_kib: u64,
}
