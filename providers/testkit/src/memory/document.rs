//! The documents of the in-memory provider, which say how a service behaves.

use serde::{Deserialize, Serialize};

/// The body of a service document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Becomes ready, but can't open the store when it is handed over.
    FailsSwap,
    /// Is refused.
    Refused,
}
