//! Looks on during a run: what each process says it is, which epochs there are, and who has which database open. It
//! objects to two holders of one epoch, to epochs that go, change or leave gaps, and to two writers of one file.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;

use crate::common::read_answer;
use crate::fleet::Fleet;
use crate::history::History;

const EVERY: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_millis(500);

/// What `/readyz` says, if it says anything in time.
pub(crate) fn readiness(address: SocketAddr) -> Option<(u16, Value)> {
    get(address, "/readyz")
}

/// The scores that a process shows, best first.
pub(crate) fn leaderboard(address: SocketAddr) -> Option<Vec<i64>> {
    let (_, says) = get(address, "/leaderboard")?;
    says["leaderboard"].as_array()?.iter().map(|entry| entry["score"].as_i64()).collect()
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let answer = read_answer(&mut std::io::BufReader::new(stream), true).ok()?;
    Some((answer.status, serde_json::from_slice(&answer.body).ok()?))
}

/// Which process held which epoch, by its own word.
#[derive(Debug, Default)]
pub(crate) struct Holders(HashMap<u64, u32>);

impl Holders {
    /// An objection if two different processes said so of one epoch.
    pub(crate) fn note(&mut self, epoch: u64, number: u32) -> Option<String> {
        let first = *self.0.entry(epoch).or_insert(number);
        (first != number).then(|| format!("processes {first} and {number} both said they are active in epoch {epoch}"))
    }
}

/// The epoch files that were seen, with what they said first.
#[derive(Debug, Default)]
pub(crate) struct Epochs(BTreeMap<u64, String>);

impl Epochs {
    /// Takes a listing; objects to what is missing or changed. An epoch's file is empty until it has been written.
    pub(crate) fn note(&mut self, now: &BTreeMap<u64, String>) -> Vec<String> {
        let mut faults = Vec::new();
        for (epoch, said) in &self.0 {
            match now.get(epoch) {
                None => faults.push(format!("epoch.{epoch} was there and is gone")),
                Some(says) if !said.is_empty() && says != said => {
                    faults.push(format!("epoch.{epoch} changed from {said:?} to {says:?}"));
                }
                Some(_) => {}
            }
        }
        if let Some(gap) = now.keys().zip(1..).find(|(found, expected)| **found != *expected) {
            faults.push(format!("epoch.{} is there without epoch.{}", gap.0, gap.1));
        }
        self.0 = now.clone();
        faults
    }

    pub(crate) fn highest(&self) -> u64 {
        self.0.keys().next_back().copied().unwrap_or(0)
    }
}

/// The epoch files in a share; `None` if it can't be looked at.
pub(crate) fn epochs_in(share: &Path) -> Option<BTreeMap<u64, String>> {
    let mut epochs = BTreeMap::new();
    for name in std::fs::read_dir(share).ok()? {
        let name = name.ok()?.file_name().into_string().ok()?;
        if let Some(number) = name.strip_prefix("epoch.").and_then(|number| number.parse().ok()) {
            let said = std::fs::read(share.join(&name)).ok()?;
            // Half-written is not written yet.
            let whole = serde_json::from_slice::<Value>(&said).is_ok();
            epochs.insert(number, if whole { String::from_utf8(said).ok()? } else { String::new() });
        }
    }
    // The share may have been taken away, or have come back, in between.
    share.is_dir().then_some(epochs)
}

/// Looks on until it is stopped.
pub(crate) struct Watch {
    stopping: Arc<AtomicBool>,
    eyes: Vec<std::thread::JoinHandle<()>>,
    /// Highest epoch that a process said it was active in.
    pub(crate) epochs: Arc<Mutex<Epochs>>,
}

impl Watch {
    pub(crate) fn start(fleet: &Arc<Fleet>, share: &Path, databases_are_alone: bool, history: &Arc<History>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (holders, epochs) = (Arc::new(Mutex::new(Holders::default())), Arc::new(Mutex::new(Epochs::default())));
        let until_stopped = |mut look: Box<dyn FnMut() + Send>| {
            let stopping = stopping.clone();
            std::thread::spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    look();
                    std::thread::sleep(EVERY);
                }
            })
        };
        let mut eyes = Vec::new();
        for slot in 0..fleet.slots.len() {
            let (fleet, holders, history) = (fleet.clone(), holders.clone(), history.clone());
            eyes.push(until_stopped(Box::new(move || {
                let Some(place) = fleet.place(slot) else { return };
                let Some((_, says)) = readiness(place.address) else { return };
                if let ("active", Some(epoch)) = (says["role"].as_str().unwrap_or_default(), says["epoch"].as_u64())
                    && let Some(objection) = holders.lock().unwrap().note(epoch, place.number)
                {
                    history.object(objection);
                }
            })));
        }
        let (share, fleet, history) = (share.to_owned(), fleet.clone(), history.clone());
        let seen = epochs.clone();
        eyes.push(until_stopped(Box::new(move || {
            if let Some(now) = epochs_in(&share) {
                seen.lock().unwrap().note(&now).into_iter().for_each(|fault| history.object(fault));
            }
            if databases_are_alone {
                let pids: Vec<Pid> = (0..fleet.slots.len()).filter_map(|slot| Some(fleet.place(slot)?.pid)).collect();
                shared_databases(&pids, &share).into_iter().for_each(|fault| history.object(fault));
            }
        })));
        Self { stopping, eyes, epochs }
    }

    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        for eye in self.eyes {
            eye.join().unwrap();
        }
    }
}

/// Databases below the share that a process has open for writing, by device and inode.
fn databases(pid: Pid, share: &Path) -> HashMap<(u64, u64), String> {
    let mut found = HashMap::new();
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    for fd in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let Ok(target) = std::fs::read_link(fd.path()) else { continue };
        let Ok(name) = target.strip_prefix(share) else { continue };
        let name = name.to_string_lossy().into_owned();
        let name = name.trim_end_matches(" (deleted)");
        if !(name.starts_with("drafty.") && (name.ends_with(".db") || name.ends_with(".db-wal"))) {
            continue;
        }
        let flags =
            std::fs::read_to_string(fd.path().to_string_lossy().replace("/fd/", "/fdinfo/")).unwrap_or_default();
        let writes = flags.lines().any(|line| {
            let flags = line.strip_prefix("flags:").and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
            flags.is_some_and(|flags| flags & 0o3 != 0)
        });
        if let (true, Ok(about)) = (writes, std::fs::metadata(fd.path())) {
            found.insert((about.dev(), about.ino()), name.to_owned());
        }
    }
    found
}

fn shared_databases(pids: &[Pid], share: &Path) -> Vec<String> {
    let first: Vec<_> = pids.iter().map(|pid| databases(*pid, share)).collect();
    let mut faults = Vec::new();
    for (one, holds) in first.iter().enumerate() {
        for other in one + 1..pids.len() {
            for (file, name) in holds.iter().filter(|(file, _)| first[other].contains_key(*file)) {
                // Looked at one after the other: only if the first still has it did both have it at some time.
                if databases(pids[one], share).contains_key(file) {
                    faults
                        .push(format!("{name} is open for writing in processes {:?} and {:?}", pids[one], pids[other]));
                }
            }
        }
    }
    faults
}
