//! The process that starts the worker and starts it again when it dies, with the same listening sockets, so that clients
//! wait in their queues rather than being refused. It decides only that; it knows neither releases nor tasks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dataplane::process::ProcessId;
use rustix::process::{Signal, WaitOptions, kill_process};

use super::channel::{Channel, Word};
use super::{Options, lock, log};
use crate::config::{OWN_PROGRAM, Paths};

/// Back-off between restarts: none for the first, then this ...
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// ... doubled up to this ...
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// ... and forgotten when a worker served this long.
const STABLE: Duration = Duration::from_secs(10);
/// Workers in a row that did not get as far as to serve, before the watchdog gives up.
const FAILURES_MAX: u32 = 60;
/// How often ended tasks' supervisors are reaped when nothing else happens.
const REAP_EVERY: Duration = Duration::from_secs(30);
/// A successor that doesn't serve by then is given up.
const SUCCESSOR_STARTS: Duration = Duration::from_secs(10);
/// What a worker that finds another one at work ends with.
pub(super) const BUSY: u8 = 75;

enum Event {
    Said(u64, Word, Option<OwnedFd>),
    Gone(u64),
}

struct Worker {
    number: u64,
    channel: Channel,
    id: Option<ProcessId>,
    program: Program,
    begun: Instant,
    up: bool,
}

/// A program's file, held open so that it can be started again when it has been replaced.
struct Program(File);

impl Program {
    fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Program)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        command.arg0("dbird");
        command
    }
}

struct Watchdog {
    options: Options,
    sockets: BTreeMap<String, OwnedFd>,
    events: mpsc::Sender<Event>,
    next: u64,
    /// How workers ended that were reaped before anybody asked.
    ended: BTreeMap<u32, i32>,
}

/// Watches until the worker says that all is over. Returns the exit code.
pub(super) fn run(options: Options) -> u8 {
    let paths = Paths::new(&options.project, &options.environment);
    // Whoever started this may have done so already.
    let _ = rustix::process::setsid();
    let _lock = match lock(&paths.folder.join(Paths::WATCHDOG_LOCK)) {
        Ok(Some(lock)) => lock,
        // Another one is at work, which is all that was wanted.
        Ok(None) => return BUSY,
        Err(error) => {
            log(format_args!("the watchdog can't work in {}: {error}", paths.folder.display()));
            return 1;
        }
    };
    // Tasks' supervisors whose worker died become this process's children, and are reaped.
    let own = rustix::process::getpid();
    let _ = rustix::process::set_child_subreaper(Some(own));
    let (events, happened) = mpsc::channel();
    let mut watchdog = Watchdog { sockets: BTreeMap::new(), events, next: 0, ended: BTreeMap::new(), options };
    match watchdog.watch(&happened) {
        Ok(code) => code,
        Err(error) => {
            log(format_args!("the watchdog gives up: {error}"));
            1
        }
    }
}

impl Watchdog {
    fn watch(&mut self, happened: &mpsc::Receiver<Event>) -> io::Result<u8> {
        let mut worker = match self.options.adopt {
            Some(pid) => self.adopt(pid)?,
            None => self.start(Program::open(Path::new(OWN_PROGRAM))?)?,
        };
        let mut successor: Option<Worker> = None;
        let mut back_off = Duration::ZERO;
        let mut failures = 0;
        loop {
            let wait =
                successor.as_ref().map_or(REAP_EVERY, |next| SUCCESSOR_STARTS.saturating_sub(next.begun.elapsed()));
            match happened.recv_timeout(wait) {
                Ok(Event::Said(from, word, socket)) => match word {
                    Word::Socket(name) => {
                        if let Some(socket) = socket {
                            self.sockets.insert(name, socket);
                        }
                    }
                    Word::Close(name) => drop(self.sockets.remove(&name)),
                    Word::Up if successor.as_ref().is_some_and(|next| next.number == from) => {
                        if let Some(mut next) = successor.take() {
                            next.up = true;
                            // If it has gone already there is nobody left to go.
                            let _ = worker.channel.say(&Word::Leave, None);
                            worker = next;
                        }
                    }
                    Word::Up if worker.number == from => worker.up = true,
                    Word::Replace(program) if worker.number == from && successor.is_none() => {
                        match Program::open(&program).and_then(|program| self.start(program)) {
                            Ok(next) => successor = Some(next),
                            Err(error) => {
                                let why = format!("{}: {error}", program.display());
                                let _ = worker.channel.say(&Word::Stay(why), None);
                            }
                        }
                    }
                    Word::Bye if worker.number == from => return Ok(0),
                    _ => {}
                },
                Ok(Event::Gone(from)) if successor.as_ref().is_some_and(|next| next.number == from) => {
                    successor = None;
                    let _ = worker.channel.say(&Word::Stay("it ended at once; see the agent's log".to_owned()), None);
                }
                Ok(Event::Gone(from)) if worker.number == from => {
                    let code = self.end(&worker);
                    if code == Some(i32::from(BUSY)) {
                        log(format_args!("another agent is at work here; this watchdog leaves"));
                        return Ok(BUSY);
                    }
                    if let Some(next) = successor.take() {
                        // It was asked to make room, and did.
                        worker = next;
                        continue;
                    }
                    log(format_args!("the agent ended ({code:?}) and is started again"));
                    if worker.up && worker.begun.elapsed() > STABLE {
                        back_off = Duration::ZERO;
                    }
                    failures = if worker.up { 0 } else { failures + 1 };
                    if failures > FAILURES_MAX {
                        return Err(io::Error::other("no agent got as far as to serve; the next command tries again"));
                    }
                    std::thread::sleep(back_off);
                    back_off = (back_off * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX);
                    worker = self.start(worker.program)?;
                }
                // Of one that left long ago.
                Ok(Event::Gone(_)) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Some(next) = successor.take() {
                        self.end(&next);
                        let _ = worker.channel.say(&Word::Stay("it did not begin to serve in time".to_owned()), None);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(1),
            }
            // Of the tasks' supervisors nobody asks how they ended: that is in their folders.
            self.reap();
            self.ended.retain(|pid, _| {
                worker.id.is_some_and(|id| id.pid == *pid)
                    || successor.as_ref().is_some_and(|next| next.id.is_some_and(|id| id.pid == *pid))
            });
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
            if let (Ok(pid), Some(code)) = (u32::try_from(pid.as_raw_nonzero().get()), code) {
                self.ended.insert(pid, code);
            }
        }
    }

    /// Makes sure that a worker that hung up has ended, and returns its exit code if it was a child.
    fn end(&mut self, worker: &Worker) -> Option<i32> {
        let id = worker.id?;
        // One that ends by itself does so at once after it hung up.
        let patience = Instant::now() + Duration::from_millis(500);
        while Instant::now() < patience + Duration::from_secs(2) {
            self.reap();
            if let Some(code) = self.ended.remove(&id.pid) {
                return Some(code);
            }
            if !id.is_alive() {
                return None;
            }
            if let (true, Some(pid)) = (Instant::now() > patience, id.number()) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn start(&mut self, program: Program) -> io::Result<Worker> {
        let (channel, other) = Channel::pair()?;
        let mut command = program.command();
        command.args(["__agent", "worker"]).args(self.options.args()).stdin(Stdio::from(other)).current_dir("/");
        let child: Child = command.spawn()?;
        let id = ProcessId::of(child.id());
        drop(command);
        for (name, socket) in &self.sockets {
            channel.say(&Word::Socket(name.clone()), Some(socket))?;
        }
        channel.say(&Word::Begin, None)?;
        self.listen(channel, id, program)
    }

    /// Takes over a worker whose watchdog died; it sends its sockets by itself.
    fn adopt(&mut self, pid: u32) -> io::Result<Worker> {
        let channel = Channel::inherited()?;
        self.listen(channel, ProcessId::of(pid), Program::open(Path::new(OWN_PROGRAM))?)
    }

    fn listen(&mut self, channel: Channel, id: Option<ProcessId>, program: Program) -> io::Result<Worker> {
        self.next += 1;
        let number = self.next;
        let events = self.events.clone();
        let ear = channel.again()?;
        std::thread::Builder::new().name("ear".to_owned()).stack_size(128 << 10).spawn(move || {
            while let Ok(Some((word, socket))) = ear.hear() {
                if events.send(Event::Said(number, word, socket)).is_err() {
                    return;
                }
            }
            // The process that watched has ended if nobody listens.
            let _ = events.send(Event::Gone(number));
        })?;
        Ok(Worker { number, channel, id, program, begun: Instant::now(), up: false })
    }
}

/// Starts a watchdog for this very worker, whose own one died. Returns the channel to it.
pub(super) fn start_for_this_worker(options: &Options) -> io::Result<(Channel, Child)> {
    let (channel, other) = Channel::pair()?;
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("dbird").args(["__agent", "watchdog"]).args(options.args());
    command.arg("--adopt").arg(std::process::id().to_string()).stdin(Stdio::from(other)).current_dir("/");
    Ok((channel, command.spawn()?))
}

/// Starts a watchdog, which starts a worker. `program` calls [`entry`](crate::entry) first.
pub(crate) fn start(program: &Path, project: &Path, environment: &str) -> io::Result<Child> {
    let options = Options { project: project.to_owned(), environment: environment.to_owned(), adopt: None };
    let paths = Paths::new(project, environment);
    let log = super::open_log(&paths.log())?;
    let mut command = Command::new(program);
    command.arg0("dbird").args(["__agent", "watchdog"]).args(options.args()).current_dir("/");
    command.env_clear().envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
    command.spawn()
}

/// Of the environment of whoever happens to start the agent only this is kept: what podman needs.
const KEPT_VARIABLES: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "TZ", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// Where a project's folder is, as the hidden subcommands get it.
impl Options {
    fn args(&self) -> [std::ffi::OsString; 4] {
        let (project, environment): (PathBuf, &String) = (self.project.clone(), &self.environment);
        ["--project".into(), project.into_os_string(), "--environment".into(), environment.into()]
    }
}
