//! A task: one run of a program, with a folder of its own that says everything about it, to any process and after any
//! crash. It decides whether a task that is found runs, has ended or was lost; when one should run is not its concern.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use crate::files::{self, Lasting};
use crate::process::{self, ProcessId};
use crate::shim::{self, Exit, Launch, now_ms};

const RECORD_FILE: &str = "task.json";
/// A shim that holds its lock has this long to say which process it is.
const SHIM_STARTS: Duration = Duration::from_secs(5);

/// Why a task could not be started or taken over.
#[derive(Debug, Error)]
#[error("{what} {}", path.display())]
pub struct TaskError {
    /// What was tried.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

fn fault(what: &'static str, path: &Path) -> impl Fn(io::Error) -> TaskError {
    move |source| TaskError { what, path: path.to_owned(), source }
}

/// What a task is; no secret among it. Written before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name, that of its folder too.
    pub id: String,
    /// What it belongs to: a release.
    pub group: String,
    /// Which of the copies of its group it is; none for a one-off task.
    pub slot: Option<u32>,
    /// How many came before it in its slot.
    pub attempt: u32,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// When it was made, in Unix milliseconds.
    pub made_unix_ms: u64,
    /// Its container, if it runs in one.
    pub container: Option<String>,
}

/// A task that runs.
#[derive(Debug)]
pub struct Task {
    folder: PathBuf,
    record: Record,
    shim: AsyncFd<OwnedFd>,
    /// If it is this process's own child, which must be reaped.
    child: Option<Child>,
}

/// What was found in a task's folder.
#[derive(Debug)]
pub enum Found {
    /// It runs.
    Running(Task),
    /// It ran.
    Ended(Record, Exit),
}

impl Task {
    /// Starts a task in a new folder below `tasks`. `program` is what understands `__shim`. Needs a tokio runtime.
    pub fn start(tasks: &Path, record: Record, launch: &Launch, program: &Path) -> Result<Task, TaskError> {
        let folder = tasks.join(&record.id);
        files::make_folder(&folder).map_err(fault("can't make", &folder))?;
        let path = folder.join(RECORD_FILE);
        let bytes = serde_json::to_vec(&record).map_err(io::Error::from).map_err(fault("can't write", &path))?;
        files::replace(&path, &bytes, Lasting::Crash).map_err(fault("can't write", &path))?;
        let mut child =
            shim::command(program, &folder).spawn().map_err(fault("can't start the supervisor", program))?;
        let told = serde_json::to_vec(launch).map_err(io::Error::from).and_then(|bytes| match child.stdin.take() {
            // The shim reads all of it before anything else, and the pipe is closed at the end.
            Some(mut stdin) => stdin.write_all(&bytes),
            None => Ok(()),
        });
        let shim = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(process::watch)
            .map_err(fault("can't watch the supervisor of", &folder))?;
        let task = Task { folder, record, shim, child: Some(child) };
        // A shim that was told nothing leaves by itself, and says so in the task's folder.
        let _ = told;
        Ok(task)
    }

    /// Takes over whatever is in a task's folder. A task whose shim was killed is killed now and counts as lost.
    pub async fn adopt(folder: &Path) -> Result<Found, TaskError> {
        let record: Record = load(&folder.join(RECORD_FILE))?;
        let deadline = tokio::time::Instant::now() + SHIM_STARTS;
        loop {
            let lock = shim::lock(folder).map_err(fault("can't lock", folder))?;
            if let Some(exit) = exit_of(folder) {
                return Ok(Found::Ended(record, exit));
            }
            if lock.is_some() {
                let exit = bury(folder, &record)?;
                return Ok(Found::Ended(record, exit));
            }
            if let Some(shim) = load::<ProcessId>(&folder.join(shim::SHIM_FILE)).ok().and_then(open) {
                return Ok(Found::Running(Task { folder: folder.to_owned(), record, shim, child: None }));
            }
            if tokio::time::Instant::now() > deadline {
                let source = io::Error::other("somebody holds its lock but is not its supervisor");
                return Err(TaskError { what: "can't take over", path: folder.to_owned(), source });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What it is.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its folder, with its log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process that its program runs in, once it does.
    pub fn pid(&self) -> Option<u32> {
        pid(&self.folder)
    }

    /// Asks it to stop; it is killed after its grace. Says so in its folder first.
    pub fn stop(&self) {
        // Only a help after a crash; the signal matters more than a full disk.
        let _ = files::replace(&self.folder.join(shim::STOP_FILE), b"", Lasting::Crash);
        let _ = pidfd_send_signal(&self.shim, Signal::TERM);
    }

    /// Kills it at once.
    pub fn kill(&self) {
        let _ = files::replace(&self.folder.join(shim::STOP_FILE), b"", Lasting::Crash);
        let _ = pidfd_send_signal(&self.shim, Signal::QUIT);
    }

    /// Whether somebody asked it to stop, now or before a crash.
    pub fn is_stopping(&self) -> bool {
        self.folder.join(shim::STOP_FILE).exists()
    }

    /// Waits until it has ended. May be called again, and dropped while it waits.
    pub async fn ended(&mut self) -> Exit {
        // An error is an end too: there is nothing left to watch.
        let _ = self.shim.readable().await;
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
        match exit_of(&self.folder) {
            Some(exit) => exit,
            // Its shim may be a second one that found the first at work.
            None => match Box::pin(Task::adopt(&self.folder)).await {
                Ok(Found::Ended(_, exit)) => exit,
                Ok(Found::Running(other)) => {
                    *self = other;
                    Box::pin(self.ended()).await
                }
                Err(error) => Exit { error: Some(error.to_string()), at_unix_ms: now_ms(), ..Exit::default() },
            },
        }
    }
}

/// What is written about a task, whether it runs or not.
pub fn record(folder: &Path) -> Option<Record> {
    load(&folder.join(RECORD_FILE)).ok()
}

/// How a task ended, if it has.
pub fn exit_of(folder: &Path) -> Option<Exit> {
    load(&folder.join(shim::EXIT_FILE)).ok()
}

/// The process that a task's program runs in, if it runs.
pub fn pid(folder: &Path) -> Option<u32> {
    load::<ProcessId>(&folder.join(shim::PID_FILE)).ok().filter(|id| id.is_alive()).map(|id| id.pid)
}

fn open(id: ProcessId) -> Option<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(id.number()?, PidfdFlags::NONBLOCK).ok()?;
    // Only now is it certain whose number that is.
    id.is_alive().then(|| process::watch(fd).ok()).flatten()
}

/// Ends what the shim left behind and writes that down. The caller holds the lock.
fn bury(folder: &Path, record: &Record) -> Result<Exit, TaskError> {
    if let Ok(id) = load::<ProcessId>(&folder.join(shim::PID_FILE)) {
        id.kill_group();
    }
    if let Some(container) = &record.container {
        remove_container(container);
    }
    let asked = folder.join(shim::STOP_FILE).exists();
    let exit = Exit { signal: Some(9), at_unix_ms: now_ms(), asked, lost: true, ..Exit::default() };
    shim::write_exit(folder, &exit).map_err(fault("can't write to", folder))?;
    Ok(exit)
}

fn remove_container(name: &str) {
    for words in crate::podman::removal(name) {
        if let [program, args @ ..] = words.as_slice() {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // What can't be removed now is replaced by the next container of that name.
            let _ = command.status();
        }
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, TaskError> {
    let bytes = std::fs::read(path).map_err(fault("can't read", path))?;
    serde_json::from_slice(&bytes).map_err(io::Error::from).map_err(fault("can't understand", path))
}

/// Removes the folders of tasks that ended, all but the `keep` that ended last.
pub fn collect(tasks: &Path, keep: usize) -> io::Result<()> {
    let mut ended: Vec<(u64, PathBuf)> = files::names(tasks)?
        .iter()
        .map(|name| tasks.join(name))
        .filter_map(|folder| Some((exit_of(&folder)?.at_unix_ms, folder)))
        .collect();
    ended.sort();
    let surplus = ended.len().saturating_sub(keep);
    ended.iter().take(surplus).try_for_each(|(_, folder)| files::remove_folder(folder))
}
