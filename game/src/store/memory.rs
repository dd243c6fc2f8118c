//! Keeps the ten best scores until the process ends. What did not make the list is not kept at all, so memory is bounded.

use super::{Engine, EngineError, Kept, NewScore, OpenError, Opener};
use crate::board::Entry;
use crate::clock::rfc3339;
use crate::run_ids::RunIds;

pub(crate) struct MemoryOpener;

impl Opener for MemoryOpener {
    fn open(&self) -> Result<Box<dyn Engine>, OpenError> {
        Ok(Box::new(Memory { run_ids: RunIds::default() }))
    }
}

/// Repeats are recognised by the writer's memory of answers; the list itself is the writer's board.
struct Memory {
    run_ids: RunIds,
}

impl Engine for Memory {
    fn mode(&self) -> &'static str {
        "memory"
    }

    fn top(&mut self) -> Result<Vec<Entry>, EngineError> {
        Ok(Vec::new())
    }

    fn store(&mut self, batch: &[NewScore], now_ms: i64) -> Result<Vec<Kept>, EngineError> {
        let created_at = rfc3339(now_ms);
        let mut kept: Vec<Kept> = Vec::with_capacity(batch.len());
        for new in batch {
            let first = new.run_id.as_ref().and_then(|run_id| kept.iter().find(|kept| kept.run_id == *run_id));
            let repeat = first.map(|first| Kept { repeated: true, ..first.clone() });
            kept.push(match repeat {
                Some(repeat) => repeat,
                None => Kept {
                    entry: Entry { player: new.player.clone(), score: new.score, created_at: created_at.clone() },
                    run_id: new
                        .run_id
                        .clone()
                        .or_else(|| self.run_ids.next(now_ms))
                        .ok_or_else(EngineError::no_run_id)?,
                    repeated: false,
                },
            });
        }
        Ok(kept)
    }

    fn probe(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        Ok(())
    }
}
