//! A process's own segments: what it accepted, appended and made durable before anyone is answered. It decides when a
//! segment ends, and that nothing is ever written again after a sync failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::record::{FORMAT, Frame, Record};
use crate::share::{File, Share};

/// Bytes after which a segment is ended.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;
/// A segment that nobody added to for this long is ended by its owner before anything else is added: whoever removes old
/// leftovers by hand may take an unsealed segment that is much older for one whose owner is gone.
pub const SEGMENT_IDLE_MAX: Duration = Duration::from_secs(600);
/// The folder of all segments.
pub(crate) const SPOOL: &str = "spool";

/// Why records were not made durable.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// None of them is acknowledged; the next try begins a new segment and may succeed.
    #[error("{step} {name}")]
    Refused {
        /// What was being done.
        step: &'static str,
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A sync failed, now or before: what was written then may or may not be there, so this process must end.
    #[error("a sync of {name} failed, so nothing is known of what was written: this process stops writing for good")]
    Fenced {
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl AppendError {
    fn refused(step: &'static str, name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Refused { step, name, source }
    }

    fn fenced(name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Fenced { name, source }
    }
}

struct Segment<F> {
    name: String,
    file: F,
    len: u64,
    batch: u32,
    count: u64,
    sum: crc32fast::Hasher,
    /// When it was added to.
    used: Duration,
}

/// Writes the segments of one process. No other process ever writes to them.
pub struct Appender<S: Share> {
    share: Arc<S>,
    node: String,
    next: u64,
    segment: Option<Segment<S::File>>,
    fenced: Option<(String, io::ErrorKind)>,
}

impl<S: Share> Appender<S> {
    /// Writes nothing yet. `node` is 16 characters that no other process has ever had.
    pub fn new(share: Arc<S>, node: String) -> Self {
        Self { share, node, next: 1, segment: None, fenced: None }
    }

    /// Makes the segment if there is none: afterwards a batch costs one write and one sync.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn prepare(&mut self) -> Result<(), AppendError> {
        if let Some((name, kind)) = &self.fenced {
            return Err(AppendError::Fenced { name: name.clone(), source: (*kind).into() });
        }
        if self.segment.is_none() {
            self.segment = Some(self.begin()?);
        }
        Ok(())
    }

    /// Makes all records durable or none of them acknowledged.
    ///
    /// # Errors
    /// [`AppendError`]; some of the records may be found by the ingester all the same.
    pub fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        let mut bytes = Vec::with_capacity(records.len() * 128);
        self.prepare()?;
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        let now = self.share.now();
        if now.saturating_sub(segment.used) >= SEGMENT_IDLE_MAX {
            // It may have been removed by hand; then there is nothing to seal.
            if self.share.open(&segment.name).is_ok() {
                self.end(segment)?;
            }
            segment = self.begin()?;
        } else if segment.len >= SEGMENT_BYTES_MAX {
            self.end(segment)?;
            segment = self.begin()?;
        }
        segment.used = now;
        segment.batch = segment.batch.wrapping_add(1);
        for record in records {
            let sum = Frame::Score(record.clone()).write(segment.batch, &mut bytes);
            segment.sum.update(&sum.to_le_bytes());
        }
        // After a failure the segment stays as it is: it was dropped above, and whoever reads it takes what is whole.
        segment.file.write_at(segment.len, &bytes).map_err(AppendError::refused("write to", &segment.name))?;
        self.sync(&mut segment.file, &segment.name)?;
        segment.len += bytes.len() as u64;
        segment.count += records.len() as u64;
        self.segment = Some(segment);
        Ok(())
    }

    /// Ends the segment: there will be no more from this process, or only in another one.
    ///
    /// # Errors
    /// [`AppendError`]; all that was acknowledged is durable all the same.
    pub fn seal(&mut self) -> Result<(), AppendError> {
        match self.segment.take() {
            Some(segment) => self.end(segment),
            None => Ok(()),
        }
    }

    /// Whether a sync failed.
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    fn begin(&mut self) -> Result<Segment<S::File>, AppendError> {
        match self.share.make_dir(SPOOL) {
            Ok(()) => self.share.sync_dir("").map_err(AppendError::refused("sync the folder of", SPOOL))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(AppendError::refused("make the folder", SPOOL)(error)),
        }
        let name = format!("{SPOOL}/{}.{:010}", self.node, self.next);
        // A name is used once, even if what was made under it could not be removed.
        self.next += 1;
        let made = self.make(&name);
        if made.is_err() {
            // Nothing in it was acknowledged.
            drop(self.share.remove(&name));
        }
        let (file, len) = made.map_err(AppendError::refused("begin", &name))?;
        Ok(Segment { name, file, len, batch: 0, count: 0, sum: crc32fast::Hasher::new(), used: self.share.now() })
    }

    fn make(&self, name: &str) -> io::Result<(S::File, u64)> {
        let mut file = self.share.create_new(name)?;
        let mut bytes = Vec::new();
        Frame::Header { format: FORMAT }.write(0, &mut bytes);
        file.write_at(0, &bytes)?;
        file.sync()?;
        self.share.sync_dir(SPOOL)?;
        Ok((file, bytes.len() as u64))
    }

    fn end(&mut self, mut segment: Segment<S::File>) -> Result<(), AppendError> {
        let mut bytes = Vec::new();
        let seal = Frame::Seal { count: segment.count, sum: segment.sum.finalize() };
        seal.write(segment.batch.wrapping_add(1), &mut bytes);
        segment.file.write_at(segment.len, &bytes).map_err(AppendError::refused("seal", &segment.name))?;
        self.sync(&mut segment.file, &segment.name)
    }

    fn sync(&mut self, file: &mut S::File, name: &str) -> Result<(), AppendError> {
        file.sync().map_err(|error| {
            self.fenced = Some((name.to_owned(), error.kind()));
            AppendError::fenced(name)(error)
        })
    }
}
