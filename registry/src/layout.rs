//! The blobs of an OCI image layout, as far as a registry needs them: read by digest, written whole or not at all.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{RegistryError, place::is_digest};

/// A manifest larger than this is none.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Layers of one image; no container engine makes more than 127.
const PARTS_MAX: usize = 256;

/// A part of an image: its configuration or a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// An image's manifest as the very bytes that its digest names.
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) parts: Vec<Part>,
}

/// Where a blob lies.
pub(crate) fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Manifest {
    /// Reads one from a layout, with all its parts looked at.
    pub(crate) fn read(layout: &Path, digest: &str) -> Result<Self, RegistryError> {
        let path = blob(layout, digest);
        let wrong = |path: &Path, why: &str| RegistryError::Layout { path: path.to_owned(), why: why.to_owned() };
        let looked = fs::metadata(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => wrong(&path, "it is not there"),
            _ => RegistryError::io("look at", &path)(e),
        })?;
        if looked.len() > MANIFEST_BYTES_MAX {
            return Err(wrong(&path, "it is too large for a manifest"));
        }
        let bytes = fs::read(&path).map_err(RegistryError::io("read", &path))?;
        if digest_of(&bytes) != digest {
            return Err(wrong(&path, "it is not what its name says"));
        }
        let manifest = Self::parse(bytes).map_err(|why| wrong(&path, why))?;
        for part in &manifest.parts {
            let path = blob(layout, &part.digest);
            if !holds(layout, part) {
                return Err(wrong(&path, "this part of the image is missing or cut short"));
            }
        }
        Ok(manifest)
    }

    /// Reads one from its bytes.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| "it is not JSON")?;
        let media_type = value["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
        let layers = value["layers"].as_array().ok_or("it is not an image's manifest")?;
        if layers.len() >= PARTS_MAX {
            return Err("it has too many layers");
        }
        let mut parts = BTreeMap::new();
        for part in layers.iter().chain([&value["config"]]) {
            let digest = part["digest"].as_str().filter(|d| is_digest(d)).ok_or("a part of it has no sha256 digest")?;
            let bytes = part["size"].as_u64().ok_or("a part of it has no size")?;
            parts.insert(digest.to_owned(), bytes);
        }
        let parts = parts.into_iter().map(|(digest, bytes)| Part { digest, bytes }).collect();
        Ok(Manifest { bytes, media_type, parts })
    }
}

/// Whether a part is there, as far as its name and size tell.
pub(crate) fn holds(layout: &Path, part: &Part) -> bool {
    fs::metadata(blob(layout, &part.digest)).is_ok_and(|m| m.is_file() && m.len() == part.bytes)
}

/// Makes the layout where it isn't there.
pub(crate) fn create(layout: &Path) -> Result<PathBuf, RegistryError> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(RegistryError::io("create", &blobs))?;
    let marker = layout.join("oci-layout");
    if !marker.exists() {
        put(&blobs, &marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    }
    Ok(blobs)
}

/// Writes a file whole or not at all.
pub(crate) fn put(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let write = || -> io::Result<()> {
        let mut file = partial(folder)?;
        io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(RegistryError::io("write", path))
}

/// A file that goes when it is not finished; its name says so to whoever tidies the layout.
pub(crate) fn partial(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".partial-").tempfile_in(folder)
}
