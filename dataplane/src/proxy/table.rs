//! Which release and which backend are next. It decides the spreading, exactly and without chance; it never knows
//! whether a backend is well, only that it refused a connection a moment ago.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

use super::release::Release;

/// Largest weight of a share.
const WEIGHT_MAX: u32 = 100;

/// Connections to one backend that are being opened or have not answered yet. A listener has room for 128 at least (what
/// Rust's and many others' ask for); one more is dropped without a word, and the next attempt comes only after a second.
const OPENING_MAX: usize = 64;

/// A release's part of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// An opaque name, the key of everything that is counted.
    pub release: String,
    /// 0 to 100 (more is taken as 100), relative to the sum of all weights.
    pub weight: u32,
    /// Where it listens; requests take turns over them. A share without any is left out.
    pub backends: Vec<SocketAddr>,
}

/// One address a release listens on.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    /// On the process's clock, see [`Clock`](super::clock::Clock).
    pub(super) paused_until_ms: AtomicU64,
    /// It gets no requests any more, so connections to it are of no more use.
    pub(super) leaving: AtomicBool,
    /// Places for new connections.
    pub(super) opening: Arc<Semaphore>,
}

impl Backend {
    pub(super) fn new(id: u64, address: SocketAddr) -> Arc<Self> {
        let opening = Arc::new(Semaphore::new(OPENING_MAX));
        Arc::new(Self { id, address, paused_until_ms: AtomicU64::new(0), leaving: AtomicBool::new(false), opening })
    }
}

/// One release within a plan.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) release: Arc<Release>,
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) weight: u32,
    next: AtomicUsize,
}

impl Portion {
    pub(super) fn new(release: Arc<Release>, backends: Vec<Arc<Backend>>, weight: u32) -> Self {
        Self { release, backends, weight: weight.min(WEIGHT_MAX), next: AtomicUsize::new(0) }
    }

    /// The index of the backend whose turn it is; those that `paused` says are passed over while there is another.
    pub(super) fn turn(&self, paused: impl Fn(&Backend) -> bool) -> usize {
        let count = self.backends.len();
        if count < 2 {
            return 0;
        }
        let first = self.next.fetch_add(1, Relaxed) % count;
        (first..first + count).map(|at| at % count).find(|at| !paused(&self.backends[*at])).unwrap_or(first)
    }
}

/// All shares and the order in which they get requests.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) portions: Vec<Portion>,
    order: Box<[u16]>,
    next: AtomicUsize,
}

impl Plan {
    pub(super) fn new(portions: Vec<Portion>) -> Self {
        let order = order(&portions.iter().map(|portion| portion.weight).collect::<Vec<_>>());
        Self { portions, order, next: AtomicUsize::new(0) }
    }

    /// The portion that gets the next request, if any has weight.
    pub(super) fn turn(&self) -> Option<usize> {
        match &*self.order {
            [] => None,
            [only] => Some(usize::from(*only)),
            order => Some(usize::from(order[self.next.fetch_add(1, Relaxed) % order.len()])),
        }
    }
}

/// A plan as it stands between two changes of the route.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) version: u64,
    pub(super) held: bool,
    pub(super) plan: Arc<Plan>,
}

/// Smooth weighted round robin over one full round: each index as often as its weight (divided by what all have in
/// common), spread as evenly as can be. Weights of sum 100 are exact over any 100 requests that follow each other.
fn order(weights: &[u32]) -> Box<[u16]> {
    let common = weights.iter().fold(0, |a, b| gcd(a, *b));
    if common == 0 {
        return Box::default();
    }
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / common)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    (0..total)
        .filter_map(|_| {
            credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            let richest = (0..credit.len()).rev().max_by_key(|at| credit[*at])?;
            credit[richest] -= total;
            u16::try_from(richest).ok()
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(weights: &[u32]) -> Plan {
        let portion = |(at, weight): (usize, &u32)| Portion::new(Release::new(&at.to_string()), Vec::new(), *weight);
        Plan::new(weights.iter().enumerate().map(portion).collect())
    }

    fn spread(weights: &[u32], requests: usize) -> Vec<u32> {
        let plan = plan(weights);
        let mut got = vec![0; weights.len()];
        (0..requests).filter_map(|_| plan.turn()).for_each(|at| got[at] += 1);
        got
    }

    #[test]
    fn weights_are_exact_and_smooth() {
        for (weights, order) in [
            (vec![1], "0"),
            (vec![100, 0], "0"),
            (vec![50, 50], "01"),
            (vec![75, 25], "0010"),
            (vec![1, 2, 3], "210212"),
            (vec![90, 10], "0000010000"),
        ] {
            let plan = plan(&weights);
            let got: String = (0..order.len()).filter_map(|_| plan.turn()).map(|at| at.to_string()).collect();
            let sorted = |text: &str| {
                let mut text: Vec<char> = text.chars().collect();
                text.sort_unstable();
                text
            };
            assert_eq!(sorted(&got), sorted(order), "{weights:?} gave {got}");
        }
        assert_eq!(spread(&[99, 1], 100), [99, 1]);
        assert_eq!(spread(&[33, 33, 34], 100), [33, 33, 34]);
        assert_eq!(plan(&[0, 0]).turn(), None);
        assert_eq!(plan(&[]).turn(), None);
        assert_eq!(spread(&[500, 100], 100), [50, 50], "weights are at most 100");
    }

    #[test]
    fn backends_take_turns_and_paused_ones_are_passed_over() {
        let backend = |id| Backend::new(id, SocketAddr::from(([127, 0, 0, 1], 1)));
        let portion = Portion::new(Release::new("a"), (0..3).map(backend).collect(), 1);
        let turns = |paused: &[u64]| (0..6).map(|_| portion.turn(|b| paused.contains(&b.id))).collect::<Vec<_>>();
        assert_eq!(turns(&[]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[1]), [0, 2, 2, 0, 2, 2]);
        assert_eq!(turns(&[0, 1, 2]), [0, 1, 2, 0, 1, 2], "if all are paused, all are tried");
    }

    proptest! {
        #[test]
        fn any_window_of_100_requests_is_exact(first in 0u32..=100, skip in 0usize..250) {
            let plan = plan(&[first, 100 - first]);
            (0..skip).for_each(|_| { plan.turn(); });
            let got = (0..100).filter(|_| plan.turn() == Some(0)).count();
            prop_assert_eq!(got, first as usize);
        }

        #[test]
        fn a_round_is_exact_and_never_far_off_on_the_way(weights in proptest::collection::vec(0u32..=100, 1..6)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let plan = plan(&weights);
            let mut got = vec![0u32; weights.len()];
            for sent in 1..=total {
                got[plan.turn().unwrap()] += 1;
                for (count, weight) in got.iter().zip(&weights) {
                    let ideal = f64::from(sent) * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(*count) - ideal).abs() <= weights.len() as f64);
                }
            }
            prop_assert_eq!(got, weights);
        }
    }
}
