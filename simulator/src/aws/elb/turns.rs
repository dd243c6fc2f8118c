//! Whose turn it is, exactly by weight. It spreads each round as evenly as it can, and never gives a turn to a weight of 0.

/// Smooth turns over a list of weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    credit: Vec<i64>,
}

impl Turns {
    /// The index whose turn it is; none where every weight is 0. The weights must be the same from call to call.
    pub(super) fn next(&mut self, weights: impl ExactSizeIterator<Item = u32> + Clone) -> Option<usize> {
        self.credit.resize(weights.len(), 0);
        let total: i64 = weights.clone().map(i64::from).sum();
        let mut best: Option<usize> = None;
        for (at, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0) {
            self.credit[at] += i64::from(weight);
            if best.is_none_or(|best| self.credit[at] > self.credit[best]) {
                best = Some(at);
            }
        }
        let best = best?;
        self.credit[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_exact() {
        for weights in [[100, 0], [0, 100], [90, 10], [99, 1], [1, 1], [999, 1], [50, 25], [33, 67]] {
            let total: u32 = weights.iter().sum();
            let mut turns = Turns::default();
            for round in 0..3 {
                let mut got = [0u32; 2];
                (0..total).for_each(|_| got[turns.next(weights.iter().copied()).unwrap()] += 1);
                assert_eq!(got, weights, "round {round}");
            }
        }
        assert_eq!(Turns::default().next([0, 0].into_iter()), None);
        assert_eq!(Turns::default().next([].into_iter()), None);
    }
}
