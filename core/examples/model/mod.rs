//! A model of rollouts: requests whose latency is log-normal, split between two releases, counted in the buckets of the real
//! metrics, and judged by the real engine. Each request is drawn by itself; a seed gives the same rollout again.

use std::collections::BTreeMap;

use dbird_core::{
    Phase, Progress, ReleaseId, Steer, Weights,
    analysis::{Latency, Look, Side},
    rollout::{Course, Decision, Engine, Event, Looked},
    spec::{Analysis, WeightStep},
};

/// The buckets of `http_request_duration_seconds`, in milliseconds.
pub(crate) const BUCKETS_MS: [u64; 10] = [5, 10, 25, 50, 100, 200, 500, 1_000, 2_000, 5_000];
/// The 99th percentile of a standard normal distribution.
const Z99: f64 = 2.326_347_874;
const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);

/// What one side's requests are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// Of the latency, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Of its logarithm: 0.3 for nearly equal requests, 1.2 for a long tail.
    pub(crate) sigma: f64,
    /// The share that fails.
    pub(crate) error_rate: f64,
}

impl Service {
    /// Twice as slow at the 99th percentile because every request is.
    pub(crate) fn slower(self) -> Self {
        Service { p99_ms: self.p99_ms * 2.0, ..self }
    }

    /// Twice as slow at the 99th percentile because of its tail alone: the median stays.
    pub(crate) fn longer_tail(self) -> Self {
        let median_ms = self.p99_ms.ln() - self.sigma * Z99;
        Service { p99_ms: self.p99_ms * 2.0, sigma: ((self.p99_ms * 2.0).ln() - median_ms) / Z99, ..self }
    }

    /// The share of requests up to each bucket's bound.
    fn shares(self) -> [f64; 10] {
        let mu = self.p99_ms.ln() - self.sigma * Z99;
        BUCKETS_MS.map(|bound| normal((bound as f64).ln() - mu, self.sigma))
    }
}

/// The normal distribution: at most `x`, with a spread of `sigma`. Abramowitz and Stegun 7.1.26, good to 1.5e-7.
fn normal(x: f64, sigma: f64) -> f64 {
    let z = x / sigma / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z.abs());
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let erf = (1.0 - poly * (-z * z).exp()).copysign(z);
    0.5 * (1.0 + erf)
}

/// Numbers that depend on the seed alone (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1234_5678_9abc_def0)
    }

    /// From 0 to 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The rules that an environment has when it says nothing, but for five looks of a minute.
pub(crate) fn rules() -> Analysis {
    Analysis { interval_ms: 60_000, count: 5, ..Analysis::default() }
}

/// 10 % for five minutes.
pub(crate) fn course() -> Course {
    let step = |weight, pause_ms| WeightStep { weight, pause_ms, gate: false };
    Course {
        strategy: "canary".to_owned(),
        weights: vec![step(10, 300_000), step(100, 0)],
        analysis: Some(rules()),
        ..Course::default()
    }
}

/// One rollout of 500 requests a second: true when it was undone, and the looks that it took.
pub(crate) fn undone(seed: u64, current: Service, candidate: Service) -> (bool, u32) {
    let mut dice = Dice::new(seed);
    let shares = [current.shares(), candidate.shares()];
    let mut engine = Engine::new(course(), NEW, Some(OLD), 0);
    let (mut now_ms, mut weights, mut phase, mut looks) = (0, Weights::all(OLD), Phase::Ready, 0);
    let progress = |phase: &Phase, weights: &Weights| {
        Event::Progress(Progress { weights: weights.clone(), ..Progress::in_phase(phase.clone()) })
    };
    let mut decision = engine.next(0, progress(&phase, &weights));
    loop {
        decision = match decision {
            Decision::Done { .. } => return (weights.of(NEW) != 100, looks),
            Decision::Steer(steer) => {
                match steer {
                    Steer::Shift { weights: to, .. } => weights = to,
                    Steer::Finish => phase = Phase::Finished,
                    Steer::Stop { .. } => (phase, weights) = (Phase::RolledBack, Weights::all(OLD)),
                    Steer::Continue { .. } => {}
                }
                engine.next(now_ms, progress(&phase, &weights))
            }
            Decision::Look { window_ms: 0 } => engine.looked(now_ms, Looked::Opened),
            Decision::Look { window_ms } => {
                looks += 1;
                let mut counts = [[0u64; 11]; 2];
                let mut errors = [0u64; 2];
                let share = f64::from(weights.of(NEW)) / 100.0;
                for _ in 0..window_ms / 2 {
                    let side = usize::from(dice.next() < share);
                    let u = dice.next();
                    counts[side][shares[side].iter().position(|s| u <= *s).unwrap_or(10)] += 1;
                    let rate = [current, candidate][side].error_rate;
                    errors[side] += u64::from(rate > 0.0 && dice.next() < rate);
                }
                let side = |at: usize| {
                    let bounds = BUCKETS_MS.into_iter().chain([u64::MAX]);
                    let by_bound: BTreeMap<u64, u64> = bounds.zip(counts[at]).collect();
                    Side { requests: counts[at].iter().sum(), errors: errors[at], latency: Latency::of(&by_bound) }
                };
                let look = Look { candidate: side(1), current: Some(side(0)), health: None, probes: 0 };
                engine.looked(now_ms, Looked::At(&look))
            }
            Decision::Wait { until_ms, .. } => {
                now_ms = until_ms.unwrap_or(now_ms + 1_000);
                engine.next(now_ms, progress(&phase, &weights))
            }
            Decision::RunHook { index } => engine.next(now_ms, Event::HookEnded { index, failure: None }),
        };
    }
}

/// An engine that waits at a gate for ever and is shown a look after each interval.
pub(crate) struct Watcher {
    engine: Engine,
    look: Look,
    now_ms: u64,
}

impl Watcher {
    /// With a look of about 3,000 requests.
    pub(crate) fn new() -> Self {
        let course = Course {
            weights: vec![
                WeightStep { weight: 10, pause_ms: 0, gate: true },
                WeightStep { weight: 100, pause_ms: 0, gate: false },
            ],
            pause_limit_ms: u64::MAX,
            deadline_ms: u64::MAX,
            ..course()
        };
        let side = |requests: u64| {
            let by_bound: BTreeMap<u64, u64> = BUCKETS_MS.into_iter().map(|bound| (bound, requests / 10)).collect();
            let by_bound = BTreeMap::from([(500, 0), (1_000, 0), (2_000, 0), (5_000, 0)])
                .into_iter()
                .chain(by_bound.into_iter().filter(|(bound, _)| *bound < 500));
            Side { requests, errors: requests / 1_000, latency: Latency::of(&by_bound.collect()) }
        };
        let look = Look { candidate: side(3_000), current: Some(side(27_000)), health: None, probes: 0 };
        let mut watcher = Watcher { engine: Engine::holding(course, NEW, Some(OLD), 0, 0), look, now_ms: 0 };
        watcher.engine.next(0, Event::Tick);
        watcher.engine.looked(0, Looked::Opened);
        watcher
    }

    /// One decision with a look in it.
    pub(crate) fn decide(&mut self) -> Decision {
        self.now_ms += 60_000;
        match self.engine.next(self.now_ms, Event::Tick) {
            Decision::Look { .. } => self.engine.looked(self.now_ms, Looked::At(&self.look)),
            other => other,
        }
    }
}
