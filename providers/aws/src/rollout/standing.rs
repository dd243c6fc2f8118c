//! Where a release stands, as one answer of the cloud says it. It is the part of a `Progress` that needs no memory.

use dbird_core::{Phase, ReleaseId, Weights};

/// Where a release stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    pub(crate) waiting_for: String,
    pub(crate) weights: Weights,
    pub(crate) gates: Vec<String>,
}

impl Standing {
    pub(crate) fn new(phase: Phase, waiting_for: impl Into<String>, weights: Weights) -> Self {
        Standing { phase, waiting_for: waiting_for.into(), weights, gates: Vec::new() }
    }

    /// Given up by the cloud, for this reason.
    pub(crate) fn failed(why: impl Into<String>, weights: Weights) -> Self {
        let why = why.into();
        Standing::new(Phase::Failed { why: why.clone(), logs: Vec::new() }, why, weights)
    }

    pub(crate) fn at_gate(mut self, gate: impl Into<String>) -> Self {
        self.gates.push(gate.into());
        self
    }
}

/// The candidate's share, and the rest to its parent. Without a parent nothing is shared.
pub(crate) fn split(candidate: ReleaseId, parent: Option<ReleaseId>, share: u8) -> Weights {
    let share = share.min(100);
    match parent {
        Some(parent) if share == 0 => Weights::all(parent),
        Some(parent) if share < 100 => Weights([(candidate, share), (parent, 100 - share)].into()),
        None if share == 0 => Weights::default(),
        _ => Weights::all(candidate),
    }
}

/// One thing that happened in the cloud, and a key by which it is told only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) at_unix_ms: u64,
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Told {
    pub(crate) fn new(at_unix_ms: u64, key: impl Into<String>, text: impl Into<String>) -> Self {
        Told { at_unix_ms, key: key.into(), text: text.into() }
    }
}

/// A time of an SDK in Unix milliseconds; 0 where there is none.
pub(crate) fn unix_ms(time: Option<&aws_smithy_types::DateTime>) -> u64 {
    time.and_then(|time| u64::try_from(time.to_millis().ok()?).ok()).unwrap_or(0)
}
