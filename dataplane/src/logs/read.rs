//! Reading a task's log while it grows and rotates. It decides what a reader has seen; with the position it returned
//! before, no line is lost or repeated, those apart that were dropped with their file before anybody asked for them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::write::Stream;
use super::{numbers, path};

const BLOCK_BYTES: u64 = 64 << 10;

/// Where a reader is: before this offset of this file. The default is the beginning of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The file's number.
    pub file: u64,
    /// Bytes of it that were read.
    pub offset: u64,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub at_unix_ms: u64,
    /// By which stream.
    pub stream: Stream,
    /// Without its end; what is no UTF-8 is replaced.
    pub text: String,
    /// Where to go on after it.
    pub after: Position,
}

/// Up to `lines_max` lines after a position, oldest first. Nothing, if there is nothing yet.
pub fn read(folder: &Path, from: Position, lines_max: usize) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut at = from;
    loop {
        // The list comes first: a file that has a successor in it does not grow any more.
        let files = numbers(folder)?;
        let Some(file) = files.iter().copied().find(|file| *file >= at.file) else { return Ok(lines) };
        if file != at.file {
            at = Position { file, offset: 0 };
        }
        match lines_of(&path(folder, file), &mut at, lines_max - lines.len(), &mut lines) {
            // It was dropped just now: go on with the next one.
            Err(error) if error.kind() == ErrorKind::NotFound => at = Position { file: file + 1, offset: 0 },
            done => done?,
        }
        if lines.len() >= lines_max {
            return Ok(lines);
        }
        if files.last().is_some_and(|last| *last > at.file) {
            at = Position { file: at.file + 1, offset: 0 };
        } else {
            return Ok(lines);
        }
    }
}

fn lines_of(path: &Path, at: &mut Position, lines_max: usize, lines: &mut Vec<Line>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at.offset))?;
    let mut pending = Vec::new();
    let mut taken = 0;
    while taken < lines_max {
        let before = pending.len();
        if file.by_ref().take(BLOCK_BYTES).read_to_end(&mut pending)? == 0 {
            break;
        }
        let mut begin = 0;
        let mut scanned = before;
        while taken < lines_max {
            let Some(end) = pending[scanned..].iter().position(|b| *b == b'\n').map(|end| scanned + end) else { break };
            at.offset += (end + 1 - begin) as u64;
            if let Some(line) = parse(&pending[begin..end], *at) {
                lines.push(line);
                taken += 1;
            }
            begin = end + 1;
            scanned = begin;
        }
        pending.drain(..begin);
    }
    Ok(())
}

fn parse(line: &[u8], after: Position) -> Option<Line> {
    let text = String::from_utf8_lossy(line);
    let mut parts = text.splitn(3, ' ');
    let at_unix_ms = parts.next()?.parse().ok()?;
    let stream = match parts.next()? {
        "o" => Stream::Out,
        "e" => Stream::Err,
        _ => return None,
    };
    Some(Line { at_unix_ms, stream, text: parts.next()?.to_owned(), after })
}

/// The last `lines_max` lines, oldest first, and where reading goes on.
pub fn tail(folder: &Path, lines_max: usize) -> io::Result<(Vec<Line>, Position)> {
    let files = numbers(folder)?;
    let mut newest: Vec<Line> = Vec::new();
    let mut next = Position { file: files.last().copied().unwrap_or(0), offset: 0 };
    for file in files.iter().rev().copied() {
        let wanted = lines_max.saturating_sub(newest.len());
        let begin = match begin_of_last(&path(folder, file), wanted) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            begin => begin?,
        };
        let mut at = Position { file, offset: begin };
        let mut lines = Vec::new();
        lines_of(&path(folder, file), &mut at, usize::MAX, &mut lines)?;
        if file == next.file {
            next = at;
        }
        // Lines may have come since the beginning was looked for.
        let surplus = lines.len().saturating_sub(wanted);
        lines.drain(..surplus);
        lines.append(&mut newest);
        newest = lines;
        if newest.len() >= lines_max {
            break;
        }
    }
    Ok((newest, next))
}

/// The offset at which the last `wanted` lines of a file begin.
fn begin_of_last(path: &Path, wanted: usize) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut from = size;
    // The end of the last line is not the beginning of another.
    let mut ends = 0;
    let mut block = Vec::new();
    while from > 0 {
        let length = from.min(BLOCK_BYTES);
        from -= length;
        file.seek(SeekFrom::Start(from))?;
        block.clear();
        file.by_ref().take(length).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            ends += 1;
            if ends > wanted {
                return Ok(from + at as u64 + 1);
            }
        }
    }
    Ok(if wanted == 0 { size } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::super::write::{LogLimits, LogWriter};
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn no_line_is_lost_or_repeated_across_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { file_bytes_max: 200, files_max: 1000, line_bytes_max: 64 };
        let mut writer = LogWriter::new(folder.path(), limits);
        let (mut at, mut seen) = (Position::default(), Vec::new());
        for n in 0..300 {
            let stream = if n % 3 == 0 { Stream::Err } else { Stream::Out };
            writer.write(stream, format!("line {n}\n").as_bytes());
            if n % 7 == 0 {
                let lines = read(folder.path(), at, 3).unwrap();
                at = lines.last().map_or(at, |line| line.after);
                seen.extend(lines);
            }
        }
        loop {
            let lines = read(folder.path(), at, 1000).unwrap();
            let Some(last) = lines.last() else { break };
            at = last.after;
            seen.extend(lines);
        }
        assert_eq!(texts(&seen), (0..300).map(|n| format!("line {n}")).collect::<Vec<_>>());
        assert!(seen.iter().enumerate().all(|(n, line)| (n % 3 == 0) == (line.stream == Stream::Err)));
        for wanted in [0, 1, 2, 10, 150, 300, 1000] {
            let (lines, next) = tail(folder.path(), wanted).unwrap();
            assert_eq!(texts(&lines), texts(&seen[300 - wanted.min(300)..]), "{wanted}");
            assert_eq!(next, at);
        }
    }

    #[test]
    fn a_reader_that_is_too_slow_goes_on_with_the_oldest_file() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { file_bytes_max: 100, files_max: 3, line_bytes_max: 64 };
        let mut writer = LogWriter::new(folder.path(), limits);
        (0..100).for_each(|n| writer.write(Stream::Out, format!("line {n}\n").as_bytes()));
        assert_eq!(numbers(folder.path()).unwrap().len(), 3);
        let lines = read(folder.path(), Position { file: 1, offset: 5 }, 1000).unwrap();
        assert_eq!(lines.last().unwrap().text, "line 99");
        assert!(lines.len() < 20);
        let all: Vec<_> = (0..100).map(|n| format!("line {n}")).collect();
        assert_eq!(texts(&lines), all[100 - lines.len()..]);
    }

    #[test]
    fn lines_are_bounded_partial_ones_wait_and_streams_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { line_bytes_max: 10, ..LogLimits::default() };
        let mut writer = LogWriter::new(folder.path(), limits);
        let all = |at| texts(&read(folder.path(), at, 1000).unwrap()).join("|");
        writer.write(Stream::Out, b"begun");
        writer.write(Stream::Err, b"other\n");
        assert_eq!(all(Position::default()), "other");
        writer.write(Stream::Out, b" end\n0123456789abcdefghijklmno");
        assert_eq!(all(Position::default()), "other|begun end|0123456789|abcdefghij");
        writer.write(Stream::Out, b"\n\n\xff\xfe");
        assert_eq!(writer.finish(), 0);
        assert_eq!(all(Position::default()), "other|begun end|0123456789|abcdefghij|klmno||\u{fffd}\u{fffd}");
        // Another writer goes on in the next file.
        LogWriter::new(folder.path(), limits).write(Stream::Out, b"more\n");
        assert!(all(Position::default()).ends_with("|more"));
    }
}
