//! Who has which database of a shared file system open for writing. It decides nothing: it looks at what the kernel tells of the
//! tasks' processes and counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::FOLDER;
use crate::aws::World;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(25);
/// What databases are called.
const NAMES: [&str; 6] = [".sqlite", ".sqlite3", ".db", "-wal", "-journal", ".lock"];

/// How many tasks have a file open, now and at most ever.
#[derive(Debug, Default)]
pub(super) struct Writers {
    files: BTreeMap<PathBuf, (BTreeSet<String>, usize)>,
}

impl Writers {
    /// Takes note of who has what open now.
    pub(super) fn note(&mut self, mut now: BTreeMap<PathBuf, BTreeSet<String>>) {
        for (path, (tasks, most)) in &mut self.files {
            *tasks = now.remove(path).unwrap_or_default();
            *most = (*most).max(tasks.len());
        }
        self.files.extend(now.into_iter().map(|(path, tasks)| {
            let most = tasks.len();
            (path, (tasks, most))
        }));
    }

    pub(super) fn report(&self) -> Value {
        let files = self.files.iter().map(|(path, (tasks, most))| {
            json!({ "file": path, "writers": tasks.len(), "writers_max": most, "tasks": tasks })
        });
        json!({ "files": files.collect::<Vec<_>>() })
    }
}

/// Looks from now on, until no task is left.
pub(super) fn watch(world: &Arc<World>) {
    let world = world.clone();
    tokio::spawn(async move {
        let Ok(root) = world.settings.folder.join(FOLDER).canonicalize() else {
            world.efs.state().is_watched = false;
            return;
        };
        loop {
            let tasks = world.efs.state().tasks.clone();
            let root = root.clone();
            let is_last = tasks.is_empty();
            let now = tokio::task::spawn_blocking(move || {
                let mut now: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
                for (task, folders) in tasks {
                    for path in folders.iter().filter_map(|f| dataplane::task::pid(f)).flat_map(|pid| open(pid, &root))
                    {
                        now.entry(path).or_default().insert(task.clone());
                    }
                }
                now
            });
            let now = now.await.unwrap_or_default();
            if noted(&world, now, is_last) {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Writes down what was seen; whether nobody is left to look at.
fn noted(world: &World, now: BTreeMap<PathBuf, BTreeSet<String>>, is_last: bool) -> bool {
    let mut state = world.efs.state();
    state.writers.note(now);
    let is_over = is_last && state.tasks.is_empty();
    if is_over {
        state.is_watched = false;
    }
    is_over
}

/// The databases below a folder that a process may write to.
fn open(pid: u32, root: &Path) -> Vec<PathBuf> {
    // A process that has just ended has nothing open.
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut paths = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Ok(path) = std::fs::read_link(entry.path()) else { continue };
        let name = path.to_string_lossy();
        if !path.starts_with(root) || !NAMES.iter().any(|n| name.ends_with(n)) {
            continue;
        }
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy()));
        let flags = info
            .ok()
            .and_then(|i| i.lines().find_map(|l| u32::from_str_radix(l.strip_prefix("flags:")?.trim(), 8).ok()));
        // The lowest two bits: 0 is for reading only.
        if flags.is_some_and(|f| f & 3 != 0) {
            paths.push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_ever_wrote_is_remembered() {
        let mut writers = Writers::default();
        let of = |tasks: &[&str]| {
            BTreeMap::from([(PathBuf::from("/a.db"), tasks.iter().map(|t| (*t).to_owned()).collect::<BTreeSet<_>>())])
        };
        writers.note(of(&["one"]));
        writers.note(of(&["one", "two"]));
        writers.note(BTreeMap::new());
        let report = writers.report();
        assert_eq!((&report["files"][0]["writers"], &report["files"][0]["writers_max"]), (&json!(0), &json!(2)));
    }

    #[test]
    fn only_what_may_be_written_counts() {
        let folder = std::env::temp_dir().join(format!("writers-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let root = folder.canonicalize().unwrap();
        let path = root.join("scores.db");
        let _writer = std::fs::File::create(&path).unwrap();
        let _other = std::fs::File::create(root.join("scores.txt")).unwrap();
        assert_eq!(open(std::process::id(), &root), std::slice::from_ref(&path));
        drop(_writer);
        let _reader = std::fs::File::open(&path).unwrap();
        assert_eq!(open(std::process::id(), &root), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
