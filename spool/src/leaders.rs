//! The best scores of all processes, in memory: what the ingester published, and what was read or accepted since. It
//! decides the order of the list; it never reads the share.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::tail::Tailed;
use crate::top::Top;

/// Length of the list.
pub const LEADERS_LEN: usize = 10;
/// Scores beside the published ones that are remembered: more than the list, because some may turn out to be repeats.
const RECENT_MAX: usize = 64;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    /// The round's identity; for rows that have none, one that no client can choose.
    pub run_id: Box<str>,
    /// The player's name.
    pub player: Box<str>,
    /// The score.
    pub score: f64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

impl From<&Record> for Leader {
    fn from(record: &Record) -> Self {
        Self {
            run_id: record.run_id.clone(),
            player: record.player.clone(),
            score: record.score,
            created_ms: record.created_ms,
        }
    }
}

#[derive(Debug)]
struct Recent {
    leader: Leader,
    segment: Option<Box<str>>,
    offset: u64,
}

/// The list, while it is maintained.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    top: Top,
    recent: Vec<Recent>,
    list: Vec<Leader>,
}

impl Leaders {
    /// The ten best: score descending, then older first.
    pub(crate) fn list(&self) -> &[Leader] {
        &self.list
    }

    /// Takes a score in that this process accepted and that is durable; says whether the list changed.
    pub(crate) fn accepted(&mut self, record: &Record) -> bool {
        self.offer(record, None, 0)
    }

    pub(crate) fn tailed(&mut self, tailed: &Tailed) -> bool {
        self.offer(&tailed.record, Some(tailed.segment.clone()), tailed.offset)
    }

    fn offer(&mut self, record: &Record, segment: Option<Box<str>>, offset: u64) -> bool {
        let leader = Leader::from(record);
        // By far the most are not among the best.
        if self.list.len() == LEADERS_LEN && self.list.last().is_some_and(|last| order(&leader, last).is_gt()) {
            return false;
        }
        if let Some(known) = self.recent.iter_mut().find(|recent| recent.leader.run_id == leader.run_id) {
            // Accepted here and now read back: from now on its segment says when it is covered.
            if known.segment.is_none() {
                (known.segment, known.offset) = (segment, offset);
            }
            return false;
        }
        self.recent.push(Recent { leader, segment, offset });
        self.sort()
    }

    /// Takes over what the ingester published; says whether the list changed.
    pub(crate) fn published(&mut self, top: Top, live: impl Fn(&str) -> bool) -> bool {
        if top.epoch < self.top.epoch || top == self.top {
            return false;
        }
        self.recent.retain(|recent| match &recent.segment {
            Some(segment) => match top.covered.get(&**segment) {
                Some(offset) => recent.offset >= *offset,
                // Not known to the ingester yet, or covered and gone.
                None => live(segment),
            },
            None => true,
        });
        self.top = top;
        self.sort()
    }

    fn sort(&mut self) -> bool {
        let (top, recent) = (&self.top.list, &mut self.recent);
        // What the database says of a round counts.
        recent.retain(|recent| top.iter().all(|leader| leader.run_id != recent.leader.run_id));
        recent.sort_by(|a, b| order(&a.leader, &b.leader));
        recent.truncate(RECENT_MAX);
        let mut list: Vec<Leader> = top.iter().chain(recent.iter().map(|recent| &recent.leader)).cloned().collect();
        list.sort_by(order);
        list.truncate(LEADERS_LEN);
        let changed = list != self.list;
        self.list = list;
        changed
    }
}

fn order(a: &Leader, b: &Leader) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.created_ms.cmp(&b.created_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run_id: &str, score: f64) -> Record {
        Record { run_id: run_id.into(), player: run_id.into(), score, created_ms: 0 }
    }

    fn runs(leaders: &Leaders) -> String {
        leaders.list().iter().map(|leader| format!("{}={} ", leader.run_id, leader.score)).collect()
    }

    #[test]
    fn what_is_published_replaces_what_it_covers() {
        let mut leaders = Leaders::default();
        let tailed =
            |run_id: &str, score, offset| Tailed { record: record(run_id, score), segment: "s".into(), offset };
        assert!(leaders.accepted(&record("own", 5.0)));
        assert!(!leaders.accepted(&record("own", 5.0)));
        assert!(leaders.tailed(&tailed("a", 9.0, 10)));
        assert!(leaders.tailed(&tailed("b", 7.0, 20)));
        assert!(!leaders.tailed(&tailed("own", 5.0, 30)), "it was read back");
        assert_eq!(runs(&leaders), "a=9 b=7 own=5 ");
        // The database has `a` with another score: another container's repeat was first.
        let top = Top { epoch: 2, list: vec![Leader::from(&record("a", 1.0))], covered: [("s".to_owned(), 20)].into() };
        assert!(leaders.published(top.clone(), |_| true));
        assert_eq!(runs(&leaders), "b=7 own=5 a=1 ");
        assert!(!leaders.published(Top { epoch: 1, ..Top::default() }, |_| true), "an older epoch's");
        let list = ["a", "b", "own"].map(|run_id| Leader::from(&record(run_id, 1.0))).to_vec();
        assert!(leaders.published(Top { epoch: 2, list, covered: [("s".to_owned(), 40)].into() }, |_| true));
        assert_eq!(runs(&leaders), "a=1 b=1 own=1 ");
    }

    #[test]
    fn only_ten_are_shown_and_equal_ones_older_first() {
        let mut leaders = Leaders::default();
        for n in 0..30_i32 {
            let record = Record { created_ms: i64::from(30 - n), ..record(&n.to_string(), f64::from(n / 2)) };
            leaders.accepted(&record);
        }
        assert_eq!(runs(&leaders), "29=14 28=14 27=13 26=13 25=12 24=12 23=11 22=11 21=10 20=10 ");
        assert!(!leaders.accepted(&record("low", 1.0)));
    }
}
