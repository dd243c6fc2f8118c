//! Remembers, for ten minutes, what the submitter of each client-chosen run identity was told, so that a repeat is told
//! the same. Bounded: when full the oldest is forgotten, and the database's unique column still keeps repeats out.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Answer;
use crate::score::RunId;

const KEEP: Duration = Duration::from_mins(10);
/// About 300 bytes each.
const ANSWERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Answers {
    by_run: HashMap<RunId, Answer>,
    oldest_first: VecDeque<(Instant, RunId)>,
}

impl Answers {
    pub(crate) fn get(&self, run_id: &RunId) -> Option<&Answer> {
        self.by_run.get(run_id)
    }

    pub(crate) fn remember(&mut self, now: Instant, run_id: &RunId, answer: &Answer) {
        self.forget(now);
        if self.by_run.insert(run_id.clone(), answer.clone()).is_none() {
            self.oldest_first.push_back((now, run_id.clone()));
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.oldest_first.front() {
            if self.oldest_first.len() < ANSWERS_MAX && now.duration_since(*since) < KEEP {
                return;
            }
            if let Some((_, run_id)) = self.oldest_first.pop_front() {
                self.by_run.remove(&run_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ANSWERS_MAX, Answers};
    use crate::board::Entry;
    use crate::score::{RunId, Score};
    use crate::store::{Answer, Kept};

    fn answer(run_id: &RunId) -> Answer {
        let score = Score::new(1.0).unwrap();
        let entry = Entry { player: "A".to_owned(), score, created_at: String::new() };
        Answer { kept: Kept { entry, run_id: run_id.clone(), repeated: false }, high_score: score }
    }

    #[test]
    fn forgets_after_ten_minutes_and_when_full() {
        let (mut answers, start) = (Answers::default(), Instant::now());
        let run = |n: usize| RunId::new(&n.to_string()).unwrap();
        answers.remember(start, &run(0), &answer(&run(0)));
        answers.remember(start + Duration::from_secs(599), &run(1), &answer(&run(1)));
        assert!(answers.get(&run(0)).is_some());
        answers.remember(start + Duration::from_secs(600), &run(2), &answer(&run(2)));
        assert!(answers.get(&run(0)).is_none() && answers.get(&run(1)).is_some());
        for n in 0..2 * ANSWERS_MAX {
            answers.remember(start + Duration::from_secs(601), &run(n + 10), &answer(&run(n + 10)));
        }
        assert_eq!((answers.by_run.len(), answers.oldest_first.len()), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(answers.get(&run(1)).is_none() && answers.get(&run(2 * ANSWERS_MAX + 9)).is_some());
    }
}
