//! Engines and stores that are broken on purpose. A test that they survive proves nothing, so each must be caught.

use std::sync::Arc;

use async_trait::async_trait;
use dbird_core::{
    Outcome, ReleaseId, Steer, Weights,
    analysis::{Look, Side, Verdict},
    rollout::{Decide, Decision, Engine, Event, Looked, Request},
};
use dbird_driver::{Operator, Series, Store, StoreError};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaks {
    /// Traffic moves to a candidate that is not ready yet.
    ShiftsBeforeReady,
    /// It says that it was undone, and undoes nothing.
    ForgetsToUndo,
    /// It finishes before the candidate has all traffic.
    FinishesEarly,
    /// Every look is called good.
    SeesNothing,
    /// A number that somebody else has is written as well: nobody notices that he was overtaken.
    IgnoresTheGeneration,
}

impl Breaks {
    pub(crate) const ALL: [Breaks; 5] = [
        Breaks::ShiftsBeforeReady,
        Breaks::ForgetsToUndo,
        Breaks::FinishesEarly,
        Breaks::SeesNothing,
        Breaks::IgnoresTheGeneration,
    ];

    /// The store that such a driver has.
    pub(crate) fn store(self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        if self == Breaks::IgnoresTheGeneration { Arc::new(Careless(store)) } else { store }
    }

    /// A driver with such an engine. `candidate` is what it will make.
    pub(crate) fn operator(self, operator: Operator, candidate: ReleaseId) -> Operator {
        operator.deciding_by(move |engine| Box::new(Broken { engine, breaks: self, candidate, done: false }))
    }
}

struct Broken {
    engine: Engine,
    breaks: Breaks,
    candidate: ReleaseId,
    done: bool,
}

impl Broken {
    fn twist(&mut self, decision: Decision) -> Decision {
        match (self.breaks, decision) {
            (Breaks::ShiftsBeforeReady, Decision::Wait { .. }) if !self.done => {
                self.done = true;
                Decision::Steer(Steer::shift(Weights::all(self.candidate)))
            }
            (Breaks::ForgetsToUndo, Decision::Steer(Steer::Stop { .. })) => {
                let (why, logs) = (self.engine.why().to_owned(), Vec::new());
                Decision::Done { outcome: Outcome::RolledBack, why, logs }
            }
            (Breaks::FinishesEarly, Decision::Steer(Steer::Shift { .. })) => {
                Decision::Done { outcome: Outcome::Succeeded, why: String::new(), logs: Vec::new() }
            }
            (_, decision) => decision,
        }
    }
}

impl Decide for Broken {
    fn next(&mut self, now_ms: u64, event: Event) -> Decision {
        let decision = self.engine.next(now_ms, event);
        self.twist(decision)
    }

    fn looked(&mut self, now_ms: u64, looked: Looked<'_>) -> Decision {
        let fine = Side { requests: 1_000, ..Side::default() };
        let fine = Look { candidate: fine, current: None, health: None, probes: 0 };
        let looked = match looked {
            Looked::At(_) | Looked::Unreadable(_) if self.breaks == Breaks::SeesNothing => Looked::At(&fine),
            looked => looked,
        };
        let decision = self.engine.looked(now_ms, looked);
        self.twist(decision)
    }

    fn verdict(&self) -> Verdict {
        self.engine.verdict()
    }

    fn is_undoing(&self) -> bool {
        self.engine.is_undoing()
    }

    fn is_ending(&self) -> bool {
        self.engine.is_ending()
    }

    fn why(&self) -> &str {
        self.engine.why()
    }

    fn logs(&self) -> &[String] {
        self.engine.logs()
    }

    fn explain(&mut self, more: &str, logs: Vec<String>) {
        self.engine.explain(more, logs);
    }

    fn gate(&self) -> Option<usize> {
        self.engine.gate()
    }

    fn refuses(&self, request: &Request) -> Option<String> {
        self.engine.refuses(request)
    }

    fn may_leave(&self) -> bool {
        self.engine.may_leave()
    }
}

/// A store that says yes to everybody.
struct Careless(Arc<dyn Store>);

#[async_trait]
impl Store for Careless {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.0.create(series, number, bytes).await?;
        Ok(true)
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(series, number).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        self.0.last(series, count).await
    }

    fn place(&self) -> String {
        self.0.place()
    }
}
