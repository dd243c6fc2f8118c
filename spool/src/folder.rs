//! A real folder as a share, by the standard library's calls. It decides nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use crate::share::{File, Share};

/// The file whose first byte is locked.
const LOCK_FILE: &str = "writer.lock";

/// A folder of this machine, which may be a network's.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    started: Instant,
    /// Device and inode of the folder when it was first used.
    identity: OnceLock<(u64, u64)>,
}

impl Folder {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), started: Instant::now(), identity: OnceLock::new() }
    }

    /// Refuses to work in what is there instead of the share while it is not mounted: an empty folder would be taken for a
    /// new share.
    fn still_there(&self) -> io::Result<()> {
        let found = fs::metadata(&self.root)?;
        let found = (found.dev(), found.ino());
        if *self.identity.get_or_init(|| found) == found {
            return Ok(());
        }
        Err(io::Error::other("another folder is there instead of the share; is it mounted?"))
    }

    /// Where a name of the share is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

impl Share for Folder {
    type File = fs::File;
    type Lock = Lock;

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.still_there()?;
        let names = fs::read_dir(self.path(folder))?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn create_new(&self, name: &str) -> io::Result<fs::File> {
        self.still_there()?;
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        fs::File::open(self.path(name))
    }

    fn open_or_create(&self, name: &str) -> io::Result<fs::File> {
        self.still_there()?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.still_there()?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.still_there()?;
        fs::create_dir(self.path(name))
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.path(name))
    }

    fn is_dir(&self, name: &str) -> io::Result<bool> {
        fs::metadata(self.path(name)).map(|found| found.is_dir())
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        fs::File::open(self.path(folder))?.sync_all()
    }

    fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = self.open_or_create(LOCK_FILE)?;
        // Of the open file and not of the process: closing another descriptor of it must not let go of it.
        let range = nix::libc::flock {
            l_type: i16::try_from(nix::libc::F_WRLCK).unwrap_or(1),
            l_whence: i16::try_from(nix::libc::SEEK_SET).unwrap_or(0),
            l_start: 0,
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(Some(Lock(file))),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The writer's lock.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] fs::File);

impl File for fs::File {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match FileExt::read_at(self, &mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|found| found.len())
    }
}
