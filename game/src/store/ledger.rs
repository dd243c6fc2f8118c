//! SQLite as the database that the ingester moves records into: one file per epoch, opened by its epoch's holder alone. It decides
//! what a database of others needs before it can be taken over; it never decides whose turn it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use spool::{Ingested, Leader, Ledger, LedgerError, Ledgers, Record};

use super::schema::TimeStyle;
use super::sqlite::{INSERT, SqliteOpener, read_entry};
use super::top_index::TopIndex;
use super::{OpenError, run_key};
use crate::clock;
use crate::score::Score;

/// The databases of a share.
pub(crate) struct SqliteLedgers {
    folder: PathBuf,
    vfs: Option<&'static str>,
}

/// SQLite's page cache, in KiB: it is as large as this only while there is much to move.
const CACHE_KIB: i64 = 24 * 1024;
/// Pages of the original that are copied at once.
const COPY_PAGES: i32 = 1024;

impl SqliteLedgers {
    /// `vfs` is SQLite's for this folder.
    pub(crate) fn new(folder: &Path, vfs: Option<&'static str>) -> Self {
        Self { folder: folder.to_owned(), vfs }
    }

    fn opener(&self, path: PathBuf) -> SqliteOpener {
        SqliteOpener::new(path).with_vfs(self.vfs)
    }
}

impl Ledgers for SqliteLedgers {
    type Ledger = SqliteLedger;

    fn open(&self, name: &str) -> Result<SqliteLedger, LedgerError> {
        let (connection, time_style, top_index) = self.opener(self.folder.join(name)).connect().map_err(sort)?;
        // Identities that clients choose are all over their index.
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(LedgerError::failed)?;
        // However this ends, only `close` may touch the log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(LedgerError::failed)?;
        Ok(SqliteLedger { connection, folder: self.folder.clone(), time_style, top_index })
    }

    fn adopt(&self, original: &str, to: &str) -> Result<(), LedgerError> {
        let path = &self.folder.join(original);
        let held = |who: &str| {
            LedgerError::Held(format!("{who} uses {}; stop it, and the scores are taken over", path.display()))
        };
        // Without a log a server that is idle holds no lock, so it is looked for as well.
        if let Some(pid) = user_of(path) {
            return Err(held(&format!("process {pid}")));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = match self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
            None => Connection::open_with_flags(path, flags),
        };
        let size = fs::metadata(path).map_err(LedgerError::failed)?.len();
        if size == 0 {
            // Nothing is in it, and SQLite would put something there.
            return fs::File::create_new(self.folder.join(to)).map(|_| ()).map_err(LedgerError::failed);
        }
        // Another server's lock is SQLite's own. Once it is taken exclusively it is kept until the connection closes.
        let taken = source.and_then(|source| {
            source.busy_timeout(Duration::ZERO)?;
            source.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            source.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
            Ok(source)
        });
        let source = taken.map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => held("another process"),
            _ => LedgerError::Failed(format!("{}: {error}", path.display())),
        })?;
        let copy = || -> Result<(), rusqlite::Error> {
            let mut target = Connection::open(self.folder.join(to))?;
            Backup::new(&source, &mut target)?.run_to_completion(COPY_PAGES, Duration::ZERO, None)?;
            target.close().map_err(|(_, error)| error)
        };
        copy().map_err(LedgerError::failed)
    }
}

fn sort(error: OpenError) -> LedgerError {
    match error {
        OpenError::Held => LedgerError::Held("another process has the database open".to_owned()),
        OpenError::Unusable(why) if why.contains("malformed") || why.contains("not a database") => {
            LedgerError::Damaged(why)
        }
        OpenError::Unusable(why) => LedgerError::Failed(why),
    }
}

/// Another process of this machine that has the file open, as far as this one may look.
pub(crate) fn user_of(path: &Path) -> Option<u32> {
    let wanted = fs::metadata(path).ok()?;
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own).find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::metadata(file.path()).ok())
            .any(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
    })
}

/// An epoch's database.
pub(crate) struct SqliteLedger {
    connection: Connection,
    folder: PathBuf,
    time_style: TimeStyle,
    top_index: TopIndex,
}

const BY_RUN: &str = "SELECT player, score FROM scores WHERE run_id = ?1";

impl SqliteLedger {
    fn insert(&self, records: &[&Record]) -> Result<Ingested, rusqlite::Error> {
        let mut ingested = Ingested::default();
        let mut insert = self.connection.prepare_cached(INSERT)?;
        let mut first = self.connection.prepare_cached(BY_RUN)?;
        let mut spelled: Option<(i64, Value)> = None;
        for record in records {
            let key = run_key::key(&record.run_id);
            let score = Score::new(record.score).and_then(Score::as_i64);
            let score = score.map_or(Value::Real(record.score), Value::Integer);
            // Records of one moment are many.
            let created_at = match &spelled {
                Some((at, value)) if *at == record.created_ms => value,
                _ => &spelled.insert((record.created_ms, self.time_style.spell(record.created_ms))).1,
            };
            if insert.execute(params![&*record.player, score, created_at, key])? > 0 {
                ingested.added += 1;
                continue;
            }
            let same: bool = first.query_row([&key], |row| {
                Ok(row.get::<_, String>(0)? == *record.player && row.get::<_, Value>(1)? == score)
            })?;
            ingested.differing += u64::from(!same);
        }
        Ok(ingested)
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, rusqlite::Error>,
    ) -> Result<T, LedgerError> {
        let outcome = self
            .connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| work(self))
            .and_then(|value| self.connection.execute_batch("COMMIT").map(|()| value));
        outcome.map_err(|error| {
            if !self.connection.is_autocommit() {
                drop(self.connection.execute_batch("ROLLBACK"));
            }
            match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) if self.connection.is_autocommit() => LedgerError::Full(error.to_string()),
                _ => LedgerError::failed(error),
            }
        })
    }
}

impl Ledger for SqliteLedger {
    fn ingest(&mut self, records: &[&Record]) -> Result<Ingested, LedgerError> {
        let ingested = self.in_transaction(|this| this.insert(records))?;
        for score in records.iter().filter_map(|record| Score::new(record.score)) {
            self.top_index.added(score);
        }
        if self.top_index.is_outgrown() {
            // The records are durable whatever comes of this.
            match self.in_transaction(|this| this.top_index.make(&this.connection)) {
                Ok(made) => self.top_index = made,
                Err(_) => self.top_index.postpone(),
            }
        }
        Ok(ingested)
    }

    fn top(&mut self) -> Result<Vec<Leader>, LedgerError> {
        let read = || {
            let mut statement =
                self.connection.prepare(&self.top_index.query("player, score, created_at, run_id, rowid"))?;
            let rows = statement.query_map([], |row| {
                let Some(entry) = read_entry(row)? else { return Ok(None) };
                // A row that an older server made has no identity; this one no client can choose.
                let run_id = run_key::text(row.get_ref(3)?);
                let run_id = run_id.unwrap_or_else(|| format!("#{}", row.get::<_, i64>(4).unwrap_or_default()));
                Ok(Some(Leader {
                    run_id: run_id.into(),
                    player: entry.player.into(),
                    score: entry.score.get(),
                    created_ms: clock::parse(&entry.created_at).unwrap_or_default(),
                }))
            })?;
            rows.filter_map(Result::transpose).collect::<Result<Vec<_>, rusqlite::Error>>()
        };
        read().map_err(LedgerError::failed)
    }

    fn verify(&mut self) -> Result<(), LedgerError> {
        let check = || {
            let mut statement = self.connection.prepare("PRAGMA integrity_check(5)")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        };
        match check().map_err(LedgerError::failed)? {
            said if said == ["ok"] => Ok(()),
            said => Err(LedgerError::Damaged(said.join("; "))),
        }
    }

    fn copy(&mut self, to: &str) -> Result<(), LedgerError> {
        let path = self.folder.join(to);
        self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()]).map_err(LedgerError::failed)?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(LedgerError::failed)
    }

    fn close(self) -> Result<(), LedgerError> {
        self.connection.flush_prepared_statement_cache();
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .map_err(LedgerError::failed)
            .and_then(|busy| {
                if busy == 0 { Ok(()) } else { Err(LedgerError::Failed("the log could not be emptied".to_owned())) }
            })?;
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(LedgerError::failed)?;
        self.connection.close().map_err(|(_, error)| LedgerError::failed(error))
    }

    fn abandon(self) {
        // The file may be another process's to copy by now; dropping the connection leaves it as it is.
    }
}
