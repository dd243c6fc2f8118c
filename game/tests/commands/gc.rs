//! What `gc` removes, and what it must not.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::bench::{Bench, post, runs};

#[test]
fn gc_removes_what_is_old_and_in_the_database_and_nothing_else() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let server = bench.server("spool");
    post(&server, &["b"]);
    drop(server);
    // Now what is sealed is gone, and what is not is in the database.
    bench.did(&["backup", &bench.aside("x.db")]);
    let old = bench.segments().pop().unwrap();
    let hours = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    let age = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(hours(2)).unwrap();
    let folder = |name: &str| {
        fs::create_dir(bench.path(name)).unwrap();
        File::open(bench.path(name)).unwrap().set_modified(hours(2)).unwrap();
    };
    let leftovers = [
        "backup.0123456789abcdef.request",
        "backup.0123456789abcdef.db",
        "drafty.1.0123456789abcdef.tmp",
        "drafty.1.0123456789abcdef.tmp-wal",
        "top.9.0123456789abcdef.tmp",
        "restore.0123456789abcdef.db",
        "db.sqlite.0123456789abcdef.tmp",
    ];
    let others = ["notes.txt", "x.tmp", "restore.me.db", "before-restore-1.db", "0123456789abcdef.db"];
    for name in leftovers {
        fs::write(bench.path(name), "x").unwrap();
        age(&bench.path(name));
    }
    folder(".spool-check-00");
    folder("aside");
    fs::write(bench.path("aside/x.0"), "x").unwrap();
    age(&bench.path("aside/x.0"));
    fs::write(bench.path("backup.9999.answer"), "x").unwrap();
    for name in others {
        fs::write(bench.path(name), "x").unwrap();
        age(&bench.path(name));
    }

    // Not old yet.
    let said = bench.did(&["gc"]);
    let names = |said: &Value, key: &str| -> Vec<String> {
        let list = said[key].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let removed = names(&said, "removed");
    for name in leftovers.iter().chain(&[".spool-check-00"]) {
        assert!(removed.contains(&(*name).to_owned()) && !bench.path(name).exists(), "{name}: {said}");
    }
    let kept = names(&said, "kept");
    assert!(old.exists() && kept.contains(&"backup.9999.answer".to_owned()), "{said}");
    assert!(kept.iter().any(|name| old.ends_with(name)), "{said}");
    assert!(bench.path("aside/x.0").exists());
    assert!(others.iter().all(|name| bench.path(name).exists()), "{said}");
    assert!(bench.path("backup.9999.answer").exists());

    // Old, but with something that nobody can read.
    let bytes = fs::read(&old).unwrap();
    fs::write(&old, [&bytes[..], b"torn"].concat()).unwrap();
    age(&old);
    let said = bench.did(&["gc"]);
    assert!(old.exists() && said.to_string().contains("4 of its"), "{said}");
    fs::write(&old, bytes).unwrap();
    age(&old);

    // A live ingester covers it; its own segment is not old.
    let server = bench.server("spool");
    post(&server, &["c"]);
    let said = bench.did(&["gc"]);
    assert!(!old.exists(), "{said}");
    post(&server, &["d"]);
    // However old it looks, it is open.
    let own = bench.segments().pop().unwrap();
    age(&own);
    let said = bench.did(&["gc"]);
    assert!(own.exists() && said.to_string().contains("has it open"), "{said}");
    drop(server);
    let said = bench.did(&["gc"]);
    assert!(!own.exists(), "{said}");
    bench.with_scores("spool", &["e"]);
    assert_eq!(bench.stored(), runs(&["a", "b", "c", "d", "e"]));
}
