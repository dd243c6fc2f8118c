//! Images as folders: from an OCI layout, by the manifest's digest, to a file system that a process can be started from.
//! It decides what is trusted (what has the digest that was asked for) and never fetches anything.

mod layer;
mod layout;
mod rootfs;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{self, Lasting};

pub use rootfs::resolve;

/// The file that makes an unpacked image complete; it is written last.
const CONFIG_FILE: &str = "image.json";

/// Why an image could not be unpacked.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The store has no such blob.
    #[error("the image store {} has no blob {digest}", store.display())]
    Missing {
        /// The layout's folder.
        store: PathBuf,
        /// The digest.
        digest: String,
    },
    /// Bytes that are not what their digest says.
    #[error("blob {digest} in {} is damaged: its content has digest {found}", store.display())]
    Damaged {
        /// The layout's folder.
        store: PathBuf,
        /// What was asked for.
        digest: String,
        /// What is there.
        found: String,
    },
    /// A digest, manifest or configuration that makes no sense.
    #[error("{what} can't be understood: {why}")]
    Malformed {
        /// Which part.
        what: String,
        /// Why.
        why: String,
    },
    /// A layer that would write outside of the image, or is too large to be meant.
    #[error("a layer is refused: {0}")]
    Refused(String),
    /// The disk.
    #[error("can't write {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    fn io(path: &Path) -> impl Fn(io::Error) -> ImageError {
        move |source| ImageError::Io { path: path.to_owned(), source }
    }
}

/// What an image says about how it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Program and arguments that come first.
    pub entrypoint: Vec<String>,
    /// Arguments (or, without an entry point, program and arguments) that may be replaced.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; `/` if not said.
    pub working_dir: String,
    /// As whom it starts; only containers heed it.
    pub user: String,
}

impl ImageConfig {
    /// Program and arguments.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// The value of an environment variable.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// An image as a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The manifest's digest.
    pub digest: String,
    /// The layout that it came from.
    pub store: PathBuf,
    /// Its file system.
    pub rootfs: PathBuf,
    /// How it is run.
    pub config: ImageConfig,
}

#[derive(Serialize, Deserialize)]
struct Complete {
    store: PathBuf,
    config: ImageConfig,
}

/// The image with this digest if it is already unpacked below `images`.
pub fn find(images: &Path, digest: &str) -> Option<Unpacked> {
    let folder = images.join(layout::hex(digest).ok()?);
    let complete: Complete = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    let rootfs = folder.join("rootfs");
    Some(Unpacked { digest: digest.to_owned(), store: complete.store, rootfs, config: complete.config })
}

/// Unpacks the image whose manifest has this digest from the OCI layout `store` into `images`, unless that was done
/// before. Every blob is checked against its digest; an image appears whole or not at all, also after a crash.
pub fn unpack(store: &Path, digest: &str, images: &Path) -> Result<Unpacked, ImageError> {
    let hex = layout::hex(digest)?;
    if let Some(unpacked) = find(images, digest) {
        return Ok(unpacked);
    }
    let image = layout::read(store, digest)?;
    files::make_folder(images).map_err(ImageError::io(images))?;
    let temporary = images.join(format!(".{hex}.{}.tmp", std::process::id()));
    let done = fill(store, &image, &temporary).and_then(|()| settle(&temporary, &images.join(hex)));
    if done.is_err() {
        // The first error is the one to report.
        let _ = files::remove_folder(&temporary);
    }
    done?;
    find(images, digest).ok_or_else(|| ImageError::Malformed {
        what: format!("the unpacked image {}", images.join(hex).display()),
        why: "its description is gone again".to_owned(),
    })
}

fn fill(store: &Path, image: &layout::Image, temporary: &Path) -> Result<(), ImageError> {
    files::remove_folder(temporary).map_err(ImageError::io(temporary))?;
    let rootfs = temporary.join("rootfs");
    files::make_folder(&rootfs).map_err(ImageError::io(&rootfs))?;
    let mut bounds = layer::Bounds::default();
    for layer in &image.layers {
        layer::apply(store, layer, &rootfs, &mut bounds)?;
    }
    let complete = Complete { store: store.to_owned(), config: image.config.clone() };
    let bytes = serde_json::to_vec_pretty(&complete).map_err(|error| ImageError::Malformed {
        what: "the image's configuration".to_owned(),
        why: error.to_string(),
    })?;
    let path = temporary.join(CONFIG_FILE);
    files::replace(&path, &bytes, Lasting::PowerCut).map_err(ImageError::io(&path))
}

/// Gives the folder its final name. Somebody else may have been quicker with the same image, which is as good.
fn settle(temporary: &Path, folder: &Path) -> Result<(), ImageError> {
    if !folder.join(CONFIG_FILE).exists() {
        files::remove_folder(folder).map_err(ImageError::io(folder))?;
        fs::rename(temporary, folder).map_err(ImageError::io(folder))
    } else {
        files::remove_folder(temporary).map_err(ImageError::io(temporary))
    }
}

/// Removes every unpacked image but those with the digests in `keep`, and what unfinished unpacking left.
pub fn collect(images: &Path, keep: &BTreeSet<String>) -> io::Result<()> {
    for name in files::names(images)? {
        if !keep.contains(&format!("sha256:{name}")) {
            files::remove_folder(&images.join(name))?;
        }
    }
    Ok(())
}
