//! The game's processes, in numbered slots that each keep a control file: started, signalled, and started again when one
//! ends, as a platform does. An end or a panic that nothing excuses is an objection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::configure;
use crate::control::{Control, Rule};
use crate::history::History;

/// How long a process may take to end gracefully once nothing hinders it.
const END_MAX: Duration = Duration::from_secs(20);

/// Where everything of one run is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) storage: &'static str,
    pub(crate) shim: Option<PathBuf>,
    /// What the share does all the time.
    pub(crate) always: Vec<Rule>,
}

impl Site {
    pub(crate) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    /// What `SCORE_DB_PATH` is.
    pub(crate) fn database(&self) -> PathBuf {
        self.share().join("db.sqlite")
    }
}

/// A process that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// No two processes of a run have the same.
    pub(crate) number: u32,
    pub(crate) pid: Pid,
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
struct Process {
    child: Child,
    number: u32,
    /// What the control file had counted when it started.
    hits_before: u64,
    asked_to_end: bool,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) control: Control,
    process: Mutex<Option<Process>>,
    place: Arc<Mutex<Option<Place>>>,
}

pub(crate) struct Fleet {
    site: Site,
    pub(crate) slots: Vec<Slot>,
    history: Arc<History>,
    started: AtomicU32,
    /// Until when an end is excused that the control files don't explain.
    excused_until: Mutex<Instant>,
}

impl Fleet {
    pub(crate) fn new(site: Site, slots: usize, history: Arc<History>) -> Self {
        std::fs::create_dir(site.folder.join("logs")).unwrap();
        let slot = |n| Slot {
            control: Control::new(site.folder.join(format!("control.{n}")), &site.always),
            process: Mutex::default(),
            place: Arc::default(),
        };
        let slots = (0..slots).map(slot).collect();
        Self { site, slots, history, started: AtomicU32::new(0), excused_until: Mutex::new(Instant::now()) }
    }

    /// Who listens in a slot, if anyone does.
    pub(crate) fn place(&self, slot: usize) -> Option<Place> {
        *self.slots[slot].place.lock().unwrap()
    }

    pub(crate) fn start(&self, slot: usize) {
        let Slot { control, process, place } = &self.slots[slot];
        let mut process = process.lock().unwrap();
        if process.is_some() {
            return;
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let mut child = self.command(number, &control.path).spawn().unwrap();
        self.history.tell(format!("slot {slot}: process {number} started, pid {}", child.id()));
        let pid = Pid::from_child(&child);
        let log = self.site.folder.join(format!("logs/{number}.slot{slot}.log"));
        let reader = |from| Reader { number, pid, place: place.clone(), history: self.history.clone(), from };
        let (out, err) = (reader("out"), reader("err"));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = log.with_extension("err");
        std::thread::spawn(move || out.follow(stdout, &log));
        std::thread::spawn(move || err.follow(stderr, &errors));
        *process = Some(Process { child, number, hits_before: control.hits(), asked_to_end: false });
    }

    fn command(&self, number: u32, control: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drafty-bird"));
        let database = self.site.database();
        configure(
            &mut command,
            &[
                ("SCORE_STORAGE", self.site.storage),
                ("SCORE_DB_PATH", database.to_str().unwrap()),
                ("DRAIN_DELAY_MS", "50"),
                ("STOP_GRACE_MS", "3000"),
                ("SPOOL_SILENCE_MS", "1500"),
                ("RUST_BACKTRACE", "1"),
            ],
        );
        if let Some(shim) = &self.site.shim {
            command.env("LD_PRELOAD", shim).env("NEMESIS_CONTROL", control).env("NEMESIS_SHARE", self.site.share());
            command.env("NEMESIS_LEDGER", self.site.ledger()).env("NEMESIS_SELF", number.to_string());
        }
        command
    }

    /// Whatever ends by itself from now on, for so long, is excused: something was done to all.
    pub(crate) fn excuse(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut excused = self.excused_until.lock().unwrap();
        *excused = until.max(*excused);
    }

    pub(crate) fn signal(&self, slot: usize, signal: Signal) {
        if let Some(process) = self.slots[slot].process.lock().unwrap().as_mut() {
            process.asked_to_end |= matches!(signal, Signal::KILL | Signal::TERM);
            // It may have ended just now, which is for `reap` to see.
            let _ = kill_process(Pid::from_child(&process.child), signal);
        }
    }

    /// Whether the slot is empty now; judges the end of what was in it.
    pub(crate) fn reap(&self, slot: usize) -> bool {
        let Slot { control, process: held, place } = &self.slots[slot];
        let mut held = held.lock().unwrap();
        let Some(process) = held.as_mut() else { return true };
        let Some(status) = process.child.try_wait().unwrap() else { return false };
        let excused = process.asked_to_end
            || control.hits() > process.hits_before
            || Instant::now() < *self.excused_until.lock().unwrap();
        let what = format!("slot {slot}: process {} ended, {status}", process.number);
        if excused {
            self.history.tell(what)
        } else {
            self.history.object(format!("{what}, for no known reason"))
        }
        *held = None;
        *place.lock().unwrap() = None;
        true
    }

    /// Starts again what has ended.
    pub(crate) fn keep_running(&self) {
        for slot in 0..self.slots.len() {
            if self.reap(slot) {
                self.start(slot);
            }
        }
    }

    /// Ends one gracefully; `false` and an objection if it hangs.
    pub(crate) fn end(&self, slot: usize) -> bool {
        self.signal(slot, Signal::TERM);
        let deadline = Instant::now() + END_MAX;
        while !self.reap(slot) {
            if Instant::now() > deadline {
                self.history.object(format!("slot {slot}: SIGTERM did not end it within {END_MAX:?}"));
                self.signal(slot, Signal::KILL);
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in self.slots.iter().filter_map(|slot| slot.process.lock().ok()?.take()) {
            let mut child = process.child;
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Follows what a process prints, and keeps it in a file, except for the lines about requests.
struct Reader {
    number: u32,
    pid: Pid,
    place: Arc<Mutex<Option<Place>>>,
    history: Arc<History>,
    from: &'static str,
}

impl Reader {
    fn follow(self, stream: impl Read, log: &Path) {
        let mut log = std::fs::File::create(log).unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.contains("\"listening\"") {
                let listening: Value = serde_json::from_str(&line).unwrap();
                let address = listening["address"].as_str().unwrap().parse().unwrap();
                *self.place.lock().unwrap() = Some(Place { number: self.number, pid: self.pid, address });
            }
            if line.contains("panic") {
                self.history.object(format!("process {} panicked ({}): {line}", self.number, self.from));
            }
            if !line.contains("\"request_id\"") {
                drop(writeln!(log, "{line}"));
            }
        }
    }
}
