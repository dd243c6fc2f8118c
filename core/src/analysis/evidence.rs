//! How sure numbers make one. Both answers are upper bounds of a probability (Chernoff's), not estimates: they say "at most so
//! often by chance", whatever the counts, so a rollout is ended by chance no more often than [`CHANCE_MAX`] promises. They cost
//! a few logarithms and allocate nothing.
//!
//! Source of the bound: H. Chernoff 1952; for a binomial of n trials and chance p, P(X >= x) <= exp(-n D(x/n || p)).

/// A healthy release is ended by mere chance at most so often, all looks and checks of its rollout together.
pub const CHANCE_MAX: f64 = 0.01;

/// Questions asked at one look: the last window, the last looks together and everything at this weight, each for errors over
/// the limit, errors against the current release, latency over the limit, and latency against the current release at two
/// bounds.
const QUESTIONS: f64 = 15.0;

/// What of [`CHANCE_MAX`] one question of the `look`-th look (from 1) may use up. The sum over any number of looks stays below
/// it, so nobody has to know beforehand how many there will be.
pub fn chance_at(look: u32) -> f64 {
    let look = f64::from(look.max(1));
    CHANCE_MAX / QUESTIONS / (look * (look + 1.0))
}

/// At most so likely by chance: `events` or more in `trials`, each with a chance of `p`. 1 where there are not more than `p`
/// makes one expect.
pub fn more_than(events: u64, trials: u64, p: f64) -> f64 {
    if trials == 0 || events == 0 {
        return 1.0;
    }
    let (n, share) = (trials as f64, (events as f64 / trials as f64).min(1.0));
    if share <= p {
        return 1.0;
    }
    (-n * divergence(share, p)).exp()
}

/// At most so likely by chance if both sides had the same share: so many of all events on the first side. It is the question
/// of [`more_than`] with the events as trials, each being the first side's with the chance of its part of all requests, which
/// holds exactly for rare events and errs to the safe side for frequent ones.
pub fn worse_than(events: u64, trials: u64, other_events: u64, other_trials: u64) -> f64 {
    if trials == 0 || other_trials == 0 {
        return 1.0;
    }
    let part = trials as f64 / (trials as f64 + other_trials as f64);
    more_than(events, events.saturating_add(other_events), part)
}

/// How far a coin of chance `p` is from showing the share `x`, in nats.
fn divergence(x: f64, p: f64) -> f64 {
    if p <= 0.0 {
        return if x > 0.0 { f64::INFINITY } else { 0.0 };
    }
    let hits = if x > 0.0 { x * (x / p).ln() } else { 0.0 };
    let misses = if x < 1.0 { (1.0 - x) * ((1.0 - x) / (1.0 - p)).ln() } else { 0.0 };
    hits + misses
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact probability, by adding up.
    fn exactly(events: u64, trials: u64, p: f64) -> f64 {
        let mut term = (1.0 - p).powf(trials as f64);
        let mut below = 0.0;
        for k in 0..events {
            below += term;
            term *= (trials - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        }
        1.0 - below
    }

    #[test]
    fn the_bound_is_never_below_the_truth_and_not_far_above() {
        for trials in [10, 50, 200, 500] {
            for p in [0.005, 0.01, 0.1, 0.4] {
                for events in 0..=trials {
                    let (bound, truth) = (more_than(events, trials, p), exactly(events, trials, p));
                    assert!(bound >= truth - 1e-9, "{events} of {trials} at {p}: {bound} < {truth}");
                    assert!(
                        truth < 1e-9 || bound < 40.0 * truth || bound > 0.3,
                        "{events}/{trials} at {p}: {bound}, {truth}"
                    );
                }
            }
        }
    }

    #[test]
    fn questions_are_answered_as_one_would() {
        for (events, trials, p, sure) in [
            (10, 50, 0.01, true),
            (5, 50, 0.01, false),
            (1, 50, 0.01, false),
            (30, 1000, 0.01, true),
            (12, 1000, 0.01, false),
            (1, 10, 0.0, true),
            (0, 10, 0.0, false),
            (10, 0, 0.01, false),
            (20, 10, 0.5, false),
        ] {
            assert_eq!(more_than(events, trials, p) < chance_at(1), sure, "{events} of {trials} at {p}");
        }
        for (a, n, b, m, sure) in [
            (30, 3_000, 125, 27_000, false),
            (123, 3_000, 125, 27_000, true),
            (14, 3_000, 125, 27_000, false),
            (5, 50, 0, 450, true),
            (3, 50, 0, 450, false),
            (10, 50, 0, 450, true),
            (10, 50, 90, 450, false),
            (1, 1, 0, 0, false),
            (0, 0, 5, 10, false),
        ] {
            assert_eq!(worse_than(a, n, b, m) < chance_at(1), sure, "{a} of {n} against {b} of {m}");
        }
    }

    #[test]
    fn any_number_of_looks_together_stays_below_the_promise() {
        let sum: f64 = (1..1_000_000).map(|look| QUESTIONS * chance_at(look)).sum();
        assert!(sum <= CHANCE_MAX, "{sum}");
    }
}
