//! The processes of a task as `/proc` shows them: what they use, and whether a container's own program runs yet. It starts and
//! ends none.

/// More processes than this are not looked at.
const PROCESSES_MAX: usize = 10_000;
/// What brings a container up, by the beginnings of their names; everything else in it is its own.
const ENGINE: [&str; 4] = ["conmon", "runc", "crun", "podman"];

/// What the kernel says of a process after its name, which stands in parentheses and may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of a process and of those of its children that it has waited for, in hundredths of a second.
fn ticks(pid: u32) -> Option<u64> {
    stat(pid)?.get(11..15)?.iter().map(|n| n.parse::<u64>().ok()).sum()
}

fn name(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A task's program and everything else that its shim looks after: what a container's engine starts is no child of the engine's
/// client, but it stays below the shim.
fn below_shim(program: u32) -> Vec<u32> {
    let shim = stat(program).and_then(|fields| fields.get(1)?.parse().ok());
    let mut found = shim.map(children).unwrap_or_default();
    let mut next = 0;
    while next < found.len().min(PROCESSES_MAX) {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// Processor time of all of a task's processes, in hundredths of a second.
pub(super) fn ticks_of_task(program: u32) -> u64 {
    below_shim(program).into_iter().filter_map(ticks).sum()
}

/// Whether a container's own program has been started, not only its engine.
pub(super) fn is_in_container(program: u32) -> bool {
    below_shim(program).into_iter().filter_map(name).any(|name| !ENGINE.iter().any(|part| name.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_starts_is_counted_with_it() {
        // A shim stands between this process and the task; here it is this process itself.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & read _; kill $!"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while ticks(child.id()).is_none_or(|own| ticks_of_task(child.id()) < own + 5) {
            assert!(std::time::Instant::now() < deadline, "the child's child used nothing");
            std::thread::yield_now();
        }
        assert!(is_in_container(child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(ticks(child.id()), None);
    }
}
