//! Where everything of an environment lies on this machine. It decides names of folders and files; it opens none.

use std::path::{Path, PathBuf};

/// The program that is this process, also when its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a [`LocalProvider`](crate::LocalProvider) needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The project's folder, absolute; `.dbird` is in it.
    pub project: PathBuf,
    /// A program that calls [`entry`](crate::entry) first; agents and tasks' supervisors are started from it.
    pub agent_program: PathBuf,
    /// How long an agent may take until it answers.
    pub start_timeout_ms: u64,
}

impl Config {
    /// This program is the agent's, too; it gets 15 seconds to start.
    pub fn new(project: impl Into<PathBuf>) -> Self {
        Config { project: project.into(), agent_program: PathBuf::from(OWN_PROGRAM), start_timeout_ms: 15_000 }
    }
}

/// The folder of an environment's agent.
pub fn folder(project: &Path, environment: &str) -> PathBuf {
    project.join(".dbird/local").join(environment)
}

/// The file with the project's secrets.
pub fn secrets_file(project: &Path) -> PathBuf {
    project.join(".dbird/secrets")
}

/// What is in that folder.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The folder itself.
    pub folder: PathBuf,
}

impl Paths {
    /// Of an environment.
    pub fn new(project: &Path, environment: &str) -> Self {
        Paths { folder: folder(project, environment) }
    }

    /// What the agent must know after a crash.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// Where each task listens, for a Prometheus of this user.
    pub fn prometheus(&self) -> PathBuf {
        self.folder.join("prometheus.json")
    }

    /// What watchdog and agent say of themselves.
    pub fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// Unpacked images.
    pub fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    /// A folder for each task.
    pub fn tasks(&self) -> PathBuf {
        self.folder.join("tasks")
    }

    /// A folder for each volume; never removed unless its name is given.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The values of a release's secrets, for restarts after a crash.
    pub fn secrets(&self, release: dbird_core::ReleaseId) -> PathBuf {
        self.folder.join("secrets").join(format!("{release}.json"))
    }

    /// The name of the control socket in the folder.
    pub const SOCKET: &str = "agent.sock";
    /// Locked by the one worker.
    pub const WORKER_LOCK: &str = "worker.lock";
    /// Locked by the one watchdog.
    pub const WATCHDOG_LOCK: &str = "watchdog.lock";
}
