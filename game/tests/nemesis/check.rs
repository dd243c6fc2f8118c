//! Compares the database at the end with what clients were told: each acknowledged score exactly once and as it was
//! acknowledged, every other at most once, nothing else. It knows nothing of how the database came about.

use std::collections::HashMap;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::load::{Run, Runs};

/// A row of the database.
struct Row {
    player: String,
    score: f64,
    /// Only if it is text.
    created_at: Option<String>,
    run_id: Option<String>,
}

/// Everything that is wrong, in words.
pub(crate) fn check(connection: &Connection, runs: &Runs) -> Vec<String> {
    let mut faults = Vec::new();
    match connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)) {
        Ok(result) if result == "ok" => {}
        Ok(result) => faults.push(format!("integrity_check: {result}")),
        Err(fault) => faults.push(format!("integrity_check: {fault}")),
    }
    let rows = match rows(connection) {
        Ok(rows) => rows,
        Err(fault) => {
            faults.push(format!("the scores can't be read: {fault}"));
            return faults;
        }
    };
    let list = runs.list.lock().unwrap();
    let mut by_player: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in &rows {
        by_player.entry(&row.player).or_default().push(row);
    }
    for (n, run) in list.iter().enumerate() {
        let found = by_player.remove(Runs::player(n).as_str()).unwrap_or_default();
        if let Some(fault) = judge(n, run, &found, runs) {
            faults.push(format!("score {n} (run id {:?}, {run:?}): {fault}", runs.run_id(n)));
        }
    }
    let strangers =
        by_player.iter().map(|(player, rows)| format!("{} rows of {player:?}, whom nobody sent", rows.len()));
    faults.extend(strangers);
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row.run_id.as_deref()).collect();
    ids.sort_unstable();
    let doubled = ids.windows(2).filter(|pair| pair[0] == pair[1]);
    faults.extend(doubled.map(|pair| format!("run id {:?} is there more than once", pair[0])));
    faults
}

fn judge(n: usize, run: &Run, found: &[&Row], runs: &Runs) -> Option<String> {
    let row = match found {
        [] if run.acknowledged.is_empty() => return None,
        [] => return Some("acknowledged and lost".to_owned()),
        [_] if run.sent == 0 => return Some("stored, though never sent".to_owned()),
        [row] => row,
        more => return Some(format!("stored {} times", more.len())),
    };
    #[expect(clippy::cast_precision_loss, reason = "below ten million")]
    let score = Runs::score(n) as f64;
    if row.score.total_cmp(&score).is_ne() {
        return Some(format!("stored with the score {}", row.score));
    }
    let expected = runs.run_id(n).or_else(|| run.given.clone());
    if row.run_id.is_none() || expected.is_some() && row.run_id != expected {
        return Some(format!("stored with the run id {:?}", row.run_id));
    }
    // A submission without an answer may be the one that counts, and has a time of its own.
    let all_answered = run.sent as usize == run.acknowledged.len();
    match &row.created_at {
        Some(created_at) if all_answered && !run.acknowledged.contains(created_at) => {
            Some(format!("stored with the time {created_at}, which nobody was told"))
        }
        _ => None,
    }
}

fn rows(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare("SELECT player, score, created_at, run_id FROM scores")?;
    let rows = statement.query_map([], |row| {
        let run_id = match row.get_ref(3)? {
            ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string()),
            _ => None,
        };
        let created_at = row.get_ref(2)?.as_str().map(str::to_owned).ok();
        Ok(Row { player: row.get(0)?, score: row.get(1)?, created_at, run_id })
    })?;
    rows.collect()
}
