//! Judges look after look. It remembers what came in since the present weight was reached, and how often and since when
//! something was odd; it never looks by itself and never decides what follows from a verdict.

use super::{
    Check, Fault, Latency, Look, Side, Unclear, Verdict,
    evidence::{chance_at, more_than, worse_than},
    look::Health,
};
use crate::spec::Analysis;

/// The latency that is asked of: the slowest hundredth.
const TAIL: f64 = 0.01;
/// A candidate that is slower than the current release by less than this factor is not called slower: one that was just
/// started on a busy machine is slower by a half for a while, and buckets don't tell smaller differences well.
const SLOWER_MIN: f64 = 1.5;
/// Nor is one whose slowest hundredth takes longer by less than this.
const SLOWER_MIN_MS: f64 = 10.0;
/// The store may be without a writer, or seem to have two, for so long while it changes hands. What tasks say of themselves is
/// as old as their last probe.
const WRITER_GAP_MS: u64 = 30_000;
/// And in fewer looks in a row than this.
const WRITER_LOOKS_MIN: u32 = 3;
/// Looks that are taken together, so that what begins to fail after a long time does not drown in what was good before.
const TOGETHER: u32 = 10;

/// A judge of one rollout.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Analysis,
    /// Exactly one process may write, and says so.
    one_writer: bool,
    /// Looks so far, of the whole rollout: what makes each question harder to answer with yes.
    looks: u32,
    /// Since the present weight was reached.
    candidate: Side,
    current: Side,
    /// Of the last looks, at most [`TOGETHER`].
    lately: (Side, Side),
    lately_looks: u32,
    /// Some of the candidate's requests since then were dbird's own: they are others than the current release's.
    probed: bool,
    /// Looks in a row whose source could not be read.
    errors: u32,
    restarts: u32,
    writers_odd: Option<(u64, u32)>,
}

impl Judge {
    /// A judge by these rules.
    pub fn new(rules: Analysis, one_writer: bool) -> Self {
        Judge {
            rules,
            one_writer,
            looks: 0,
            candidate: Side::default(),
            current: Side::default(),
            lately: (Side::default(), Side::default()),
            lately_looks: 0,
            probed: false,
            errors: 0,
            restarts: 0,
            writers_odd: None,
        }
    }

    /// Another weight was reached: what was before says nothing about the shares of now.
    pub fn at_new_weight(&mut self) {
        self.candidate = Side::default();
        self.current = Side::default();
        self.lately = (Side::default(), Side::default());
        self.lately_looks = 0;
        self.probed = false;
    }

    /// The source could not be read; how tasks are may be known all the same. After [`Analysis::error_limit`] looks in a row there is nothing to wait for.
    pub fn unreadable(&mut self, now_ms: u64, health: Option<Health>) -> (Verdict, bool) {
        if let Some(Ok(fault)) = health.map(|health| self.health(now_ms, health).ok_or(())) {
            return (Verdict::Bad(fault), false);
        }
        self.errors = self.errors.saturating_add(1);
        (Verdict::Unclear(Unclear::NoSource { looks: self.errors }), self.errors >= self.rules.error_limit)
    }

    /// Judges a look.
    pub fn judge(&mut self, now_ms: u64, look: &Look) -> Verdict {
        self.looks = self.looks.saturating_add(1);
        self.errors = 0;
        if self.lately_looks >= TOGETHER {
            self.lately = (Side::default(), Side::default());
            self.lately_looks = 0;
        }
        self.lately_looks += 1;
        for candidate in [&mut self.candidate, &mut self.lately.0] {
            candidate.add(&look.candidate);
        }
        if let Some(current) = &look.current {
            self.current.add(current);
            self.lately.1.add(current);
        }
        if let Some(fault) = look.health.and_then(|health| self.health(now_ms, health)) {
            return Verdict::Bad(fault);
        }
        let chance = chance_at(self.looks);
        self.probed |= look.probes > 0;
        let beside = look.current.is_some() && !self.probed;
        let mut unclear = None;
        for (candidate, current) in [
            (look.candidate, look.current.filter(|_| beside)),
            (self.lately.0, beside.then_some(self.lately.1)),
            (self.candidate, beside.then_some(self.current)),
        ] {
            if candidate.requests < self.rules.min_samples.max(1) {
                continue;
            }
            let current = current.filter(|c| self.rules.baseline && c.requests >= self.rules.min_samples.max(1));
            for verdict in [
                errors_over(&self.rules, &candidate, current.as_ref(), chance),
                errors_beside(&self.rules, &candidate, current.as_ref(), chance),
                latency_over(&self.rules, &candidate, current.as_ref(), chance),
                latency_beside(&candidate, current.as_ref(), chance),
            ] {
                match verdict {
                    Verdict::Bad(_) => return verdict,
                    Verdict::Unclear(why) => unclear = Some(why),
                    Verdict::Good => {}
                }
            }
        }
        let (requests, min) = (self.candidate.requests, self.rules.min_samples.max(1));
        match unclear {
            _ if self.writers_odd.is_some() => {
                Verdict::Unclear(Unclear::Writers { writers: look.health.and_then(|h| h.writers).unwrap_or(0) })
            }
            _ if requests < min => Verdict::Unclear(Unclear::TooFew { requests, min }),
            Some(why) if self.still_over() => Verdict::Unclear(why),
            _ => Verdict::Good,
        }
    }

    /// What is over a limit in one window only, by too little to be sure, is forgiven once the whole is within.
    fn still_over(&self) -> bool {
        [&self.candidate, &self.lately.0].into_iter().any(|side| {
            side.requests >= self.rules.min_samples.max(1)
                && (side.error_rate() > self.rules.error_rate_max || over_p99(&self.rules, &side.latency))
        })
    }

    fn health(&mut self, now_ms: u64, health: Health) -> Option<Fault> {
        let fault = |check, candidate: u32, limit: u32| Fault {
            check,
            candidate: f64::from(candidate),
            current: None,
            limit: f64::from(limit),
            requests: self.candidate.requests,
        };
        if health.ready < health.tasks || health.tasks == 0 {
            return Some(fault(Check::Readiness, health.ready, health.tasks));
        }
        if health.restarts > self.restarts {
            let found = fault(Check::Restarts, health.restarts, 0);
            self.restarts = health.restarts;
            return Some(found);
        }
        match health.writers {
            Some(writers) if self.one_writer && writers != 1 => {
                let (since_ms, looks) = self.writers_odd.map_or((now_ms, 1), |(since, looks)| (since, looks + 1));
                self.writers_odd = Some((since_ms, looks));
                let odd = now_ms.saturating_sub(since_ms) >= WRITER_GAP_MS && looks >= WRITER_LOOKS_MIN;
                odd.then(|| fault(Check::WriterRole, writers, 1))
            }
            _ => {
                self.writers_odd = None;
                None
            }
        }
    }
}

fn errors_over(rules: &Analysis, side: &Side, current: Option<&Side>, chance: f64) -> Verdict {
    let max = rules.error_rate_max;
    let fault = |check| Fault {
        check,
        candidate: side.error_rate(),
        current: current.map(Side::error_rate),
        limit: max,
        requests: side.requests,
    };
    let over = |side: &Side| side.error_rate() > max;
    let surely = |side: &Side| over(side) && more_than(side.errors, side.requests, max) < chance;
    if !over(side) {
        return Verdict::Good;
    }
    if !surely(side) {
        return Verdict::Unclear(Unclear::TooFewToBeSure(fault(Check::ErrorRate)));
    }
    match current {
        Some(current)
            if surely(current)
                && worse_than(side.errors, side.requests, current.errors, current.requests) >= chance =>
        {
            Verdict::Unclear(Unclear::Both(fault(Check::ErrorRate)))
        }
        _ => Verdict::Bad(fault(Check::ErrorRate)),
    }
}

/// Worse than what serves beside it, by more than half of what is allowed at all.
fn errors_beside(rules: &Analysis, side: &Side, current: Option<&Side>, chance: f64) -> Verdict {
    let Some(current) = current else { return Verdict::Good };
    let margin = rules.error_rate_max / 2.0;
    let worse = side.error_rate() > current.error_rate() + margin;
    if worse && worse_than(side.errors, side.requests, current.errors, current.requests) < chance {
        return Verdict::Bad(Fault {
            check: Check::ErrorRateAgainstCurrent,
            candidate: side.error_rate(),
            current: Some(current.error_rate()),
            limit: margin,
            requests: side.requests,
        });
    }
    Verdict::Good
}

fn latency_over(rules: &Analysis, side: &Side, current: Option<&Side>, chance: f64) -> Verdict {
    let max_ms = rules.p99_ms_max;
    let fault = Fault {
        check: Check::P99,
        candidate: side.p99_ms().unwrap_or(0.0),
        current: current.and_then(Side::p99_ms),
        limit: max_ms as f64,
        requests: side.latency.total(),
    };
    let surely = |latency: &Latency| {
        over_p99(rules, latency) && more_than(latency.surely_slower_than(max_ms), latency.total(), TAIL) < chance
    };
    if !over_p99(rules, &side.latency) {
        return Verdict::Good;
    }
    if !surely(&side.latency) {
        return Verdict::Unclear(Unclear::TooFewToBeSure(fault));
    }
    match current {
        Some(current) if surely(&current.latency) && !slower(&side.latency, &current.latency, chance) => {
            Verdict::Unclear(Unclear::Both(fault))
        }
        _ => Verdict::Bad(fault),
    }
}

fn over_p99(rules: &Analysis, latency: &Latency) -> bool {
    latency.slower_than(rules.p99_ms_max) as f64 > latency.total() as f64 * TAIL
}

fn latency_beside(side: &Side, current: Option<&Side>, chance: f64) -> Verdict {
    let Some(current) = current else { return Verdict::Good };
    let (Some(candidate_ms), Some(current_ms)) = (side.p99_ms(), current.p99_ms()) else { return Verdict::Good };
    let limit_ms = (current_ms * SLOWER_MIN).max(current_ms + SLOWER_MIN_MS);
    if candidate_ms > limit_ms && slower(&side.latency, &current.latency, chance) {
        return Verdict::Bad(Fault {
            check: Check::P99AgainstCurrent,
            candidate: candidate_ms,
            current: Some(current_ms),
            limit: limit_ms,
            requests: side.latency.total(),
        });
    }
    Verdict::Good
}

/// More of the candidate's requests than of the current release's lie above one of the two bounds around the current one's
/// 99th percentile, and not by chance. Bounds, not estimated quantiles: what lies above a bound is counted exactly.
fn slower(candidate: &Latency, current: &Latency, chance: f64) -> bool {
    let above = |bound_ms| {
        let (x, n) = (candidate.slower_than(bound_ms), candidate.total());
        let (y, m) = (current.slower_than(bound_ms), current.total());
        (x as f64) * (m as f64) > (y as f64) * (n as f64) && worse_than(x, n, y, m) < chance
    };
    current.around_ms(1.0 - TAIL).into_iter().flatten().any(above)
}
