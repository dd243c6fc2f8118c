//! From a layout to a registry. Parts that are there are not sent; a tag that already names the image is left alone, so a
//! repository whose tags never change takes the same push twice.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::RegistryOperation;
use tokio_util::io::ReaderStream;

use crate::{
    Credentials, Place, RegistryError,
    client::{Asked, PARALLEL},
    layout::{Manifest, Part, blob},
    place::is_digest,
};

/// What is read of a file at once.
const CHUNK_BYTES: usize = 256 * 1024;
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// An image in a layout on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The layout's folder.
    pub layout: PathBuf,
    /// The manifest's digest, `sha256:...`.
    pub digest: String,
}

/// How far a push is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Parts that were sent.
    pub blobs_sent: usize,
    /// Parts that the registry had.
    pub blobs_there: usize,
    /// What was sent.
    pub bytes: u64,
}

/// Pushes an image under these tags; without any, under the first twelve digits of its digest. `told` hears of each part.
///
/// # Errors
/// If the image is not whole, or the registry can't be reached or refuses. A push that failed may be made again: what has
/// arrived stays, and no tag names an image whose parts are not all there.
pub async fn push(
    source: &Source,
    place: &Place,
    tags: &[String],
    credentials: &Credentials,
    told: &(dyn Fn(Pushed) + Send + Sync),
) -> Result<Pushed, RegistryError> {
    let manifest = Manifest::read(&source.layout, &source.digest)?;
    let asked = Asked::new(place, credentials, RegistryOperation::Push).await?;
    let tags = if tags.is_empty() { vec![source.digest.chars().skip(7).take(12).collect()] } else { tags.to_vec() };
    let mut missing = Vec::new();
    for tag in tags {
        if !names(&asked, &tag, &source.digest).await? {
            missing.push(tag);
        }
    }
    let mut done = Pushed { blobs_there: manifest.parts.len(), ..Pushed::default() };
    if missing.is_empty() {
        told(done);
        return Ok(done);
    }
    let so_far = Mutex::new(Pushed::default());
    let sending = manifest.parts.iter().map(|part| async {
        let sent = send(&asked, source, part).await?;
        let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
        if sent {
            so_far.blobs_sent += 1;
            so_far.bytes += part.bytes;
        } else {
            so_far.blobs_there += 1;
        }
        told(*so_far);
        Ok::<_, RegistryError>(())
    });
    stream::iter(sending).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    done = *so_far.lock().unwrap_or_else(PoisonError::into_inner);
    for tag in missing {
        write_tag(&asked, &manifest, &tag).await?;
    }
    Ok(done)
}

/// Gives more tags to an image that is in the registry.
///
/// # Errors
/// If the image is not there, or the registry can't be reached or refuses.
pub async fn tag(place: &Place, digest: &str, tags: &[String], credentials: &Credentials) -> Result<(), RegistryError> {
    if !is_digest(digest) {
        return Err(RegistryError::Name { text: format!("{place}@{digest}"), why: "an image is tagged by its digest" });
    }
    let asked = Asked::new(place, credentials, RegistryOperation::Push).await?;
    let (auth, reference) = (credentials.to_client(), place.with(digest));
    let action = format!("find the image {digest} in {}", place.repository);
    let get = || asked.client.pull_manifest_raw(&reference, &auth, &MANIFESTS);
    let (bytes, _) = asked.ask(&action, 0, get).await?;
    let not_one = |why| RegistryError::Name { text: format!("{place}@{digest}"), why };
    let manifest = Manifest::parse(bytes.to_vec()).map_err(not_one)?;
    for tag in tags {
        if !names(&asked, tag, digest).await? {
            write_tag(&asked, &manifest, tag).await?;
        }
    }
    Ok(())
}

/// Whether a tag names this very image already.
async fn names(asked: &Asked<'_>, tag: &str, digest: &str) -> Result<bool, RegistryError> {
    let reference = asked.place.with(tag);
    let auth = oci_client::secrets::RegistryAuth::Anonymous;
    let action = format!("look for the tag {tag} in {}", asked.place.repository);
    // The credentials were stored when signing in; these are not used.
    match asked.ask(&action, 0, || asked.client.fetch_manifest_digest(&reference, &auth)).await {
        Ok(found) => Ok(found == digest),
        // Whether the tag or the whole repository is missing shows when something is written.
        Err(RegistryError::NotFound { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// The manifest's own bytes, so that its digest stays what it is.
async fn write_tag(asked: &Asked<'_>, manifest: &Manifest, tag: &str) -> Result<(), RegistryError> {
    // By tag and never by digest: the client expects a tag where a registry gives no location, as ECR does.
    let reference = asked.place.with(tag);
    let action = format!("write the tag {tag} in {}", asked.place.repository);
    let kind = MANIFESTS.into_iter().find(|kind| *kind == manifest.media_type).unwrap_or(MANIFESTS[0]);
    let write = || {
        let kind = kind.parse();
        let kind = async { kind.map_err(|_| oci_client::errors::OciDistributionError::GenericError(None)) };
        async { asked.client.push_manifest_raw(&reference, manifest.bytes.clone(), kind.await?).await }
    };
    asked.ask(&action, manifest.bytes.len() as u64, write).await.map(drop)
}

/// Sends one part if it is not there; whether it was sent.
async fn send(asked: &Asked<'_>, source: &Source, part: &Part) -> Result<bool, RegistryError> {
    let reference = asked.place.with(&source.digest);
    let short: String = part.digest.chars().take(19).collect();
    let action = format!("look for the blob {short} in {}", asked.place.repository);
    if asked.ask(&action, 0, || asked.client.blob_exists(&reference, &part.digest)).await? {
        return Ok(false);
    }
    let path = blob(&source.layout, &part.digest);
    let action = format!("write the blob {short} to {}", asked.place.repository);
    let write = || async {
        let file = tokio::fs::File::open(&path).await?;
        let content = ReaderStream::with_capacity(file, CHUNK_BYTES).map_err(Into::into);
        asked.client.push_blob_stream(&reference, content, &part.digest, Some(part.bytes)).await
    };
    asked.ask(&action, part.bytes, write).await?;
    Ok(true)
}
