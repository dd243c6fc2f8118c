//! Writes an image: one uncompressed layer, over those of a base where there is one, a configuration and a manifest; the same
//! bytes for the same files on every machine. Times, owners and the order of a folder's entries never get in.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use dbird_core::Digest;
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, ImageConfiguration, ImageConfigurationBuilder, ImageManifestBuilder,
    MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};
use tar::{Builder, EntryType, Header};

use super::{
    Base, ImageError, Layout,
    artefact::{Entry, Kind, Source},
    elf,
    layout::{BlobWriter, descriptor},
};

/// Raised when the same files are packed to other bytes, so that no memory of old ones is used.
pub(super) const FORMAT: u32 = 1;

/// Who runs in the image: nobody in particular, by number since there is no /etc/passwd.
const USER: &str = "65532:65532";
/// How older registries name a compressed layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn describe(error: oci_spec::OciSpecError) -> ImageError {
    ImageError::io("describe", "the image")(io::Error::other(error))
}

/// Packs the files into the layout; the digest is that of the manifest.
pub(super) fn pack(layout: &Layout, source: &Source, base: &Base, service: &str) -> Result<Digest, ImageError> {
    let (layer, layer_bytes) = layer(layout, source)?;
    let place = Path::new("the image");
    let below = match base {
        Base::Empty => None,
        Base::Image(digest) => Some(Below::read(layout, digest)?),
    };
    let architecture = match (&below, source.entries.as_slice()) {
        (Some(below), _) => below.configuration.architecture().clone(),
        (None, [Entry { path, kind: Kind::File { .. }, .. }]) => Arch::from(elf::architecture(path)),
        (None, _) => Arch::from(elf::host()),
    };
    let config = config(source, below.as_ref().and_then(|below| below.configuration.config().as_ref()))?;
    let (mut layers, mut diff_ids) = below.map(Below::layers).unwrap_or_default();
    layers.push(descriptor(MediaType::ImageLayer, &layer, layer_bytes, place)?);
    diff_ids.push(layer.to_string());
    let root = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(describe)?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture)
        .os(Os::Linux)
        .config(config)
        .rootfs(root)
        .build()
        .map_err(describe)?;
    let (config, config_bytes) = layout.put(&configuration)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &config, config_bytes, place)?)
        .layers(layers)
        .build()
        .map_err(describe)?;
    let (digest, size_bytes) = layout.put(&manifest)?;
    layout.list(&digest, size_bytes, service)?;
    Ok(digest)
}

/// What the image says of itself. Of a base's words all stay but what it starts, and where.
fn config(source: &Source, below: Option<&Config>) -> Result<Config, ImageError> {
    let Some(below) = below else {
        let config = ConfigBuilder::default()
            .user(USER)
            .env([PATH.to_owned()])
            .entrypoint(source.entrypoint.clone())
            .working_dir(source.working_folder)
            .build();
        return config.map_err(describe);
    };
    let mut config = below.clone();
    let mut env = below.env().clone().unwrap_or_default();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.push(PATH.to_owned());
    }
    config.set_env(Some(env));
    // A base that names nobody runs as root, which a service has no need to.
    if below.user().as_deref().is_none_or(str::is_empty) {
        config.set_user(Some(USER.to_owned()));
    }
    config.set_entrypoint(Some(source.entrypoint.clone()));
    config.set_cmd(None);
    config.set_working_dir(Some(source.working_folder.to_owned()));
    Ok(config)
}

/// The image below.
struct Below {
    layers: Vec<Descriptor>,
    configuration: ImageConfiguration,
}

impl Below {
    fn read(layout: &Layout, digest: &Digest) -> Result<Self, ImageError> {
        let manifest = layout.manifest(digest)?;
        let configuration = layout.configuration(&manifest)?;
        let unusable =
            |why: String| ImageError::Unusable { digest: digest.clone(), place: "the project's images".into(), why };
        if *configuration.os() != Os::Linux {
            return Err(unusable(format!("it is for {}, not for linux", configuration.os())));
        }
        if configuration.rootfs().diff_ids().len() != manifest.layers().len() {
            return Err(unusable("its manifest and its configuration name different layers".to_owned()));
        }
        Ok(Below { layers: manifest.layers().clone(), configuration })
    }

    /// Its layers with their digests unpacked, the ways of naming them that are not OCI's put right.
    fn layers(self) -> (Vec<Descriptor>, Vec<String>) {
        let right = |mut layer: Descriptor| {
            if matches!(layer.media_type(), MediaType::Other(name) if name == DOCKER_LAYER) {
                layer.set_media_type(MediaType::ImageLayerGzip);
            }
            layer
        };
        (self.layers.into_iter().map(right).collect(), self.configuration.rootfs().diff_ids().clone())
    }
}

/// The layer is not compressed: that would take longer than anything else here, and its bytes would hang on the version
/// of the compressor.
fn layer(layout: &Layout, source: &Source) -> Result<(Digest, u64), ImageError> {
    let mut tar = Builder::new(layout.writer()?);
    let folder = |tar: &mut Builder<BlobWriter>, name: &str, mode| {
        let mut header = header(EntryType::Directory, 0, mode);
        tar.append_data(&mut header, format!("{name}/"), io::empty()).map_err(ImageError::io("pack", name))
    };
    folder(&mut tar, "tmp", 0o1777)?;
    if source.working_folder == "/app" {
        folder(&mut tar, "app", 0o755)?;
    } else {
        for name in ["usr", "usr/local", "usr/local/bin"] {
            folder(&mut tar, name, 0o755)?;
        }
    }
    for entry in &source.entries {
        append(&mut tar, entry)?;
    }
    tar.into_inner().map_err(ImageError::io("pack", "the layer"))?.finish()
}

fn append(tar: &mut Builder<BlobWriter>, entry: &Entry) -> Result<(), ImageError> {
    let Entry { path, name, kind, .. } = entry;
    match kind {
        Kind::Folder => {
            let mut header = header(EntryType::Directory, 0, 0o755);
            tar.append_data(&mut header, name.join(""), io::empty()).map_err(ImageError::io("pack", path))
        }
        Kind::Link { target } => {
            let mut header = header(EntryType::Symlink, 0, 0o777);
            tar.append_link(&mut header, name, target).map_err(ImageError::io("pack", path))
        }
        Kind::File { size_bytes, executable } => {
            let mut header = header(EntryType::Regular, *size_bytes, if *executable { 0o755 } else { 0o644 });
            let mut file = File::open(path).map_err(ImageError::io("open", path))?;
            let changed = || ImageError::Changed { path: path.clone() };
            // Exactly as many bytes as the header says, or the layer would be broken from here on.
            let mut exact = Exact { file: &mut file, left_bytes: *size_bytes };
            tar.append_data(&mut header, name, &mut exact).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => changed(),
                _ => ImageError::io("pack", path)(e),
            })?;
            let now = file.metadata().map_err(ImageError::io("look at", path))?;
            if entry.is_unchanged(&now) { Ok(()) } else { Err(changed()) }
        }
    }
}

fn header(kind: EntryType, size_bytes: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size_bytes);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Reads so many bytes, no more and no fewer.
struct Exact<'f> {
    file: &'f mut File,
    left_bytes: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        let read = self.file.read(&mut buffer[..length])?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left_bytes -= read as u64;
        Ok(read)
    }
}
