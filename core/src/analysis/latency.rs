//! A histogram of latencies of a fixed size. It keeps the bounds that its source has, and answers how many requests were
//! slower than a time and how long the slowest hundredth took.

use std::collections::BTreeMap;

/// More bounds than this are merged into their neighbours.
const BOUNDS_MAX: usize = 24;

/// Requests by how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Upper bounds in milliseconds, ascending; those from `len` on mean nothing.
    bounds_ms: [u64; BOUNDS_MAX],
    /// Requests up to each bound and above the one before; the last is of everything slower.
    counts: [u64; BOUNDS_MAX + 1],
    len: usize,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { bounds_ms: [0; BOUNDS_MAX], counts: [0; BOUNDS_MAX + 1], len: 0 }
    }
}

impl Latency {
    /// From counts by upper bound, [`u64::MAX`] for everything slower; not cumulative.
    pub fn of(counts: &BTreeMap<u64, u64>) -> Self {
        let mut latency = Latency::default();
        for (bound_ms, count) in counts {
            latency.count(*bound_ms, *count);
        }
        latency
    }

    /// Counts requests that took up to a bound. One that would be too many is taken into the next one above.
    pub fn count(&mut self, bound_ms: u64, count: u64) {
        if bound_ms == u64::MAX {
            self.counts[BOUNDS_MAX] = self.counts[BOUNDS_MAX].saturating_add(count);
            return;
        }
        let at = self.bounds_ms[..self.len].partition_point(|b| *b < bound_ms);
        let known = self.bounds_ms[..self.len].get(at) == Some(&bound_ms);
        if !known && self.len < BOUNDS_MAX {
            self.bounds_ms.copy_within(at..self.len, at + 1);
            self.counts.copy_within(at..self.len, at + 1);
            self.bounds_ms[at] = bound_ms;
            self.counts[at] = 0;
            self.len += 1;
        }
        let at = if at < self.len { at } else { BOUNDS_MAX };
        self.counts[at] = self.counts[at].saturating_add(count);
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Latency) {
        for at in 0..other.len {
            self.count(other.bounds_ms[at], other.counts[at]);
        }
        self.count(u64::MAX, other.counts[BOUNDS_MAX]);
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.counts[..self.len].iter().fold(self.counts[BOUNDS_MAX], |sum, count| sum.saturating_add(*count))
    }

    /// The bounds, ascending, in milliseconds.
    pub fn bounds_ms(&self) -> &[u64] {
        &self.bounds_ms[..self.len]
    }

    /// How many were slower than this. Within a bucket they are taken to lie evenly, as Prometheus does; those above the last
    /// bound are slower than anything up to that bound, and nothing is known of them beyond it.
    pub fn slower_than(&self, limit_ms: u64) -> u64 {
        let mut slower = self.counts[BOUNDS_MAX];
        let mut below = 0;
        for at in 0..self.len {
            let (bound, count) = (self.bounds_ms[at], self.counts[at]);
            if below >= limit_ms {
                slower = slower.saturating_add(count);
            } else if bound > limit_ms {
                // In 128 bits, so that no product overflows.
                let share = u128::from(count) * u128::from(bound - limit_ms) / u128::from(bound - below);
                slower = slower.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
            }
            below = bound;
        }
        if self.len > 0 && limit_ms > below { 0 } else { slower }
    }

    /// How many were slower than this for certain: only buckets that begin there or later are counted.
    pub fn surely_slower_than(&self, limit_ms: u64) -> u64 {
        let mut below = 0;
        let mut slower = 0u64;
        for at in 0..self.len {
            if below >= limit_ms {
                slower = slower.saturating_add(self.counts[at]);
            }
            below = self.bounds_ms[at];
        }
        if below >= limit_ms { slower.saturating_add(self.counts[BOUNDS_MAX]) } else { slower }
    }

    /// The time that this share of the requests took at most, in milliseconds; none without requests. Those above the last
    /// bound took at least that long, which is what is said.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let (mut below_ms, mut seen) = (0.0, 0.0);
        for at in 0..self.len {
            let (bound_ms, count) = (self.bounds_ms[at] as f64, self.counts[at] as f64);
            if count > 0.0 && seen + count >= rank {
                return Some(below_ms + (bound_ms - below_ms) * ((rank - seen) / count).clamp(0.0, 1.0));
            }
            seen += count;
            below_ms = bound_ms;
        }
        Some(below_ms)
    }

    /// The bounds around a quantile: the highest below it and the lowest that is not.
    pub fn around_ms(&self, share: f64) -> [Option<u64>; 2] {
        let total = self.total() as f64;
        let mut seen = 0.0;
        let mut before = None;
        for at in 0..self.len {
            seen += self.counts[at] as f64;
            if seen >= share * total {
                return [before, Some(self.bounds_ms[at])];
            }
            before = Some(self.bounds_ms[at]);
        }
        [before, None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(counts: &[(u64, u64)]) -> Latency {
        Latency::of(&counts.iter().copied().collect())
    }

    #[test]
    fn quantiles_and_tails() {
        let some = latency(&[(50, 900), (100, 90), (200, 8), (u64::MAX, 2)]);
        assert_eq!(some.total(), 1000);
        for (limit_ms, slower) in [(0, 1000), (25, 550), (50, 100), (75, 55), (100, 10), (150, 6), (200, 2), (300, 0)] {
            assert_eq!(some.slower_than(limit_ms), slower, "slower than {limit_ms} ms");
        }
        for (limit_ms, slower) in [(0, 1000), (25, 100), (50, 100), (75, 10), (200, 2), (300, 0)] {
            assert_eq!(some.surely_slower_than(limit_ms), slower, "surely slower than {limit_ms} ms");
        }
        for (share, ms) in [(0.45, 25.0), (0.9, 50.0), (0.99, 100.0), (0.994, 150.0), (0.9999, 200.0)] {
            assert!(
                some.quantile_ms(share).is_some_and(|found| (found - ms).abs() < 0.01),
                "{share}: {:?}",
                some.quantile_ms(share)
            );
        }
        assert_eq!(some.around_ms(0.99), [Some(50), Some(100)]);
        assert_eq!(some.around_ms(0.9999), [Some(200), None]);
        assert_eq!(some.around_ms(0.1), [None, Some(50)]);
        assert_eq!(latency(&[]).quantile_ms(0.99), None);
        assert_eq!(latency(&[(u64::MAX, 3)]).slower_than(500), 3, "without bounds nothing is known to be quick");
    }

    #[test]
    fn sources_with_other_bounds_add_up() {
        let mut sum = latency(&[(5, 1), (50, 2)]);
        sum.add(&latency(&[(10, 3), (50, 4), (u64::MAX, 5)]));
        assert_eq!(sum.bounds_ms(), [5, 10, 50]);
        assert_eq!((sum.total(), sum.slower_than(50), sum.slower_than(10)), (15, 5, 11));
    }

    #[test]
    fn bounds_without_end_are_merged_upwards() {
        let many: BTreeMap<u64, u64> = (1..=100).map(|bound| (bound * 10, 1)).collect();
        let merged = Latency::of(&many);
        assert_eq!((merged.bounds_ms().len(), merged.total()), (BOUNDS_MAX, 100));
        let huge = latency(&[(1, u64::MAX), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX)]);
        assert_eq!((huge.total(), huge.slower_than(1)), (u64::MAX, u64::MAX));
        assert!(huge.quantile_ms(0.99).is_some());
    }
}
