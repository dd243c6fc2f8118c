//! Simulated rollouts: a healthy candidate is hardly ever undone by chance, one that is twice as slow nearly always; and what
//! the engine costs. The full thousand is `examples/rollouts.rs`.

#[path = "../examples/model/mod.rs"]
mod model;

use dbird_core::rollout::Decision;
use model::{Service, Watcher, undone};

/// Enough to tell 1 % from 10 %; the example has a thousand.
const ROLLOUTS: u64 = 40;

#[test]
fn chance_ends_nobody_and_slowness_does() {
    for sigma in [0.5, 1.2] {
        let current = Service { p99_ms: 80.0, sigma, error_rate: 0.001 };
        let count = |candidate| (0..ROLLOUTS).filter(|seed| undone(*seed, current, candidate).0).count() as u64;
        assert_eq!(count(current), 0, "equal, sigma {sigma}");
        assert_eq!(count(current.slower()), ROLLOUTS, "slower, sigma {sigma}");
        assert_eq!(count(current.longer_tail()), ROLLOUTS, "longer tail, sigma {sigma}");
        assert_eq!(count(Service { error_rate: 0.03, ..current }), ROLLOUTS, "errors, sigma {sigma}");
    }
}

#[test]
fn a_sample_allocates_nothing() {
    let mut watcher = Watcher::new();
    assert!(matches!(watcher.decide(), Decision::Wait { .. }));
    let counted = allocation_counter::measure(|| {
        for _ in 0..10_000 {
            assert!(matches!(watcher.decide(), Decision::Wait { .. }));
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}
