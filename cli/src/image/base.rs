//! The image that another one is built on: taken from its registry once, found in the project's own images from then on. It
//! never looks whether a tag has moved; a new name does that.

use std::{fs, path::Path, str::FromStr};

use dbird_core::{Digest, spec::Build};
use dbird_registry::{Credentials, Name, pull};

use super::{FOLDER, ImageError, Layout, cache::Cache};

/// How a base is listed among the project's images.
const LISTED_AS: &str = "base";

/// What a build stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Empty,
    /// An image in the project's own images.
    Image(Digest),
}

impl Base {
    /// Makes sure that the base is here.
    pub(crate) async fn take(project: &Path, build: &Build) -> Result<Self, ImageError> {
        let Some(name) = named(build)? else { return Ok(Base::Empty) };
        let layout = Layout::create(&project.join(FOLDER))?;
        let cache = Cache::open(project);
        let remembered = cache.get(&build.base).or_else(|| Digest::from_str(&name.which).ok());
        if let Some(digest) = remembered.filter(|digest| layout.holds(digest)) {
            layout.touch(&digest);
            return Ok(Base::Image(digest));
        }
        let digest = fetch(project, &layout, &name, LISTED_AS).await?;
        cache.put(&build.base, &digest);
        Ok(Base::Image(digest))
    }
}

/// The base's name; none for an empty one.
fn named(build: &Build) -> Result<Option<Name>, ImageError> {
    if build.base == "scratch" {
        return Ok(None);
    }
    Ok(Some(build.base.parse()?))
}

/// Takes an image from its registry into the project's images. The digest is that of the image for linux/amd64.
pub(super) async fn fetch(project: &Path, layout: &Layout, name: &Name, service: &str) -> Result<Digest, ImageError> {
    let folder = project.join(FOLDER);
    let pulled = pull(name, &Credentials::None, &folder).await?;
    let path = folder.join("blobs/sha256").join(pulled.trim_start_matches("sha256:"));
    let size_bytes = fs::metadata(&path).map_err(ImageError::io("look at", &path))?.len();
    let named_so = |why: String| ImageError::Reference { text: name.to_string(), why, hint: "name another image" };
    let digest = Digest::try_from(pulled).map_err(named_so)?;
    layout.list(&digest, size_bytes, service)?;
    Ok(digest)
}
