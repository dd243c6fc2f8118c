//! Reads the segments of all processes, from where it stopped: what is whole, and what was damaged once that is certain. It
//! decides how far a segment was read and whether it is complete; it never deletes or writes.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::append::{SEGMENT_BYTES_MAX, SEGMENT_IDLE_MAX, SPOOL};
use crate::record::{FORMAT, Frame, HEAD_LEN, Record, next_frame};
use crate::share::{File, Share};

/// Bytes read of one segment at once: a whole one with the batch that made it end.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
const _: () = assert!(READ_BYTES_MAX as u64 > 2 * SEGMENT_BYTES_MAX);

/// After this time without anything new nobody writes to a segment any more but, at most, its seal: what a killed process left is
/// there until somebody removes it, and need not cost much.
const FORSAKEN_AFTER: Duration = SEGMENT_IDLE_MAX.saturating_add(Duration::from_secs(60));
/// Such segments are looked at once in so many polls.
const FORSAKEN_POLLS: u32 = 64;

/// A record and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tailed {
    /// The record.
    pub(crate) record: Record,
    /// Its segment's name without the folder.
    pub(crate) segment: Box<str>,
    /// Where it begins there.
    pub(crate) offset: u64,
}

/// Bytes that are no record although later ones are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) segment: String,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What one look at the segments brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Tailed>,
    pub(crate) damages: Vec<Damage>,
    /// There was more than was wanted.
    pub(crate) more: bool,
}

/// How far each segment was read.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    segments: BTreeMap<String, Reading>,
    polls: u32,
}

#[derive(Clone, Debug, Default)]
struct Reading {
    offset: u64,
    begun: bool,
    batch: u32,
    count: u64,
    sum: crc32fast::Hasher,
    damaged: bool,
    sealed: bool,
    /// Of a format that this version can't read.
    newer: bool,
    /// When something new was in it, or it was found.
    touched: Duration,
    /// Its length when it was read to its end the last time.
    quiet_len: Option<u64>,
}

impl Tail {
    /// Reads on, at most about so many records.
    pub(crate) fn poll<S: Share>(&mut self, share: &S, records_max: usize) -> io::Result<Found> {
        let mut names = match share.list(SPOOL) {
            Ok(names) => names,
            // Nobody has accepted anything yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        names.retain(|name| is_segment(name));
        names.sort_unstable();
        // A listing may be old: what it leaves out by mistake is read from its beginning again, which adds nothing.
        self.segments.retain(|name, _| names.binary_search(name).is_ok());
        let mut found = Found::default();
        let now = share.now();
        self.polls = self.polls.wrapping_add(1);
        for name in names {
            if found.records.len() >= records_max {
                found.more = true;
                break;
            }
            let new = || Reading { touched: now, ..Reading::default() };
            let reading = self.segments.entry(name.clone()).or_insert_with(new);
            let forsaken = now.saturating_sub(reading.touched) > FORSAKEN_AFTER;
            if reading.sealed || reading.newer || (forsaken && !self.polls.is_multiple_of(FORSAKEN_POLLS)) {
                continue;
            }
            let before = reading.offset;
            let read = reading.read(share, &name, records_max, &mut found);
            if reading.offset > before {
                reading.touched = now;
            }
            match read {
                // Removed meanwhile, here or on another machine (ESTALE is 116).
                Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(116) => {}
                other => other?,
            }
        }
        Ok(found)
    }

    /// How far each segment was read.
    pub(crate) fn offsets(&self) -> BTreeMap<String, u64> {
        self.segments.iter().map(|(name, reading)| (name.clone(), reading.offset)).collect()
    }

    /// Segments that were read to their seal.
    pub(crate) fn complete(&self) -> Vec<String> {
        self.segments.iter().filter(|(_, reading)| reading.sealed).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Segments in a format of a newer version.
    pub(crate) fn newer(&self) -> usize {
        self.segments.values().filter(|reading| reading.newer).count()
    }
}

impl Reading {
    fn read<S: Share>(&mut self, share: &S, name: &str, records_max: usize, found: &mut Found) -> io::Result<()> {
        let file = share.open(&format!("{SPOOL}/{name}"))?;
        // Most have nothing new, and a length costs no read.
        let len = file.size()?;
        if self.quiet_len == Some(len) {
            return Ok(());
        }
        let bytes = file.read_at(self.offset, READ_BYTES_MAX)?;
        let start = self.offset;
        let mut at = 0;
        while at < bytes.len() && !self.sealed && !self.newer {
            if found.records.len() >= records_max {
                found.more = true;
                return Ok(());
            }
            let rest = &bytes[at..];
            let Some(parsed) = Frame::read(rest) else {
                let Some(skipped) = self.damage(rest) else { break };
                found.damages.push(Damage {
                    segment: name.to_owned(),
                    offset: start + at as u64,
                    bytes: rest[..skipped].to_vec(),
                });
                at += skipped;
                self.offset = start + at as u64;
                continue;
            };
            match parsed.frame {
                Frame::Header { format } if format > FORMAT => {
                    self.newer = true;
                    continue;
                }
                Frame::Header { .. } | Frame::Unknown => {}
                Frame::Score(record) => {
                    self.count += 1;
                    self.sum.update(&parsed.sum.to_le_bytes());
                    let offset = start + at as u64;
                    found.records.push(Tailed { record, segment: name.into(), offset });
                }
                Frame::Seal { count, sum } => {
                    self.sealed = true;
                    if !self.damaged && (count, sum) != (self.count, self.sum.clone().finalize()) {
                        // All of it is kept for whoever finds out how that can be.
                        found.damages.push(Damage {
                            segment: name.to_owned(),
                            offset: 0,
                            bytes: file.read_at(0, READ_BYTES_MAX)?,
                        });
                    }
                }
            }
            self.begun = true;
            self.batch = parsed.batch;
            at += parsed.len;
            self.offset = start + at as u64;
        }
        // What can't be read yet may become readable without getting longer.
        self.quiet_len = (self.offset == len).then_some(len);
        Ok(())
    }

    /// How many bytes are damaged for certain. Frames become visible in any order until they are durable, so what can't be
    /// read may only be on its way, unless its owner has gone on: each write begins after all before it are durable.
    fn damage(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() < HEAD_LEN {
            return None;
        }
        let (skipped, first) = next_frame(bytes)?;
        let (mut at, mut next) = (skipped, Some(first));
        let mut certain = false;
        while let Some(parsed) = next.filter(|_| !certain) {
            certain = matches!(parsed.frame, Frame::Seal { .. }) || parsed.batch > self.batch.wrapping_add(1);
            at += parsed.len;
            next = Frame::read(&bytes[at..]).or_else(|| {
                let (more, parsed) = next_frame(&bytes[at..])?;
                at += more;
                Some(parsed)
            });
        }
        self.damaged |= certain;
        certain.then_some(skipped)
    }
}

/// `<node>.<sequence>`.
pub(crate) fn is_segment(name: &str) -> bool {
    name.split_once('.').is_some_and(|(node, sequence)| {
        node.len() == 16
            && node.bytes().all(|byte| byte.is_ascii_hexdigit())
            && sequence.len() == 10
            && sequence.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Appender, Folder};

    const NAME: &str = "0123456789abcdef.0000000001";

    fn record(n: u32) -> Record {
        Record { run_id: format!("r{n}").into(), player: "p".into(), score: n.into(), created_ms: 0 }
    }

    /// A segment of three writes of two records each, perhaps sealed; and where each frame begins.
    fn segment(sealed: bool) -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let mut appender = Appender::new(Arc::new(Folder::new(folder.path())), "0123456789abcdef".to_owned());
        for n in 0..3 {
            appender.append(&[record(2 * n), record(2 * n + 1)]).unwrap();
        }
        if sealed {
            appender.seal().unwrap();
        }
        let bytes = std::fs::read(folder.path().join(SPOOL).join(NAME)).unwrap();
        let mut frames = vec![0];
        while let Some(parsed) = Frame::read(&bytes[*frames.last().unwrap()..]) {
            frames.push(frames.last().unwrap() + parsed.len);
        }
        (folder, bytes, frames)
    }

    fn poll(folder: &tempfile::TempDir, tail: &mut Tail, bytes: &[u8]) -> (Vec<String>, Vec<(u64, usize)>) {
        std::fs::write(folder.path().join(SPOOL).join(NAME), bytes).unwrap();
        let found = tail.poll(&Folder::new(folder.path()), 100).unwrap();
        (
            found.records.iter().map(|tailed| tailed.record.run_id.to_string()).collect(),
            found.damages.iter().map(|damage| (damage.offset, damage.bytes.len())).collect(),
        )
    }

    #[test]
    fn a_torn_end_is_waited_for_wherever_it_is() {
        let (folder, bytes, _) = segment(true);
        for end in 0..bytes.len() {
            let mut tail = Tail::default();
            let (mut records, damages) = poll(&folder, &mut tail, &bytes[..end]);
            assert!(damages.is_empty() && tail.complete().is_empty(), "{end}");
            let (more, damages) = poll(&folder, &mut tail, &bytes);
            records.extend(more);
            assert_eq!((records.len(), damages.len(), tail.complete().len()), (6, 0, 1), "{end}");
        }
    }

    #[test]
    fn what_is_damaged_for_certain_is_told_once() {
        for (frame, sealed, certain) in [
            // A later write is there, whose beginning was after the damaged one was durable.
            (1, false, true),
            (2, false, true),
            // Of the last two writes the first may be on its way still, as far as one can see.
            (4, false, false),
            (5, false, false),
            (6, false, false),
            (4, true, true),
            (5, true, true),
            (6, true, true),
        ] {
            let (folder, mut bytes, frames) = segment(sealed);
            let whole = bytes.clone();
            bytes[frames[frame] + HEAD_LEN + 3] ^= 0x55;
            let mut tail = Tail::default();
            let (records, damages) = poll(&folder, &mut tail, &bytes);
            let len = frames[frame + 1] - frames[frame];
            let told = certain.then_some((frames[frame] as u64, len));
            assert_eq!(damages.first().copied(), told, "frame {frame}, sealed: {sealed}");
            if certain {
                assert_eq!((records.len(), damages.len()), (5, 1));
                assert_eq!(poll(&folder, &mut tail, &bytes).1.len(), 0, "told once");
            } else {
                // It was on its way.
                let (more, damages) = poll(&folder, &mut tail, &whole);
                assert_eq!((records.len() + more.len(), damages.len()), (6, 0), "frame {frame}");
            }
        }
    }

    #[test]
    fn a_newer_format_waits_for_who_can_read_it() {
        let (folder, bytes, frames) = segment(true);
        let mut newer = Vec::new();
        Frame::Header { format: FORMAT + 1 }.write(0, &mut newer);
        newer.extend_from_slice(&bytes[frames[1]..]);
        let mut tail = Tail::default();
        assert_eq!(poll(&folder, &mut tail, &newer), (Vec::new(), Vec::new()));
        assert_eq!((tail.newer(), tail.complete().len(), tail.len()), (1, 0, 1));
    }

    #[test]
    fn a_seal_that_counts_otherwise_keeps_the_whole_segment() {
        let (folder, bytes, frames) = segment(true);
        // As if a frame had never been: all that is there is sound.
        let shorter = [&bytes[..frames[3]], &bytes[frames[4]..]].concat();
        let (records, damages) = poll(&folder, &mut Tail::default(), &shorter);
        assert_eq!((records.len(), damages), (5, vec![(0, shorter.len())]));
    }
}
