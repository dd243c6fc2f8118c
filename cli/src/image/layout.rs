//! An OCI image layout in a folder: blobs by digest, written whole or not at all, and an index that lists images. Several
//! processes may write to one at the same time.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use dbird_core::Digest;
use oci_spec::image::{
    ANNOTATION_REF_NAME, ANNOTATION_TITLE, Descriptor, DescriptorBuilder, ImageConfiguration, ImageIndex,
    ImageManifest, MediaType,
};
use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::ImageError;

/// A manifest, index or configuration larger than this is none.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// What an interrupted writer left behind is taken away after this long.
const STALE: Duration = Duration::from_secs(3600);
/// How blobs are called until they are whole.
const PARTIAL: &str = ".partial-";

/// The folder of a layout.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// A layout that can be written to; made where it isn't there.
    pub(crate) fn create(folder: &Path) -> Result<Self, ImageError> {
        let layout = Layout { folder: folder.to_owned() };
        let blobs = layout.blobs();
        fs::create_dir_all(&blobs).map_err(ImageError::io("create", &blobs))?;
        let marker = folder.join("oci-layout");
        if !marker.exists() {
            layout.replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(layout)
    }

    /// A layout that is there.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        folder.join("oci-layout").is_file().then(|| Layout { folder: folder.to_owned() })
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether an image is there with all its parts, as far as names and sizes tell.
    pub(crate) fn holds(&self, manifest: &Digest) -> bool {
        let Ok(found) = self.manifest(manifest) else { return false };
        let whole = |d: &Descriptor| {
            own(d).is_some_and(|digest| fs::metadata(self.blob(&digest)).is_ok_and(|m| m.len() == d.size()))
        };
        whole(found.config()) && found.layers().iter().all(whole)
    }

    /// An image's manifest.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<ImageManifest, ImageError> {
        match self.document::<ImageManifest>(digest) {
            Ok(manifest) => Ok(manifest),
            Err(error) => Err(match self.document::<ImageIndex>(digest) {
                Ok(index) => self.unusable(digest, several(&index)),
                Err(_) => error,
            }),
        }
    }

    /// An image's configuration.
    pub(crate) fn configuration(&self, manifest: &ImageManifest) -> Result<ImageConfiguration, ImageError> {
        let digest = own(manifest.config()).unwrap_or_else(|| Digest::of(b""));
        self.document(&digest)
    }

    /// Checks that an image can be run: all its parts are there, and it says what to start.
    pub(crate) fn check(&self, digest: &Digest) -> Result<ImageManifest, ImageError> {
        let manifest = self.manifest(digest)?;
        let configuration = self.configuration(&manifest)?;
        if !self.holds(digest) {
            return Err(self.unusable(digest, "some of its layers are missing or cut short".to_owned()));
        }
        let config = configuration.config().clone().unwrap_or_default();
        let starts = [config.entrypoint(), config.cmd()].into_iter().flatten().any(|c| !c.is_empty());
        if starts {
            Ok(manifest)
        } else {
            Err(self.unusable(digest, "it names no program to start (no entry point and no command)".to_owned()))
        }
    }

    /// Copies an image from another layout, so that it stays when that one goes.
    pub(crate) fn import(&self, other: &Layout, digest: &Digest, service: &str) -> Result<(), ImageError> {
        let manifest = other.check(digest)?;
        let parts = manifest.layers().iter().chain([manifest.config()]).filter_map(own);
        for part in parts.chain([digest.clone()]) {
            let from = other.blob(&part);
            let mut reader = File::open(&from).map_err(ImageError::io("open", &from))?;
            let mut writer = self.writer()?;
            io::copy(&mut reader, &mut writer).map_err(ImageError::io("copy", &from))?;
            let (found, _) = writer.finish()?;
            if found != part {
                return Err(other.unusable(digest, format!("{} does not hold what its name says", from.display())));
            }
        }
        let size = fs::metadata(self.blob(digest)).map_err(ImageError::io("look at", self.blob(digest)))?.len();
        self.list(digest, size, service)
    }

    /// Where a part of an image lies.
    #[cfg(test)]
    pub(crate) fn blob_of(&self, part: &Descriptor) -> Option<PathBuf> {
        own(part).map(|digest| self.blob(&digest))
    }

    /// The images that the index lists.
    pub(crate) fn listed(&self) -> Vec<Digest> {
        let index = read::<ImageIndex>(&self.folder.join("index.json"));
        index.map(|i| i.manifests().iter().filter_map(own).collect()).unwrap_or_default()
    }

    /// Notes that an image is about to be used, so that it is not taken away before a release names it.
    pub(crate) fn touch(&self, image: &Digest) {
        // Without it, the image's age is that of its first use.
        let _ = File::open(self.blob(image)).and_then(|f| f.set_modified(SystemTime::now()));
    }

    /// How long ago an image was last about to be used; none where that can't be told.
    pub(crate) fn idle_since(&self, image: &Digest) -> Option<Duration> {
        let used = fs::metadata(self.blob(image)).and_then(|m| m.modified()).ok()?;
        SystemTime::now().duration_since(used).ok()
    }

    /// Takes images away, with the parts that no needed image shares. The number of blobs that went.
    pub(crate) fn remove(&self, images: &[Digest], needed: &BTreeSet<Digest>) -> Result<usize, ImageError> {
        let _lock = self.lock()?;
        let path = self.folder.join("index.json");
        let mut index = read::<ImageIndex>(&path).map_err(ImageError::io("read", &path))?;
        let goes = |d: &Descriptor| own(d).is_some_and(|d| images.contains(&d));
        let (gone, kept): (Vec<_>, Vec<_>) = index.manifests().iter().cloned().partition(goes);
        let parts = |digest: &Digest| -> Vec<Digest> {
            let manifest = self.manifest(digest).ok();
            let parts = manifest.iter().flat_map(|m| m.layers().iter().chain([m.config()]).filter_map(own));
            parts.chain([digest.clone()]).collect()
        };
        let still: BTreeSet<Digest> =
            kept.iter().filter_map(own).chain(needed.iter().cloned()).flat_map(|d| parts(&d)).collect();
        let blobs: BTreeSet<Digest> =
            gone.iter().filter_map(own).flat_map(|d| parts(&d)).filter(|d| !still.contains(d)).collect();
        // First out of the index: a listed image is always whole.
        index.set_manifests(kept);
        self.write_index(&path, &index)?;
        Ok(blobs.iter().filter(|d| fs::remove_file(self.blob(d)).is_ok()).count())
    }

    /// Writes a document as a blob. Its keys are sorted, so equal documents are equal blobs.
    pub(super) fn put(&self, document: &impl Serialize) -> Result<(Digest, u64), ImageError> {
        let blobs = self.blobs();
        let to_bytes = || serde_json::to_value(document).and_then(|v| serde_json::to_vec(&v)).map_err(io::Error::from);
        let bytes = to_bytes().map_err(ImageError::io("write", &blobs))?;
        let mut writer = self.writer()?;
        writer.write_all(&bytes).map_err(ImageError::io("write", &blobs))?;
        writer.finish()
    }

    /// A blob that is being written.
    pub(super) fn writer(&self) -> Result<BlobWriter, ImageError> {
        let folder = self.blobs();
        let file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&folder);
        let file = file.map_err(ImageError::io("write to", &folder))?;
        Ok(BlobWriter { folder, file: BufWriter::with_capacity(1 << 16, file), sha: Sha256::new(), size_bytes: 0 })
    }

    /// Lists an image in the index.
    pub(super) fn list(&self, manifest: &Digest, size_bytes: u64, service: &str) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        self.sweep();
        let path = self.folder.join("index.json");
        let mut index = match read::<ImageIndex>(&path) {
            Ok(index) => index,
            // Not there yet, or not an index: every image can be found by its digest without one.
            Err(_) => empty_index(&path)?,
        };
        if index.manifests().iter().any(|d| d.digest().as_ref() == manifest.as_str()) {
            return Ok(());
        }
        // The reference name is how other tools pick one image of a layout: `skopeo copy oci:.dbird/images:NAME ...`.
        let annotations = HashMap::from([
            (ANNOTATION_TITLE.to_owned(), service.to_owned()),
            (ANNOTATION_REF_NAME.to_owned(), manifest.short().to_owned()),
        ]);
        let mut descriptor = descriptor(MediaType::ImageManifest, manifest, size_bytes, &path)?;
        descriptor.set_annotations(Some(annotations));
        let mut manifests = index.manifests().clone();
        manifests.push(descriptor);
        index.set_manifests(manifests);
        self.write_index(&path, &index)
    }

    fn write_index(&self, path: &Path, index: &ImageIndex) -> Result<(), ImageError> {
        let bytes = serde_json::to_value(index).and_then(|v| serde_json::to_vec(&v)).map_err(io::Error::from);
        self.replace(path, &bytes.map_err(ImageError::io("write", path))?)
    }

    /// One writer of the index at a time. The kernel gives the lock back when its holder dies, however it dies.
    fn lock(&self) -> Result<File, ImageError> {
        let lock = File::open(&self.folder).map_err(ImageError::io("open", &self.folder))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|e| ImageError::io("lock", &self.folder)(e.into()))?;
        Ok(lock)
    }

    /// Takes away what interrupted writers left. Only under the lock.
    fn sweep(&self) {
        for entry in fs::read_dir(self.blobs()).into_iter().flatten().flatten() {
            let old = |m: fs::Metadata| m.modified().ok().and_then(|t| SystemTime::now().duration_since(t).ok());
            let partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
            if partial && entry.metadata().ok().and_then(old).is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(ImageError::io("write", path))
    }

    fn document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, ImageError> {
        let path = self.blob(digest);
        read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImageError::NotFound { digest: digest.clone(), place: self.folder.clone() },
            io::ErrorKind::InvalidData => self.unusable(digest, error.to_string()),
            _ => ImageError::Io { action: "read", path, source: error },
        })
    }

    fn unusable(&self, digest: &Digest, why: String) -> ImageError {
        ImageError::Unusable { digest: digest.clone(), place: self.folder.clone(), why }
    }
}

/// A blob on its way: hashed while it is written, visible under its digest once it is whole and on the disk.
pub(super) struct BlobWriter {
    folder: PathBuf,
    file: BufWriter<NamedTempFile>,
    sha: Sha256,
    size_bytes: u64,
}

impl BlobWriter {
    pub(super) fn finish(self) -> Result<(Digest, u64), ImageError> {
        let BlobWriter { folder, file, sha, size_bytes } = self;
        let text = format!("sha256:{}", hex::encode(sha.finalize()));
        let finish = || -> io::Result<Digest> {
            let digest = Digest::try_from(text).map_err(io::Error::other)?;
            let target = folder.join(digest.hex());
            // The same content may be there already; a whole blob is never touched again.
            if fs::metadata(&target).is_ok_and(|m| m.len() == size_bytes) {
                return Ok(digest);
            }
            let file = file.into_inner().map_err(|e| e.into_error())?;
            file.as_file().sync_all()?;
            file.persist(&target)?;
            Ok(digest)
        };
        finish().map(|digest| (digest, size_bytes)).map_err(ImageError::io("write to", &folder))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A descriptor of one of our blobs.
pub(super) fn descriptor(kind: MediaType, digest: &Digest, size: u64, path: &Path) -> Result<Descriptor, ImageError> {
    let made = oci_spec::image::Digest::try_from(digest.as_str())
        .and_then(|digest| DescriptorBuilder::default().media_type(kind).digest(digest).size(size).build());
    made.map_err(|e| ImageError::io("describe", path)(io::Error::other(e)))
}

/// A descriptor's digest, if it is of the one kind that we use.
fn own(descriptor: &Descriptor) -> Option<Digest> {
    Digest::try_from(descriptor.digest().to_string()).ok()
}

fn several(index: &ImageIndex) -> String {
    let one = |d: &Descriptor| {
        let platform = d.platform().as_ref().map(|p| format!(" ({}/{})", p.os(), p.architecture()));
        format!("{}{}", d.digest(), platform.unwrap_or_default())
    };
    let images: Vec<_> = index.manifests().iter().map(one).collect();
    format!("it is a list of images; name one of them: {}", images.join(", "))
}

fn empty_index(path: &Path) -> Result<ImageIndex, ImageError> {
    let made = oci_spec::image::ImageIndexBuilder::default()
        .schema_version(oci_spec::image::SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(Vec::new())
        .build();
    made.map_err(|e| ImageError::io("write", path)(io::Error::other(e)))
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(path)?.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
