//! What traffic was like over the last minutes: totals of the front door, taken every second. It decides which two are
//! compared; what the difference means is for others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dataplane::proxy::{Counts, LATENCY_BUCKETS_S};
use dbird_core::{ReleaseId, Samples};
use tokio::time::Instant;

/// How often totals are taken.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// A quarter of an hour; a longer window is answered with this much.
const KEPT_MAX: usize = 900;

#[derive(Clone, Default, PartialEq)]
struct Totals {
    requests: u64,
    errors: u64,
    /// Cumulative, the last one is all.
    at_most: [u64; 11],
}

impl Totals {
    fn of(counts: &Counts) -> Self {
        let mut at_most = [counts.latency.count; 11];
        at_most[..10].copy_from_slice(&counts.latency.at_most);
        Totals { requests: counts.requests, errors: counts.responses[4], at_most }
    }
}

/// The totals of the last minutes. A second in which nothing changed costs nothing.
#[derive(Default)]
pub(super) struct Ring {
    taken: VecDeque<(Instant, BTreeMap<String, Totals>)>,
}

impl Ring {
    /// Takes the totals of now.
    pub(super) fn take(&mut self, now: Instant, counts: &BTreeMap<String, Counts>) {
        let totals: BTreeMap<String, Totals> =
            counts.iter().map(|(name, counts)| (name.clone(), Totals::of(counts))).collect();
        if self.taken.back().is_none_or(|(_, last)| *last != totals) {
            self.taken.push_back((now, totals));
            if self.taken.len() > KEPT_MAX {
                self.taken.pop_front();
            }
        }
    }

    /// What came in since `window` ago.
    pub(super) fn samples(
        &self,
        now: Instant,
        window: Duration,
        counts: &BTreeMap<String, Counts>,
        releases: &[ReleaseId],
    ) -> Vec<Samples> {
        let begin = now.checked_sub(window);
        let before = self.taken.iter().rev().find(|(at, _)| begin.is_none_or(|begin| *at <= begin)).or(match begin {
            // Older totals were dropped, or there are none because nothing had come in yet.
            Some(_) if self.taken.len() == KEPT_MAX => self.taken.front(),
            _ => None,
        });
        releases
            .iter()
            .map(|release| {
                let name = release.to_string();
                let then = before.and_then(|(_, totals)| totals.get(&name)).cloned().unwrap_or_default();
                let now = counts.get(&name).map(Totals::of).unwrap_or_default();
                difference(*release, &now, &then)
            })
            .collect()
    }
}

fn difference(release: ReleaseId, now: &Totals, then: &Totals) -> Samples {
    let mut latency_ms = BTreeMap::new();
    let mut below = 0;
    for (at, (now, then)) in now.at_most.iter().zip(&then.at_most).enumerate() {
        let cumulative = now.saturating_sub(*then);
        let count = cumulative.saturating_sub(below);
        below = cumulative;
        if count > 0 {
            latency_ms.insert(bound_ms(at), count);
        }
    }
    Samples {
        release,
        requests: now.requests.saturating_sub(then.requests),
        errors: now.errors.saturating_sub(then.errors),
        latency_ms,
    }
}

/// The upper bound of a latency bucket.
fn bound_ms(bucket: usize) -> u64 {
    // The bounds are whole milliseconds, well within what fits.
    LATENCY_BUCKETS_S.get(bucket).map_or(u64::MAX, |seconds| Duration::from_secs_f64(*seconds).as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::proxy::Latency;

    fn counts(requests: u64, errors: u64, fast: u64) -> BTreeMap<String, Counts> {
        let mut at_most = [requests - 1; 10];
        at_most[0] = fast;
        let latency = Latency { at_most, count: requests, sum_us: 0 };
        let counts = Counts { requests, responses: [0, requests - errors, 0, 0, errors], latency, ..Counts::default() };
        BTreeMap::from([("r1".to_owned(), counts)])
    }

    #[test]
    fn a_window_is_the_difference_of_two_totals() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ring = Ring::default();
        ring.take(at(1), &counts(10, 0, 5));
        ring.take(at(2), &counts(10, 0, 5));
        ring.take(at(11), &counts(30, 2, 15));
        let of = |seconds, window| {
            let samples = ring.samples(
                at(seconds),
                Duration::from_secs(window),
                &counts(35, 3, 20),
                &[ReleaseId(1), ReleaseId(9)],
            );
            assert_eq!((samples[1].requests, samples[1].latency_ms.len()), (0, 0));
            (samples[0].requests, samples[0].errors, samples[0].latency_ms.clone())
        };
        assert_eq!(of(12, 5), (25, 3, BTreeMap::from([(5, 15), (10, 10)])));
        assert_eq!(of(12, 1), (5, 1, BTreeMap::from([(5, 5)])));
        assert_eq!(of(12, 1000).0, 35, "before the first totals there was nothing");
        assert_eq!(of(12, 1000).2, BTreeMap::from([(5, 20), (10, 14), (u64::MAX, 1)]));
    }
}
