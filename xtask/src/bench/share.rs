//! The folder that the game's processes share, seen from outside: what waits in its spool, and what is in its database.
//! It only reads files, and the database only after every process has stopped.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::types::ValueRef;

use super::{client::Client, server::Server};
use crate::setup::Outcome;

/// A folder with the database, or where it will be.
pub(crate) struct Share {
    folder: PathBuf,
}

impl Share {
    /// An existing folder.
    pub(crate) fn new(folder: &Path) -> Share {
        Share { folder: folder.to_owned() }
    }

    /// A new, empty folder.
    pub(crate) fn make(folder: &Path) -> Outcome<Share> {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Share::new(folder))
    }

    /// Starts the game on it and waits until it is ready.
    pub(crate) fn start(&self, game: &Path, env: &[(&str, &str)]) -> Outcome<Server> {
        let path = self.folder.join("db.sqlite").display().to_string();
        let mut all = vec![("SCORE_DB_PATH", path.as_str()), ("LOG_LEVEL", "warn"), ("DRAIN_DELAY_MS", "0")];
        all.extend_from_slice(env);
        Server::start(game, &[], &all, "/readyz")
    }

    /// Has the whole spool moved into the database, and stops that process again.
    pub(crate) fn ingest_rest(&self, game: &Path) -> Outcome {
        let server = self.start(game, &[])?;
        wait_for_role(&server, "active", Duration::from_secs(60))?;
        self.wait_until_ingested(Duration::from_secs(60))?;
        server.terminate().map(drop)
    }

    /// Every segment's length.
    pub(crate) fn segments(&self) -> BTreeMap<String, u64> {
        let entries = std::fs::read_dir(self.folder.join("spool")).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.metadata().ok()?.len())));
        sizes.collect()
    }

    /// Bytes in the spool that are in no published list yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        // In this order: what was removed from the spool in between is counted once too often, never too seldom.
        let segments = self.segments();
        let covered = self.covered();
        segments.iter().map(|(name, len)| len - covered.get(name).copied().unwrap_or_default().min(*len)).sum()
    }

    /// How far the ingester read each segment, as the newest published list says.
    fn covered(&self) -> BTreeMap<String, u64> {
        let read = || {
            let text = std::fs::read_to_string(self.newest("top.", "")?).ok()?;
            let body: serde_json::Value = serde_json::from_str(text.split_once('\n')?.1).ok()?;
            let covered = body.get("covered")?.as_object()?;
            Some(covered.iter().filter_map(|(name, at)| Some((name.clone(), at.as_u64()?))).collect())
        };
        read().unwrap_or_default()
    }

    /// Waits until nothing waits; returns how long that took.
    pub(crate) fn wait_until_ingested(&self, deadline: Duration) -> Outcome<Duration> {
        let start = Instant::now();
        while self.waiting_bytes() > 0 {
            if start.elapsed() > deadline {
                return Err(format!("{} bytes still wait in the spool after {deadline:?}", self.waiting_bytes()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(start.elapsed())
    }

    /// Rows of the database, after every process stopped.
    pub(crate) fn rows(&self) -> Outcome<u64> {
        let read =
            |path: &Path| rusqlite::Connection::open(path)?.query_row("SELECT count(*) FROM scores", [], |r| r.get(0));
        let path = self.database()?;
        let rows: i64 = read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(rows.unsigned_abs())
    }

    /// The run ids in the database, after every process stopped.
    pub(crate) fn run_ids(&self) -> Outcome<HashSet<String>> {
        let read = |path: &Path| -> rusqlite::Result<HashSet<String>> {
            let db = rusqlite::Connection::open(path)?;
            let mut query = db.prepare("SELECT run_id FROM scores WHERE run_id IS NOT NULL")?;
            query.query_map([], |row| row.get_ref(0).map(spelled))?.collect()
        };
        let path = self.database()?;
        read(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The last epoch's database.
    fn database(&self) -> Outcome<PathBuf> {
        self.newest("drafty.", ".db").ok_or_else(|| format!("{}: no database", self.folder.display()))
    }

    /// The file with the highest number between two parts of a name.
    fn newest(&self, before: &str, after: &str) -> Option<PathBuf> {
        let names = std::fs::read_dir(&self.folder).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let number = |name: &String| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
        let name = names.filter_map(|name| Some((number(&name)?, name))).max()?.1;
        Some(self.folder.join(name))
    }
}

/// A run id as its client wrote it: UUIDs are stored as their bytes.
fn spelled(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Blob(bytes) => {
            let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let mut parts = Vec::new();
            let mut rest = bytes;
            for len in [4, 2, 2, 2, 6] {
                let (part, after) = rest.split_at(len.min(rest.len()));
                parts.push(hex(part));
                rest = after;
            }
            parts.join("-")
        }
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => String::new(),
    }
}

/// Waits until a process says in `/readyz` that it has this part; returns how long that took.
pub(crate) fn wait_for_role(server: &Server, role: &str, deadline: Duration) -> Outcome<Duration> {
    let mut client = Client::new(server.address);
    let start = Instant::now();
    let mut said = String::new();
    while start.elapsed() < deadline {
        if let Ok(answer) = client.get("/readyz") {
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
            if body["role"] == role {
                return Ok(start.elapsed());
            }
            said = answer.body;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("{} did not become {role} within {deadline:?}: {said}", server.address))
}
