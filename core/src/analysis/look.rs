//! One look at a rollout: what both sides' requests were like within one window, and how the candidate's tasks are. Plain
//! numbers of a fixed size; whoever makes them asks providers and servers.

use super::Latency;
use crate::Samples;

/// What one side's requests were like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// Requests answered, or not.
    pub requests: u64,
    /// Of these, answered with 5xx, or not at all. Never more than `requests`.
    pub errors: u64,
    /// How long they took. May count fewer requests than there were: latency is asked of what it counts.
    pub latency: Latency,
}

impl Side {
    /// What a source says of a release.
    pub fn of(samples: &Samples) -> Self {
        let errors = samples.errors.min(samples.requests);
        Side { requests: samples.requests, errors, latency: Latency::of(&samples.latency_ms) }
    }

    /// Adds what came in another window.
    pub fn add(&mut self, other: &Side) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.add(&other.latency);
    }

    /// The share of errors; 0 without requests.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The 99th percentile of the latency in milliseconds.
    pub fn p99_ms(&self) -> Option<f64> {
        self.latency.quantile_ms(0.99)
    }
}

/// How tasks are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// The candidate's tasks.
    pub tasks: u32,
    /// Of these, ready.
    pub ready: u32,
    /// How often they were started again since the candidate got traffic.
    pub restarts: u32,
    /// Processes of either release that say they write to the store; none where nobody says anything of the kind.
    pub writers: Option<u32>,
}

/// A look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// The candidate's requests.
    pub candidate: Side,
    /// Those of the release that serves beside it; none where it gets no traffic.
    pub current: Option<Side>,
    /// How tasks are; none where nobody can say.
    pub health: Option<Health>,
    /// Of the candidate's requests, those that dbird made itself because there were too few.
    pub probes: u64,
}
