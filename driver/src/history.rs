//! Reads and writes the records of releases. A record is written once, when its release has ended.

use dbird_core::{Release, ReleaseId, release::RELEASE_FORMAT};
use futures::future::try_join_all;

use crate::{
    Error, Series, Store,
    store::{create_own, decode, encode},
};

/// The last so many records, oldest first.
pub(crate) async fn last(store: &dyn Store, count: usize) -> Result<Vec<Release>, Error> {
    let numbers = store.last(Series::Releases, count).await?;
    let found = try_join_all(numbers.into_iter().map(|n| get(store, ReleaseId(n)))).await?;
    Ok(found.into_iter().flatten().collect())
}

/// One record, if there is one.
pub(crate) async fn get(store: &dyn Store, id: ReleaseId) -> Result<Option<Release>, Error> {
    let Some(bytes) = store.read(Series::Releases, id.0).await? else { return Ok(None) };
    Ok(Some(decode(&bytes, RELEASE_FORMAT, Series::Releases, id.0)?))
}

/// Writes a record. One that is there already was written by whoever ended the release first, and stands.
pub(crate) async fn write(store: &dyn Store, release: &Release) -> Result<(), Error> {
    create_own(store, Series::Releases, release.id.0, encode(release)?).await?;
    Ok(())
}
