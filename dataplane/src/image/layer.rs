//! One layer onto a root file system. It decides which entries are taken; nothing that it writes or removes lies
//! outside of the root, and nothing becomes a device, an owner's change or a set-user-id program.

use std::collections::HashSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::layout::{self, Layer, Packing};
use super::{ImageError, resolve};

/// Most entries of all layers together.
const ENTRIES_MAX: u64 = 1_000_000;
/// Most bytes of all files together.
const BYTES_MAX: u64 = 32 << 30;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// What was used up so far.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    entries: u64,
    bytes: u64,
}

impl Bounds {
    fn take(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > ENTRIES_MAX || self.bytes > BYTES_MAX {
            return Err(ImageError::Refused(format!(
                "the image has over {ENTRIES_MAX} files or {} GiB",
                BYTES_MAX >> 30
            )));
        }
        Ok(())
    }
}

/// Puts a layer's files into `root`; the blob's digest is checked on the way.
pub(super) fn apply(store: &Path, layer: &Layer, root: &Path, bounds: &mut Bounds) -> Result<(), ImageError> {
    let mut blob =
        Hashing { inner: BufReader::with_capacity(1 << 16, layout::open(store, &layer.digest)?), sha: Sha256::new() };
    let applied = match layer.packing {
        Packing::Tar => entries(&mut blob, root, bounds),
        Packing::Gzip => entries(&mut MultiGzDecoder::new(&mut blob), root, bounds),
    };
    // What comes after the archive's end belongs to the blob as well. A damaged blob explains every other error.
    let path = layout::blob(store, &layer.digest)?;
    io::copy(&mut blob, &mut io::sink()).map_err(ImageError::io(&path))?;
    layout::check(store, &layer.digest, &blob.sha.finalize())?;
    applied
}

struct Hashing<R> {
    inner: R,
    sha: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sha.update(&buffer[..read]);
        Ok(read)
    }
}

fn entries(tar: &mut dyn Read, root: &Path, bounds: &mut Bounds) -> Result<(), ImageError> {
    let unreadable = |error: io::Error| ImageError::Malformed { what: "a layer".to_owned(), why: error.to_string() };
    let mut archive = Archive::new(tar);
    let mut own = HashSet::new();
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        bounds.take(entry.size())?;
        let named = entry.path().map_err(unreadable)?.into_owned();
        let Some(path) = inside(&named)? else { continue };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let folder = resolve(root, path.parent().unwrap_or(Path::new("")), true).map_err(ImageError::io(&named))?;
        let place = |name: &str| folder.join(name);
        if name == OPAQUE {
            clear(&folder, &own)?;
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // `.wh...` would name the parent folder.
            if !hidden.is_empty() && hidden != "." && hidden != ".." {
                remove(&place(hidden))?;
            }
        } else {
            let place = match path.file_name() {
                Some(name) => folder.join(name),
                None => folder,
            };
            put(entry, &place, root)?;
            own.insert(place);
        }
    }
    Ok(())
}

/// The entry's path relative to the root; none for the root itself.
fn inside(named: &Path) -> Result<Option<PathBuf>, ImageError> {
    let mut path = PathBuf::new();
    for component in named.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ImageError::Refused(format!("`{}` leads out of the image", named.display())));
            }
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

fn put(mut entry: Entry<'_, &mut dyn Read>, place: &Path, root: &Path) -> Result<(), ImageError> {
    let wrong = ImageError::io(place);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(&wrong)?;
    }
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    match entry.header().entry_type() {
        EntryType::Directory => {
            if !fs::symlink_metadata(place).is_ok_and(|there| there.is_dir()) {
                remove(place)?;
                fs::create_dir(place).map_err(&wrong)?;
            }
            fs::set_permissions(place, Permissions::from_mode(mode | 0o700)).map_err(&wrong)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            remove(place)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode | 0o400).open(place).map_err(&wrong)?;
            io::copy(&mut entry, &mut file).map_err(&wrong)?;
            // The mode at opening was narrowed by the umask.
            file.set_permissions(Permissions::from_mode(mode | 0o400)).map_err(&wrong)
        }
        EntryType::Symlink => {
            let target = link(&entry, place)?;
            remove(place)?;
            symlink(target, place).map_err(&wrong)
        }
        EntryType::Link => {
            let target = resolve(root, &link(&entry, place)?, false).map_err(&wrong)?;
            if target != place {
                remove(place)?;
                hard_link(&target, place).map_err(&wrong)?;
            }
            Ok(())
        }
        // Devices and pipes: nothing that a process started from the folder could use.
        _ => Ok(()),
    }
}

fn hard_link(target: &Path, place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target)?.file_type() {
        kind if kind.is_symlink() => symlink(fs::read_link(target)?, place),
        kind if kind.is_file() => fs::hard_link(target, place),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a hard link to something that is no file")),
    }
}

fn link(entry: &Entry<'_, &mut dyn Read>, place: &Path) -> Result<PathBuf, ImageError> {
    let malformed =
        || ImageError::Malformed { what: format!("the link {}", place.display()), why: "it has no target".to_owned() };
    Ok(entry.link_name().ok().flatten().ok_or_else(malformed)?.into_owned())
}

/// Removes what lower layers put into a folder.
fn clear(folder: &Path, own: &HashSet<PathBuf>) -> Result<(), ImageError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(ImageError::io(folder))?.path();
        if own.contains(&path) {
            continue;
        }
        if path.is_dir() && own.iter().any(|other| other.starts_with(&path)) {
            clear(&path, own)?;
        } else {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), ImageError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(ImageError::io(path))
}
