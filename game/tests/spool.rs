//! The real program with the spool: old databases, several processes, hand-over, damaged segments.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Server, load, stored_runs, until};
use rusqlite::Connection;
use rustix::process::Signal;
use spool::{Appender, Folder, Record};

fn start(share: &Path) -> Server {
    let path = share.join("db.sqlite");
    Server::start(&[("SCORE_STORAGE", "spool"), ("SCORE_DB_PATH", path.to_str().unwrap()), ("DRAIN_DELAY_MS", "300")])
}

fn role(server: &Server) -> String {
    server
        .get("/readyz")
        .map_or_else(|_| "gone".to_owned(), |answer| answer.json()["role"].as_str().unwrap().to_owned())
}

fn until_role(server: &Server, wanted: &str) {
    until(wanted, || role(server) == wanted);
}

/// The database of the last epoch.
fn database(share: &Path) -> PathBuf {
    let names = fs::read_dir(share).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let epoch = |name: &str| name.strip_prefix("drafty.")?.strip_suffix(".db")?.parse::<u64>().ok();
    let last = names.filter_map(|name| epoch(&name)).max().unwrap();
    share.join(format!("drafty.{last}.db"))
}

fn players(server: &Server) -> Vec<String> {
    let list = server.get("/leaderboard").unwrap().json();
    let lines = list["leaderboard"].as_array().cloned().unwrap_or_default();
    lines.iter().map(|line| line["player"].as_str().unwrap().to_owned()).collect()
}

/// A database as the original made it.
fn original(path: &Path, journal: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |_| Ok(())).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE scores (id INTEGER PRIMARY KEY AUTOINCREMENT, player TEXT NOT NULL, score INTEGER NOT NULL,
                                  created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
             INSERT INTO scores (player, score) VALUES ('old', 100), ('older', 90), ('oldest', 80);",
        )
        .unwrap();
    connection
}

#[test]
fn the_database_from_before_is_taken_over_once_nobody_uses_it() {
    for journal in ["wal", "delete"] {
        for alive in [false, true] {
            let share = tempfile::tempdir().unwrap();
            let path = share.path().join("db.sqlite");
            let old = original(&path, journal);
            let old = alive.then_some(old);
            let mut server = start(share.path());
            if let Some(old) = old {
                until("saying who uses it", || {
                    let body = server.get("/readyz").unwrap().json();
                    body["trouble"].as_str().is_some_and(|why| why.contains("db.sqlite; stop it"))
                        && body["waiting_for"] == "store"
                });
                assert_eq!(server.post_score(r#"{"player":"early","score":95}"#).unwrap().status, 201, "{journal}");
                // Still its own.
                old.execute("INSERT INTO scores (player, score) VALUES ('last', 99)", []).unwrap();
                drop(old);
            }
            until_role(&server, "active");
            server.until_ready();
            assert_eq!(server.post_score(r#"{"player":"new","score":110}"#).unwrap().status, 201);
            let expected: &[&str] = if alive {
                &["new", "old", "last", "early", "older", "oldest"]
            } else {
                &["new", "old", "older", "oldest"]
            };
            until("all scores being shown", || players(&server) == expected);
            assert_eq!(server.stop().code(), Some(0));
            let stored = Connection::open(database(share.path())).unwrap();
            let count: i64 = stored.query_row("SELECT count(*) FROM scores", [], |row| row.get(0)).unwrap();
            assert_eq!(usize::try_from(count).unwrap(), expected.len(), "{journal}, alive: {alive}");
            let kept = share.path().join("db.sqlite.before-epoch-1");
            let kept = Connection::open(&kept).unwrap();
            let columns: i64 =
                kept.query_row("SELECT count(*) FROM pragma_table_info('scores')", [], |row| row.get(0)).unwrap();
            assert_eq!(columns, 4, "it is kept as it was");
            assert!(!path.exists());
        }
    }
}

#[test]
fn a_standby_is_ready_shows_what_others_accept_and_takes_over_without_a_pause() {
    let share = tempfile::tempdir().unwrap();
    let mut first = start(share.path());
    until_role(&first, "active");
    first.until_ready();
    let mut acknowledged = Vec::new();
    for kill in [false, true, false] {
        let next = start(share.path());
        next.until_ready();
        assert_eq!(role(&next), "standby");
        let going = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let keep = going.clone();
        let loaded = load(next.address, 4, move |_| keep.load(std::sync::atomic::Ordering::Relaxed));
        let body = format!(
            r#"{{"player":"p","score":{},"runId":"top-{}"}}"#,
            1_000_000 + acknowledged.len(),
            acknowledged.len()
        );
        assert_eq!(first.post_score(&body).unwrap().status, 201);
        acknowledged.push(format!("top-{}", acknowledged.len()));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let shown =
            |server: &Server| server.get("/leaderboard").unwrap().json()["leaderboard"][0]["score"] == body["score"];
        until("the standby showing it", || shown(&next));
        let gone = Instant::now();
        first.signal(if kill { Signal::KILL } else { Signal::TERM });
        until_role(&next, "active");
        assert!(gone.elapsed() < Duration::from_secs(5));
        assert!(shown(&next));
        first.wait();
        going.store(false, std::sync::atomic::Ordering::Relaxed);
        let (runs, refused) = loaded.join().unwrap();
        assert!(refused == 0 && runs.len() > 10, "{refused} refused, {} stored", runs.len());
        // Each load uses the same identities: repeats add nothing.
        acknowledged.extend(runs);
        first = next;
    }
    assert_eq!(first.stop().code(), Some(0));
    // Whatever was accepted after the last hand-over is taken in by the next process.
    let mut last = start(share.path());
    until_role(&last, "active");
    assert_eq!(last.stop().code(), Some(0));
    let stored = stored_runs(&database(share.path()));
    let lost: Vec<_> = acknowledged.iter().filter(|run_id| !stored.contains(*run_id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
}

#[test]
fn damaged_bytes_are_kept_aside_and_all_else_is_taken() {
    let share = tempfile::tempdir().unwrap();
    let mut appender = Appender::new(Arc::new(Folder::new(share.path())), "0123456789abcdef".to_owned());
    let record = |n: u32| Record { run_id: format!("r{n}").into(), player: "p".into(), score: n.into(), created_ms: 1 };
    for n in 0..20 {
        appender.append(&[record(n)]).unwrap();
    }
    appender.seal().unwrap();
    let segment = share.path().join("spool/0123456789abcdef.0000000001");
    let mut bytes = fs::read(&segment).unwrap();
    // Within the record r9: its text is nowhere else.
    let at = bytes.windows(2).position(|two| two == b"r9").unwrap();
    bytes[at] ^= 0xFF;
    fs::write(&segment, bytes).unwrap();
    let mut server = start(share.path());
    until("the segment being gone", || !segment.exists());
    let text = String::from_utf8(server.get("/metrics").unwrap().body).unwrap();
    assert!(text.lines().any(|line| line == "drafty_bird_spool_set_aside_total 1"), "{text}");
    assert_eq!(server.stop().code(), Some(0));
    let stored = stored_runs(&database(share.path()));
    let expected = (0..20).filter(|n| *n != 9).map(|n| format!("r{n}")).collect();
    assert_eq!(stored, expected);
    let aside: Vec<_> = fs::read_dir(share.path().join("aside")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    assert!(fs::read(aside).unwrap().contains(&(b'r' ^ 0xFF)));
}

#[test]
fn direct_refuses_a_folder_that_the_spool_uses() {
    let share = tempfile::tempdir().unwrap();
    let mut server = start(share.path());
    until_role(&server, "active");
    assert_eq!(server.stop().code(), Some(0));
    let names = || fs::read_dir(share.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names().all(|name| !name.starts_with("db.sqlite")), "there was none before");
    let path = share.path().join("db.sqlite");
    let server = Server::start(&[("SCORE_DB_PATH", path.to_str().unwrap())]);
    until("the refusal", || {
        let body = server.get("/readyz").unwrap().json();
        body["reason"].as_str().is_some_and(|why| why.contains("drafty-bird downgrade"))
    });
    assert!(!path.exists());
}
