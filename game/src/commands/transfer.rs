//! Moves a backup's bytes to its target and back, a bounded piece at a time, and sums them up. What is at a target is whole or not
//! there at all; it decides nothing about what the bytes mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::place::nonce;
use super::target::Target;
use super::{Failure, failed};
use crate::folder::folder_of;

/// Bytes read at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of one part of an object: 10,000 parts are 80 GB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts that are on their way at the same time.
const PARTS_MAX: usize = 2;

/// What was moved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// Hexadecimal.
    pub(super) sha256: String,
}

#[derive(Default)]
struct Summing {
    bytes: u64,
    sha256: Sha256,
}

impl Summing {
    fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.sha256.update(piece);
    }

    fn finish(self) -> Sum {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Sum { bytes: self.bytes, sha256 }
    }
}

impl Target {
    /// Writes a file's bytes there; with `replace`, over what is there.
    pub(super) async fn put_file(&self, from: &Path, replace: bool) -> Result<Sum, Failure> {
        let mut source = File::open(from).map_err(failed(format!("{} can't be read", from.display())))?;
        let mut sum = Summing::default();
        match self {
            Self::File(path) => {
                let mut unfinished = Unfinished::make(path).map_err(failed(format!("{self} can't be written")))?;
                while let Some(piece) =
                    piece_of(&mut source).map_err(failed(format!("{} can't be read", from.display())))?
                {
                    sum.add(&piece);
                    unfinished.file.write_all(&piece).map_err(failed(format!("{self} can't be written")))?;
                    // So that a signal is heard.
                    tokio::task::yield_now().await;
                }
                unfinished.finish(path, replace).map_err(failed(format!("{self} can't be written")))?;
            }
            Self::Object { store, path, .. } => {
                let mut writer =
                    BufWriter::with_capacity(store.clone(), path.clone(), PART_BYTES).with_max_concurrency(PARTS_MAX);
                while let Some(piece) =
                    piece_of(&mut source).map_err(failed(format!("{} can't be read", from.display())))?
                {
                    sum.add(&piece);
                    if let Err(error) = writer.put(Bytes::from(piece)).await {
                        // Parts that were written cost money until they are given up.
                        drop(writer.abort().await);
                        return Err(failed(format!("{self} can't be written"))(error));
                    }
                    tokio::task::yield_now().await;
                }
                writer.shutdown().await.map_err(failed(format!("{self} can't be written")))?;
            }
        }
        Ok(sum.finish())
    }

    /// Writes a few bytes there; with `replace`, over what is there.
    pub(super) async fn put(&self, bytes: Vec<u8>, replace: bool) -> Result<(), Failure> {
        match self {
            Self::File(path) => Unfinished::make(path)
                .and_then(|mut unfinished| {
                    unfinished.file.write_all(&bytes)?;
                    unfinished.finish(path, replace)
                })
                .map_err(failed(format!("{self} can't be written"))),
            Self::Object { store, path, .. } => store
                .put(path, PutPayload::from(bytes))
                .await
                .map(|_| ())
                .map_err(failed(format!("{self} can't be written"))),
        }
    }

    /// Removes what was written, as far as that is possible.
    pub(super) async fn remove(&self) {
        match self {
            Self::File(path) => drop(fs::remove_file(path)),
            Self::Object { store, path, .. } => drop(store.delete(path).await),
        }
    }

    /// A few bytes from there; `None` if there is nothing.
    pub(super) async fn get(&self, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure> {
        let too_long = || Failure::new(format!("{self} is longer than {bytes_max} bytes"));
        match self {
            Self::File(path) => {
                let file = match File::open(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(failed(format!("{self} can't be read"))(error)),
                };
                let mut bytes = Vec::new();
                file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed(format!("{self} can't be read")))?;
                if bytes.len() as u64 > bytes_max { Err(too_long()) } else { Ok(Some(bytes)) }
            }
            Self::Object { store, path, .. } => {
                let found = match store.get(path).await {
                    Ok(found) => found,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(failed(format!("{self} can't be read"))(error)),
                };
                if found.meta.size > bytes_max {
                    return Err(too_long());
                }
                let bytes = found.bytes().await.map_err(failed(format!("{self} can't be read")))?;
                Ok(Some(bytes.to_vec()))
            }
        }
    }

    /// Writes what is there into a new file, at most so many bytes and a piece more.
    pub(super) async fn get_file(&self, to: &Path, bytes_max: u64) -> Result<Sum, Failure> {
        let writing = || format!("{} can't be written", to.display());
        let mut file = OpenOptions::new().write(true).create_new(true).open(to).map_err(failed(writing()))?;
        let sum = self.read(bytes_max, |piece| file.write_all(piece).map_err(failed(writing()))).await?;
        file.sync_all().map_err(failed(writing()))?;
        Ok(sum)
    }

    /// Reads what is there, at most so many bytes and a piece more.
    pub(super) async fn read(
        &self,
        bytes_max: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Sum, Failure> {
        let mut sum = Summing::default();
        match self {
            Self::File(path) => {
                let source = File::open(path).map_err(failed(format!("{self} can't be read")))?;
                let mut source = source.take(bytes_max.saturating_add(1));
                while let Some(piece) = piece_of(&mut source).map_err(failed(format!("{self} can't be read")))? {
                    sum.add(&piece);
                    each(&piece)?;
                    tokio::task::yield_now().await;
                }
            }
            Self::Object { store, path, .. } => {
                let found = store.get(path).await.map_err(failed(format!("{self} can't be read")))?;
                let mut pieces = found.into_stream();
                while let Some(piece) = pieces.next().await {
                    let piece = piece.map_err(failed(format!("{self} can't be read")))?;
                    sum.add(&piece);
                    each(&piece)?;
                    if sum.bytes > bytes_max {
                        break;
                    }
                }
            }
        }
        Ok(sum.finish())
    }
}

fn piece_of(source: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    source.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then_some(piece))
}

/// A file under a name that nobody looks for, removed unless it is finished.
struct Unfinished {
    file: File,
    path: PathBuf,
    done: bool,
}

impl Unfinished {
    fn make(target: &Path) -> io::Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.tmp", nonce()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, done: false })
    }

    /// Gives it its name, durably, unless something else has it by now that is not to be replaced.
    fn finish(mut self, target: &Path, replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if !replace && target.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.path, target)?;
        self.done = true;
        let folder = folder_of(target);
        File::open(folder)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            drop(fs::remove_file(&self.path));
        }
    }
}
