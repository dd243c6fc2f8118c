//! That the harness objects to what it is there to find, and that the preloaded code does what it is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::{Connection, params};

use crate::check::check;
use crate::control::{Call, Control, Deed, Rule, compile};
use crate::ledger::{Event, Ledger, returns};
use crate::load::{Run, Runs};
use crate::watch::{Epochs, Holders};

const TOLD: &str = "2026-01-31T12:00:00.000Z";

/// Ten scores, each sent once and acknowledged, and the database that fits; without an index that forbids anything.
fn sound() -> (Connection, Runs) {
    let (connection, runs) = (Connection::open_in_memory().unwrap(), Runs::new(7));
    connection.execute_batch("CREATE TABLE scores (player, score, created_at, run_id)").unwrap();
    for n in 0..10 {
        let given = runs.run_id(n).is_none().then(|| format!("given-{n}"));
        let run = Run { sent: 1, acknowledged: vec![TOLD.to_owned()], given: given.clone() };
        runs.list.lock().unwrap().push(run);
        let row = params![Runs::player(n), Runs::score(n), TOLD, runs.run_id(n).or(given)];
        connection.execute("INSERT INTO scores VALUES (?1, ?2, ?3, ?4)", row).unwrap();
    }
    (connection, runs)
}

#[test]
fn the_checker_objects_to_whatever_is_wrong() {
    let last = "WHERE rowid = 10";
    let again = format!("INSERT INTO scores SELECT * FROM scores {last}");
    for (what, change, forget, objection) in [
        ("nothing", String::new(), false, None),
        ("an acknowledged score is lost", format!("DELETE FROM scores {last}"), false, Some("acknowledged and lost")),
        ("an unacknowledged score is lost", format!("DELETE FROM scores {last}"), true, None),
        ("a score is doubled", again.clone(), false, Some("stored 2 times")),
        ("an unacknowledged score is doubled", again.clone(), true, Some("stored 2 times")),
        (
            "a run id is doubled",
            format!("{again}; {}", "UPDATE scores SET player = 'x' WHERE rowid = 10"),
            true,
            Some("x"),
        ),
        ("another score", format!("UPDATE scores SET score = score + 1 {last}"), false, Some("with the score")),
        ("another run id", format!("UPDATE scores SET run_id = 'r-7-8x' {last}"), false, Some("with the run id")),
        ("no run id", format!("UPDATE scores SET run_id = NULL {last}"), false, Some("with the run id")),
        ("another time", "UPDATE scores SET created_at = 'now'".to_owned(), false, Some("which nobody was told")),
        ("a stranger", "INSERT INTO scores VALUES ('x', 1, 'now', 'x')".to_owned(), false, Some("whom nobody sent")),
        ("no table", "DROP TABLE scores".to_owned(), false, Some("can't be read")),
    ] {
        let (connection, runs) = sound();
        connection.execute_batch(&change).unwrap();
        if forget {
            runs.list.lock().unwrap()[9].acknowledged.clear();
        }
        let faults = check(&connection, &runs);
        let found = objection.is_none_or(|part| faults.iter().any(|fault| fault.contains(part)));
        assert!(found && faults.is_empty() == objection.is_none(), "{what}: {faults:?}");
    }
}

#[test]
fn the_leaderboard_may_lack_only_what_is_worse_than_all_it_shows() {
    let runs = sound().1;
    let mut best: Vec<i64> = (0..10).map(Runs::score).collect();
    best.sort_unstable();
    assert!(runs.missing_in(&best).is_empty());
    let worst = best.remove(0);
    assert_eq!(runs.missing_in(&best), [worst], "there is room for it");
    best.push(worst + 1);
    assert!(runs.missing_in(&best).is_empty(), "a better one took its place");
    best.remove(8);
    best.push(worst + 2);
    assert_eq!(runs.missing_in(&best).len(), 1, "the best is missing");
}

#[test]
fn the_checker_takes_a_uuid_as_sixteen_bytes_and_objects_to_a_damaged_file() {
    let (connection, runs) = sound();
    let id: uuid::Uuid = runs.run_id(0).unwrap().parse().unwrap();
    connection.execute("UPDATE scores SET run_id = ?1 WHERE rowid = 1", [id.as_bytes().as_slice()]).unwrap();
    assert_eq!(check(&connection, &runs), Vec::<String>::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    connection.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4096;
    bytes[at..at + 2000].fill(0x5A);
    std::fs::write(&path, bytes).unwrap();
    assert!(!check(&Connection::open(&path).unwrap(), &runs).is_empty());
}

#[test]
fn the_watch_objects_to_two_holders_and_to_epochs_that_shrink_change_or_leave_gaps() {
    let mut holders = Holders::default();
    assert!(holders.note(1, 5).is_none() && holders.note(2, 6).is_none() && holders.note(1, 5).is_none());
    assert!(holders.note(2, 5).is_some());
    let listing =
        |list: &[(u64, &str)]| list.iter().map(|(n, said)| (*n, (*said).to_owned())).collect::<BTreeMap<_, _>>();
    for (first, then, sound) in [
        (&[(1, "a"), (2, "b")][..], &[(1, "a"), (2, "b"), (3, "")][..], true),
        (&[(1, "a"), (2, "")], &[(1, "a"), (2, "b")], true),
        (&[(1, "a"), (2, "b")], &[(1, "a")], false),
        (&[(1, "a"), (2, "b")], &[(1, "a"), (2, "c")], false),
        (&[(1, "a")], &[(1, "a"), (3, "c")], false),
    ] {
        let mut epochs = Epochs::default();
        assert!(epochs.note(&listing(first)).is_empty());
        assert_eq!(epochs.note(&listing(then)).is_empty(), sound, "{first:?} {then:?}");
    }
}

#[test]
fn the_ledger_objects_to_a_writer_that_comes_back() {
    for (writers, sound) in [(&[1, 2, 3][..], true), (&[1], true), (&[1, 2, 1], false), (&[3, 1, 2, 3], false)] {
        let events = |file| writers.iter().map(move |writer| Event { file, writer: *writer, name: "db".to_owned() });
        let other = Event { file: 9, writer: 1, name: "other".to_owned() };
        assert_eq!(returns(&events(1).chain([other]).collect::<Vec<_>>()).is_empty(), sound, "{writers:?}");
    }
}

/// A folder with the preloaded code and a share; `None` where it can't be compiled.
struct Bench {
    folder: tempfile::TempDir,
    control: Control,
    ledger: Ledger,
}

impl Bench {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = compile(folder.path()) {
            crate::say(&format!("SKIPPED: the preloaded code: {why}"));
            return None;
        }
        std::fs::create_dir(folder.path().join("share")).unwrap();
        let control = Control::new(folder.path().join("control"), &[]);
        let ledger = Ledger::new(&folder.path().join("ledger"));
        Some(Self { folder, control, ledger })
    }

    /// Runs a shell command below the share.
    fn run(&self, number: u32, script: &str) -> Output {
        let root = self.folder.path().canonicalize().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(root.join("share")).env("LD_PRELOAD", root.join("shim.so"));
        command.env("NEMESIS_CONTROL", root.join("control")).env("NEMESIS_LEDGER", root.join("ledger"));
        command.env("NEMESIS_SHARE", root.join("share")).env("NEMESIS_SELF", number.to_string()).output().unwrap()
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("share").join(name)
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[test]
fn the_preloaded_code_makes_each_kind_of_call_fail_and_counts_it() {
    let Some(bench) = Bench::new() else { return };
    let io = rustix::io::Errno::IO.raw_os_error();
    let write = "dd if=/dev/zero of=f bs=1000 count=1 conv=notrunc";
    for (call, script) in [
        (Call::OpenRead, "cat there"),
        (Call::OpenWrite, "echo > new"),
        (Call::Read, "cat there"),
        (Call::Write, write),
        (Call::Sync, "dd if=/dev/zero of=g bs=10 count=1 conv=fsync"),
        (Call::Sync, "dd if=/dev/zero of=g bs=10 count=1 conv=fdatasync"),
        (Call::Rename, "mv there elsewhere"),
        (Call::Unlink, "rm there"),
        (Call::MakeDir, "mkdir dir"),
        (Call::RemoveDir, "rmdir old"),
        (Call::Truncate, "truncate -s 5 there"),
        (Call::Look, "ls there"),
    ] {
        std::fs::write(bench.at("there"), "abc").unwrap();
        drop(std::fs::create_dir(bench.at("old")));
        let (_, hits_before) = bench.control.count(call);
        bench.control.set(&[Rule::fail(call, io)]);
        let output = bench.run(1, script);
        let hit = bench.control.count(call).1 > hits_before;
        assert!(hit && !output.status.success(), "{call:?}: {script}: {output:?}");
        bench.control.set(&[Rule { name: "another", ..Rule::fail(call, io) }]);
        let output = bench.run(1, script);
        assert!(output.status.success(), "{call:?}, but of another name: {script}: {output:?}");
        for name in ["f", "g", "new", "elsewhere"] {
            drop(std::fs::remove_file(bench.at(name)));
        }
        drop(std::fs::remove_dir(bench.at("dir")));
    }
}

#[test]
fn the_preloaded_code_tears_denies_kills_and_loses() {
    let Some(bench) = Bench::new() else { return };
    let io = rustix::io::Errno::IO.raw_os_error();
    let write = "dd if=/dev/urandom of=f bs=1000 count=1 conv=notrunc,fsync";
    let rule = |call, deed| Rule { deed, once: true, ..Rule::fail(call, io) };

    bench.control.set(&[rule(Call::Write, Deed::Half)]);
    assert!(!bench.run(1, write).status.success());
    assert_eq!(length(&bench.at("f")), 500);

    bench.control.set(&[rule(Call::MakeDir, Deed::FailAfter)]);
    assert!(!bench.run(1, "mkdir dir").status.success() && bench.at("dir").is_dir());

    // What the first process wrote is synced, what the second one wrote is not.
    for (deed, written, name) in [(Deed::DieBefore, 1000, "f"), (Deed::DieAfter, 2000, "h")] {
        drop(std::fs::remove_file(bench.at(name)));
        bench.control.set(&[]);
        assert!(bench.run(1, &write.replace("of=f", &format!("of={name}"))).status.success());
        let more = format!("exec dd if=/dev/urandom of={name} bs=1000 count=1 seek=1 conv=notrunc,fsync");
        bench.control.set(&[Rule { lose: deed == Deed::DieBefore, ..rule(Call::Sync, deed) }]);
        assert_eq!(bench.run(2, &more).status.signal(), Some(9));
        let mut bytes = Vec::new();
        File::open(bench.at(name)).unwrap().read_to_end(&mut bytes).unwrap();
        let kept = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // A random byte may be a zero.
        assert!((written - 20..=written).contains(&kept), "{deed:?}: {kept} of {}", bytes.len());
    }
    let events = bench.ledger.events().0;
    let writers: Vec<_> = events.iter().filter(|event| event.name == "h").map(|event| event.writer).collect();
    assert_eq!(writers, [1, 2]);
    bench.control.set(&[]);
    assert!(bench.run(1, &write.replace("of=f", "of=h")).status.success());
    assert_eq!(returns(&bench.ledger.events().0).len(), 1);
}
