//! Images that the user names: `oci:FOLDER@sha256:DIGEST`, `REGISTRY/REPOSITORY@sha256:DIGEST`, or the bare digest of an image
//! that the project has. A name without a digest is refused: it could mean another image tomorrow.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use dbird_core::{Digest, ImageRef};
use dbird_registry::Name;

use super::{FOLDER, ImageError, Layout, base};

const LOCAL: &str = "oci:";
const HINT: &str = "name an image by digest: --image REGISTRY/REPOSITORY@sha256:DIGEST, or --image oci:FOLDER@sha256:DIGEST \
                    where FOLDER holds an OCI image layout";

/// The argument of `--image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageArgument {
    text: String,
    place: Place,
    digest: Digest,
}

/// Where a named image is found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Among the project's own images.
    Own,
    /// In a layout in this folder.
    Folder(PathBuf),
    /// In a registry.
    Registry(Name),
}

impl FromStr for ImageArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, digest) = text.rsplit_once('@').unwrap_or(("", text));
        let digest = digest.parse().map_err(|e: String| format!("{e}; {HINT}"))?;
        let place = match place.strip_prefix(LOCAL) {
            Some("") => return Err(format!("no folder is named; {HINT}")),
            Some(folder) => Place::Folder(PathBuf::from(folder)),
            None if place.is_empty() => Place::Own,
            None => Place::Registry(text.parse().map_err(|e| format!("{e}; {HINT}"))?),
        };
        Ok(ImageArgument { text: text.to_owned(), place, digest })
    }
}

impl ImageArgument {
    /// The image, checked, and copied to the project's own images so that it stays available to a rollback. A relative
    /// folder is relative to where the command runs.
    pub(crate) async fn take(&self, project: &Path, service: &str) -> Result<ImageRef, ImageError> {
        let ours = Layout::create(&project.join(FOLDER))?;
        let mut digest = self.digest.clone();
        match &self.place {
            Place::Own => ours.check(&self.digest).map(drop)?,
            Place::Registry(_) if ours.holds(&self.digest) => ours.check(&self.digest).map(drop)?,
            Place::Registry(name) => {
                // A list of images has another digest than the one of them that is for this platform.
                digest = base::fetch(project, &ours, name, service).await?;
                ours.check(&digest)?;
            }
            Place::Folder(folder) => {
                let theirs = Layout::open(folder).ok_or_else(|| ImageError::Reference {
                    text: self.text.clone(),
                    why: format!("{} holds no OCI image layout", folder.display()),
                    hint: HINT,
                })?;
                if !ours.holds(&self.digest) {
                    ours.import(&theirs, &self.digest, service)?;
                }
                ours.check(&self.digest)?;
            }
        }
        ours.touch(&digest);
        Ok(ImageRef { repository: format!("{LOCAL}{FOLDER}"), digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_name_images() {
        let digest = Digest::of(b"x");
        let registry = format!("registry.example.com/bird@{digest}");
        let good = [
            (format!("oci:some/folder@{digest}"), Place::Folder("some/folder".into())),
            (format!("oci:a@b@{digest}"), Place::Folder("a@b".into())),
            (digest.to_string(), Place::Own),
            (registry.clone(), Place::Registry(registry.parse().unwrap())),
        ];
        for (text, place) in good {
            let parsed: ImageArgument = text.parse().unwrap();
            assert_eq!((&parsed.place, &parsed.digest), (&place, &digest), "{text}");
        }
        let bad = [
            ("", "not a digest"),
            ("oci:folder", "not a digest"),
            ("bird:latest", "not a digest"),
            ("bird@sha256:12", "not a digest"),
            (&format!("oci:@{digest}"), "no folder"),
            (&format!("bird@{digest}"), "names no registry"),
            ("registry.example.com/bird:latest", "not a digest"),
        ];
        for (text, wanted) in bad {
            let error = text.parse::<ImageArgument>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
