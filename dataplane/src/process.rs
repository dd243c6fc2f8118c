//! Other processes, told apart safely although the kernel uses their numbers again. It decides whether a process is the
//! one that was meant; it never waits for one.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process for good: its number, and when it started in clock ticks since boot, which a later process with the same
/// number does not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub started_ticks: u64,
}

impl ProcessId {
    /// The process with this number, if it runs.
    pub fn of(pid: u32) -> Option<Self> {
        let (state, started_ticks) = stat(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some(ProcessId { pid, started_ticks })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        ProcessId { pid, started_ticks: stat(pid).map_or(0, |(_, ticks)| ticks) }
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Its number as the kernel's calls take it.
    pub fn number(self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }

    /// Kills it and every process of the group that it leads, if it still runs.
    pub fn kill_group(self) {
        if let (true, Some(pid)) = (self.is_alive(), self.number()) {
            // It may have ended in between, which is what was wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// State and start time. The command's name stands in parentheses and may itself hold any character.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// A pidfd to wait on: it is readable for ever once its process has ended. Needs a tokio runtime.
#[expect(deprecated, reason = "its replacement is unsafe for the sake of descriptors that are not owned; this one is")]
pub fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// The processes whose parent is this one, as far as the kernel tells.
pub(crate) fn children_of_this() -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .filter_map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_known_by_its_number_and_start() {
        let own = ProcessId::own();
        assert!(own.is_alive() && own.started_ticks > 0);
        assert!(!ProcessId { started_ticks: own.started_ticks + 1, ..own }.is_alive());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.is_alive());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while id.is_alive() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(!id.is_alive(), "a zombie is not alive");
        child.wait().unwrap();
        assert!(ProcessId::of(id.pid).is_none_or(|other| other != id));
    }
}
