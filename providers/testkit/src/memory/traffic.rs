//! What requests the releases had, worked out from when traffic moved. It decides nothing and holds for any window.

use dbird_core::{ReleaseId, Samples, Weights, provider::Failing};

use super::document::Serves;

/// Upper bounds of the latency classes.
const BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];

/// Where traffic went, move after move.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    moves: Vec<(u64, Weights)>,
}

impl Traffic {
    pub(super) fn moved(&mut self, at_ms: u64, weights: &Weights) {
        if self.moves.last().is_none_or(|(_, last)| last != weights) {
            self.moves.push((at_ms, weights.clone()));
        }
    }

    /// A release's requests of a window that ends now.
    pub(super) fn samples(&self, release: ReleaseId, serves: &Serves, now_ms: u64, length_ms: u64) -> Samples {
        let from_ms = now_ms.saturating_sub(length_ms);
        let requests = |at_ms: u64| self.share_until(release, at_ms) * u128::from(serves.requests_per_s) / 100_000;
        let errors = |at_ms: u64| requests(at_ms) * u128::from(serves.errors_permille) / 1_000;
        let count = |total: &dyn Fn(u64) -> u128| {
            u64::try_from(total(now_ms).saturating_sub(total(from_ms))).unwrap_or(u64::MAX)
        };
        let mut samples = Samples::none(release);
        (samples.requests, samples.errors, samples.window_ms) = (count(&requests), count(&errors), length_ms);
        if samples.requests > 0 {
            let bound = BOUNDS_MS.into_iter().find(|bound| serves.latency_ms <= *bound).unwrap_or(u64::MAX);
            samples.latency_ms.insert(bound, samples.requests);
        }
        if samples.errors > 0 {
            let request = "GET /".to_owned();
            let (count, slowest_ms) = (samples.errors, serves.latency_ms);
            samples.failing.push(Failing { request, status: 500, count, slowest_ms });
        }
        samples
    }

    /// Percent times milliseconds that a release had until then.
    fn share_until(&self, release: ReleaseId, at_ms: u64) -> u128 {
        let ends = self.moves.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let shares = self.moves.iter().zip(ends).map(|((from_ms, weights), until_ms)| {
            let span_ms = until_ms.min(at_ms).saturating_sub(*from_ms);
            u128::from(span_ms) * u128::from(weights.of(release))
        });
        shares.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_add_up_and_follow_the_weights() {
        let (one, two) = (ReleaseId(1), ReleaseId(2));
        let mut traffic = Traffic::default();
        traffic.moved(1_000, &Weights::all(one));
        traffic.moved(2_000, &Weights([(one, 90), (two, 10)].into()));
        traffic.moved(4_000, &Weights::all(two));
        let serves = Serves { requests_per_s: 500, errors_permille: 20, latency_ms: 30 };
        let numbers = |release, now_ms, length_ms| {
            let samples = traffic.samples(release, &serves, now_ms, length_ms);
            (samples.requests, samples.errors)
        };
        for (release, now_ms, length_ms, requests, errors) in [
            (one, 2_000, 1_000, 500, 10),
            (one, 2_000, 60_000, 500, 10),
            (one, 3_000, 1_000, 450, 9),
            (two, 3_000, 1_000, 50, 1),
            (two, 4_000, 2_000, 100, 2),
            (one, 5_000, 1_000, 0, 0),
            (two, 5_000, 500, 250, 5),
            (one, 500, 500, 0, 0),
        ] {
            assert_eq!(
                numbers(release, now_ms, length_ms),
                (requests, errors),
                "{release} {length_ms} ms until {now_ms}"
            );
        }
        let parts: u64 = (0..40).map(|n| numbers(two, 2_050 + n * 50, 50).0).sum();
        assert_eq!(parts, numbers(two, 4_000, 2_000).0);
        let samples = traffic.samples(two, &serves, 5_000, 1_000);
        assert_eq!((samples.latency_ms[&50], samples.failing[0].count), (500, 10));
    }
}
