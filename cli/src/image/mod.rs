//! From a project's artefact to an image that is named by its digest, without a container engine. Nothing here decides
//! what runs; the digest of what was built says it.

mod artefact;
mod base;
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
    spec::{Artefact, Build},
};

pub(crate) use artefact::cargo_target;
pub(crate) use base::Base;
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

/// Packs what the build command has left behind. Blocks. An image that will run `alone` has nothing of the machine that it was
/// built on, its loader included.
pub(crate) fn pack(
    project: &Path,
    spec: &Spec,
    build: &Build,
    base: &Base,
    alone: bool,
    cargo_target: Option<&Path>,
) -> Result<Made, ImageError> {
    let started = Instant::now();
    let path = artefact::locate(project, build, cargo_target)?;
    let layout = Layout::create(&project.join(FOLDER))?;
    let source = artefact::Source::scan(project, &path, &build.artefact)?;
    if let (Artefact::Binary { .. }, true, Base::Empty) = (&build.artefact, alone, base) {
        elf::require_static(&path)?;
    }
    let cache = cache::Cache::open(project);
    let fingerprint = match base {
        Base::Empty => source.fingerprint(),
        Base::Image(digest) => format!("{} on {digest}", source.fingerprint()),
    };
    let (digest, reused) = match cache.get(&fingerprint).filter(|d| layout.holds(d)) {
        Some(digest) => {
            layout.touch(&digest);
            (digest, true)
        }
        None => {
            let digest = pack::pack(&layout, &source, base, &spec.service.name)?;
            cache.put(&fingerprint, &digest);
            (digest, false)
        }
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Made { image: ImageRef { repository: format!("oci:{FOLDER}"), digest }, reused, took_ms })
}
