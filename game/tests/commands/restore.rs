//! Restoring: what is there afterwards, what is kept, and what is not restored at all.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bench::{Bench, post, runs};
use crate::common::stored_runs;

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
