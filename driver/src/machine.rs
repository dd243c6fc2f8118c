//! A process as others on the same machine can recognise it, also after its number was given to another.

use serde::{Deserialize, Serialize};

/// A process on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The host's name, for people.
    pub host: String,
    /// The kernel's name for this boot and this process namespace. Two that are equal can look each other up; empty where
    /// there is no such name.
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// When it was started, in clock ticks since boot: another process of the same number has another.
    pub started_ticks: u64,
}

impl Machine {
    /// This process.
    pub fn here() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let namespace = std::fs::read_link("/proc/self/ns/pid").map(|p| p.display().to_string()).unwrap_or_default();
        let boot = read("/proc/sys/kernel/random/boot_id");
        let pid = std::process::id();
        let host = match rustix::system::uname().nodename().to_str() {
            Ok(name) if !name.is_empty() => name.to_owned(),
            _ => "unknown".to_owned(),
        };
        Machine {
            host,
            boot: if boot.is_empty() || namespace.is_empty() { String::new() } else { format!("{boot}/{namespace}") },
            pid,
            started_ticks: started_ticks(pid).unwrap_or(0),
        }
    }

    /// True when the other can be looked up from here.
    pub fn sees(&self, other: &Machine) -> bool {
        !self.boot.is_empty() && self.boot == other.boot
    }

    /// True while this process runs. Only right on the machine that it belongs to.
    pub fn runs(&self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }
}

/// Field 22 of /proc/PID/stat; none for a process that is gone or only waits to be reaped.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, also spaces and parentheses.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    if matches!(state, "Z" | "X") { None } else { rest.nth(18)?.parse().ok() }
}
