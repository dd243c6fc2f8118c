//! Keeps scores in a SQLite database that this process alone may use, and makes a batch durable with one commit.
//! It never opens the file by other means: closing any other descriptor of it would drop SQLite's lock.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, params};

use super::schema::{self, SchemaError, TimeStyle};
use super::top_index::TopIndex;
use super::{Engine, EngineError, Kept, NewScore, OpenError, Opener, run_key};
use crate::board::Entry;
use crate::clock;
use crate::folder::folder_of;
use crate::run_ids::RunIds;
use crate::score::{RunId, Score, player_name};

/// SQLite's page cache, in KiB.
const CACHE_KIB: u32 = 4096;
/// Log frames after which the log is copied into the database, within a commit.
const CHECKPOINT_PAGES: u32 = 2000;

pub(crate) struct SqliteOpener {
    path: PathBuf,
    vfs: Option<&'static str>,
}

impl SqliteOpener {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, vfs: None }
    }

    /// Where SQLite's own locks don't work.
    pub(crate) fn with_vfs(self, vfs: Option<&'static str>) -> Self {
        Self { vfs, ..self }
    }

    /// Opens the database for this process alone and makes it fit for this server.
    pub(crate) fn connect(&self) -> Result<(Connection, TimeStyle, TopIndex), OpenError> {
        let folder = folder_of(&self.path);
        if !folder.is_dir() {
            return Err(self.unusable(format_args!("folder {} does not exist", folder.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs),
            None => Connection::open_with_flags(&self.path, flags),
        };
        let connection = connection.map_err(|error| self.sort(&error))?;
        let (time_style, top_index) = self.take(&connection, folder)?;
        Ok((connection, time_style, top_index))
    }

    fn unusable(&self, why: impl std::fmt::Display) -> OpenError {
        OpenError::Unusable(format!("{}: {why}", self.path.display()))
    }

    fn sort(&self, error: &rusqlite::Error) -> OpenError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                OpenError::Held
            }
            _ => self.unusable(error),
        }
    }
}

impl Opener for SqliteOpener {
    fn open(&self) -> Result<Box<dyn Engine>, OpenError> {
        let folder = folder_of(&self.path);
        if let Some(epoch) = ::spool::in_use(folder) {
            return Err(self.unusable(format_args!(
                "the scores of this folder are kept by the spool (epoch {epoch}), which SCORE_STORAGE=direct does not know; \
                 `drafty-bird downgrade` moves them back"
            )));
        }
        let (connection, time_style, top_index) = self.connect()?;
        let identity = identity(&self.path).map_err(|error| self.unusable(error))?;
        let path = self.path.clone();
        Ok(Box::new(Sqlite { connection, path, identity, time_style, top_index, run_ids: RunIds::default() }))
    }
}

impl SqliteOpener {
    /// Takes the exclusive lock, which is then held until the connection closes, and prepares the tables.
    fn take(&self, connection: &Connection, folder: &Path) -> Result<(TimeStyle, TopIndex), OpenError> {
        let sort = |error: rusqlite::Error| self.sort(&error);
        connection.busy_timeout(Duration::ZERO).map_err(sort)?;
        // Before the first access in WAL mode: then the log's index is in our own memory instead of a shared file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(sort)?;
        connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB)).map_err(sort)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sort)?;
        if mode != "wal" {
            return Err(self.unusable(format_args!("write-ahead log refused, journal mode is {mode}")));
        }
        connection.pragma_update(None, "synchronous", "FULL").map_err(sort)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(sort)?;
        // Sorting for a missing index needs room, and an image made from nothing has no /tmp.
        connection.pragma_update(None, "temp_store_directory", folder.to_string_lossy()).map_err(sort)?;
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(sort)?;
        let time_style = match schema::prepare(connection) {
            Ok(style) => style,
            Err(SchemaError::Sqlite(error)) => return Err(sort(error)),
            Err(SchemaError::Unfit(why)) => return Err(self.unusable(why)),
        };
        let top_index = TopIndex::prepare(connection).map_err(sort)?;
        connection.execute_batch("COMMIT").map_err(sort)?;
        connection.set_prepared_statement_cache_capacity(8);
        Ok((time_style, top_index))
    }
}

/// Device and inode: whether the path still leads to the file that is open.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

struct Sqlite {
    connection: Connection,
    path: PathBuf,
    identity: (u64, u64),
    time_style: TimeStyle,
    top_index: TopIndex,
    run_ids: RunIds,
}

pub(super) const INSERT: &str = "INSERT INTO scores (player, score, created_at, run_id) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (run_id) WHERE run_id IS NOT NULL DO NOTHING";
/// No client can choose it: it has characters that run identities don't.
const PROBE_RUN: &str = "(probe)";
const BY_RUN: &str = "SELECT player, score, created_at FROM scores WHERE run_id = ?1";
impl Sqlite {
    /// A deleted or replaced file would take writes that nobody will ever find.
    fn still_there(&mut self) -> Result<(), EngineError> {
        let found = identity(&self.path);
        if found.as_ref().is_ok_and(|found| *found == self.identity) {
            return Ok(());
        }
        // The log beside the path may belong to a new database by now: closing must leave it alone.
        drop(self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
        let why = found.map_or_else(|error| error.to_string(), |_| "another file took its place".to_owned());
        Err(EngineError {
            message: format!("{}: the database is gone: {why}", self.path.display()),
            lost: true,
            fenced: false,
        })
    }

    fn fault(&self, error: &rusqlite::Error) -> EngineError {
        // After ROLLBACK a full disk leaves the connection sound. Whatever else happened, reading everything anew from
        // the disk is safer than going on with what memory says.
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        EngineError { message: format!("{}: {error}", self.path.display()), lost: !full, fenced: false }
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, rusqlite::Error>,
    ) -> Result<T, EngineError> {
        self.still_there()?;
        let outcome = self
            .connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .and_then(|_| work(self))
            .and_then(|value| self.connection.prepare_cached("COMMIT")?.execute([]).map(|_| value));
        outcome.map_err(|error| {
            if !self.connection.is_autocommit() {
                drop(self.connection.execute_batch("ROLLBACK"));
            }
            self.fault(&error)
        })
    }

    /// Copies the log into the database and empties it.
    fn checkpoint(&self) -> Result<(), rusqlite::Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    fn insert_all(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, rusqlite::Error> {
        let created_at = clock::rfc3339(self.time_style.round(now_ms));
        let spelled = self.time_style.spell(now_ms);
        let mut insert = self.connection.prepare_cached(INSERT)?;
        let mut kept = Vec::with_capacity(batch.len());
        for new in batch {
            let mut entry = Entry { player: new.player.clone(), score: new.score, created_at: created_at.clone() };
            let (run_id, repeated) = match &new.run_id {
                Some(run_id) if insert_one(&mut insert, &entry, &spelled, run_id)? => (run_id.clone(), false),
                Some(run_id) => {
                    entry = self
                        .connection
                        .prepare_cached(BY_RUN)?
                        .query_row([run_key::key(run_id.as_str())], |row| Ok(read_entry(row)?.unwrap_or(entry)))?;
                    (run_id.clone(), true)
                }
                None => loop {
                    // Ours collide with a stored one only by a miracle, but then the score must not vanish.
                    let run_id = self.run_ids.next(now_ms).ok_or(rusqlite::Error::InvalidQuery)?;
                    if insert_one(&mut insert, &entry, &spelled, &run_id)? {
                        break (run_id, false);
                    }
                },
            };
            kept.push(Kept { entry, run_id, repeated });
        }
        Ok(kept)
    }
}

/// `false` if the run identity is stored already.
fn insert_one(
    insert: &mut CachedStatement<'_>,
    entry: &Entry,
    created_at: &Value,
    run_id: &RunId,
) -> Result<bool, rusqlite::Error> {
    let score = entry.score.as_i64().map_or(Value::Real(entry.score.get()), Value::Integer);
    insert.execute(params![entry.player, score, created_at, run_key::key(run_id.as_str())]).map(|rows| rows > 0)
}

/// Reads player, score and time of a row, whatever an older server put there; `None` if it has no score that makes sense.
pub(super) fn read_entry(row: &rusqlite::Row<'_>) -> Result<Option<Entry>, rusqlite::Error> {
    let player = match row.get_ref(0)? {
        ValueRef::Text(text) => player_name(&String::from_utf8_lossy(text)),
        _ => player_name(""),
    };
    #[expect(clippy::cast_precision_loss, reason = "scores are doubles, as in JavaScript")]
    let number = match row.get_ref(1)? {
        ValueRef::Integer(whole) => whole as f64,
        ValueRef::Real(number) => number,
        ValueRef::Text(text) => String::from_utf8_lossy(text).trim().parse().unwrap_or(f64::NAN),
        ValueRef::Null | ValueRef::Blob(_) => f64::NAN,
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
    let created_ms = match row.get_ref(2)? {
        ValueRef::Integer(whole) => Some(clock::from_number(whole as f64)),
        ValueRef::Real(number) => Some(clock::from_number(number)),
        ValueRef::Text(text) => clock::parse(&String::from_utf8_lossy(text)),
        ValueRef::Null | ValueRef::Blob(_) => None,
    };
    let created_at = clock::rfc3339(created_ms.unwrap_or_default());
    Ok(Score::new(number).map(|score| Entry { player, score, created_at }))
}

impl Engine for Sqlite {
    fn mode(&self) -> &'static str {
        "sqlite"
    }

    fn top(&mut self) -> Result<Vec<Entry>, EngineError> {
        self.top_index.read(&self.connection).map_err(|error| self.fault(&error))
    }

    fn store(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, EngineError> {
        let kept = match self.in_transaction(|this| this.insert_all(batch, now_ms)) {
            // Much of what fills the disk may be our own log.
            Err(fault) if !fault.lost && self.checkpoint().is_ok() => {
                self.in_transaction(|this| this.insert_all(batch, now_ms))?
            }
            outcome => outcome?,
        };
        for kept in kept.iter().filter(|kept| !kept.repeated) {
            self.top_index.added(kept.entry.score);
        }
        if self.top_index.is_outgrown() {
            // The batch is durable whatever comes of this; where the disk has trouble, the next batch meets it too.
            match self.in_transaction(|this| this.top_index.make(&this.connection)) {
                Ok(made) => self.top_index = made,
                Err(_) => self.top_index.postpone(),
            }
        }
        Ok(kept)
    }

    fn probe(&mut self) -> Result<(), EngineError> {
        // Writes the pages that a score would, and changes nothing.
        self.in_transaction(|this| {
            let spelled = this.time_style.spell(clock::now_ms());
            this.connection.prepare_cached(INSERT)?.execute(params!["probe", 0, spelled, PROBE_RUN])?;
            this.connection.prepare_cached("DELETE FROM scores WHERE run_id = ?1")?.execute([PROBE_RUN]).map(|_| ())
        })
    }

    fn close(mut self: Box<Self>) -> Result<(), EngineError> {
        self.still_there()?;
        let fault = |error: rusqlite::Error| EngineError { message: error.to_string(), lost: true, fenced: false };
        self.connection.flush_prepared_statement_cache();
        self.checkpoint().map_err(fault)?;
        self.connection.close().map_err(|(_, error)| fault(error))
    }
}
