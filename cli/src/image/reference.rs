//! Images that the user names: `oci:FOLDER@sha256:DIGEST`, or the bare digest of an image that the project has.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use dbird_core::{Digest, ImageRef};

use super::{FOLDER, ImageError, Layout};

const LOCAL: &str = "oci:";
const HINT: &str = "name an image by digest: --image oci:FOLDER@sha256:DIGEST, where FOLDER holds an OCI image layout";

/// The argument of `--image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageArgument {
    text: String,
    folder: Option<PathBuf>,
    digest: Digest,
}

impl FromStr for ImageArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, digest) = text.rsplit_once('@').unwrap_or(("", text));
        let digest = digest.parse().map_err(|e: String| format!("{e}; {HINT}"))?;
        let folder = match place.strip_prefix(LOCAL) {
            Some("") => return Err(format!("no folder is named; {HINT}")),
            Some(folder) => Some(PathBuf::from(folder)),
            None if place.is_empty() => None,
            None => {
                return Err(format!("this version deploys images from a folder, not from a registry; {HINT}"));
            }
        };
        Ok(ImageArgument { text: text.to_owned(), folder, digest })
    }
}

impl ImageArgument {
    /// The image, checked, and copied to the project's own images so that it stays available to a rollback. A relative
    /// folder is relative to where the command runs.
    pub(crate) fn take(&self, project: &Path, service: &str) -> Result<ImageRef, ImageError> {
        let ours = Layout::create(&project.join(FOLDER))?;
        let image = ImageRef { repository: format!("{LOCAL}{FOLDER}"), digest: self.digest.clone() };
        match &self.folder {
            None => ours.check(&self.digest).map(drop)?,
            Some(folder) => {
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
        ours.touch(&self.digest);
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_name_images() {
        let digest = Digest::of(b"x");
        let good = [
            (format!("oci:some/folder@{digest}"), Some("some/folder")),
            (format!("oci:a@b@{digest}"), Some("a@b")),
            (digest.to_string(), None),
        ];
        for (text, folder) in good {
            let parsed: ImageArgument = text.parse().unwrap();
            assert_eq!((parsed.folder.as_deref(), &parsed.digest), (folder.map(Path::new), &digest), "{text}");
        }
        let bad = [
            ("", "not a digest"),
            ("oci:folder", "not a digest"),
            ("bird:latest", "not a digest"),
            ("bird@sha256:12", "not a digest"),
            (&format!("oci:@{digest}"), "no folder"),
            (&format!("registry.example.com/bird@{digest}"), "not from a registry"),
        ];
        for (text, wanted) in bad {
            let error = text.parse::<ImageArgument>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
