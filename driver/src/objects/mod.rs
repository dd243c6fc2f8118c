//! A [`Store`] on the `object_store` crate: a folder, a bucket or a container. Numbers lie in sub-folders of 500, so that
//! finding the last ones never lists more than that, however long the history.

mod address;
mod answers;
mod folder;
mod place;
mod remote;
mod signer;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use dbird_core::{Cloud, Target};
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path as ObjectPath};

use crate::store::{Series, Store, StoreError};
use address::Address;
use answers::Answer;
use folder::Folder;
use remote::Remote;
pub use signer::{Keys, Signer};

/// Numbers in one sub-folder.
const SHARD: u64 = 500;
/// An object larger than this is not read.
const OBJECT_BYTES_MAX: u64 = 16 << 20;
/// So often is a store asked again that could not tell which of two writers was first.
const UNDECIDED_MAX: u32 = 10;

/// Opens the store of a state URL for one service in one environment. `file:` paths are relative to the project's folder; for
/// `s3:` and `az:` the process's variables say who asks. Nothing is asked yet, and nothing made before the first write.
pub fn open_store(url: &str, project: &Path, cloud: Cloud, target: &Target) -> Result<Arc<dyn Store>, StoreError> {
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    open_store_with(url, project, cloud, target, &variables.collect::<Vec<_>>(), None)
}

/// The same with these variables instead of the process's, and with somebody who signs requests to S3 instead of them.
pub fn open_store_with(
    url: &str,
    project: &Path,
    cloud: Cloud,
    target: &Target,
    variables: &[(String, String)],
    signer: Option<Arc<dyn Signer>>,
) -> Result<Arc<dyn Store>, StoreError> {
    let (root, prefix) = match Address::parse(url, project)? {
        Address::Folder(path) => (Root::Folder(Folder::new(path)), ObjectPath::default()),
        Address::S3 { bucket, prefix } => (Root::Remote(Remote::s3(bucket, variables, signer)?), prefix),
        Address::Blob { account, container, prefix } => {
            (Root::Remote(Remote::blob(account, container, variables)?), prefix)
        }
    };
    let own = [cloud.name(), &target.service, &target.environment];
    let prefix = own.into_iter().fold(prefix, |prefix, part| prefix.join(part));
    Ok(Arc::new(Objects { root, prefix }))
}

/// A store on the `object_store` crate.
pub struct Objects {
    root: Root,
    prefix: ObjectPath,
}

enum Root {
    Folder(Folder),
    Remote(Remote),
    /// Any other.
    Any {
        objects: Arc<dyn ObjectStore>,
        place: String,
    },
}

// By hand: what a client's own Debug shows is for its authors to change.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.place()).finish()
    }
}

impl Objects {
    /// Under a prefix of any object store that can create an object only where there is none.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: &str, place: impl Into<String>) -> Self {
        Objects { root: Root::Any { objects, place: place.into() }, prefix: ObjectPath::from(prefix) }
    }

    /// None: there is nothing yet, and nothing is to be made.
    fn objects(&self, series: Series, make: bool) -> Result<Option<&dyn ObjectStore>, StoreError> {
        match &self.root {
            Root::Folder(folder) => folder.objects(series, make),
            Root::Remote(remote) => Ok(Some(remote.objects())),
            Root::Any { objects, .. } => Ok(Some(&**objects)),
        }
    }

    fn folder(&self, series: Series) -> ObjectPath {
        self.prefix.clone().join(series.name())
    }

    fn path(&self, series: Series, number: u64) -> ObjectPath {
        self.folder(series).join(format!("{:08}", number / SHARD)).join(format!("{number:012}.json"))
    }

    /// What can't be done with what.
    fn undone(&self, done: &str, path: &ObjectPath) -> String {
        format!("the state can't be {done} ({}/{path})", self.root_place())
    }

    fn error(&self, done: &str, path: &ObjectPath, e: &ObjectError) -> StoreError {
        let what = self.undone(done, path);
        match &self.root {
            Root::Remote(remote) => Answer::of(e).explain(what, remote.place()),
            Root::Folder(_) | Root::Any { .. } => folder::explain(what, e),
        }
    }

    /// True when it is the object that is missing, and not the place where it should be.
    fn is_absent(&self, e: &ObjectError) -> bool {
        let remote = matches!(self.root, Root::Remote(_));
        matches!(e, ObjectError::NotFound { .. }) && !(remote && Answer::of(e).nowhere())
    }

    fn root_place(&self) -> String {
        match &self.root {
            Root::Folder(folder) => folder.path().display().to_string(),
            Root::Remote(remote) => remote.place().to_string(),
            Root::Any { place, .. } => place.clone(),
        }
    }

    /// Within the time that a call may take.
    async fn call<T>(
        &self,
        done: &str,
        path: &ObjectPath,
        calling: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match &self.root {
            Root::Remote(remote) => remote.call(|| self.undone(done, path), calling).await,
            Root::Folder(_) | Root::Any { .. } => calling.await,
        }
    }

    async fn create_at(&self, series: Series, path: &ObjectPath, bytes: Vec<u8>) -> Result<bool, StoreError> {
        let Some(objects) = self.objects(series, true)? else { return Ok(false) };
        if let Root::Remote(remote) = &self.root {
            remote.must_refuse(&self.prefix).await?;
        }
        let payload = PutPayload::from(bytes);
        let mut undecided = 0;
        loop {
            let e = match objects.put_opts(path, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => return Ok(true),
                Err(e) => e,
            };
            let answer = matches!(self.root, Root::Remote(_)).then(|| Answer::of(&e));
            match answer {
                Some(answer) if answer.undecided() && undecided < UNDECIDED_MAX => undecided += 1,
                None if matches!(e, ObjectError::AlreadyExists { .. }) => return Ok(false),
                Some(answer) if matches!(e, ObjectError::AlreadyExists { .. }) && answer.taken() => return Ok(false),
                _ => return Err(self.error("written", path, &e)),
            }
        }
    }

    async fn read_at(&self, series: Series, path: &ObjectPath) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(objects) = self.objects(series, false)? else { return Ok(None) };
        let found = match objects.get(path).await {
            Ok(found) => found,
            Err(e) if self.is_absent(&e) => return Ok(None),
            Err(e) => return Err(self.error("read", path, &e)),
        };
        let bytes_found = found.meta.size;
        if bytes_found > OBJECT_BYTES_MAX {
            return Err(StoreError {
                what: format!("{}/{path} has {bytes_found} bytes: dbird writes nothing that large", self.root_place()),
                retry: false,
                hint: None,
                source: None,
            });
        }
        let bytes = found.bytes().await.map_err(|e| self.error("read", path, &e))?;
        Ok(Some(bytes.to_vec()))
    }

    async fn last_in(&self, series: Series, folder: &ObjectPath, count: usize) -> Result<Vec<u64>, StoreError> {
        let Some(objects) = self.objects(series, false)? else { return Ok(Vec::new()) };
        let listed = match objects.list_with_delimiter(Some(folder)).await {
            Ok(listed) => listed,
            Err(e) if self.is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(self.error("listed", folder, &e)),
        };
        let mut shards = listed.common_prefixes;
        shards.sort();
        let mut numbers = Vec::new();
        while let Some(shard) = shards.pop().filter(|_| numbers.len() < count) {
            let listed = match objects.list_with_delimiter(Some(&shard)).await {
                Ok(listed) => listed,
                Err(e) if self.is_absent(&e) => continue,
                Err(e) => return Err(self.error("listed", &shard, &e)),
            };
            let parse = |path: &ObjectPath| path.filename()?.strip_suffix(".json")?.parse::<u64>().ok();
            numbers.extend(listed.objects.iter().filter_map(|o| parse(&o.location)));
        }
        numbers.sort_unstable();
        numbers.drain(..numbers.len().saturating_sub(count));
        Ok(numbers)
    }
}

#[async_trait]
impl Store for Objects {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        let path = self.path(series, number);
        self.call("written", &path, self.create_at(series, &path, bytes)).await
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(series, number);
        self.call("read", &path, again(|| self.read_at(series, &path))).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        let folder = self.folder(series);
        self.call("listed", &folder, again(|| self.last_in(series, &folder, count))).await
    }

    fn place(&self) -> String {
        format!("{}/{}", self.root_place(), self.prefix)
    }
}

/// Reads once more where that may help: of an answer that breaks off in the middle nobody else does.
async fn again<T, F: Future<Output = Result<T, StoreError>>>(read: impl Fn() -> F) -> Result<T, StoreError> {
    match read().await {
        Err(e) if e.retry => read().await,
        done => done,
    }
}

/// What happened, without what every level in between repeats of it.
fn innermost(e: &ObjectError) -> String {
    let mut last: &dyn std::error::Error = e;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
