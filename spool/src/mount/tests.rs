//! Checks of real folders, with this test program as the second process, and the report's words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::facts::{Exclusion, Facts, Room, Step};
use super::lock::ask;
use super::verdict::tests::{facts, failure};
use super::{Level, Locking, Report, Vfs, check, judge, probe_lock};
use crate::folder::Folder;
use crate::share::Share;

/// Makes this test program the second process: its value is the folder.
const PROBED: &str = "SPOOL_TEST_PROBED";
/// The folder of another test program, in which file systems were mounted for it.
const MOUNTED: &str = "SPOOL_TEST_MOUNTED";

/// Runs one test of this program by its name.
fn test_alone(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let (_, module) = module_path!().split_once("::").unwrap();
    command.args(["--exact", &format!("{module}::{name}"), "--include-ignored", "--test-threads=1"]);
    command
}

fn second(folder: &Path) -> Command {
    let mut command = test_alone("second_process");
    command.env(PROBED, folder);
    command
}

#[test]
fn second_process() {
    if let Some(folder) = std::env::var_os(PROBED) {
        std::process::exit(probe_lock(Path::new(&folder)).into());
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_good_folder_passes_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    for (second, exclusion) in [(Some(&second as super::Second<'_>), Exclusion::Process), (None, Exclusion::OpenFile)] {
        let report = check(folder.path(), second);
        assert_eq!((&report.facts.failures, &report.facts.left_behind), (&vec![], &None));
        assert_eq!(report.facts.exclusion, exclusion);
        assert!(report.verdict.ingest.is_ok(), "{report}");
        let measured = report.facts.durable_write.unwrap();
        assert!((1..=64).contains(&measured.count) && measured.longest_us >= measured.median_us, "{measured:?}");
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn the_second_process_tells_held_from_free() {
    let folder = tempfile::tempdir().unwrap();
    let bound = Duration::from_secs(30);
    let lock = Folder::new(folder.path()).try_lock().unwrap().unwrap();
    assert_eq!(ask(second(folder.path()), bound), Ok(true));
    drop(lock);
    assert_eq!(ask(second(folder.path()), bound), Ok(false));
    let fault = ask(second(&folder.path().join("missing")), bound).unwrap_err();
    assert!(fault.contains("could not try"), "{fault}");
}

#[test]
fn a_second_process_that_gives_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let shell = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).env("PID_FILE", &pid_file);
        command
    };
    let bound = Duration::from_secs(30);
    for (command, wanted) in [
        (shell("exit 0"), "gave no answer: exit status: 0"),
        (shell("exit 101"), "gave no answer: exit status: 101"),
        (shell("kill -9 $$"), "gave no answer: signal: 9"),
        (Command::new("/no/such/program"), "did not start"),
    ] {
        let fault = ask(command, bound).unwrap_err();
        assert!(fault.contains(wanted), "{fault}");
    }
    // Long enough for a shell to write its number, short against what it then waits for.
    let started = Instant::now();
    let fault = ask(shell("echo $$ >$PID_FILE; exec sleep 600"), Duration::from_secs(2)).unwrap_err();
    assert!(fault.contains("within 2000 ms"), "{fault}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    assert!(!Path::new("/proc").join(pid).exists(), "it was not ended");
}

#[test]
fn an_unanswered_lock_is_not_trusted_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let report = check(folder.path(), Some(&|_| Command::new("/no/such/program")));
    assert!(matches!(report.facts.exclusion, Exclusion::Unanswered(_)), "{report}");
    assert_eq!(report.verdict.ingest, Ok(Locking::Heartbeat));
    assert!(is_empty(folder.path()));
}

#[test]
fn folders_that_refuse_name_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    // Nobody, not even root, can make a folder in /proc.
    for (path, step) in [
        (folder.path().join("missing"), Step::Find),
        (file, Step::MakeFolder),
        (PathBuf::from("/proc"), Step::MakeFolder),
    ] {
        let report = check(&path, None);
        assert_eq!(report.facts.failures.iter().map(|failure| failure.step).collect::<Vec<_>>(), [step]);
        let refusal = report.verdict.ingest.unwrap_err();
        assert!(refusal.contains(path.to_str().unwrap()) && refusal.contains("os error"), "{refusal}");
        assert_eq!(report.facts.exclusion, Exclusion::NotTested);
    }
}

#[test]
#[ignore = "mounts file systems in a namespace of its own: needs unshare, and leave to use it"]
fn mounted_file_systems() {
    let folder = tempfile::tempdir().unwrap();
    let script = "set -e; cd \"$SPOOL_TEST_MOUNTED\"; mkdir ro full files 'a b'
        mount -t tmpfs -o size=64k,ro one ro; mount -t tmpfs -o size=16k two full
        mount -t tmpfs -o nr_inodes=3 three files; mount -t tmpfs four 'a b'; exec \"$0\" \"$@\"";
    let alone = test_alone("inside_a_namespace");
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(this)
        .args(alone.get_args())
        .env(MOUNTED, folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(folder.path().join("done").exists(), "nothing was tested");
    // What was seen there was not seen here, so it can't have been this machine's own file system.
    assert!(["ro", "full", "files", "a b"].iter().all(|name| is_empty(&folder.path().join(name))));
}

#[test]
#[ignore = "run by mounted_file_systems"]
fn inside_a_namespace() {
    let Some(folder) = std::env::var_os(MOUNTED).map(PathBuf::from) else { return };
    let at = |name: &str| {
        let report = check(&folder.join(name), Some(&second));
        let mount = report.facts.mount.clone().unwrap();
        assert_eq!((mount.kind.as_str(), mount.point), ("tmpfs", folder.join(name)));
        assert!(is_empty(&folder.join(name)), "{name}");
        report
    };
    let steps = |report: &Report| report.facts.failures.iter().map(|failure| failure.step).collect::<Vec<_>>();
    let read_only = at("ro");
    assert!(read_only.facts.read_only && steps(&read_only) == [Step::MakeFolder], "{read_only}");
    assert!(read_only.verdict.ingest.is_err_and(|refusal| refusal.contains("read-only")));
    let full = at("full");
    assert_eq!(steps(&full), [Step::Write], "{full}");
    assert!(full.verdict.ingest.is_err_and(|refusal| refusal.contains("No space left on device")));
    let no_files = at("files");
    assert!(steps(&no_files).contains(&Step::CreateFile), "{no_files}");
    let spaces = at("a b");
    assert_eq!((&spaces.verdict.ingest, spaces.verdict.vfs), (&Ok(Locking::Trusted), Vfs::Default), "{spaces}");
    assert_eq!(spaces.facts.exclusion, Exclusion::Process);
    fs::write(folder.join("done"), "").unwrap();
}

#[test]
fn the_report_says_what_to_do() {
    let with = |change: &dyn Fn(&mut Facts), kind: &str, options: &str| {
        let mut facts = facts(kind, options);
        change(&mut facts);
        let verdict = judge(&facts);
        Report { facts, verdict }
    };
    // (report, a line it has)
    let cases = [
        (with(&|_| (), "ext4", "rw"), "good  file system    ext4, somewhere on /data"),
        (with(&|_| (), "ext4", "rw"), "good  durable write  median 0.90 ms, longest 2.50 ms of 64"),
        (
            with(&|_| (), "cifs", "rw,nobrl"),
            "warn  locking        not trusted: nobrl: locks don't leave this machine; a takeover waits for a still \
             heartbeat -> for faster takeovers mount without nobrl",
        ),
        (with(&|_| (), "cifs", "rw"), "good  SQLite         opens with vfs=unix-none"),
        (
            with(&|_| (), "cifs", "rw,nostrictsync"),
            "bad   syncing        nostrictsync: a write can be lost although its sync succeeded -> mount without that option",
        ),
        (
            with(&|facts| facts.room = Some(Room { free_bytes: 5 << 20, free_files: None }), "xfs", "rw"),
            "bad   space          low: 5 MiB free -> make room: at least 16 MiB and 1024 files",
        ),
        (
            with(&|facts| facts.failures.push(failure(Step::MakeFolder, 13)), "ext4", "rw"),
            "bad   files          make a folder (mkdir): /data/x: Permission denied (os error 13) -> let this user write \
             there (owner, mode, uid= of the mount)",
        ),
    ];
    for (report, wanted) in cases {
        let text = report.to_string();
        assert!(text.lines().any(|line| line == wanted), "{text}\nlacks {wanted}");
    }
    let well = with(&|_| (), "ext4", "rw");
    assert!(well.lines().iter().all(|line| line.level == Level::Good), "{well}");
    let json = serde_json::to_value(&well).unwrap();
    assert_eq!(json["verdict"]["ingest"], serde_json::json!({"locking": "trusted"}));
    let refused = with(&|facts| facts.read_only = true, "ext4", "ro");
    assert_eq!(refused.lines().last().map(|line| line.level), Some(Level::Bad));
    let json = serde_json::to_value(&refused).unwrap();
    assert!(json["verdict"]["ingest"]["refused"].as_str().unwrap().contains("read-only"));
}
