//! Keeps the ten best scores of all time, in order and already serialised.
//! It never reads a database: whoever owns the store loads it once and then tells it what was stored.

use bytes::Bytes;
use serde::Serialize;

use crate::answer::json_bytes;
use crate::score::Score;

/// Length of the list.
pub(crate) const BOARD_LEN: usize = 10;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) player: String,
    pub(crate) score: Score,
    /// RFC 3339, so text order is time order.
    pub(crate) created_at: String,
}

/// What readers get: immutable, swapped as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// `{"leaderboard":[...]}`.
    pub(crate) body: Bytes,
    pub(crate) len: usize,
}

/// The list while it is maintained: score descending, then older first.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: Vec<Entry>,
}

impl Board {
    pub(crate) fn load(entries: Vec<Entry>) -> Self {
        let mut board = Self::default();
        for entry in entries {
            board.offer(&entry);
        }
        board
    }

    /// Takes an entry in if it belongs here; says whether the list changed.
    pub(crate) fn offer(&mut self, entry: &Entry) -> bool {
        let at = self.entries.partition_point(|other| {
            other.score > entry.score || (other.score == entry.score && other.created_at <= entry.created_at)
        });
        if at >= BOARD_LEN {
            return false;
        }
        self.entries.truncate(BOARD_LEN - 1);
        self.entries.insert(at, entry.clone());
        true
    }

    pub(crate) fn high_score(&self) -> Option<Score> {
        self.entries.first().map(|entry| entry.score)
    }

    pub(crate) fn publish(&self) -> Published {
        #[derive(Serialize)]
        struct Body<'a> {
            leaderboard: &'a [Entry],
        }
        Published { body: json_bytes(&Body { leaderboard: &self.entries }), len: self.entries.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BOARD_LEN, Board, Entry};
    use crate::clock::rfc3339;
    use crate::score::Score;

    fn entry(player: usize, score: u8, minute: u8) -> Entry {
        Entry {
            player: player.to_string(),
            score: Score::new(f64::from(score)).unwrap(),
            created_at: rfc3339(i64::from(minute) * 60_000),
        }
    }

    #[test]
    fn empty_and_one() {
        let mut board = Board::default();
        assert_eq!(board.publish().body, r#"{"leaderboard":[]}"#);
        assert_eq!(board.high_score(), None);
        assert!(board.offer(&entry(1, 7, 0)));
        let expected = r#"{"leaderboard":[{"player":"1","score":7,"createdAt":"1970-01-01T00:00:00.000Z"}]}"#;
        assert_eq!(board.publish().body, expected);
    }

    proptest! {
        #[test]
        fn equals_sorting_everything(scores in proptest::collection::vec((0_u8..6, 0_u8..4), 0..60)) {
            let all: Vec<_> = scores.iter().enumerate().map(|(n, (score, minute))| entry(n, *score, *minute)).collect();
            let board = Board::load(all.clone());
            let mut sorted = all;
            sorted.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.created_at.cmp(&b.created_at)));
            sorted.truncate(BOARD_LEN);
            prop_assert_eq!(&board.entries, &sorted);
            prop_assert_eq!(board.high_score(), sorted.first().map(|e| e.score));
        }
    }
}
