//! The writer in front of engines that fail on command, and SQLite in front of databases that others made.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{
    Condition, Engine, EngineError, Kept, MemoryOpener, NewScore, OpenError, Opener, QUEUE_SCORES_MAX, Refusal,
    SqliteOpener, Store, View,
};
use crate::board::Entry;
use crate::metrics::Metrics;
use crate::score::{RunId, Score};
use crate::settings::{Settings, Storage};

fn new_score(player: &str, score: f64, run_id: Option<&str>) -> NewScore {
    let run_id = run_id.map(|run_id| RunId::new(run_id).unwrap());
    NewScore { player: player.to_owned(), score: Score::new(score).unwrap(), run_id }
}

fn start(opener: impl Opener + 'static, fallback: bool) -> Arc<Store> {
    let (mut settings, _) = Settings::read(|_| None).unwrap();
    settings.fallback_to_memory = fallback;
    let metrics = Arc::new(Metrics::new("", "direct").unwrap());
    Arc::new(Store::start_with(Box::new(opener), Arc::new(View::new(Storage::Direct)), &settings, &metrics).unwrap())
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn open(store: &Store) {
    until("opening", || store.view().condition.load().is_open()).await;
}

fn board(store: &Store) -> String {
    String::from_utf8(store.view().board.load().body.to_vec()).unwrap()
}

/// An engine whose every call asks the test for its outcome.
struct Scripted {
    outcomes: Arc<Mutex<Receiver<Result<(), bool>>>>,
    batches: Sender<usize>,
}

impl Opener for Scripted {
    fn open(&self) -> Result<Box<dyn Engine>, OpenError> {
        let inner = MemoryOpener.open()?;
        let (outcomes, batches) = (self.outcomes.clone(), self.batches.clone());
        Ok(Box::new(ScriptedEngine { inner, outcomes, batches, proven: false }))
    }
}

struct ScriptedEngine {
    inner: Box<dyn Engine>,
    outcomes: Arc<Mutex<Receiver<Result<(), bool>>>>,
    batches: Sender<usize>,
    /// The probe of the opening, which always works here, is over.
    proven: bool,
}

impl ScriptedEngine {
    fn next(&self, scores: usize) -> Result<(), EngineError> {
        let _: Result<(), _> = self.batches.send(scores);
        let outcome = self.outcomes.lock().unwrap().recv().unwrap_or(Ok(()));
        outcome.map_err(|lost| EngineError { message: "the disk is on fire".to_owned(), lost, fenced: false })
    }
}

impl Engine for ScriptedEngine {
    fn mode(&self) -> &'static str {
        "sqlite"
    }
    fn top(&mut self) -> Result<Vec<Entry>, EngineError> {
        Ok(Vec::new())
    }
    fn store(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, EngineError> {
        self.next(batch.len())?;
        self.inner.store(batch, now_ms)
    }
    fn probe(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.proven, true) { self.next(0) } else { Ok(()) }
    }
    fn close(self: Box<Self>) -> Result<(), EngineError> {
        Ok(())
    }
}

type Script = (Arc<Store>, Sender<Result<(), bool>>, Receiver<usize>);

fn scripted() -> Script {
    let (outcome, outcomes) = channel();
    let (batches, seen) = channel();
    (start(Scripted { outcomes: Arc::new(Mutex::new(outcomes)), batches }, false), outcome, seen)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_one_commit_takes_many() {
    let (store, outcome, batches) = scripted();
    open(&store).await;
    let submit = |n: usize| {
        let store = store.clone();
        tokio::spawn(async move { store.submit(new_score("A", 1.0, Some(&n.to_string()))).await })
    };
    let first = submit(0);
    until("the first commit's start", || batches.try_recv() == Ok(1)).await;
    let waiting: Vec<_> = (1..=QUEUE_SCORES_MAX).map(submit).collect();
    until("a full queue", || store.metrics.queue_depth.get() == 1024).await;
    let asked = Instant::now();
    assert_eq!(store.submit(new_score("A", 1.0, None)).await, Err(Refusal::QueueFull));
    assert!(asked.elapsed() < Duration::from_millis(100));
    drop(outcome);
    assert!(first.await.unwrap().is_ok());
    for answer in waiting {
        assert!(answer.await.unwrap().is_ok());
    }
    assert_eq!(batches.try_iter().collect::<Vec<_>>(), [256; 4]);
    assert_eq!(store.metrics.games_completed.get(), 1025);
    assert_eq!(store.metrics.queue_depth.get(), 0);
}

#[tokio::test]
async fn failures_refuse_the_batch_and_probes_find_the_recovery() {
    let (store, outcome, batches) = scripted();
    open(&store).await;
    outcome.send(Err(false)).unwrap();
    assert_eq!(store.submit(new_score("A", 1.0, Some("r"))).await, Err(Refusal::NotDurable));
    let failing = || matches!(&**store.view().condition.load(), Condition::Open { failing: Some(_), .. });
    assert!(!failing(), "one bad write alone doesn't take the process out");
    outcome.send(Err(false)).unwrap();
    outcome.send(Err(false)).unwrap();
    until("being not ready", failing).await;
    assert_eq!(batches.try_iter().collect::<Vec<_>>()[..3], [1, 0, 0], "probes go on without traffic");
    // A write is still tried, and its success is a recovery too.
    outcome.send(Ok(())).unwrap();
    outcome.send(Ok(())).unwrap();
    let answer = store.submit(new_score("A", 1.0, Some("r"))).await.unwrap();
    assert!(!answer.kept.repeated);
    until("being ready", || !failing()).await;
    assert_eq!(store.metrics.store_failures.get(), 1);
}

#[tokio::test]
async fn a_lost_engine_is_opened_again() {
    let (store, outcome, _batches) = scripted();
    open(&store).await;
    outcome.send(Err(true)).unwrap();
    assert_eq!(store.submit(new_score("A", 1.0, None)).await, Err(Refusal::NotDurable));
    drop(outcome);
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.submit(new_score("A", 1.0, None)).await.is_err() {
        assert!(Instant::now() < deadline, "never opened again");
    }
}

#[tokio::test]
async fn a_submitter_waits_for_the_disk_only_so_long() {
    let (outcome, outcomes) = channel();
    let (batches, _seen) = channel();
    let (mut settings, _) = Settings::read(|_| None).unwrap();
    settings.limits.store_timeout = Duration::from_millis(30);
    let metrics = Arc::new(Metrics::new("", "direct").unwrap());
    let opener = Box::new(Scripted { outcomes: Arc::new(Mutex::new(outcomes)), batches });
    let store = Store::start_with(opener, Arc::new(View::new(Storage::Direct)), &settings, &metrics).unwrap();
    open(&store).await;
    assert_eq!(store.submit(new_score("A", 1.0, None)).await, Err(Refusal::TimedOut));
    drop(outcome);
}

#[tokio::test]
async fn repeats_get_the_first_answer_in_and_across_batches() {
    let (store, outcome, batches) = scripted();
    open(&store).await;
    let submit = |player: &'static str, score: f64, run_id: Option<&'static str>| {
        let store = store.clone();
        tokio::spawn(async move { store.submit(new_score(player, score, run_id)).await.unwrap() })
    };
    let plug = submit("plug", 1.0, None);
    until("a commit's start", || batches.try_recv() == Ok(1)).await;
    let mut waiting = Vec::new();
    for (n, (player, score)) in [("first", 5.0), ("second", 9.0)].into_iter().enumerate() {
        waiting.push(submit(player, score, Some("same")));
        until("queueing", || store.metrics.queue_depth.get() == i64::try_from(n + 1).unwrap()).await;
    }
    drop(outcome);
    drop(plug.await.unwrap());
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await.unwrap());
    }
    answers.push(store.submit(new_score("third", 50.0, None)).await.unwrap());
    answers.push(store.submit(new_score("fourth", 2.0, Some("same"))).await.unwrap());
    assert_eq!(answers[0].kept.entry.player, "first");
    assert_eq!(answers[0].high_score.get(), 5.0);
    assert_eq!(answers[1], answers[0]);
    assert_eq!(answers[3], answers[0], "even the high score of then");
    assert_eq!(store.metrics.games_completed.get(), 3, "plug, first and third");
}

fn sqlite(path: &Path) -> SqliteOpener {
    SqliteOpener::new(path.to_owned())
}

async fn close(store: &Store) {
    assert!(store.close(Duration::from_secs(5)).await);
    assert!(matches!(**store.view().condition.load(), Condition::Closed));
    assert_eq!(store.submit(new_score("A", 1.0, None)).await, Err(Refusal::NotOpen));
}

#[tokio::test]
async fn databases_of_others_are_taken_over_without_loss() {
    let style = |created_at: &str, value: &str| (created_at.to_owned(), value.to_owned());
    for (created_at, older) in [
        style("TEXT NOT NULL", "'2024-01-31T12:00:00.000Z'"),
        style("DATETIME DEFAULT CURRENT_TIMESTAMP", "'2024-01-31 12:00:00'"),
        style("INTEGER NOT NULL", "1706702400000"),
        style("INTEGER", "1706702400"),
        style("REAL", "1706702400000.5"),
        style("TEXT", "'no date at all'"),
        style("TEXT", "NULL"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sqlite");
        let original = Connection::open(&path).unwrap();
        original
            .execute_batch(&format!(
                "CREATE TABLE scores (id INTEGER PRIMARY KEY AUTOINCREMENT, player TEXT NOT NULL, score INTEGER NOT NULL,
                    created_at {created_at});
                 CREATE TABLE other (kept TEXT); INSERT INTO other VALUES ('kept');
                 PRAGMA user_version = 7;
                 INSERT INTO scores (player, score, created_at) VALUES ('Old', 50, {older}), ('Older', '40', {older}),
                    ('Broken', 'many', {older});"
            ))
            .unwrap();
        drop(original);
        let store = start(sqlite(&path), false);
        open(&store).await;
        let answer = store.submit(new_score("New", 50.0, None)).await.unwrap();
        assert_eq!(answer.high_score.get(), 50.0);
        let before = board(&store);
        close(&store).await;
        assert!(!folder.path().join("db.sqlite-wal").exists(), "closed cleanly");

        let store = start(sqlite(&path), false);
        open(&store).await;
        assert_eq!(board(&store), before, "{created_at} {older}: the list is the same after a restart");
        let order: Vec<_> = ["Old\"", "New\"", "Older\""].iter().map(|name| before.find(name).unwrap()).collect();
        assert!(order.is_sorted() && !before.contains("Broken"), "{before}");
        if older.contains("2024") || older.contains("17067024") {
            assert!(before.contains("\"createdAt\":\"2024-01-31T12:00:00.000Z\""), "{before}");
        }
        close(&store).await;
        let after = Connection::open(&path).unwrap();
        let count: i64 = after.query_row("SELECT count(*) FROM scores", [], |row| row.get(0)).unwrap();
        let kinds: i64 = after
            .query_row(
                "SELECT count(DISTINCT typeof(created_at)) FROM scores WHERE created_at IS NOT NULL",
                [],
                |row| row.get(0),
            )
            .unwrap();
        let version: i64 = after.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        let other: String = after.query_row("SELECT kept FROM other", [], |row| row.get(0)).unwrap();
        assert_eq!((count, version, other.as_str()), (4, 7, "kept"));
        assert!(kinds == 1 || created_at == "REAL", "{created_at}: new rows are spelled like the old ones");
    }
}

#[tokio::test]
async fn a_log_that_its_owner_left_behind_is_taken_over_too() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let original = Connection::open(there.path().join("db.sqlite")).unwrap();
    original.pragma_update(None, "journal_mode", "WAL").unwrap();
    original
        .execute_batch(
            "CREATE TABLE scores (id INTEGER PRIMARY KEY, player TEXT, score INTEGER, created_at TEXT);
             INSERT INTO scores (player, score, created_at) VALUES ('Logged', 7, '2024-01-31T12:00:00.000Z')",
        )
        .unwrap();
    // As a killed process leaves it: the row is in the log only.
    for file in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        std::fs::copy(there.path().join(file), here.path().join(file)).unwrap();
    }
    let store = start(sqlite(&here.path().join("db.sqlite")), false);
    open(&store).await;
    assert!(board(&store).contains("Logged"));
    close(&store).await;
}

#[tokio::test]
async fn missing_columns_are_added_and_foreign_duties_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE scores (id INTEGER PRIMARY KEY, score INTEGER); INSERT INTO scores (score) VALUES (3)",
        )
        .unwrap();
    let store = start(sqlite(&path), false);
    open(&store).await;
    store.submit(new_score("New", 4.0, None)).await.unwrap();
    assert!(board(&store).contains(r#"{"player":"Guest","score":3,"createdAt":"1970-01-01T00:00:00.000Z"}"#));
    close(&store).await;
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "DROP TABLE scores; CREATE TABLE scores (id INTEGER PRIMARY KEY, score INTEGER, team TEXT NOT NULL)",
        )
        .unwrap();
    let store = start(sqlite(&path), false);
    until("a reason", || store.view().condition.load().to_string().contains("column team")).await;
}

#[tokio::test]
async fn run_identities_outlive_the_process_and_large_scores_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut answers = Vec::new();
    for (player, score) in [("first", 1e300), ("again", 3.0)] {
        let store = start(sqlite(&path), false);
        open(&store).await;
        answers.push(store.submit(new_score(player, score, Some("run-1"))).await.unwrap());
        assert_eq!(store.metrics.games_completed.get(), u64::from(player == "first"));
        close(&store).await;
    }
    assert!(!answers[0].kept.repeated && answers[1].kept.repeated);
    assert_eq!(answers[0].kept.entry, answers[1].kept.entry);
    assert_eq!(answers[0].kept.entry.score.get(), 1e300);
}

#[tokio::test]
async fn one_process_at_a_time_and_the_next_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let first = start(sqlite(&path), false);
    open(&first).await;
    first.submit(new_score("A", 9.0, None)).await.unwrap();
    // A fallback is for an unusable store, never for one that is merely held.
    let second = start(sqlite(&path), true);
    until("waiting", || matches!(**second.view().condition.load(), Condition::Held)).await;
    assert_eq!(second.submit(new_score("B", 1.0, None)).await, Err(Refusal::NotOpen));
    let reader = Connection::open(&path).unwrap();
    reader.busy_timeout(Duration::ZERO).unwrap();
    let busy = reader.query_row("SELECT 1 FROM scores", [], |_| Ok(()));
    assert!(busy.is_err(), "nobody else may even read");
    close(&first).await;
    open(&second).await;
    assert!(board(&second).contains("\"A\""));
    close(&second).await;
}

#[tokio::test]
async fn unusable_stores_say_why_and_heal() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "this is not a database, whatever its name says".repeat(100)).unwrap();
    for (path, why) in [
        (missing.join("db.sqlite"), "does not exist"),
        (garbage.clone(), "not a database"),
        (folder.path().to_owned(), "unable to open"),
    ] {
        let store = start(sqlite(&path), false);
        until(why, || store.view().condition.load().to_string().contains(why)).await;
        let fallen_back = start(sqlite(&path), true);
        open(&fallen_back).await;
        assert!(matches!(**fallen_back.view().condition.load(), Condition::Open { mode: "memory", .. }));
        if path.starts_with(&missing) {
            std::fs::create_dir(&missing).unwrap();
            open(&store).await;
        }
        assert!(store.close(Duration::from_secs(5)).await);
    }
    assert!(std::fs::read_to_string(&garbage).unwrap().starts_with("this is not"), "left as it was");
}

#[tokio::test]
async fn a_deleted_database_takes_no_more_scores_and_a_new_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let store = start(sqlite(&path), false);
    open(&store).await;
    store.submit(new_score("A", 9.0, None)).await.unwrap();
    for file in ["db.sqlite", "db.sqlite-wal"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert_eq!(store.submit(new_score("B", 1.0, Some("b"))).await, Err(Refusal::NotDurable));
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.submit(new_score("B", 1.0, Some("b"))).await.is_err() {
        assert!(Instant::now() < deadline, "no new database");
    }
    close(&store).await;
    let count: i64 =
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM scores", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}
