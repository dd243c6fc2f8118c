//! From a project's artefact to an image that is named by its digest, without a container engine. Nothing here decides
//! what runs; the digest of what was built says it.

mod artefact;
mod build;
mod cache;
mod elf;
mod error;
mod layout;
mod pack;
mod prune;
mod reference;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Instant};

use dbird_core::{
    ImageRef, Spec,
    spec::{Artefact, Build, Runtime},
};

pub(crate) use artefact::cargo_target;
pub(crate) use build::run as run_build;
pub(crate) use error::ImageError;
pub(crate) use layout::Layout;
pub(crate) use prune::prune;
pub(crate) use reference::ImageArgument;

/// The project's own images, relative to its folder.
pub(crate) const FOLDER: &str = ".dbird/images";

/// An image and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// The image.
    pub(crate) image: ImageRef,
    /// It was there already.
    pub(crate) reused: bool,
    /// How long packing took.
    pub(crate) took_ms: u64,
}

/// Refuses early what no build command can make good.
pub(crate) fn check(build: &Build) -> Result<(), ImageError> {
    match build.base.as_str() {
        "scratch" => Ok(()),
        base => Err(ImageError::Base { base: base.to_owned() }),
    }
}

/// Packs what the build command has left behind. Blocks.
pub(crate) fn pack(
    project: &Path,
    spec: &Spec,
    build: &Build,
    cargo_target: Option<&Path>,
) -> Result<Made, ImageError> {
    let started = Instant::now();
    check(build)?;
    let path = artefact::locate(project, build, cargo_target)?;
    let layout = Layout::create(&project.join(FOLDER))?;
    let source = artefact::Source::scan(project, &path, &build.artefact)?;
    if let (Artefact::Binary { .. }, Runtime::Podman) = (&build.artefact, spec.local.runtime) {
        elf::require_static(&path)?;
    }
    let cache = cache::Cache::open(project);
    let fingerprint = source.fingerprint();
    let (digest, reused) = match cache.get(&fingerprint).filter(|d| layout.holds(d)) {
        Some(digest) => {
            layout.touch(&digest);
            (digest, true)
        }
        None => {
            let digest = pack::pack(&layout, &source, &spec.service.name)?;
            cache.put(&fingerprint, &digest);
            (digest, false)
        }
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Made { image: ImageRef { repository: format!("oci:{FOLDER}"), digest }, reused, took_ms })
}
