//! Backups: what is in them, what is refused, and that nothing is left behind.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bench::{Bench, post, runs};
use crate::common::{Server, load, program, stored_runs, until};

#[test]
fn a_backup_among_three_accepters_has_all_that_was_acknowledged_before() {
    let bench = Bench::new();
    let mut servers: Vec<Server> = (0..3).map(|_| bench.server("spool")).collect();
    let mut acknowledged = HashSet::new();
    for round in 0..4 {
        for (index, server) in servers.iter().enumerate() {
            post(server, &[&format!("r{round}-{index}")]);
            acknowledged.insert(format!("r{round}-{index}"));
        }
        let target = bench.aside(&format!("{round}.db"));
        let url = format!("file://{target}");
        // While others go on.
        let loads: Vec<_> = servers.iter().map(|server| load(server.address, 2, |n| n < 40)).collect();
        let said = bench.did(&["backup", if round % 2 == 0 { &url } else { &target }]);
        let stored = stored_runs(Path::new(&target));
        let missing: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?}");
        assert_eq!(said["rows"], stored.len());
        for load in loads {
            acknowledged.extend(load.join().unwrap().0);
        }
    }
    bench.nothing_is_left();

    // The ingester dies, and somebody asks at once.
    drop(servers.remove(0));
    let target = bench.aside("after.db");
    bench.did(&["backup", &target]);
    assert!(acknowledged.is_subset(&stored_runs(Path::new(&target))));
}

#[test]
fn what_cannot_be_backed_up_is_said_and_nothing_is_left() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let before = bench.names();
    fs::write(bench.aside("file"), "x").unwrap();
    for (code, target, expected) in [
        (2, "ftp://host/x.db".to_owned(), "this version writes to"),
        (2, "http://host/x.db".to_owned(), "this version writes to"),
        (2, "memory:///x.db".to_owned(), "this version writes to"),
        (2, "s3://".to_owned(), ""),
        (1, bench.aside("file/x.db"), "does not exist"),
        (1, bench.aside("file"), "is there already"),
        (1, format!("file://{}", bench.aside("file/x.db")), "can't be"),
        (1, format!("file://{}", bench.aside("file")), "is there already"),
        (1, "/proc/x.db".to_owned(), "can't be written"),
    ] {
        let said = bench.refused(code, &["backup", &target]);
        assert!(said.contains(expected), "{target}: {said}");
        bench.nothing_is_left();
    }
    // Some of them got as far as an epoch of their own; none left anything else.
    let others = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| !name.bytes().any(|byte| byte.is_ascii_digit())).collect()
    };
    assert_eq!(others(bench.names()), others(before));
    assert_eq!(bench.stored(), runs(&["a"]));

    let none = program(&[("SCORE_DB_PATH", "/nowhere/at/all.db"), ("SCORE_STORAGE", "spool")]);
    for arguments in [&["backup", "x"][..], &["downgrade"], &["gc"]] {
        let mut none = program(&[("SCORE_DB_PATH", "/nowhere/at/all.db"), ("SCORE_STORAGE", "spool")]);
        let output = none.args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("/nowhere/at does not exist"), "{said}");
    }
    drop(none);
    let empty = Bench::new();
    assert!(empty.refused(1, &["backup", &empty.aside("x")]).contains("there are no scores"));
    let direct = Bench::new();
    direct.with_scores("direct", &["a"]);
    assert!(direct.refused(1, &["backup", &direct.aside("x")]).contains("without a spool"));
    assert_eq!(stored_runs(&direct.database()), runs(&["a"]));
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    let bench = Bench::new();
    let mut server = bench.server("spool");
    post(&server, &["a"]);
    // The ingester is paused, so nobody answers.
    server.signal(Signal::STOP);
    for signal in [Signal::INT, Signal::TERM] {
        let asked = bench.spawn(&["backup", &bench.aside("x.db")]);
        until("the request", || bench.names().iter().any(|name| name.ends_with(".request")));
        kill_process(Pid::from_child(&asked), signal).unwrap();
        let output = asked.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("stopped by a signal"));
        bench.nothing_is_left();
    }
    let said = bench.refused(1, &["backup", &bench.aside("x.db"), "--timeout", "100ms"]);
    assert!(said.contains("made no copy in time") && said.contains("--timeout"), "{said}");
    bench.nothing_is_left();
    server.signal(Signal::CONT);
    bench.did(&["backup", &bench.aside("x.db")]);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn what_is_stored_is_told_by_its_identity() {
    let bench = Bench::new();
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    bench.with_scores("spool", &["a-1", "b-1", uuid]);
    let servers = [bench.server("spool"), bench.server("spool")];
    let many: Vec<String> = (0..120).map(|n| format!("a-{n:03}")).collect();
    for (server, runs) in servers.iter().zip(many.chunks(60)) {
        post(server, &runs.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let said = String::from_utf8(bench.run(&["stored", "a-"]).stdout).unwrap();
    let told: HashSet<String> = said.split_whitespace().map(str::to_owned).collect();
    assert_eq!((told.len(), said.lines().count()), (121, 2), "{said}");
    assert!(many.iter().all(|run| told.contains(run)) && told.contains("a-1"), "{said}");
    assert_eq!(bench.did(&["stored", "01890a"])["runs"], serde_json::json!([uuid]));
    assert_eq!(bench.did(&["stored", "nobody"])["runs"], serde_json::json!([]));
    bench.nothing_is_left();
}

#[test]
fn every_command_explains_itself() {
    let bench = Bench::new();
    for name in ["backup", "restore", "stored", "downgrade", "gc"] {
        let output = bench.run(&[name, "--help"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains(&format!("Usage: drafty-bird {name}")), "{said}");
        let said = bench.refused(2, &[name, "--fly"]);
        assert!(said.contains("unknown argument --fly") && said.contains("--help"), "{said}");
        let output = bench.run(&[name, "--fly", "--json"]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.code() == Some(2) && said["ok"] == false && said["command"] == name, "{said}");
    }
}

#[test]
fn a_backup_is_replaced_only_by_a_whole_one() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    // The folder is made, and what a killed process left goes.
    let target = bench.aside("copies/1");
    bench.did(&["backup", "--replace", &target]);
    assert_eq!(stored_runs(Path::new(&target)), runs(&["a"]));
    for left in [".0123456789abcdef.tmp", ".json.0123456789abcdef.tmp"] {
        fs::write(format!("{target}{left}"), "x").unwrap();
    }
    let other = bench.aside("copies/1.x.tmp");
    fs::write(&other, "somebody's").unwrap();
    let (first, first_manifest) = (fs::read(&target).unwrap(), fs::read(format!("{target}.json")).unwrap());

    bench.with_scores("spool", &["b"]);
    bench.did(&["backup", "--replace", &target]);
    assert_eq!(stored_runs(Path::new(&target)), runs(&["a", "b"]));
    let mut names: Vec<_> =
        fs::read_dir(bench.aside("copies")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["1", "1.json", "1.x.tmp"]);
    let (second, second_manifest) = (fs::read(&target).unwrap(), fs::read(format!("{target}.json")).unwrap());

    // Broken off between the two files: whichever lies there can be restored, and can be replaced.
    let mut between: Value = serde_json::from_slice(&first_manifest).unwrap();
    between["next"] = serde_json::from_slice(&second_manifest).unwrap();
    for (database, held) in [(&first, runs(&["a"])), (&second, runs(&["a", "b"]))] {
        fs::write(&target, database).unwrap();
        fs::write(format!("{target}.json"), between.to_string()).unwrap();
        let there = Bench::new();
        assert_eq!(there.did(&["restore", &target])["rows"], held.len());
        assert_eq!(there.stored(), held);
    }
    let said = {
        fs::write(&target, "neither").unwrap();
        Bench::new().refused(1, &["restore", &target])
    };
    assert!(said.contains("is not what its manifest says"), "{said}");
    bench.did(&["backup", "--replace", &target]);
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{target}.json")).unwrap()).unwrap();
    assert!(manifest.get("next").is_none() && stored_runs(Path::new(&target)) == runs(&["a", "b"]));
    assert!(bench.refused(1, &["backup", &target]).contains("is there already"));
}

#[test]
fn a_backup_that_is_killed_while_it_replaces_leaves_one_that_can_be_restored() {
    let bench = Bench::new();
    let server = bench.server("spool");
    post(&server, &["a"]);
    let target = bench.aside("copy");
    bench.did(&["backup", "--replace", &target]);
    let started = std::time::Instant::now();
    bench.did(&["backup", "--replace", &target]);
    let whole = started.elapsed();
    for part in 0..12_u32 {
        post(&server, &[&format!("b{part}")]);
        let mut killed = bench.spawn(&["backup", "--replace", &target]);
        // At another moment each time: this wait is what the test is about.
        std::thread::sleep(whole * part / 11);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let there = Bench::new();
        let restored = there.did(&["restore", &target]);
        assert!(restored["rows"].as_u64().unwrap() >= 1 && there.stored().contains("a"), "{part}: {restored}");
    }
    bench.did(&["backup", "--replace", &target]);
    assert_eq!(stored_runs(Path::new(&target)).len(), 13);
}
