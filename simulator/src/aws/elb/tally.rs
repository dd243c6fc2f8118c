//! What happened to the requests of a target group or of a load balancer. It only counts; what the numbers mean, and to which
//! minute they belong, is for CloudWatch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Totals that only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Requests that ended with an answer, of a target or of the load balancer itself.
    pub(crate) requests: u64,
    /// Answers of targets by their class, 1xx to 5xx.
    pub(crate) classes: [u64; 5],
    /// Answers of 5xx that the load balancer made itself: no target, no connection, no answer in time.
    pub(crate) own_5xx: u64,
    /// From the request's leaving to the head of the answer, in microseconds rounded to three digits: how many took so long.
    pub(crate) latency: BTreeMap<u64, u64>,
}

impl Counted {
    /// What came since an earlier count.
    pub(crate) fn since(&self, before: &Counted) -> Counted {
        let mut classes = self.classes;
        classes.iter_mut().zip(before.classes).for_each(|(now, then)| *now -= then);
        let new = |(us, count): (&u64, &u64)| (*us, count - before.latency.get(us).copied().unwrap_or_default());
        Counted {
            requests: self.requests - before.requests,
            classes,
            own_5xx: self.own_5xx - before.own_5xx,
            latency: self.latency.iter().map(new).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// Counts from many connections.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counted: Mutex<Counted>,
}

impl Tally {
    pub(super) fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A target answered.
    pub(super) fn answered(&self, status: u16, took: Duration) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.requests += 1;
        counted.classes[usize::from(status / 100).clamp(1, 5) - 1] += 1;
        let took_us = rounded(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        *counted.latency.entry(took_us).or_default() += 1;
    }

    /// The load balancer answered itself.
    pub(super) fn own(&self, status: u16) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.requests += 1;
        if status >= 500 {
            counted.own_5xx += 1;
        }
    }
}

/// To three digits, so that the number of different times is bounded.
fn rounded(us: u64) -> u64 {
    let mut unit = 1;
    while us / unit >= 1000 {
        unit *= 10;
    }
    us / unit * unit
}

/// How many requests a target has on its way.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn enter(&self) -> Passing {
        self.0.fetch_add(1, SeqCst);
        Passing(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// One request on its way; over when this is dropped.
#[derive(Debug)]
pub(super) struct Passing(InFlight);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_what_came_since() {
        let tally = Tally::default();
        tally.answered(200, Duration::from_micros(12_345));
        let before = tally.counted();
        tally.answered(503, Duration::from_micros(12_399));
        tally.own(502);
        let now = tally.counted();
        assert_eq!((now.requests, now.classes[4], now.own_5xx), (3, 1, 1));
        assert_eq!(now.latency, BTreeMap::from([(12_300, 2)]));
        let since = now.since(&before);
        assert_eq!((since.requests, since.classes, since.latency), (2, [0, 0, 0, 0, 1], BTreeMap::from([(12_300, 1)])));
    }
}
