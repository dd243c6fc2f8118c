//! Decides which requests get an injected error or delay. Deterministic for a seed and an order of requests; it never
//! waits, answers or logs itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What `CHAOS_*` says, already clamped.
#[derive(Clone, Debug, PartialEq)]
pub struct ChaosSettings {
    /// Share of requests that fail, 0 to 1.
    pub error_rate: f64,
    /// Delay of 99 % of the others.
    pub latency_ms_p50: u32,
    /// Delay of the remaining 1 %.
    pub latency_ms_p99: u32,
    /// Paths that are hit.
    pub routes: Vec<String>,
    /// Start of the generator.
    pub seed: u32,
}

/// One injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Injection {
    Error,
    Latency(Duration),
}

/// A running generator.
#[derive(Debug)]
pub(crate) struct Chaos {
    settings: ChaosSettings,
    state: AtomicU32,
}

impl Chaos {
    pub(crate) fn new(settings: ChaosSettings) -> Self {
        let state = AtomicU32::new(settings.seed);
        Self { settings, state }
    }

    /// First an error roll, then a latency roll; a delay of 0 ms is none.
    pub(crate) fn decide(&self, path: &str) -> Option<Injection> {
        const SLOW_SHARE: f64 = 0.01;
        if !self.settings.routes.iter().any(|route| route == path) {
            return None;
        }
        if self.roll() < self.settings.error_rate {
            return Some(Injection::Error);
        }
        let slow = self.roll() < SLOW_SHARE;
        let latency_ms = if slow { self.settings.latency_ms_p99 } else { self.settings.latency_ms_p50 };
        (latency_ms > 0).then(|| Injection::Latency(Duration::from_millis(latency_ms.into())))
    }

    /// The next number from 0 to 1 (mulberry32: its state is a counter, so one atomic addition draws a number).
    fn roll(&self) -> f64 {
        const STEP: u32 = 0x6D2B_79F5;
        let state = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mut t = (state ^ (state >> 15)).wrapping_mul(state | 1);
        t ^= t.wrapping_add((t ^ (t >> 7)).wrapping_mul(t | 61));
        f64::from(t ^ (t >> 14)) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Chaos, ChaosSettings, Injection};
    use std::time::Duration;

    fn chaos(error_rate: f64, latency_ms_p50: u32, latency_ms_p99: u32, seed: u32) -> Chaos {
        let routes = vec!["/score".to_owned()];
        Chaos::new(ChaosSettings { error_rate, latency_ms_p50, latency_ms_p99, routes, seed })
    }

    #[test]
    fn a_seed_gives_one_sequence() {
        let draw = |seed| {
            let chaos = chaos(0.3, 5, 50, seed);
            (0..200).map(|_| chaos.decide("/score")).collect::<Vec<_>>()
        };
        assert_eq!(draw(42), draw(42));
        assert_ne!(draw(42), draw(43));
        // The generator's published values for seed 42.
        let chaos = chaos(0.0, 0, 0, 42);
        let first = [chaos.roll(), chaos.roll(), chaos.roll()];
        for (drawn, expected) in
            first.iter().zip([0.601_103_751_920_163_6, 0.448_290_558_997_541_67, 0.852_465_793_490_409_9])
        {
            assert!((drawn - expected).abs() < 1e-12, "{first:?}");
        }
    }

    #[test]
    fn shares_are_as_configured() {
        let draws = 100_000;
        let chaos = chaos(0.2, 1, 9, 7);
        let (mut errors, mut slow) = (0, 0);
        for _ in 0..draws {
            match chaos.decide("/score") {
                Some(Injection::Error) => errors += 1,
                Some(Injection::Latency(wait)) => slow += i32::from(wait == Duration::from_millis(9)),
                None => panic!("every request waits at least P50"),
            }
        }
        assert!((19_000..21_000).contains(&errors), "{errors}");
        assert!((600..1_000).contains(&slow), "{slow} of about 80000 requests");
    }

    #[test]
    fn extremes_and_other_routes() {
        for (error_rate, p50, path, expected) in [
            (1.0, 5, "/score", Some(Injection::Error)),
            (0.0, 5, "/score", Some(Injection::Latency(Duration::from_millis(5)))),
            (0.0, 0, "/score", None),
            (1.0, 5, "/leaderboard", None),
            (1.0, 5, "/score/", None),
        ] {
            assert_eq!(chaos(error_rate, p50, p50, 42).decide(path), expected, "{path} {error_rate} {p50}");
        }
    }
}
