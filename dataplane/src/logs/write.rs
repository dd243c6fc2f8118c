//! Writing a task's log. It decides where a line ends and what is dropped when the disk is full; it never blocks on
//! anything but the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{numbers, path};

/// After a write failed, lines are dropped for this long before the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// How much a task may log.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// A file is full from this size on.
    pub file_bytes_max: u64,
    /// So many are kept.
    pub files_max: usize,
    /// A longer line is cut into several.
    pub line_bytes_max: usize,
}

impl Default for LogLimits {
    /// Three files of 10 MiB, lines of 64 KiB.
    fn default() -> Self {
        LogLimits { file_bytes_max: 10 << 20, files_max: 3, line_bytes_max: 64 << 10 }
    }
}

/// Which of a task's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The one writer of a task's log.
#[derive(Debug)]
pub struct LogWriter {
    folder: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    number: u64,
    /// Whole lines only.
    size: u64,
    /// Begun lines of both streams.
    partial: [Vec<u8>; 2],
    buffer: Vec<u8>,
    dropped_bytes: u64,
    paused_until: Option<Instant>,
}

impl LogWriter {
    /// Goes on after what is there. Files are opened at the first line, so this can't fail.
    pub fn new(folder: &Path, limits: LogLimits) -> Self {
        let number = numbers(folder).unwrap_or_default().last().copied().unwrap_or(0);
        LogWriter {
            folder: folder.to_owned(),
            limits,
            file: None,
            number,
            size: 0,
            partial: [Vec::new(), Vec::new()],
            buffer: Vec::new(),
            dropped_bytes: 0,
            paused_until: None,
        }
    }

    /// Takes what a task wrote, lines or parts of lines. What can't be written to the disk is dropped and counted.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let now_ms = now_ms();
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.push(now_ms, stream, &mut partial, &bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        while partial.len() + bytes.len() >= self.limits.line_bytes_max {
            let (now, later) = bytes.split_at(self.limits.line_bytes_max - partial.len());
            self.push(now_ms, stream, &mut partial, now);
            bytes = later;
        }
        partial.extend_from_slice(bytes);
        self.partial[stream as usize] = partial;
        self.flush();
    }

    /// Writes begun lines as they are: the task ended.
    pub fn finish(&mut self) -> u64 {
        let now_ms = now_ms();
        for stream in [Stream::Out, Stream::Err] {
            let mut partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                self.push(now_ms, stream, &mut partial, b"");
            }
        }
        self.paused_until = None;
        self.flush();
        self.dropped_bytes
    }

    /// Appends one line, in pieces if it is too long, and empties `begun`.
    fn push(&mut self, now_ms: u64, stream: Stream, begun: &mut Vec<u8>, rest: &[u8]) {
        let mut line = |text: &[u8]| {
            let mark = if stream == Stream::Out { 'o' } else { 'e' };
            self.buffer.extend_from_slice(format!("{now_ms} {mark} ").as_bytes());
            self.buffer.extend_from_slice(text);
            self.buffer.push(b'\n');
        };
        if begun.is_empty() {
            let mut pieces = rest.chunks(self.limits.line_bytes_max);
            line(pieces.next().unwrap_or_default());
            pieces.for_each(line);
        } else {
            begun.extend_from_slice(rest);
            begun.chunks(self.limits.line_bytes_max).for_each(line);
            begun.clear();
        }
        if self.buffer.len() as u64 >= self.limits.file_bytes_max.min(1 << 20) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let paused = self.paused_until.is_some_and(|until| Instant::now() < until);
        if paused || self.append().is_err() {
            self.dropped_bytes += self.buffer.len() as u64;
            if !paused {
                self.paused_until = Some(Instant::now() + PAUSE);
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(256 << 10);
    }

    fn append(&mut self) -> io::Result<()> {
        if self.file.is_none() || self.size >= self.limits.file_bytes_max {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.dropped_bytes > 0 && self.paused_until.take().is_some() {
            let note = format!("{} e dbird: {} bytes of log were dropped: no space\n", now_ms(), self.dropped_bytes);
            self.buffer.splice(0..0, note.into_bytes());
        }
        match file.write_all(&self.buffer) {
            Ok(()) => {
                self.size += self.buffer.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Part of a line may have got through; a reader must never see it joined to the next one.
                if file.set_len(self.size).is_err() {
                    self.file = None;
                }
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.number + 1;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path(&self.folder, next))?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        self.number = next;
        let numbers = numbers(&self.folder)?;
        for old in &numbers[..numbers.len().saturating_sub(self.limits.files_max)] {
            fs::remove_file(path(&self.folder, *old))?;
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::{Position, read};
    use super::*;

    #[test]
    fn a_full_disk_drops_lines_and_says_how_many() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", path(folder.path(), 1)).unwrap();
        let mut writer = LogWriter::new(folder.path(), LogLimits::default());
        writer.number = 0;
        writer.write(Stream::Out, b"lost\n");
        writer.write(Stream::Out, b"lost too, at once\n");
        assert!(writer.dropped_bytes > 40, "{}", writer.dropped_bytes);
        fs::remove_file(path(folder.path(), 1)).unwrap();
        (writer.file, writer.number, writer.paused_until) = (None, 0, Some(Instant::now()));
        writer.write(Stream::Out, b"kept\n");
        let lines = read(folder.path(), Position::default(), 10).unwrap();
        assert!(lines[0].text.contains("bytes of log were dropped"), "{lines:?}");
        assert_eq!(lines[1].text, "kept");
    }
}
