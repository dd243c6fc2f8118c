//! Why a source gave no numbers. It says what, where, why and what to do next; it never shows a password.

use dbird_core::ProviderError;
use thiserror::Error;

use crate::error::sentence;

/// Why a source gave no numbers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {why} ({place})")]
pub struct SourceError {
    /// What can't be done.
    pub what: String,
    /// Where: an address without user and password, or the cloud.
    pub place: String,
    /// Why.
    pub why: String,
    /// What to do next, where that is known.
    pub hint: Option<String>,
    /// True when another look may succeed without anything being changed.
    pub retry: bool,
}

impl SourceError {
    pub(super) fn from_provider(e: &ProviderError) -> Self {
        SourceError {
            what: "the traffic's numbers can't be had".to_owned(),
            place: e.cloud.to_string(),
            why: sentence(e),
            hint: e.hint.clone(),
            retry: e.retry,
        }
    }
}
