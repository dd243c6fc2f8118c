//! An OCI image layout, read by digest. It decides whether bytes are what their digest says; it never writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{ImageConfig, ImageError};

/// Largest manifest or configuration that is read.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Tar,
    Gzip,
}

/// A layer's blob.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) packing: Packing,
}

/// What the manifest leads to.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<Layer>,
}

/// The hexadecimal part of a digest.
pub(super) fn hex(digest: &str) -> Result<&str, ImageError> {
    let malformed = || ImageError::Malformed {
        what: format!("`{digest}`"),
        why: "a digest is `sha256:` and 64 lower-case hexadecimal digits".to_owned(),
    };
    let hex = digest.strip_prefix("sha256:").ok_or_else(malformed)?;
    let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if valid { Ok(hex) } else { Err(malformed()) }
}

/// Where a blob lies.
pub(super) fn blob(store: &Path, digest: &str) -> Result<PathBuf, ImageError> {
    Ok(store.join("blobs/sha256").join(hex(digest)?))
}

/// Opens a blob.
pub(super) fn open(store: &Path, digest: &str) -> Result<fs::File, ImageError> {
    let path = blob(store, digest)?;
    fs::File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Missing { store: store.to_owned(), digest: digest.to_owned() },
        _ => ImageError::Io { path, source: error },
    })
}

/// Reads manifest and configuration.
pub(super) fn read(store: &Path, digest: &str) -> Result<Image, ImageError> {
    let mut bytes = verified(store, digest)?;
    if let Some(manifest) = chosen(&bytes, digest)? {
        bytes = verified(store, &manifest)?;
    }
    let manifest: ImageManifest = parse(&bytes, &format!("the image manifest {digest}"))?;
    let layers = manifest.layers().iter().map(layer).collect::<Result<_, _>>()?;
    let described = manifest.config().digest().to_string();
    let config: ImageConfiguration = parse(&verified(store, &described)?, &format!("the configuration {described}"))?;
    let said = config.config().clone().unwrap_or_default();
    let config = ImageConfig {
        entrypoint: said.entrypoint().clone().unwrap_or_default(),
        cmd: said.cmd().clone().unwrap_or_default(),
        env: said.env().clone().unwrap_or_default(),
        working_dir: said.working_dir().clone().unwrap_or_default(),
        user: said.user().clone().unwrap_or_default(),
    };
    Ok(Image { config, layers })
}

/// Where the digest names an index of several platforms: the manifest for this machine's.
fn chosen(bytes: &[u8], digest: &str) -> Result<Option<String>, ImageError> {
    #[derive(serde::Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
    }
    let what = format!("the image manifest {digest}");
    if parse::<Shape>(bytes, &what)?.manifests.is_none() {
        return Ok(None);
    }
    let index: ImageIndex = parse(bytes, &what)?;
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform()
            .as_ref()
            .is_none_or(|platform| platform.os().to_string() == "linux" && platform.architecture().to_string() == here)
    };
    match index.manifests().iter().find(fits) {
        Some(descriptor) => Ok(Some(descriptor.digest().to_string())),
        None => Err(ImageError::Malformed { what, why: format!("it has no image for linux/{here}") }),
    }
}

fn layer(descriptor: &Descriptor) -> Result<Layer, ImageError> {
    let media_type = descriptor.media_type();
    let packing = match media_type {
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Packing::Tar,
        MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => Packing::Gzip,
        MediaType::Other(name) if name == "application/vnd.docker.image.rootfs.diff.tar.gzip" => Packing::Gzip,
        other => {
            let what = format!("layer {}", descriptor.digest());
            return Err(ImageError::Malformed {
                what,
                why: format!("its type {other} is neither tar nor tar+gzip; repack the image with gzip"),
            });
        }
    };
    Ok(Layer { digest: descriptor.digest().to_string(), packing })
}

/// A small blob whose content has the digest that it is named by.
fn verified(store: &Path, digest: &str) -> Result<Vec<u8>, ImageError> {
    use std::io::Read;
    let path = blob(store, digest)?;
    let mut bytes = Vec::new();
    let file = open(store, digest)?;
    file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ImageError::io(&path))?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(ImageError::Refused(format!("{digest} is over {DOCUMENT_BYTES_MAX} bytes")));
    }
    check(store, digest, &Sha256::digest(&bytes))?;
    Ok(bytes)
}

/// Compares a blob's real digest with its name.
pub(super) fn check(store: &Path, digest: &str, sha256: &[u8]) -> Result<(), ImageError> {
    let found = format!("sha256:{}", ::hex::encode(sha256));
    if found == digest {
        return Ok(());
    }
    Err(ImageError::Damaged { store: store.to_owned(), digest: digest.to_owned(), found })
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Malformed { what: what.to_owned(), why: error.to_string() })
}
