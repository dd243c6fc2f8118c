//! `stored`: which scores are in the database, by their identities. It looks at a copy, as a backup is one, and changes nothing.

use std::time::Instant;

use serde_json::json;

use super::arguments::Stored;
use super::copy::{copy, open};
use super::place::Place;
use super::turn::Turn;
use super::{Done, Failure, failed};
use crate::store::run_identity;

/// Identities in one line.
const LINE_MAX: usize = 100;

pub(super) async fn run(options: &Stored) -> Result<Done, Failure> {
    let deadline = Instant::now() + options.timeout;
    let place = Place::open()?;
    place.must_be_spool()?;
    let mut turn = Turn::take(&place, None)?;
    let copy = copy(&place, &turn, deadline).await?;
    turn.end()?;
    let read = || -> Result<Vec<String>, rusqlite::Error> {
        let connection = open(&copy.path)?;
        let mut statement = connection.prepare("SELECT run_id FROM scores")?;
        let mut rows = statement.query([])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            runs.extend(run_identity(row.get_ref(0)?).filter(|run| run.starts_with(&options.prefix)));
        }
        Ok(runs)
    };
    let mut runs = read().map_err(failed(format!("the copy of epoch {} can't be read", copy.epoch)))?;
    runs.sort_unstable();
    let text = runs.chunks(LINE_MAX).map(|line| line.join(" ") + "\n").collect();
    let facts = json!({ "epoch": copy.epoch, "rows": copy.rows, "runs": runs });
    Ok(Done { text, facts })
}
