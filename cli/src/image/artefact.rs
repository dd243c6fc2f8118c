//! What goes into the image: where the build command left it, and which files, in which order. Nothing is read here but
//! names and metadata.

use std::{
    env, fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use dbird_core::spec::{Artefact, Build};
use sha2::{Digest as _, Sha256};

use super::ImageError;

/// Everything that is packed, in the order in which it is packed.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) entries: Vec<Entry>,
    /// The image's entry point.
    pub(super) entrypoint: Vec<String>,
    /// The image's working folder.
    pub(super) working_folder: &'static str,
}

/// A file, folder or link of the image.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is found.
    pub(super) path: PathBuf,
    /// Where it goes, relative to the image's root.
    pub(super) name: PathBuf,
    pub(super) kind: Kind,
    /// Size, device, inode and times: if these are as they were, so is the content.
    stamp: [i64; 7],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { size_bytes: u64, executable: bool },
    Link { target: PathBuf },
}

/// Where the artefact is. What cargo builds lies in its own target folder, wherever that is.
pub(super) fn locate(project: &Path, build: &Build, cargo_target: Option<&Path>) -> Result<PathBuf, ImageError> {
    let (what, given) = match &build.artefact {
        Artefact::Binary { path } => ("the binary", path),
        Artefact::Folder { path, .. } => ("the folder", path),
    };
    let path = match (cargo_target, Path::new(given).strip_prefix("target")) {
        (Some(target), Ok(rest)) => target.join(rest),
        _ => project.join(given),
    };
    let built = !build.command.is_empty();
    if path.exists() { Ok(path) } else { Err(ImageError::Missing { what, path, built }) }
}

/// Cargo's target folder, where cargo builds: as the environment says, else as cargo itself says. Blocks for a moment.
pub(crate) fn cargo_target(project: &Path, build: &Build) -> Option<PathBuf> {
    let program = Path::new(build.command.first()?);
    if program.file_name()? != "cargo" {
        return None;
    }
    let given = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].into_iter().find_map(env::var_os);
    if let Some(folder) = given.filter(|f| !f.is_empty()) {
        return Some(project.join(folder));
    }
    let mut metadata = Command::new(program);
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(project);
    let told = metadata.stdin(Stdio::null()).output().ok().filter(|o| o.status.success())?;
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).ok()?;
    metadata["target_directory"].as_str().map(PathBuf::from)
}

impl Source {
    /// Lists what is to be packed.
    pub(super) fn scan(project: &Path, path: &Path, artefact: &Artefact) -> Result<Self, ImageError> {
        match artefact {
            Artefact::Binary { .. } => Self::binary(path),
            Artefact::Folder { entrypoint, .. } => Self::folder(project, path, entrypoint),
        }
    }

    fn binary(path: &Path) -> Result<Self, ImageError> {
        let metadata = fs::metadata(path).map_err(ImageError::io("look at", path))?;
        let name = path.file_name().unwrap_or_default();
        if !metadata.is_file() {
            return Err(ImageError::WrongKind { path: path.to_owned(), wanted: "a file" });
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(ImageError::WrongKind { path: path.to_owned(), wanted: "executable" });
        }
        let kind = Kind::File { size_bytes: metadata.len(), executable: true };
        let target = Path::new("usr/local/bin").join(name);
        let entrypoint = Path::new("/").join(&target).to_str().map(str::to_owned);
        let Some(entrypoint) = entrypoint else {
            return Err(ImageError::WrongKind { path: path.to_owned(), wanted: "named in UTF-8" });
        };
        let entry = Entry { path: path.to_owned(), name: target, kind, stamp: stamp(&metadata) };
        Ok(Source { entries: vec![entry], entrypoint: vec![entrypoint], working_folder: "/" })
    }

    fn folder(project: &Path, root: &Path, entrypoint: &[String]) -> Result<Self, ImageError> {
        if !fs::metadata(root).map_err(ImageError::io("look at", root))?.is_dir() {
            return Err(ImageError::WrongKind { path: root.to_owned(), wanted: "a folder" });
        }
        // dbird's own folder holds the images themselves and the secrets.
        let own = fs::canonicalize(project.join(".dbird")).ok();
        let mut entries = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for child in fs::read_dir(&folder).map_err(ImageError::io("read", &folder))? {
                let path = child.map_err(ImageError::io("read", &folder))?.path();
                let metadata = fs::symlink_metadata(&path).map_err(ImageError::io("look at", &path))?;
                // The history of the sources isn't part of the service, and changes when nothing else does.
                if child_is_own(&path, own.as_deref()) || path.file_name().is_some_and(|n| n == ".git") {
                    continue;
                }
                let kind = kind(&path, &metadata)?;
                if kind == Kind::Folder {
                    open.push(path.clone());
                }
                let name = Path::new("app").join(path.strip_prefix(root).unwrap_or(&path));
                entries.push(Entry { path, name, kind, stamp: stamp(&metadata) });
            }
        }
        // By components, so that a folder comes right before what is in it.
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Source { entries, entrypoint: entrypoint.to_vec(), working_folder: "/app" })
    }

    /// Names this state of the files without reading them.
    pub(super) fn fingerprint(&self) -> String {
        let mut sha = Sha256::new();
        let mut add = |bytes: &[u8]| {
            sha.update((bytes.len() as u64).to_le_bytes());
            sha.update(bytes);
        };
        add(&super::pack::FORMAT.to_le_bytes());
        self.entrypoint.iter().for_each(|a| add(a.as_bytes()));
        for Entry { path, name, kind, stamp } in &self.entries {
            add(path.as_os_str().as_encoded_bytes());
            add(name.as_os_str().as_encoded_bytes());
            match kind {
                Kind::Folder => add(b"folder"),
                Kind::File { size_bytes, executable } => {
                    add(&size_bytes.to_le_bytes());
                    add(&[u8::from(*executable)]);
                    stamp.iter().for_each(|s| add(&s.to_le_bytes()));
                }
                Kind::Link { target } => add(target.as_os_str().as_encoded_bytes()),
            }
        }
        hex::encode(sha.finalize())
    }
}

impl Entry {
    /// Nothing was written to the file since it was listed.
    pub(super) fn is_unchanged(&self, now: &fs::Metadata) -> bool {
        self.stamp == stamp(now)
    }
}

fn child_is_own(path: &Path, own: Option<&Path>) -> bool {
    path.file_name().is_some_and(|n| n == ".dbird") && own.is_some() && fs::canonicalize(path).ok().as_deref() == own
}

fn stamp(m: &fs::Metadata) -> [i64; 7] {
    let id = |n: u64| n.cast_signed();
    [id(m.size()), id(m.dev()), id(m.ino()), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]
}

fn kind(path: &Path, metadata: &fs::Metadata) -> Result<Kind, ImageError> {
    let kind = metadata.file_type();
    let special = |what| Err(ImageError::Special { path: path.to_owned(), what });
    if kind.is_dir() {
        Ok(Kind::Folder)
    } else if kind.is_file() {
        Ok(Kind::File { size_bytes: metadata.len(), executable: metadata.permissions().mode() & 0o111 != 0 })
    } else if kind.is_symlink() {
        Ok(Kind::Link { target: fs::read_link(path).map_err(ImageError::io("read", path))? })
    } else if kind.is_socket() {
        special("a socket")
    } else if kind.is_fifo() {
        special("a named pipe")
    } else {
        special("a device")
    }
}
