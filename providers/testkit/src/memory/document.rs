//! The documents of the in-memory provider, which say how a service behaves.

use serde::{Deserialize, Serialize};

/// The body of a service document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceBody {
    /// Tells two releases apart.
    pub greeting: String,
    /// One process may open the store: a shift is a swap.
    #[serde(default)]
    pub exclusive: bool,
    /// What it does.
    #[serde(default)]
    pub behaves: Behaviour,
    /// The digest of its image; of nothing where absent.
    #[serde(default)]
    pub image: Option<dbird_core::Digest>,
    /// How many copies run.
    #[serde(default)]
    pub replicas: Replicas,
    /// What its requests are like.
    #[serde(default)]
    pub serves: Serves,
    /// How the cloud moves its traffic; none where it is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// How a cloud moves traffic by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// The candidate's shares on the way to all traffic, with how long each lasts.
    pub shares: Vec<(u8, u64)>,
    /// It waits to be let on before any traffic.
    pub first_gate: bool,
    /// It waits to be let on after each share.
    pub gates: bool,
    /// What nobody lets on for so long is undone.
    pub gate_limit_ms: u64,
    /// The previous release is kept for so long.
    pub bake_ms: u64,
    /// That can be ended early.
    pub bake_gate: bool,
    /// It undoes it by itself so long after its first traffic.
    pub alarm_ms: Option<u64>,
}

/// How many copies run; 1 where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replicas(pub u32);

impl Default for Replicas {
    fn default() -> Self {
        Replicas(1)
    }
}

/// What requests to a release are like, for as long as it has traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serves {
    /// Requests in a second to a release that has all traffic; one with less gets its share of them.
    pub requests_per_s: u32,
    /// Of a thousand requests so many fail.
    pub errors_permille: u32,
    /// How long each takes.
    pub latency_ms: u64,
}

impl Default for Serves {
    /// A thousand requests in a second that all go well.
    fn default() -> Self {
        Serves { requests_per_s: 1_000, errors_permille: 0, latency_ms: 10 }
    }
}

/// What a release does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Behaviour {
    /// Becomes ready and stays so.
    #[default]
    Healthy,
    /// Starts, and never becomes ready.
    NeverReady,
    /// Writes these words and dies before it is ready.
    Dies {
        /// The words.
        last_words: String,
    },
    /// Becomes ready, and dies this long after it first got traffic.
    DiesUnderTraffic {
        /// How long.
        after_ms: u64,
    },
    /// Becomes ready, and its tasks are started again every so often once it has traffic.
    Restarts {
        /// How often.
        every_ms: u64,
    },
    /// Becomes ready, and is so no more this long after it first got traffic.
    Unready {
        /// How long.
        after_ms: u64,
    },
    /// Becomes ready, but can't open the store when it is handed over.
    FailsSwap,
    /// Is refused.
    Refused,
}
