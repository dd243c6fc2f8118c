//! The process between the agent and a task: it starts the task, keeps its log, stops it, and writes down how it ended,
//! whether or not an agent lives. It decides nothing about when a task should run, and never starts one twice.
//!
//! `<program> __shim FOLDER` reads a [`Launch`] from its standard input. It holds a lock on `FOLDER/lock` for as long as
//! it lives, so that a task has one shim at most and anybody can tell whether it has one. SIGTERM asks the task to stop
//! and kills it after its grace; SIGQUIT kills it at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::files::{self, Lasting};
use crate::logs::{LogLimits, LogWriter, Stream};
use crate::process::{self, ProcessId};
use crate::secret::Secret;

/// Locked while the shim lives.
pub(crate) const LOCK_FILE: &str = "lock";
/// The shim's [`ProcessId`].
pub(crate) const SHIM_FILE: &str = "shim";
/// There once somebody asked the task to stop.
pub(crate) const STOP_FILE: &str = "stop";
/// The task's [`ProcessId`], written before its program begins.
pub(crate) const PID_FILE: &str = "pid";
/// The task's [`Exit`].
pub(crate) const EXIT_FILE: &str = "exit.json";
/// Why the program could not begin.
const FAILED_FILE: &str = "failed";

const SHIM: &str = "__shim";
const LAUNCH: &str = "__launch";
const LAUNCH_BYTES_MAX: u64 = 8 << 20;
/// Output that a dead task's heirs still write is not waited for any longer than this.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A command that cleans up after a task is killed after this long.
const CLEANUP: Duration = Duration::from_secs(20);

/// What is started, exactly: nothing is inherited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, Secret>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// From being asked to stop to being killed.
    pub stop_grace_ms: u64,
    /// It is stopped after this long.
    pub timeout_ms: Option<u64>,
    /// Commands that are run when it has ended, whatever became of it.
    pub cleanup: Vec<Vec<String>>,
}

/// How a task ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The code that it ended with.
    pub code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// When, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// Why it could not be started at all.
    pub error: Option<String>,
    /// It had been asked to stop.
    pub asked: bool,
    /// Its time was up.
    pub timed_out: bool,
    /// Its shim was killed, so nobody saw how it ended; it was killed then.
    pub lost: bool,
    /// Bytes of log for which there was no space.
    pub log_dropped_bytes: u64,
}

impl Exit {
    /// The code as a shell would say it: 128 and the signal's number for a task that was killed.
    pub fn status(&self) -> i32 {
        match (self.code, self.signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 127,
        }
    }

    /// In a few words: `exited with code 1`, `was killed by signal 9`.
    pub fn describe(&self) -> String {
        match (&self.error, self.code, self.signal) {
            (Some(error), ..) => format!("could not be started: {error}"),
            _ if self.lost => "was lost: its supervising process was killed".to_owned(),
            _ if self.timed_out => "took too long and was stopped".to_owned(),
            (_, Some(code), _) => format!("exited with code {code}"),
            (_, _, Some(signal)) => format!("was killed by signal {signal}"),
            _ => "ended".to_owned(),
        }
    }
}

/// Runs this process as a shim, if that is what its arguments (program's name first) ask for.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    let folder = PathBuf::from(args.get(2)?);
    let word = args.get(1)?.to_str()?;
    let code = match word {
        SHIM => run(&folder),
        LAUNCH => launch(&folder, &args[3..]),
        _ => return None,
    };
    Some(ExitCode::from(code))
}

/// The command that starts a shim for a task's folder.
pub(crate) fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0("dbird").arg(SHIM).arg(folder).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}

/// Opens a task's lock file and takes the lock, if nobody has it.
pub(crate) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK_FILE))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes down how a task ended; the first to do so is right.
pub(crate) fn write_exit(folder: &Path, exit: &Exit) -> io::Result<()> {
    files::replace(&folder.join(EXIT_FILE), &serde_json::to_vec(exit)?, Lasting::Crash)
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// 0: the task ended and that is written down; 1: it is not; 3: the task has a shim or had one.
fn run(folder: &Path) -> u8 {
    // A leader of a group can't make a session; then it is detached enough.
    let _ = rustix::process::setsid();
    let Ok(Some(_lock)) = lock(folder) else { return 3 };
    if folder.join(EXIT_FILE).exists() {
        return 3;
    }
    let exit = match begin(folder) {
        Ok(exit) => exit,
        Err(error) => Exit { error: Some(error.to_string()), at_unix_ms: now_ms(), ..Exit::default() },
    };
    // A full disk empties at some time, and without this file the end would look like a crash.
    for pause_ms in [0, 100, 1000, 5000] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        if write_exit(folder, &exit).is_ok() {
            return 0;
        }
        // Somebody removed it, and with it everything that it was for.
        if !folder.exists() {
            return 1;
        }
    }
    1
}

fn begin(folder: &Path) -> io::Result<Exit> {
    files::replace(&folder.join(SHIM_FILE), &serde_json::to_vec(&ProcessId::own())?, Lasting::Crash)?;
    let mut bytes = Vec::new();
    io::stdin().lock().take(LAUNCH_BYTES_MAX).read_to_end(&mut bytes)?;
    let launch: Launch = serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::other(format!("the agent left before it had said what to start: {error}")))?;
    drop(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(folder, &launch))
}

/// Starts the task and stays until it and all its heirs are gone.
async fn supervise(folder: &Path, launch: &Launch) -> io::Result<Exit> {
    // Before the task begins, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut child_ended = signal(SignalKind::child())?;
    let _ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    // A signal from before that may have been ignored (as whoever was started in the background ignores SIGQUIT), but it was
    // written down first.
    if folder.join(STOP_FILE).exists() {
        return Ok(Exit { asked: true, at_unix_ms: now_ms(), ..Exit::default() });
    }
    // What the task leaves behind becomes this process's child, and ends with it.
    let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap_or(0));
    let _ = rustix::process::set_child_subreaper(own);

    let mut child = Command::new("/proc/self/exe")
        .arg0("dbird")
        .arg(LAUNCH)
        .arg(folder)
        .arg(std::process::id().to_string())
        .arg(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value.reveal())))
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("in {}: {error}", launch.cwd.display())))?;
    let task = Pid::from_child(&child);
    let mut out = child.stdout.take().map(|pipe| Receiver::from_owned_fd(OwnedFd::from(pipe))).transpose()?;
    let mut err = child.stderr.take().map(|pipe| Receiver::from_owned_fd(OwnedFd::from(pipe))).transpose()?;

    let mut log = LogWriter::new(folder, LogLimits::default());
    let mut exit = Exit::default();
    let mut end_by: Option<Instant> = None;
    let mut time_up = launch.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let (mut out_buffer, mut err_buffer) = (vec![0; 32 << 10], vec![0; 32 << 10]);
    let grace = Duration::from_millis(launch.stop_grace_ms);
    let kill_group = || {
        let _ = rustix::process::kill_process_group(task, Signal::KILL);
    };
    let mut ended = None;
    while ended.is_none() {
        tokio::select! {
            _ = child_ended.recv() => ended = reap(task),
            _ = terminate.recv() => {
                exit.asked = true;
                let _ = rustix::process::kill_process(task, Signal::TERM);
                end_by.get_or_insert(Instant::now() + grace);
            }
            _ = quit.recv() => {
                exit.asked = true;
                kill_group();
            }
            () = at(time_up) => {
                time_up = None;
                exit.timed_out = true;
                let _ = rustix::process::kill_process(task, Signal::TERM);
                end_by.get_or_insert(Instant::now() + grace);
            }
            () = at(end_by) => {
                kill_group();
                // It may take a moment to die; asking again does no harm.
                end_by = Some(Instant::now() + Duration::from_secs(1));
            }
            read = some(&mut out, &mut out_buffer) => took(&mut log, Stream::Out, read, &out_buffer, &mut out),
            read = some(&mut err, &mut err_buffer) => took(&mut log, Stream::Err, read, &err_buffer, &mut err),
        }
    }
    (exit.code, exit.signal) = ended.unwrap_or_default();
    kill_group();
    end_heirs();
    let last_words = Instant::now() + LAST_WORDS;
    while out.is_some() || err.is_some() {
        tokio::select! {
            () = at(Some(last_words)) => break,
            read = some(&mut out, &mut out_buffer) => took(&mut log, Stream::Out, read, &out_buffer, &mut out),
            read = some(&mut err, &mut err_buffer) => took(&mut log, Stream::Err, read, &err_buffer, &mut err),
        }
    }
    for command in &launch.cleanup {
        clean(command, &mut child_ended).await;
    }
    exit.log_dropped_bytes = log.finish();
    exit.at_unix_ms = now_ms();
    exit.error = fs::read_to_string(folder.join(FAILED_FILE)).ok();
    Ok(exit)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn some(pipe: &mut Option<Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

fn took(log: &mut LogWriter, stream: Stream, read: io::Result<usize>, buffer: &[u8], pipe: &mut Option<Receiver>) {
    match read {
        Ok(0) | Err(_) => *pipe = None,
        Ok(length) => log.write(stream, &buffer[..length]),
    }
}

/// Takes note of every child that ended; returns how the task did, if it is among them.
fn reap(task: Pid) -> Option<(Option<i32>, Option<i32>)> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == task {
            ended = Some((status.exit_status(), status.terminating_signal()));
        }
    }
    ended
}

/// Kills what the task left behind, also what had made itself a group of its own. Bounded: each round kills all that
/// there is, and what is being born while it runs is caught by the next.
fn end_heirs() {
    for _ in 0..50 {
        let heirs = process::children_of_this();
        if heirs.is_empty() {
            return;
        }
        for heir in heirs {
            let _ = rustix::process::kill_process(heir, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

async fn clean(command: &[String], child_ended: &mut tokio::signal::unix::Signal) {
    let Some((program, args)) = command.split_first() else { return };
    let mut cleaner = Command::new(program);
    cleaner.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cleaner.process_group(0);
    let Ok(child) = cleaner.spawn() else { return };
    let pid = Pid::from_child(&child);
    let end_by = Instant::now() + CLEANUP;
    loop {
        tokio::select! {
            _ = child_ended.recv() => if reap(pid).is_some() { return },
            () = at(Some(end_by)) => {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                return;
            }
        }
    }
}

/// Where programs are looked for when nobody says.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The last step before the task's program: says who it is, so that it can be found even if its shim is killed right now,
/// and becomes it.
fn launch(folder: &Path, args: &[OsString]) -> u8 {
    let [shim, program, args @ ..] = args else { return 127 };
    let fail = |why: String| {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(folder.join(FAILED_FILE));
        // Without space for the reason there is still the code.
        let _ = file.and_then(|mut file| file.write_all(why.as_bytes()));
        127
    };
    // The task ends with its shim: nobody would be left to read what it writes.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_deref().map(OsString::from).as_ref() != Some(shim) {
        return 127;
    }
    let written = serde_json::to_vec(&ProcessId::own())
        .map_err(io::Error::from)
        .and_then(|bytes| files::replace(&folder.join(PID_FILE), &bytes, Lasting::Crash));
    if let Err(error) = written {
        return fail(format!("can't write {}: {error}", folder.join(PID_FILE).display()));
    }
    let path = Path::new(program);
    let error = Command::new(path).args(args).exec();
    fail(match error.kind() {
        io::ErrorKind::NotFound if path.exists() => format!(
            "{} is there, but not what it needs to start: a dynamic loader, or the interpreter that its first line names. \
             Build it as a static binary, or set runtime = \"podman\"",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    })
}
