//! Where lease, journal and records are kept. The only write is "create this number, or learn that somebody has it"; every
//! other guarantee is built from that, so it works in a folder as well as in an object store.

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The series of numbered objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// Claims, heartbeats and releases of the lease. Worth nothing once every process of the time is gone.
    Lease,
    /// Intents and outcomes.
    Journal,
    /// A record for each release, numbered like it.
    Releases,
    /// What people ask of a rollout that somebody else drives.
    Requests,
}

impl Series {
    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Series::Lease => "lease",
            Series::Journal => "journal",
            Series::Releases => "releases",
            Series::Requests => "requests",
        }
    }
}

/// The state could not be read or written.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct StoreError {
    /// What could not be done, with the place.
    pub what: String,
    /// True when the same may succeed later without anything else being changed.
    pub retry: bool,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Why.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Numbered objects in series. Numbers are given by the caller; in [`Series::Lease`] and [`Series::Journal`] without gaps.
#[async_trait]
pub trait Store: Send + Sync {
    /// Creates an object, durably. False when that number exists already; then nothing was written.
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError>;

    /// The object of this number, if there is one.
    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// The highest numbers that exist, at most so many, ascending.
    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError>;

    /// Where it is, for messages.
    fn place(&self) -> String;
}

/// The bytes of an object.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|e| StoreError {
        what: "an object of the state can't be written as JSON".to_owned(),
        retry: false,
        hint: None,
        source: Some(e.into()),
    })
}

/// The value of an object that heads itself with `format`, unless a newer dbird wrote it.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    format_max: u32,
    series: Series,
    number: u64,
) -> Result<T, StoreError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u64,
    }
    let name = format!("{}/{number}", series.name());
    let unreadable = |e: serde_json::Error| StoreError {
        what: format!("{name} of the state is not what dbird writes there"),
        retry: false,
        hint: Some("restore the state from a copy, or move the damaged object away".to_owned()),
        source: Some(e.into()),
    };
    let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
    if head.format > u64::from(format_max) {
        return Err(StoreError {
            what: format!(
                "{name} of the state has format {}, and this dbird reads formats up to {format_max}",
                head.format
            ),
            retry: false,
            hint: Some("a newer dbird worked here: use that one".to_owned()),
            source: None,
        });
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// Creates an object and says whether it is ours: an answer that was lost, and the try that follows it, don't count as
/// somebody else's. Objects name the run that wrote them, so equal bytes are our own.
pub(crate) async fn create_own(
    store: &dyn Store,
    series: Series,
    number: u64,
    bytes: Vec<u8>,
) -> Result<bool, StoreError> {
    const TRIES_MAX: u32 = 3;
    let mut tries = 0;
    loop {
        tries += 1;
        match store.create(series, number, bytes.clone()).await {
            Ok(true) => return Ok(true),
            Ok(false) => return Ok(store.read(series, number).await?.as_deref() == Some(&bytes[..])),
            Err(e) if e.retry && tries < TRIES_MAX => {}
            Err(e) => return Err(e),
        }
    }
}
