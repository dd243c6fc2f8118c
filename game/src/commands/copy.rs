//! A copy of the database, asked of whoever ingests: another process, or this one in its turn. It decides whether the copy is
//! whole; it opens nothing but copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use spool::{Folder, backup};

use super::place::{Place, nonce};
use super::turn::{Turn, until};
use super::{Failure, failed};

/// A copy on the share. What was made for it there is removed with it.
pub(super) struct Copy {
    /// The epoch whose database it is.
    pub(super) epoch: u64,
    /// Scores in it.
    pub(super) rows: u64,
    /// Its name on the share.
    pub(super) name: String,
    pub(super) path: PathBuf,
    _asked: Asked,
}

struct Asked {
    share: Arc<Folder>,
    id: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        backup::forget(&*self.share, &self.id);
    }
}

/// Asks for a copy with all that was acknowledged before, and waits for it.
pub(super) async fn copy(place: &Place, turn: &Turn, deadline: Instant) -> Result<Copy, Failure> {
    let asked = Asked { share: place.share.clone(), id: nonce() };
    backup::ask(&*place.share, &asked.id)
        .map_err(failed(format!("no request can be left in {}", place.folder.display())))?;
    let look = || {
        backup::answered(&*place.share, &asked.id)
            .map_err(failed(format!("the answer in {} can't be read", place.folder.display())))
    };
    let Some(answer) = until(deadline, look).await? else {
        let status = turn.status();
        let failure = match status.trouble {
            Some(trouble) => Failure::new(format!("no copy was made in time: {trouble}")),
            None => Failure::new(format!("the ingester of epoch {} made no copy in time", status.epoch)),
        };
        return Err(failure.advise("give it more with --timeout; the log of the service may say what holds it up"));
    };
    let Some(name) = answer.copy else {
        let fault = answer.fault.unwrap_or_default();
        return Err(Failure::new(format!("the ingester of epoch {} could not make a copy: {fault}", answer.epoch))
            .advise(format!("a copy needs as much room in {} as the database", place.folder.display())));
    };
    let path = place.path(&name);
    let rows = inspect(&path)
        .map_err(|why| Failure::new(format!("the copy of epoch {} is not whole: {why}", answer.epoch)))?;
    Ok(Copy { epoch: answer.epoch, rows, name, path, _asked: asked })
}

/// Opens a database that nobody else uses, without writing anything anywhere.
pub(super) fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut name = String::from("file:");
    for byte in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => name.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(name, flags)
}

/// Looks at every page of a database that nobody else uses, without writing anything anywhere, and counts its scores.
pub(super) fn inspect(path: &Path) -> Result<u64, String> {
    let look = || -> Result<(Vec<String>, u64), rusqlite::Error> {
        let connection = open(path)?;
        let mut check = connection.prepare("PRAGMA integrity_check(5)")?;
        let said = check.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        // The columns that every release has.
        let rows = connection.query_row(
            "SELECT count(*), max(player), max(score), max(created_at) FROM scores",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        Ok((said, u64::try_from(rows).unwrap_or_default()))
    };
    match look() {
        Ok((said, rows)) if said == ["ok"] => Ok(rows),
        Ok((said, _)) => Err(said.join("; ")),
        Err(error) => Err(error.to_string()),
    }
}
