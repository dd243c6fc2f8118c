//! What happened to the requests of one release. It decides how events are counted without threads getting in each
//! other's way; it never decides what counts as a failure.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BUCKETS_S: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// The same bounds in microseconds.
const BUCKETS_US: [u64; 10] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000];

/// Totals of one release since the route was made. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that ended, in whatever way.
    pub requests: u64,
    /// Answers by status class, 1xx (an upgrade) to 5xx; the proxy's own answers included.
    pub responses: [u64; 5],
    /// Requests whose client went away before an answer was there.
    pub abandoned: u64,
    /// Answers the proxy made because no connection to a backend could be opened.
    pub failed_connect: u64,
    /// Answers the proxy made because a backend was too slow.
    pub failed_timeout: u64,
    /// Answers the proxy made because a backend closed its connection or spoke something else than HTTP.
    pub failed_reset: u64,
    /// Answers that began below 5xx and that a backend broke off; also in `responses` and `failed_reset`.
    pub cut_off: u64,
    /// Requests that were sent a second time.
    pub retries: u64,
    /// Requests that waited in a hold.
    pub held: u64,
    /// Time from a complete request head to the end of the response, waiting in a hold included.
    pub latency: Latency,
}

/// A histogram as Prometheus has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Requests that took at most [`LATENCY_BUCKETS_S`]`[i]`, those of the smaller buckets included.
    pub at_most: [u64; 10],
    /// All that were answered.
    pub count: u64,
    /// Sum of their times in microseconds.
    pub sum_us: u64,
}

/// Why the proxy itself made an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Connect,
    Timeout,
    Reset,
}

/// One thread's part of the totals, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) in_flight: AtomicUsize,
    pub(super) upgraded: AtomicUsize,
    abandoned: AtomicU64,
    responses: [AtomicU64; 5],
    failed: [AtomicU64; 3],
    cut_off: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) held: AtomicU64,
    latency: [AtomicU64; 11],
    latency_sum_us: AtomicU64,
}

impl Shard {
    pub(super) fn answered(&self, status: http::StatusCode, took: Duration) {
        let class = (usize::from(status.as_u16()) / 100).clamp(1, 5) - 1;
        self.responses[class].fetch_add(1, Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|most| took_us <= *most).unwrap_or(BUCKETS_US.len());
        self.latency[bucket].fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(took_us, Relaxed);
    }

    pub(super) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    pub(super) fn cut_off(&self) {
        self.cut_off.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, why: Failed) {
        self.failed[why as usize].fetch_add(1, Relaxed);
    }
}

impl Counts {
    /// Requests that got an answer, or the beginning of one. A client that went away before is neither here nor there.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.latency.count
    }

    /// Of these, the ones that the release failed: a status of 500 or more, or an answer that broke off.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.responses[4] + self.cut_off
    }

    pub(super) fn add(&mut self, shard: &Shard) {
        let abandoned = shard.abandoned.load(Relaxed);
        self.abandoned += abandoned;
        self.requests += abandoned;
        for (sum, part) in self.responses.iter_mut().zip(&shard.responses) {
            let part = part.load(Relaxed);
            *sum += part;
            self.requests += part;
        }
        self.failed_connect += shard.failed[Failed::Connect as usize].load(Relaxed);
        self.failed_timeout += shard.failed[Failed::Timeout as usize].load(Relaxed);
        self.failed_reset += shard.failed[Failed::Reset as usize].load(Relaxed);
        self.cut_off += shard.cut_off.load(Relaxed);
        self.retries += shard.retries.load(Relaxed);
        self.held += shard.held.load(Relaxed);
        let mut below = 0;
        for (sum, part) in self.latency.at_most.iter_mut().zip(&shard.latency) {
            below += part.load(Relaxed);
            *sum += below;
        }
        self.latency.count += below + shard.latency[BUCKETS_US.len()].load(Relaxed);
        self.latency.sum_us += shard.latency_sum_us.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn buckets_are_the_same_in_both_units() {
        for (seconds, us) in LATENCY_BUCKETS_S.iter().zip(BUCKETS_US) {
            assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_micros(us));
        }
    }

    #[test]
    fn totals_add_up_over_shards() {
        let shards = [Shard::default(), Shard::default()];
        shards[0].answered(StatusCode::OK, Duration::from_millis(5));
        shards[1].answered(StatusCode::BAD_GATEWAY, Duration::from_millis(6));
        shards[1].answered(StatusCode::OK, Duration::from_secs(6));
        shards[1].failed(Failed::Reset);
        shards[0].abandoned();
        shards[1].cut_off();
        let mut counts = Counts::default();
        shards.iter().for_each(|shard| counts.add(shard));
        assert_eq!(counts.requests, 4);
        assert_eq!(counts.responses, [0, 2, 0, 0, 1]);
        assert_eq!((counts.failed_reset, counts.failed_connect, counts.abandoned, counts.cut_off), (1, 0, 1, 1));
        assert_eq!(counts.latency.at_most, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((counts.latency.count, counts.latency.sum_us), (3, 6_011_000));
    }
}
