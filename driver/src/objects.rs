//! A [`Store`] on the `object_store` crate. In this version that is a folder; numbers lie in sub-folders of 500, so that
//! finding the last ones never lists more than that, however long the history.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use dbird_core::{Cloud, Target};
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, local::LocalFileSystem,
    path::Path as ObjectPath,
};

use crate::store::{Series, Store, StoreError};

/// Numbers in one sub-folder.
const SHARD: u64 = 500;
/// An object larger than this is not read.
const OBJECT_BYTES_MAX: u64 = 16 << 20;

/// Opens the store of a state URL for one service in one environment. `file:` paths are relative to the project's folder.
/// Nothing is made before the first write.
pub fn open_store(url: &str, project: &Path, cloud: Cloud, target: &Target) -> Result<Arc<dyn Store>, StoreError> {
    let Some(path) = url.strip_prefix("file:") else {
        return Err(StoreError {
            what: format!("state can't be kept at `{url}`: this version keeps it in folders"),
            retry: false,
            hint: Some(
                "write `[state] url = \"file:.dbird/state\"`; `s3:` and `az:` are not in this version".to_owned(),
            ),
            source: None,
        });
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    let folder = project.join(if path.is_empty() { "." } else { path });
    let prefix = ObjectPath::from_iter([cloud.name(), &target.service, &target.environment]);
    Ok(Arc::new(Objects { root: Root::Folder { folder, opened: OnceLock::new() }, prefix }))
}

/// A store on the `object_store` crate.
#[derive(Debug)]
pub struct Objects {
    root: Root,
    prefix: ObjectPath,
}

#[derive(Debug)]
enum Root {
    /// A folder, which is made by the first write. Objects are forced to disk, those of the lease apart: no power failure
    /// leaves a process behind that could hold one.
    Folder { folder: PathBuf, opened: OnceLock<(LocalFileSystem, LocalFileSystem)> },
    /// Any other.
    Any { objects: Arc<dyn ObjectStore>, place: String },
}

impl Objects {
    /// Under a prefix of any object store that can create an object only where there is none.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: &str, place: impl Into<String>) -> Self {
        Objects { root: Root::Any { objects, place: place.into() }, prefix: ObjectPath::from(prefix) }
    }

    /// None: the folder does not exist yet, and it is not to be made.
    fn objects(&self, series: Series, make: bool) -> Result<Option<&dyn ObjectStore>, StoreError> {
        let (folder, opened) = match &self.root {
            Root::Any { objects, .. } => return Ok(Some(&**objects)),
            Root::Folder { folder, opened } => (folder, opened),
        };
        if opened.get().is_none() {
            if !make && !folder.exists() {
                return Ok(None);
            }
            let fail = |what: &str, e: Box<dyn std::error::Error + Send + Sync>| StoreError {
                what: format!("the state's folder {} can't be {what}", folder.display()),
                retry: false,
                hint: Some("it must be a folder that you may write; `[state] url` names it".to_owned()),
                source: Some(e),
            };
            if make {
                std::fs::create_dir_all(folder).map_err(|e| fail("made", e.into()))?;
            }
            let files = LocalFileSystem::new_with_prefix(folder).map_err(|e| fail("opened", e.into()))?;
            let _ = opened.set((files.clone(), files.with_fsync(true)));
        }
        let stores = opened.get().map(|(quick, durable)| if series == Series::Lease { quick } else { durable });
        Ok(stores.map(|s| s as &dyn ObjectStore))
    }

    fn folder(&self, series: Series) -> ObjectPath {
        self.prefix.clone().join(series.name())
    }

    fn path(&self, series: Series, number: u64) -> ObjectPath {
        self.folder(series).join(format!("{:08}", number / SHARD)).join(format!("{number:012}.json"))
    }

    fn error(&self, what: &str, path: &ObjectPath, e: ObjectError) -> StoreError {
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&e);
        let mut io_kind = None;
        while let Some(c) = cause {
            io_kind = c.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(io_kind);
            text = c.to_string();
            cause = c.source();
        }
        let hint = match io_kind {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                Some("the disk is full: free some space and give the command again".to_owned())
            }
            Some(std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
                Some("the state's folder must be writable for whoever deploys".to_owned())
            }
            _ => None,
        };
        // The wrapped error repeats itself on every level; the innermost says what happened.
        let source: Box<dyn std::error::Error + Send + Sync> = if text.is_empty() { e.into() } else { text.into() };
        StoreError {
            what: format!("the state can't be {what} ({}/{path})", self.root_place()),
            retry: io_kind.is_some_and(|k| matches!(k, std::io::ErrorKind::Interrupted | std::io::ErrorKind::TimedOut)),
            hint,
            source: Some(source),
        }
    }

    fn root_place(&self) -> String {
        match &self.root {
            Root::Folder { folder, .. } => folder.display().to_string(),
            Root::Any { place, .. } => place.clone(),
        }
    }
}

#[async_trait]
impl Store for Objects {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        let path = self.path(series, number);
        let Some(objects) = self.objects(series, true)? else { return Ok(false) };
        match objects.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(ObjectError::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.error("written", &path, e)),
        }
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(series, number);
        let Some(objects) = self.objects(series, false)? else { return Ok(None) };
        let found = match objects.get(&path).await {
            Ok(found) => found,
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.error("read", &path, e)),
        };
        if found.meta.size > OBJECT_BYTES_MAX {
            return Err(StoreError {
                what: format!(
                    "{}/{path} has {} bytes: dbird writes nothing that large",
                    self.root_place(),
                    found.meta.size
                ),
                retry: false,
                hint: None,
                source: None,
            });
        }
        let bytes = found.bytes().await.map_err(|e| self.error("read", &path, e))?;
        Ok(Some(bytes.to_vec()))
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        let folder = self.folder(series);
        let Some(objects) = self.objects(series, false)? else { return Ok(Vec::new()) };
        let listed = match objects.list_with_delimiter(Some(&folder)).await {
            Ok(listed) => listed,
            Err(ObjectError::NotFound { .. }) => return Ok(Vec::new()),
            Err(e) => return Err(self.error("listed", &folder, e)),
        };
        let mut shards = listed.common_prefixes;
        shards.sort();
        let mut numbers = Vec::new();
        while let Some(shard) = shards.pop().filter(|_| numbers.len() < count) {
            let listed = match objects.list_with_delimiter(Some(&shard)).await {
                Ok(listed) => listed,
                Err(ObjectError::NotFound { .. }) => continue,
                Err(e) => return Err(self.error("listed", &shard, e)),
            };
            let parse = |path: &ObjectPath| path.filename()?.strip_suffix(".json")?.parse::<u64>().ok();
            numbers.extend(listed.objects.iter().filter_map(|o| parse(&o.location)));
        }
        numbers.sort_unstable();
        numbers.drain(..numbers.len().saturating_sub(count));
        Ok(numbers)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.root_place(), self.prefix)
    }
}
