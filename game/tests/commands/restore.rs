//! Restoring: what is there afterwards, what is kept, and what is not restored at all.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::bench::{Bench, post, runs};
use crate::common::{load, stored_runs, until};

#[test]
fn what_was_backed_up_is_restored_and_what_it_replaces_is_kept() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a", "b"]);
    // A folder, and a name that says the time.
    let said = bench.did(&["backup", bench.aside.path().to_str().unwrap()]);
    let backup = said["target"].as_str().unwrap().to_owned();
    assert_eq!((&said["rows"], &said["ok"]), (&2.into(), &true.into()));
    bench.with_scores("spool", &["c"]);

    let said = bench.refused(2, &["restore", &backup]);
    assert!(said.contains("nothing was changed") && said.contains("--yes") && said.contains("2 scores"), "{said}");
    assert_eq!(bench.stored(), runs(&["a", "b", "c"]));

    let server = bench.server("spool");
    let said = bench.refused(1, &["restore", &backup, "--yes", "--timeout", "200ms"]);
    assert!(said.contains("another process still writes") && said.contains("stop the service first"), "{said}");
    post(&server, &["d"]);
    drop(server);

    // `d` is in a segment or in the database: it is kept either way.
    let said = bench.did(&["restore", &backup, "--yes"]);
    let kept = said["kept"].as_str().unwrap();
    assert_eq!(stored_runs(Path::new(kept)), runs(&["a", "b", "c", "d"]));
    let restored = bench.stored();
    assert!(restored.is_superset(&runs(&["a", "b"])) && !restored.contains("c"), "{restored:?}");
    bench.nothing_is_left();
    bench.with_scores("spool", &["e"]);
    assert!(bench.stored().is_superset(&runs(&["a", "b", "e"])));

    // Somewhere else, where nothing is.
    let other = Bench::new();
    let said = other.did(&["restore", &format!("file://{backup}")]);
    assert!(said["kept"].is_null(), "{said}");
    other.with_scores("spool", &["f"]);
    assert_eq!(other.stored(), runs(&["a", "b", "f"]));
}

#[test]
fn segments_of_dead_processes_are_added_to_what_is_restored() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let backup = bench.aside("b.db");
    bench.did(&["backup", &backup]);
    let first = bench.server("spool");
    let second = bench.server("spool");
    post(&second, &["late"]);
    drop((first, second));
    assert!(!bench.segments().is_empty());
    bench.did(&["restore", &backup, "--yes"]);
    assert_eq!(bench.stored(), runs(&["a", "late"]));
}

#[test]
fn a_service_that_runs_goes_on_accepting_and_nothing_is_lost() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a", "b"]);
    let backup = bench.aside("b.db");
    bench.did(&["backup", &backup]);
    bench.with_scores("spool", &["gone"]);
    let mut servers = [bench.server("spool"), bench.server("spool")];
    until("an ingester", || servers.iter().any(|s| s.get("/readyz").is_ok_and(|a| a.json()["role"] == "active")));
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = servers
        .iter()
        .map(|server| {
            let stop = stop.clone();
            load(server.address, 2, move |_| !stop.load(Ordering::SeqCst))
        })
        .collect();
    let mut kept = HashSet::new();
    for _ in 0..3 {
        let said = bench.did(&["restore", &backup, "--yes", "--running"]);
        assert_eq!(said["rows"], 2);
        kept.extend(stored_runs(Path::new(said["kept"].as_str().unwrap())));
    }
    post(&servers[0], &["after-0"]);
    post(&servers[1], &["after-1"]);
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = HashSet::new();
    for load in loads {
        acknowledged.extend(load.join().unwrap().0);
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    for server in &mut servers {
        assert_eq!(server.stop().code(), Some(0));
    }
    bench.did(&["backup", &bench.aside("end.db")]);
    let stored = bench.stored();
    assert!(stored.is_superset(&runs(&["a", "b", "after-0", "after-1"])) && !stored.contains("gone"), "{stored:?}");
    assert!(kept.contains("gone"));
    let lost: Vec<_> = acknowledged.iter().filter(|run| !stored.contains(*run) && !kept.contains(*run)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    bench.nothing_is_left();
}

#[test]
fn a_service_shows_what_was_restored_while_it_runs() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let backup = bench.aside("b.db");
    bench.did(&["backup", &backup]);
    let body = r#"{"player":"BEST","score":99,"runId":"best"}"#;
    let mut first = bench.server("spool");
    assert_eq!(first.post_score(body).unwrap().status, 201);
    until("ingesting", || first.get("/readyz").is_ok_and(|answer| answer.json()["role"] == "active"));
    assert_eq!(first.stop().code(), Some(0));
    let server = bench.server("spool");
    until("the best", || server.get("/leaderboard").is_ok_and(|answer| answer.json().to_string().contains("BEST")));
    let said = bench.did(&["restore", &backup, "--yes", "--running"]);
    assert_eq!(said["added"], 0);
    until("the best to be gone", || {
        server.get("/leaderboard").is_ok_and(|answer| !answer.json().to_string().contains("BEST"))
    });
    // It is not there any more, so it counts again.
    assert_eq!(server.post_score(body).unwrap().status, 201);
    until("the best again", || {
        server.get("/leaderboard").is_ok_and(|answer| answer.json().to_string().contains("BEST"))
    });
}

#[test]
fn a_writer_that_hangs_is_not_waited_for_without_end() {
    let bench = Bench::new();
    let server = bench.server("spool");
    post(&server, &["a"]);
    let backup = bench.aside("b.db");
    bench.did(&["backup", &backup]);
    server.signal(rustix::process::Signal::STOP);
    let said = bench.refused(1, &["restore", &backup, "--yes", "--running", "--timeout", "300ms"]);
    assert!(said.contains("did not notice in time") && said.contains("paused"), "{said}");
    server.signal(rustix::process::Signal::CONT);
    bench.did(&["restore", &backup, "--yes", "--running"]);
    post(&server, &["b"]);
    bench.did(&["backup", &bench.aside("c.db")]);
    assert_eq!(stored_runs(Path::new(&bench.aside("c.db"))), runs(&["a", "b"]));
}

#[test]
fn a_backup_that_is_not_sound_changes_nothing() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a", "b"]);
    let good = bench.aside("good.db");
    bench.did(&["backup", &good]);
    let (database, manifest) = (fs::read(&good).unwrap(), fs::read_to_string(format!("{good}.json")).unwrap());
    let before = bench.names();
    let flipped = |at: usize| {
        let mut bytes = database.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let changed = |key: &str, value: Value| {
        let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
        manifest[key] = value;
        manifest.to_string()
    };
    let cut = database[..database.len() - 1].to_vec();
    let longer = [&database[..], b"x"].concat();
    let hash = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    // Damage that the manifest agrees with.
    let rotten = [&database[..4096], &vec![0xAA; database.len() - 4096]].concat();
    let cases = [
        ("flipped", Some(flipped(database.len() / 2)), Some(manifest.clone()), "its sha256 is"),
        ("flipped at the start", Some(flipped(0)), Some(manifest.clone()), "its sha256 is"),
        ("truncated", Some(cut), Some(manifest.clone()), "bytes, not"),
        ("longer", Some(longer), Some(manifest.clone()), "more than"),
        ("empty", Some(Vec::new()), Some(manifest.clone()), "it has 0 bytes"),
        ("no database", None, Some(manifest.clone()), "can't be read"),
        ("no manifest", Some(database.clone()), None, "is not there"),
        ("wrong manifest", Some(database.clone()), Some("{}".to_owned()), "is no manifest"),
        ("no JSON", Some(database.clone()), Some("hello".to_owned()), "is no manifest"),
        ("newer format", Some(database.clone()), Some(changed("format", 2.into())), "newer"),
        ("newer protocol", Some(database.clone()), Some(changed("protocol", 99.into())), "newer"),
        ("other rows", Some(database.clone()), Some(changed("rows", 3.into())), "2 scores, not 3"),
        ("other sum", Some(database.clone()), Some(changed("sha256", "00".into())), "its sha256 is"),
        ("rotten", Some(rotten.clone()), Some(changed("sha256", hash(&rotten).into())), "no sound database"),
    ];
    for (index, (name, database, manifest, expected)) in cases.into_iter().enumerate() {
        let source = bench.aside(&format!("{index}.db"));
        if let Some(database) = database {
            fs::write(&source, database).unwrap();
        }
        if let Some(manifest) = manifest {
            fs::write(format!("{source}.json"), manifest).unwrap();
        }
        for source in [source.clone(), format!("file://{source}")] {
            let said = bench.refused(1, &["restore", &source, "--yes"]);
            assert!(said.contains(expected), "{name}: {said}");
            assert_eq!(bench.names(), before, "{name}");
        }
    }
    assert_eq!(bench.stored(), runs(&["a", "b"]));
}
