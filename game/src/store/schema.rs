//! Makes any database that has the original's `scores` table fit for this server without losing a row: adds what is
//! missing, and finds out how `created_at` is spelled there so that new rows are spelled alike.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use crate::clock;

/// How a database spells instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeStyle {
    /// `2026-01-31T12:00:00.000Z`: what new databases get.
    Rfc3339,
    /// `2026-01-31 12:00:00.000`: sorts among SQLite's `CURRENT_TIMESTAMP`.
    SqlText,
    Milliseconds,
    Seconds,
}

impl TimeStyle {
    /// The instant as it will be read back.
    pub(crate) fn round(self, unix_ms: i64) -> i64 {
        if self == Self::Seconds { unix_ms - unix_ms.rem_euclid(1000) } else { unix_ms }
    }

    pub(crate) fn spell(self, unix_ms: i64) -> rusqlite::types::Value {
        match self {
            Self::Rfc3339 => clock::rfc3339(unix_ms).into(),
            Self::SqlText => clock::rfc3339(unix_ms).replace('T', " ").trim_end_matches('Z').to_owned().into(),
            Self::Milliseconds => unix_ms.into(),
            Self::Seconds => (unix_ms / 1000).into(),
        }
    }
}

/// What can't be used is said in words; everything else is SQLite's error.
#[derive(Debug)]
pub(crate) enum SchemaError {
    Sqlite(rusqlite::Error),
    Unfit(String),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

struct Column {
    name: String,
    declared: String,
    required: bool,
    default: Option<String>,
    key: bool,
}

/// Must run inside a write transaction.
pub(crate) fn prepare(connection: &Connection) -> Result<TimeStyle, SchemaError> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS scores (
            id INTEGER PRIMARY KEY,
            player TEXT NOT NULL,
            score INTEGER NOT NULL,
            created_at TEXT NOT NULL,
            run_id TEXT
        )",
    )?;
    let columns = columns(connection)?;
    let ours = ["player", "score", "created_at", "run_id"];
    for (name, kind) in [("player", "TEXT"), ("score", "INTEGER"), ("created_at", "TEXT"), ("run_id", "TEXT")] {
        if !columns.iter().any(|column| column.name == name) {
            connection.execute_batch(&format!("ALTER TABLE scores ADD COLUMN {name} {kind}"))?;
        }
    }
    if let Some(column) = columns
        .iter()
        .find(|column| column.required && column.default.is_none() && !column.key && !ours.contains(&&*column.name))
    {
        return Err(SchemaError::Unfit(format!(
            "table scores has a column {} that needs a value this server doesn't know",
            column.name
        )));
    }
    // Partial, because rows of an older database have no identity and need no place in it.
    connection
        .execute_batch("CREATE UNIQUE INDEX IF NOT EXISTS scores_run_id ON scores(run_id) WHERE run_id IS NOT NULL")?;
    let created_at = columns.iter().find(|column| column.name == "created_at");
    time_style(connection, created_at)
}

fn columns(connection: &Connection) -> Result<Vec<Column>, SchemaError> {
    let mut statement = connection.prepare("PRAGMA table_info(scores)")?;
    let columns = statement.query_map([], |row| {
        Ok(Column {
            name: row.get::<_, String>(1)?.to_ascii_lowercase(),
            declared: row.get::<_, String>(2)?.to_ascii_uppercase(),
            required: row.get(3)?,
            default: row.get::<_, Option<String>>(4)?.map(|default| default.to_ascii_uppercase()),
            key: row.get::<_, i64>(5)? > 0,
        })
    })?;
    Ok(columns.collect::<Result<_, _>>()?)
}

/// The newest row decides; an empty table's declaration otherwise.
fn time_style(connection: &Connection, column: Option<&Column>) -> Result<TimeStyle, SchemaError> {
    const SECONDS_MAX: i64 = 100_000_000_000;
    let newest = connection
        .query_row(
            "SELECT created_at FROM scores WHERE created_at IS NOT NULL ORDER BY rowid DESC LIMIT 1",
            [],
            |row| {
                Ok(match row.get_ref(0)? {
                    ValueRef::Integer(number) if number.abs() < SECONDS_MAX => TimeStyle::Seconds,
                    ValueRef::Integer(_) | ValueRef::Real(_) => TimeStyle::Milliseconds,
                    ValueRef::Text(text) if text.contains(&b'T') => TimeStyle::Rfc3339,
                    ValueRef::Text(text) if text.contains(&b'-') => TimeStyle::SqlText,
                    _ => TimeStyle::Rfc3339,
                })
            },
        )
        .optional()?;
    Ok(newest.unwrap_or_else(|| match column {
        Some(column) if column.default.as_deref().is_some_and(|default| default.contains("CURRENT_TIMESTAMP")) => {
            TimeStyle::SqlText
        }
        Some(column) if column.declared.contains("INT") => TimeStyle::Milliseconds,
        _ => TimeStyle::Rfc3339,
    }))
}
