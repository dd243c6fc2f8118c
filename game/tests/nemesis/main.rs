//! Real processes that share one folder, under load, with everything done to them that a machine or a network may do. At the
//! end each acknowledged score is in the database exactly once, every other at most once, and no file had two writers.
//!
//! `NEMESIS_SEED`, `NEMESIS_SECONDS` and `NEMESIS_PROCESSES` choose a run; a failure prints what to set. What it can't
//! do: file systems of a real network, lost directory entries, and raw system calls, which pass the preloaded code by.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
#[path = "../common/mod.rs"]
mod common;
mod control;
mod faults;
mod fleet;
mod history;
mod ledger;
mod load;
mod run;
mod self_test;
mod watch;

use std::io::Write;
use std::time::Duration;

use control::{Call, Deed, Rule};
use run::{Plan, run, run_with};

/// To whoever runs the tests, past the capture of their output.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?}: not a number")))
}

/// Of short runs: a change is not to fail by another's bad luck. Longer ones choose their own.
const SEED: u64 = 7;

fn plan(storage: &'static str, processes: usize, seconds: u64) -> Plan {
    Plan {
        storage,
        processes: number("NEMESIS_PROCESSES").map_or(processes, |number| usize::try_from(number).unwrap()),
        seed: number("NEMESIS_SEED")
            .unwrap_or_else(|| if number("NEMESIS_SECONDS").is_some() { fastrand::u64(..1_000_000) } else { SEED }),
        lasting: Duration::from_secs(number("NEMESIS_SECONDS").unwrap_or(seconds)),
        locks: true,
    }
}

#[test]
fn three_processes_on_one_share_lose_nothing() {
    run(&plan("spool", 3, 9));
}

#[test]
fn three_processes_on_a_share_without_locks_lose_nothing() {
    run(&Plan { locks: false, ..plan("spool", 3, 5) });
}

#[test]
fn one_process_alone_loses_nothing() {
    run(&plan("direct", 1, 3));
}

/// The whole harness against a disk that says a sync is done and forgets it: it must object.
#[test]
fn a_disk_that_lies_is_found_out() {
    if let Err(why) = control::compile(tempfile::tempdir().unwrap().path()) {
        say(&format!("SKIPPED: a lying disk: {why}"));
        return;
    }
    for storage in ["direct", "spool"] {
        let plan = Plan { storage, processes: 1, seed: 1, lasting: Duration::from_secs(1), locks: true };
        let lie = Rule { deed: Deed::Pretend, ..Rule::fail(Call::Sync, 0) };
        // Else the ingester saves what the spool loses: only what lies behind a file's last sync is ever lost here.
        let blind = Rule { name: "spool/", ..Rule::fail(Call::Read, rustix::io::Errno::IO.raw_os_error()) };
        let crash = Rule { deed: Deed::DieBefore, once: true, lose: true, ..Rule::fail(Call::Write, 0) };
        let (history, _folder, summary) = run_with(&plan, |fleet, _, _| {
            let slot = &fleet.slots[0];
            slot.control.set(&[lie.clone(), blind.clone()]);
            common::until("some lies", || slot.control.count(Call::Sync).1 > 200);
            slot.control.set(&[lie, blind, crash]);
            common::until("the crash", || fleet.reap(0));
            slot.control.set(&[]);
        });
        assert!(history.has_objection("acknowledged and lost"), "{storage}: {summary}\n{history}");
    }
}
