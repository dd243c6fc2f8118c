//! What traffic was like over the last minutes: what the front door counted, span after span. It decides where spans begin
//! and end, so that a window begins close to where it should; what the numbers mean is for others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dataplane::proxy::{Counts, Failures, LATENCY_BUCKETS_S};
use dbird_core::provider::Failing;
use dbird_core::{ReleaseId, Samples};
use tokio::time::Instant;

use super::keeper::Keeper;

/// How often a span ends ...
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// ... and how often while a rollout is under way, when windows are short.
pub(super) const EVERY_IN_ROLLOUT: Duration = Duration::from_millis(200);
/// A longer window is answered with this much.
const KEPT_MAX: Duration = Duration::from_secs(900);
/// Spans are joined as they age, to this part of their age: so exact is the beginning of any window.
const FINENESS: u32 = 60;
/// However often somebody asks: beyond this many the oldest are joined.
const SPANS_MAX: usize = 1024;
/// Ends of spans at which somebody asked. The next window may begin there, so these are not joined by age; beyond this many
/// the oldest are like the others.
const ASKED_MAX: usize = 64;
/// Whoever asks has its own clock and takes a while to get here: an end at which somebody asked counts as closer by this.
const ON_THE_WAY: Duration = Duration::from_millis(50);
/// Latency buckets, the last one for all that took longer.
const BUCKETS: usize = LATENCY_BUCKETS_S.len() + 1;

/// A release's requests.
#[derive(Clone, Debug, Default, PartialEq)]
struct Traffic {
    requests: u64,
    errors: u64,
    latency: [u64; BUCKETS],
}

impl Traffic {
    fn of(counts: &Counts) -> Self {
        let mut latency = [0; BUCKETS];
        let mut below = 0;
        for (bucket, at_most) in latency.iter_mut().zip(counts.latency.at_most.iter().chain([&counts.latency.count])) {
            *bucket = at_most.saturating_sub(below);
            below = *at_most;
        }
        Traffic { requests: counts.answered(), errors: counts.errors(), latency }
    }

    fn add(&mut self, other: &Traffic) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.latency.iter_mut().zip(other.latency).for_each(|(sum, part)| *sum += part);
    }

    fn since(&self, then: &Traffic) -> Traffic {
        let mut latency = self.latency;
        latency.iter_mut().zip(then.latency).for_each(|(now, then)| *now = now.saturating_sub(then));
        let (requests, errors) = (self.requests.saturating_sub(then.requests), self.errors.saturating_sub(then.errors));
        Traffic { requests, errors, latency }
    }
}

/// What came in between two readings of the door's counts. Releases without requests are not in it.
struct Span {
    until: Instant,
    /// Somebody asked at its end.
    asked: bool,
    traffic: BTreeMap<String, Traffic>,
    failures: BTreeMap<String, Failures>,
}

impl Span {
    fn join(&mut self, later: Span) {
        self.until = later.until;
        self.asked = later.asked;
        for (name, traffic) in later.traffic {
            self.traffic.entry(name).or_default().add(&traffic);
        }
        for (name, failures) in later.failures {
            self.failures.entry(name).or_default().merge(failures);
        }
    }
}

/// The last minutes, without a gap.
pub(super) struct Ring {
    /// When the first span began.
    begun: Instant,
    spans: VecDeque<Span>,
    /// The totals at the end of the last span.
    totals: BTreeMap<String, Traffic>,
}

impl Ring {
    pub(super) fn beginning(now: Instant) -> Self {
        Ring { begun: now, spans: VecDeque::new(), totals: BTreeMap::new() }
    }

    /// Ends a span.
    fn take(
        &mut self,
        now: Instant,
        counts: &BTreeMap<String, Counts>,
        failures: BTreeMap<String, Failures>,
        asked: bool,
    ) {
        let totals: BTreeMap<String, Traffic> =
            counts.iter().map(|(name, counts)| (name.clone(), Traffic::of(counts))).collect();
        let nothing = Traffic::default();
        let changed = totals.iter().filter_map(|(name, total)| {
            let traffic = total.since(self.totals.get(name).unwrap_or(&nothing));
            (traffic != nothing).then(|| (name.clone(), traffic))
        });
        let traffic = changed.collect();
        self.totals = totals;
        self.spans.push_back(Span { until: now, asked, traffic, failures });
        self.forget(now);
        self.join_by_age(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.spans.front()
            && now.saturating_duration_since(first.until) > KEPT_MAX
        {
            self.begun = first.until;
            self.spans.pop_front();
        }
        let asked = self.spans.iter().filter(|span| span.asked).count();
        let surplus = asked.saturating_sub(ASKED_MAX);
        self.spans.iter_mut().filter(|span| span.asked).take(surplus).for_each(|span| span.asked = false);
    }

    fn join_by_age(&mut self, now: Instant) {
        let mut from = self.begun;
        let mut at = 0;
        while at + 1 < self.spans.len() {
            let until = self.spans[at + 1].until;
            let fine = now.saturating_duration_since(until) / FINENESS;
            let small = !self.spans[at].asked && until.saturating_duration_since(from) <= fine;
            if small || self.spans.len() > SPANS_MAX {
                if let Some(later) = self.spans.remove(at + 1) {
                    self.spans[at].join(later);
                }
            } else {
                from = self.spans[at].until;
                at += 1;
            }
        }
    }

    /// What came in since about `window` before the end of the last span.
    fn samples(&self, window: Duration, releases: &[ReleaseId]) -> Vec<Samples> {
        let end = self.spans.back().map_or(self.begun, |span| span.until);
        let far = |begin: Instant, asked: bool| {
            let apart = end.saturating_duration_since(begin).abs_diff(window);
            // The other way round, since time can't be negative.
            apart + if asked { Duration::ZERO } else { ON_THE_WAY }
        };
        let ends = self.spans.iter().map(|span| (span.until, span.asked));
        let begins = std::iter::once((self.begun, false)).chain(ends).enumerate();
        let nearest = begins.min_by_key(|(_, (begin, asked))| far(*begin, *asked));
        let (first, begin) = nearest.map_or((self.spans.len(), end), |(at, (begin, _))| (at, begin));
        let window_ms = u64::try_from(end.saturating_duration_since(begin).as_millis()).unwrap_or(u64::MAX);
        let of = |release: &ReleaseId| {
            let name = release.to_string();
            let (mut traffic, mut failures) = (Traffic::default(), Failures::default());
            for span in self.spans.iter().skip(first) {
                if let Some(more) = span.traffic.get(&name) {
                    traffic.add(more);
                }
                if let Some(more) = span.failures.get(&name) {
                    failures.merge(more.clone());
                }
            }
            samples(*release, &traffic, failures, window_ms)
        };
        releases.iter().map(of).collect()
    }
}

fn samples(release: ReleaseId, traffic: &Traffic, failures: Failures, window_ms: u64) -> Samples {
    // Where a bucket begins has to be known as well, although nothing may have ended there.
    let begins = |at: usize| traffic.latency.get(at + 1).is_some_and(|above| *above > 0);
    let buckets = traffic.latency.iter().enumerate().filter(|(at, count)| **count > 0 || begins(*at));
    let failing = failures.into_rows().into_iter().map(|row| Failing {
        request: row.request,
        status: row.status,
        count: row.count,
        slowest_ms: u64::try_from(row.slowest.as_millis()).unwrap_or(u64::MAX),
    });
    Samples {
        release,
        requests: traffic.requests,
        errors: traffic.errors,
        latency_ms: buckets.map(|(at, count)| (bound_ms(at), *count)).collect(),
        failing: failing.collect(),
        window_ms,
    }
}

/// The upper bound of a latency bucket.
fn bound_ms(bucket: usize) -> u64 {
    // The bounds are whole milliseconds, well within what fits.
    LATENCY_BUCKETS_S.get(bucket).map_or(u64::MAX, |seconds| Duration::from_secs_f64(*seconds).as_millis() as u64)
}

impl Keeper {
    /// Reads what the front door counted since the last time.
    pub(super) fn take_counts(&self) {
        self.end_span(&mut self.lock().ring, false);
    }

    /// What the releases' traffic was like within a window that ends now. The next window may begin exactly here.
    pub(super) fn sample(&self, window: Duration, releases: &[ReleaseId]) -> Vec<Samples> {
        let ring = &mut self.lock().ring;
        self.end_span(ring, true);
        ring.samples(window, releases)
    }

    fn end_span(&self, ring: &mut Ring, asked: bool) {
        ring.take(Instant::now(), &self.front.counts(), self.front.take_failures(), asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::proxy::{self, Latency};

    /// A ring that is read at given milliseconds.
    struct Read {
        ring: Ring,
        begun: Instant,
        counts: BTreeMap<String, Counts>,
    }

    impl Read {
        fn new() -> Self {
            let begun = Instant::now();
            Read { ring: Ring::beginning(begun), begun, counts: BTreeMap::new() }
        }

        /// So many requests more came until then, the first `errors` of them failed, all within 5 ms.
        fn at(&mut self, ms: u64, requests: u64, errors: u64, asked: bool) {
            let counts = self.counts.entry("r1".to_owned()).or_default();
            counts.responses[1] += requests - errors;
            counts.responses[4] += errors;
            counts.latency.count += requests;
            counts.latency.at_most.iter_mut().for_each(|count| *count += requests);
            let mut failures = Failures::default();
            let (request, slowest) = ("GET /bad".to_owned(), Duration::from_millis(ms));
            failures.add(proxy::Failing { request, status: 500, count: errors, slowest });
            let failures = if errors > 0 { BTreeMap::from([("r1".to_owned(), failures)]) } else { BTreeMap::new() };
            self.ring.take(self.begun + Duration::from_millis(ms), &self.counts, failures, asked);
        }

        fn sample(&self, window_ms: u64) -> Samples {
            let mut samples = self.ring.samples(Duration::from_millis(window_ms), &[ReleaseId(1), ReleaseId(9)]);
            let other = samples.pop().unwrap();
            assert_eq!(other, Samples { window_ms: other.window_ms, ..Samples::none(ReleaseId(9)) });
            samples.pop().unwrap()
        }
    }

    #[test]
    fn a_window_has_what_came_within_it() {
        let mut read = Read::new();
        for step in 1..=50 {
            read.at(200 * step, 100, step % 2, false);
        }
        for (window_ms, covered_ms) in [(0, 0), (1000, 1000), (1050, 1000), (1150, 1200), (200, 200), (60_000, 10_000)]
        {
            let samples = read.sample(window_ms);
            assert_eq!((samples.window_ms, samples.requests), (covered_ms, covered_ms / 2), "{window_ms}");
            assert_eq!(samples.errors, samples.failing.iter().map(|failing| failing.count).sum::<u64>());
            let latency = if covered_ms == 0 { BTreeMap::new() } else { BTreeMap::from([(5, covered_ms / 2)]) };
            assert_eq!(samples.latency_ms, latency);
        }
        let samples = read.sample(2000);
        let expected = Failing { request: "GET /bad".to_owned(), status: 500, count: 5, slowest_ms: 9_800 };
        assert_eq!((samples.errors, samples.failing), (5, vec![expected]));
    }

    #[test]
    fn what_the_door_counts_becomes_samples() {
        let mut read = Read::new();
        let at_most = [5, 5, 6, 6, 6, 6, 7, 7, 7, 7];
        let counts = Counts {
            requests: 12,
            abandoned: 2,
            responses: [0, 7, 0, 1, 2],
            cut_off: 1,
            latency: Latency { at_most, count: 10, sum_us: 0 },
            ..Counts::default()
        };
        read.counts.insert("r1".to_owned(), counts);
        read.at(10, 0, 0, false);
        let samples = read.sample(10);
        assert_eq!((samples.requests, samples.errors), (10, 3), "who went away did not get an answer, good or bad");
        assert_eq!(
            samples.latency_ms,
            BTreeMap::from([(5, 5), (10, 0), (25, 1), (200, 0), (500, 1), (5000, 0), (u64::MAX, 3)])
        );
    }

    #[test]
    fn a_window_begins_exactly_where_somebody_asked() {
        let mut read = Read::new();
        let mut asked_ms = 0;
        for step in 1..=3000 {
            read.at(200 * step, 1, 0, false);
            if step % 299 == 0 {
                asked_ms = 200 * step + 77;
                read.at(asked_ms, 1000, 0, true);
            }
        }
        let samples = read.sample(600_000 - asked_ms);
        assert_eq!((samples.window_ms, samples.requests), (600_000 - asked_ms, 3000 - 299 * 10));
        let begin_ms = 200 * 299 * 5 + 77;
        let samples = read.sample(600_000 - begin_ms);
        assert_eq!(samples.window_ms, 600_000 - begin_ms, "minutes later it is still known");
        assert_eq!(samples.requests, 3000 - 299 * 5 + 5 * 1000);
    }

    #[test]
    fn long_windows_are_as_exact_as_their_length_allows_and_memory_is_bounded() {
        let mut read = Read::new();
        let last_ms = 2 * 3600 * 1000;
        for ms in (200..=last_ms).step_by(200) {
            read.at(ms, 1, u64::from(ms % 1000 == 0), false);
        }
        for window_s in [1, 2, 10, 60, 300, 880] {
            let samples = read.sample(window_s * 1000);
            let apart = samples.window_ms.abs_diff(window_s * 1000);
            assert!(apart <= window_s * 1000 / u64::from(FINENESS), "{window_s} s: {} ms", samples.window_ms);
            assert_eq!(samples.requests, samples.window_ms / 200);
            assert!(samples.errors.abs_diff(samples.window_ms / 1000) <= 1);
        }
        let samples = read.sample(u64::from(u32::MAX));
        assert!((900_000..920_000).contains(&samples.window_ms), "{}", samples.window_ms);
        assert!(read.ring.spans.len() < 500, "{}", read.ring.spans.len());

        let before = read.sample(60_000);
        for ms in last_ms + 1..=last_ms + 5000 {
            read.at(ms, 1, 0, true);
        }
        assert!(read.ring.spans.len() <= SPANS_MAX);
        let after = read.sample(65_000);
        assert_eq!(after.requests - 5000, before.requests);
    }
}
