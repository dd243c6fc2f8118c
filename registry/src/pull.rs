//! From a registry to a layout. Every part is checked against its digest before it gets its name; parts that are there are
//! not fetched.

use std::{fs, io::Write as _, path::Path};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::{
    RegistryOperation,
    errors::{DigestError, OciDistributionError},
};
use serde_json::Value;

use crate::{
    Credentials, Name, RegistryError,
    client::{Asked, PARALLEL},
    layout::{self, Manifest, Part, blob, digest_of, holds},
    place::is_digest,
};

const KINDS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Pulls an image into the layout's folder, made where it isn't there, and returns its manifest's digest. Of a list of images
/// it takes the one for linux/amd64, whose digest is then another than the list's. The layout's index is not touched.
///
/// # Errors
/// If the registry can't be reached or refuses, has no such image, or sends something else than the digests say.
pub async fn pull(name: &Name, credentials: &Credentials, layout: &Path) -> Result<String, RegistryError> {
    let blobs = layout::create(layout)?;
    // An image that is whole needs no registry.
    if is_digest(&name.which) && Manifest::read(layout, &name.which).is_ok() {
        return Ok(name.which.clone());
    }
    let asked = Asked::new(&name.place, credentials, RegistryOperation::Pull).await?;
    let (mut digest, mut bytes) = get(&asked, credentials, &name.which).await?;
    if let Some(chosen) = choose(name, &bytes)? {
        (digest, bytes) = get(&asked, credentials, &chosen).await?;
    }
    let unusable = |why: &'static str| RegistryError::Layout { path: blob(layout, &digest), why: why.to_owned() };
    let manifest = Manifest::parse(bytes).map_err(unusable)?;
    let missing = manifest.parts.iter().filter(|part| !holds(layout, part));
    let fetching = missing.map(|part| fetch(&asked, credentials, part, &blobs));
    stream::iter(fetching).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    // Last: a manifest that is there says that its parts are.
    layout::put(&blobs, &blob(layout, &digest), &manifest.bytes)?;
    Ok(digest)
}

async fn get(asked: &Asked<'_>, credentials: &Credentials, which: &str) -> Result<(String, Vec<u8>), RegistryError> {
    let (auth, reference) = (credentials.to_client(), asked.place.with(which));
    let action = format!("read the image {which} of {}", asked.place.repository);
    let (bytes, _) = asked.ask(&action, 0, || asked.client.pull_manifest_raw(&reference, &auth, &KINDS)).await?;
    let digest = digest_of(&bytes);
    if is_digest(which) && digest != which {
        return Err(RegistryError::Damaged { registry: asked.place.registry.clone(), action });
    }
    Ok((digest, bytes.to_vec()))
}

/// The digest of the right image where these bytes are a list of images.
fn choose(name: &Name, bytes: &[u8]) -> Result<Option<String>, RegistryError> {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let Some(images) = document["manifests"].as_array() else { return Ok(None) };
    let is = |image: &Value, key: &str, value: &str| image["platform"][key].as_str() == Some(value);
    let chosen = images.iter().find(|image| is(image, "os", "linux") && is(image, "architecture", "amd64"));
    match chosen.and_then(|image| image["digest"].as_str()).filter(|digest| is_digest(digest)) {
        Some(digest) => Ok(Some(digest.to_owned())),
        None => {
            let word = |image: &Value, key| image["platform"][key].as_str().unwrap_or("?").to_owned();
            let found: Vec<_> =
                images.iter().map(|i| format!("{}/{}", word(i, "os"), word(i, "architecture"))).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
            Err(RegistryError::Platform { name: name.to_string(), found })
        }
    }
}

async fn fetch(asked: &Asked<'_>, credentials: &Credentials, part: &Part, blobs: &Path) -> Result<(), RegistryError> {
    let registry = &asked.place.registry;
    let reference = asked.place.with(&part.digest);
    asked.client.store_auth_if_needed(registry, &credentials.to_client()).await;
    let short: String = part.digest.chars().take(19).collect();
    let action = format!("read the blob {short} of {}", asked.place.repository);
    let read = || async {
        let mut file = layout::partial(blobs)?;
        let mut content = asked.client.pull_blob_stream(&reference, part.digest.as_str()).await?;
        let mut left = part.bytes;
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            // More than was announced is not kept, however much comes.
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| wrong_size(part))?;
            file.write_all(&chunk)?;
        }
        if left != 0 {
            return Err(wrong_size(part));
        }
        file.as_file().sync_all()?;
        file.persist(blobs.join(part.digest.trim_start_matches("sha256:"))).map_err(|e| e.error)?;
        Ok(())
    };
    asked.ask(&action, part.bytes, read).await?;
    // The client compared what came with the digest; this is what lies on the disk.
    let path = blobs.join(part.digest.trim_start_matches("sha256:"));
    let size = fs::metadata(&path).map_err(RegistryError::io("look at", &path))?.len();
    if size == part.bytes { Ok(()) } else { Err(RegistryError::Damaged { registry: registry.clone(), action }) }
}

fn wrong_size(part: &Part) -> OciDistributionError {
    let actual = "content of another size".to_owned();
    DigestError::VerificationError { expected: part.digest.clone(), actual }.into()
}
