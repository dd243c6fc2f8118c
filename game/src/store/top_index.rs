//! Keeps a small index that serves the top list: it has only scores from a threshold on, the tenth best at the time it
//! was made. Scores only get added, so the tenth best only rises and the ten best are always in it, while nearly every
//! new score is below it and costs no write. Should rows have been deleted by hand, it notices and makes a new one.

use rusqlite::{Connection, OptionalExtension};

use crate::board::{BOARD_LEN, Entry};
use crate::score::Score;

use super::sqlite::read_entry;

const PREFIX: &str = "scores_top_from_";
/// Entries after which an index with a higher threshold is worth the reading of the whole table.
const ENTRIES_MAX: u64 = 5_000;
/// SQLite sorts text above every number: this leaves out what is no score.
const IS_SCORE: &str = "score BETWEEN 0 AND 1.7976931348623157e308";

#[derive(Debug)]
pub(crate) struct TopIndex {
    threshold: i64,
    entries: u64,
    entries_max: u64,
}

impl TopIndex {
    /// Finds the index or makes it. Must run inside a write transaction.
    pub(crate) fn prepare(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let name: Option<String> = connection
            .query_row(
                "SELECT name FROM sqlite_master
                 WHERE type = 'index' AND tbl_name = 'scores' AND substr(name, 1, ?1) = ?2",
                (i64::try_from(PREFIX.len()).unwrap_or_default(), PREFIX),
                |row| row.get(0),
            )
            .optional()?;
        let threshold = name.as_deref().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let index = Self { threshold: threshold.unwrap_or_default(), entries: 0, entries_max: ENTRIES_MAX };
        let serves = match threshold {
            None => false,
            // Below the threshold there is nothing to find only while the index alone fills the list.
            Some(threshold) => threshold == 0 || index.read(connection)?.len() == BOARD_LEN,
        };
        if serves { index.counted(connection) } else { index.make(connection) }
    }

    /// The ten best.
    pub(crate) fn read(&self, connection: &Connection) -> Result<Vec<Entry>, rusqlite::Error> {
        let mut statement = connection.prepare(&self.query("player, score, created_at"))?;
        let rows = statement.query_map([], read_entry)?;
        rows.filter_map(Result::transpose).collect()
    }

    /// The query for the ten best.
    pub(crate) fn query(&self, columns: &str) -> String {
        format!(
            "SELECT {columns} FROM scores WHERE score >= {} AND {IS_SCORE}
             ORDER BY score DESC, created_at ASC, rowid ASC LIMIT {BOARD_LEN}",
            self.threshold
        )
    }

    /// Takes note of a stored score.
    pub(crate) fn added(&mut self, score: Score) {
        self.entries += u64::from(score.as_i64().is_none_or(|score| score >= self.threshold));
    }

    /// Whether [`TopIndex::make`] may be worth its time.
    pub(crate) fn is_outgrown(&self) -> bool {
        self.entries > self.entries_max
    }

    /// Not now: to be tried again when there are twice as many.
    pub(crate) fn postpone(&mut self) {
        self.entries_max = 2 * self.entries;
    }

    /// Makes the index anew with the tenth best as threshold. Must run inside a write transaction; this value stays right
    /// if that fails.
    pub(crate) fn make(&self, connection: &Connection) -> Result<Self, rusqlite::Error> {
        let tenth: Option<f64> = connection
            .query_row(
                &format!(
                    "SELECT score FROM scores WHERE {IS_SCORE} ORDER BY score DESC LIMIT 1 OFFSET {}",
                    BOARD_LEN - 1
                ),
                [],
                |row| row.get(0),
            )
            .optional()?;
        let threshold = tenth.and_then(Score::new).and_then(Score::as_i64).unwrap_or_default();
        connection.execute_batch(&format!(
            "DROP INDEX IF EXISTS {PREFIX}{};
             CREATE INDEX IF NOT EXISTS {PREFIX}{threshold} ON scores(score DESC, created_at ASC) WHERE score >= {threshold}",
            self.threshold
        ))?;
        Self { threshold, ..*self }.counted(connection)
    }

    /// Counts no further than matters. Many equal scores can make an index that no threshold makes smaller: the bound
    /// then rises with it.
    fn counted(self, connection: &Connection) -> Result<Self, rusqlite::Error> {
        let counted: i64 = connection.query_row(
            &format!(
                "SELECT count(*) FROM (SELECT 1 FROM scores WHERE score >= {} LIMIT {})",
                self.threshold,
                ENTRIES_MAX + 1
            ),
            [],
            |row| row.get(0),
        )?;
        let entries = u64::try_from(counted).unwrap_or_default();
        Ok(Self { entries, entries_max: ENTRIES_MAX.max(2 * entries), ..self })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{ENTRIES_MAX, PREFIX, TopIndex};

    fn with_scores(scores: impl IntoIterator<Item = i64>) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE scores (id INTEGER PRIMARY KEY, player TEXT, score INTEGER, created_at TEXT)")
            .unwrap();
        add(&connection, scores);
        connection
    }

    fn add(connection: &Connection, scores: impl IntoIterator<Item = i64>) {
        let mut insert =
            connection.prepare("INSERT INTO scores (player, score, created_at) VALUES ('A', ?1, '2024')").unwrap();
        for score in scores {
            insert.execute([score]).unwrap();
        }
    }

    fn best(connection: &Connection, index: &TopIndex) -> Vec<f64> {
        index.read(connection).unwrap().iter().map(|entry| entry.score.get()).collect()
    }

    fn indexes(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'index'").unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn serves_the_list_without_sorting() {
        let connection = with_scores(0..1_000);
        let index = TopIndex::prepare(&connection).unwrap();
        assert_eq!((index.threshold, index.entries), (990, 10));
        assert_eq!(best(&connection, &index), (990..1_000).rev().map(f64::from).collect::<Vec<_>>());
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {}", index.query("player, score, created_at")), [], |row| {
                row.get(3)
            })
            .unwrap();
        assert!(plan.contains("USING INDEX scores_top_from_990"), "{plan}");
        let steps: i64 = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", index.query("player, score, created_at")))
            .unwrap()
            .query_map([], |_| Ok(()))
            .unwrap()
            .count()
            .try_into()
            .unwrap();
        assert_eq!(steps, 1, "no sorting");
    }

    #[test]
    fn stays_right_while_scores_are_added_and_after_some_are_deleted() {
        let connection = with_scores(0..100);
        for (added, deleted, expected) in [
            (vec![95, 1_000], "0", 1_000.0),
            (vec![], "score > 90", 90.0),
            (vec![3], "score > 5", 5.0),
            (vec![7], "1", 8.0),
            (vec![7], "1", 8.0),
        ] {
            connection.execute_batch(&format!("DELETE FROM scores WHERE {deleted}")).unwrap();
            add(&connection, added);
            if deleted == "1" {
                add(&connection, [8]);
            }
            let index = TopIndex::prepare(&connection).unwrap();
            let found = best(&connection, &index);
            assert_eq!(found.first(), Some(&expected), "{deleted}");
            let mut all: Vec<f64> = connection
                .prepare("SELECT score FROM scores")
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            all.sort_by(|a, b| b.total_cmp(a));
            all.truncate(10);
            assert_eq!(found, all);
            assert_eq!(indexes(&connection), [format!("{PREFIX}{}", index.threshold)]);
        }
    }

    #[test]
    fn rises_with_the_scores_and_gives_up_on_ties() {
        let connection = with_scores([]);
        let mut index = TopIndex::prepare(&connection).unwrap();
        assert_eq!(index.threshold, 0);
        let many = i64::try_from(ENTRIES_MAX).unwrap() + 1;
        add(&connection, 0..many);
        index.entries = u64::try_from(many).unwrap();
        assert!(index.is_outgrown());
        index = index.make(&connection).unwrap();
        assert_eq!((index.threshold, index.entries), (many - 10, 10));
        assert!(!index.is_outgrown());
        add(&connection, std::iter::repeat_n(many, usize::try_from(many).unwrap()));
        index.entries += u64::try_from(many).unwrap();
        assert!(index.is_outgrown());
        index = index.make(&connection).unwrap();
        assert_eq!(index.threshold, many);
        assert!(!index.is_outgrown(), "{index:?}");
        assert_eq!(best(&connection, &index), [f64::from(i32::try_from(many).unwrap()); 10]);
    }
}
