//! What the protocol asks of a shared folder: a few operations that a server carries out one after another, and files whose
//! bytes are seen by others once they are synced. It decides nothing; names are relative to the folder, with `/` between.

use std::io;
use std::time::Duration;

/// A folder that several processes share, perhaps on several machines.
///
/// What the protocol relies on: `create_new`, `make_dir`, `remove_dir`, `rename` and `remove` that succeed, and
/// `AlreadyExists` and `NotADirectory`, are the server's word; what a `sync` that succeeded covers is there for everyone who opens
/// the file afterwards. It does not rely on listings being up to date, on a `NotFound` (a client may have cached it), on
/// locks, or on clocks.
pub trait Share: Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// A lock that is held until it is dropped.
    type Lock: Send;

    /// Names in a folder (`""` is the share itself), in any order; perhaps not the newest state.
    ///
    /// # Errors
    /// Whatever the system says; a folder that is missing is an error.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a file to be read and written.
    ///
    /// # Errors
    /// `AlreadyExists` if anything has that name.
    fn create_new(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read what is there now.
    ///
    /// # Errors
    /// `NotFound`, perhaps although it is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to be written in place, and makes it if need be.
    ///
    /// # Errors
    /// Whatever the system says.
    fn open_or_create(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name, and takes that name from whatever file has it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes a folder.
    ///
    /// # Errors
    /// `AlreadyExists` if anything has that name.
    fn make_dir(&self, name: &str) -> io::Result<()>;
    /// Removes an empty folder.
    ///
    /// # Errors
    /// `NotADirectory` for a file, `NotFound` if there is nothing.
    fn remove_dir(&self, name: &str) -> io::Result<()>;
    /// Whether something that exists is a folder.
    ///
    /// # Errors
    /// `NotFound` if there is nothing.
    fn is_dir(&self, name: &str) -> io::Result<bool>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_dir(&self, folder: &str) -> io::Result<()>;
    /// Takes the writer's lock, if nobody has it.
    ///
    /// # Errors
    /// If this share can't lock.
    fn try_lock(&self) -> io::Result<Option<Self::Lock>>;
    /// Time since some moment, by this machine's monotonic clock.
    fn now(&self) -> Duration;
}

/// An open file of a share.
pub trait File: Send {
    /// Reads at most so many bytes from a place; fewer only at the end.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Writes all bytes at a place.
    ///
    /// # Errors
    /// Whatever the system says; a part may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable. After an error nothing is known of what was written, and no later success says
    /// anything about it.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync(&mut self) -> io::Result<()>;
    /// Bytes in it.
    ///
    /// # Errors
    /// Whatever the system says.
    fn size(&self) -> io::Result<u64>;
}

/// Reads a small file whole, at most so many bytes of it.
pub(crate) fn read_small<S: Share>(share: &S, name: &str, len_max: usize) -> io::Result<Vec<u8>> {
    share.open(name)?.read_at(0, len_max)
}

/// Makes a file with these bytes appear at once, whatever had its name before.
pub(crate) fn publish<S: Share>(share: &S, name: &str, temporary: &str, bytes: &[u8]) -> io::Result<()> {
    let written = share.create_new(temporary).and_then(|mut file| {
        file.write_at(0, bytes)?;
        file.sync()
    });
    let published = written.and_then(|()| share.rename(temporary, name));
    if published.is_err() {
        // Nobody else knows the name; what is left of it is harmless.
        drop(share.remove(temporary));
    }
    published
}
