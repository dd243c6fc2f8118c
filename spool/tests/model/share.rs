//! The shared folder as the model sees it, and the accepter that appends to it. It decides what a successor would build
//! upon and what would be lost; it never decides what a process does next.

use crate::design::Design;

/// A set of records, one bit each.
pub(crate) type Records = u8;
/// The record that was in the database before any epoch.
pub(crate) const ORIGINAL: Records = 0x80;
/// Most epochs that a model may bound itself to.
pub(crate) const EPOCHS_MAX: usize = 4;
/// Epochs, and 0 for what was there before.
pub(crate) const SLOTS: usize = EPOCHS_MAX + 1;
/// Segments that the accepter fills one after another.
pub(crate) const SEGMENTS: usize = 2;
/// No file has that name.
pub(crate) const NOBODY: u8 = u8::MAX;

/// What has one of the names that two processes race for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    #[default]
    Free,
    Folder,
    File,
}

/// A database: an inode, whatever its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// Each record changes two pages; in these sets are the records whose change reached the first and the second page.
    pub(crate) pages: [Records; 2],
    /// Records in the log; `None` without a log.
    pub(crate) log: Option<Records>,
    /// Records whose commit could not be made durable: whoever reads sees them, and a crash of the machine loses them.
    pub(crate) unsure: Records,
    /// The epoch that published it under its own name, the last if several did.
    pub(crate) owner: u8,
    /// Somebody wrote to it who was not its owner any more.
    pub(crate) intruded: bool,
}

impl Database {
    /// Its pages once the log is recovered.
    pub(crate) fn recovered(&self) -> [Records; 2] {
        self.pages.map(|page| page | self.log.unwrap_or_default())
    }

    /// Records that are seen as a whole.
    pub(crate) fn records(&self) -> Records {
        let [first, second] = self.recovered();
        first & second
    }

    /// Records that a crash of the machine leaves there.
    pub(crate) fn durable(&self) -> Records {
        self.records() & !self.unsure
    }

    /// A record is there in part.
    pub(crate) fn is_torn(&self) -> bool {
        let [first, second] = self.recovered();
        first != second
    }

    /// Everything in the log is in the pages.
    pub(crate) fn is_moved(&self) -> bool {
        let log = self.log.unwrap_or_default();
        self.pages.iter().all(|page| page & log == log)
    }

    /// Adds records; the log begins anew if the pages have everything in it.
    pub(crate) fn commit(&mut self, records: Records, epoch: u8) {
        let kept = if self.is_moved() { 0 } else { self.log.unwrap_or_default() };
        self.log = Some(kept | records);
        self.intruded |= self.owner != epoch;
    }

    /// Empties or removes the log.
    pub(crate) fn set_log(&mut self, log: Option<Records>, epoch: u8) {
        self.log = log;
        self.intruded |= self.owner != epoch;
    }

    /// Writes what is in the log to the next page that lacks it.
    pub(crate) fn checkpoint(&mut self, epoch: u8) {
        let log = self.log.unwrap_or_default();
        if let Some(page) = self.pages.iter_mut().find(|page| **page & log != log) {
            *page |= log;
            self.intruded |= self.owner != epoch;
        }
    }
}

/// A segment of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    pub(crate) appended: Records,
    /// Durable, and therefore acknowledged.
    pub(crate) synced: Records,
    pub(crate) sealed: bool,
    pub(crate) deleted: bool,
}

/// The folder, and where its accepter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    /// The last epoch that was claimed.
    pub(crate) claimed: u8,
    pub(crate) fences: [Mark; SLOTS],
    pub(crate) begun: [Mark; SLOTS],
    /// What each epoch that began was built upon.
    pub(crate) built_on: [u8; SLOTS],
    /// Epochs that were left clean.
    pub(crate) clean: [bool; SLOTS],
    /// The inode that each epoch's database name leads to.
    pub(crate) names: [u8; SLOTS],
    /// Inodes, by the epoch that made them; 0 was there before, and the last is of whoever made a second.
    pub(crate) databases: [Database; SLOTS + 1],
    pub(crate) segments: [Segment; SEGMENTS],
    /// The segment that the accepter appends to.
    pub(crate) segment: u8,
    /// Times that the accepter may still crash.
    pub(crate) crashes_left: u8,
}

impl Share {
    pub(crate) fn new(crashes_max: u8) -> Self {
        let mut names = [NOBODY; SLOTS];
        names[0] = 0;
        let mut databases = [Database::default(); SLOTS + 1];
        databases[0].pages = [ORIGINAL; 2];
        Self {
            claimed: 0,
            fences: [Mark::Free; SLOTS],
            begun: [Mark::Free; SLOTS],
            built_on: [0; SLOTS],
            clean: [false; SLOTS],
            names,
            databases,
            segments: [Segment::default(); SEGMENTS],
            segment: 0,
            crashes_left: crashes_max,
        }
    }

    /// Gives a new inode an epoch's name; whoever has the last one open or took it away keeps that.
    pub(crate) fn publish(&mut self, epoch: u8, pages: [Records; 2]) {
        let second = SLOTS as u8;
        let is_taken = (0..).zip(self.names).any(|(name, inode)| inode == epoch && name != epoch);
        assert!(!is_taken || !self.names.contains(&second), "too few inodes for so much trouble");
        let inode = if is_taken { second } else { epoch };
        self.databases[usize::from(inode)] = Database { pages, owner: epoch, ..Database::default() };
        self.names[usize::from(epoch)] = inode;
    }

    /// The last epoch that began.
    pub(crate) fn base(&self) -> u8 {
        (1..=self.claimed).rev().find(|epoch| self.begun[usize::from(*epoch)] == Mark::Folder).unwrap_or_default()
    }

    /// The database with an epoch's name.
    pub(crate) fn named(&self, epoch: u8) -> Option<&Database> {
        self.databases.get(usize::from(self.names[usize::from(epoch)]))
    }

    /// The database that the next epoch would build upon: the base's, or where an epoch after it that never began left it.
    pub(crate) fn current(&self, design: Design) -> Option<&Database> {
        if design.is_shared_file() {
            return self.databases.first();
        }
        let base = self.base();
        let mut names = [NOBODY; SLOTS];
        let later = &mut names[..usize::from(self.claimed - base)];
        later.iter_mut().zip(base + 1..).for_each(|(name, epoch)| *name = epoch);
        if design != Design::OriginalRenamedUpwards {
            later.reverse();
        }
        self.named(base).or_else(|| later.iter().find_map(|epoch| self.named(*epoch)))
    }

    /// Records that can be read from segments, durable or not.
    pub(crate) fn readable(&self) -> Records {
        self.segments.iter().filter(|segment| !segment.deleted).fold(0, |all, segment| all | segment.appended)
    }

    /// Segments, one bit each, that may be deleted once `ingested` is known to count.
    pub(crate) fn finished(&self, ingested: Records, even_unsealed: bool) -> u8 {
        (0..SEGMENTS).fold(0, |all, index| {
            let segment = &self.segments[index];
            let finished = !segment.deleted
                && segment.appended != 0
                && (segment.sealed || even_unsealed)
                && segment.appended & !ingested == 0;
            all | u8::from(finished) << index
        })
    }

    /// Records that were promised to be kept.
    pub(crate) fn acknowledged(&self) -> Records {
        self.segments.iter().fold(ORIGINAL, |all, segment| all | segment.synced)
    }

    /// Whether every acknowledged record is in a segment or in the database that a successor would build upon.
    pub(crate) fn is_kept(&self, design: Design) -> bool {
        let spooled =
            self.segments.iter().filter(|segment| !segment.deleted).fold(0, |all, segment| all | segment.synced);
        let stored = self.current(design).map_or(0, Database::durable);
        self.acknowledged() & !(spooled | stored) == 0
    }
}

/// What the accepter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    Append,
    /// One sync of the segment; then the answer.
    Sync,
    Seal,
    /// What was not synced is lost; the next segment is another process's.
    Crash,
}

impl Share {
    /// What the accepter can do now, of so many records in all.
    pub(crate) fn acceptances(&self, records: u8) -> impl Iterator<Item = Accept> {
        let segment = self.segments[usize::from(self.segment)];
        let is_dirty = segment.appended != segment.synced;
        let sent = self.segments.iter().fold(0, |all, segment| all | segment.appended);
        let is_last = usize::from(self.segment) + 1 == SEGMENTS;
        [
            (Accept::Append, !segment.sealed && sent.count_ones() < u32::from(records)),
            (Accept::Sync, is_dirty || (segment.sealed && !is_last)),
            (Accept::Seal, !segment.sealed && segment.appended != 0),
            (Accept::Crash, self.crashes_left > 0 && is_dirty && !is_last),
        ]
        .into_iter()
        .filter_map(|(what, possible)| possible.then_some(what))
    }

    pub(crate) fn accept(&mut self, what: Accept) {
        let sent = self.segments.iter().fold(0, |all: Records, segment| all | segment.appended);
        let segment = &mut self.segments[usize::from(self.segment)];
        match what {
            // The lowest that is in no segment: the first again, if a crash lost it.
            Accept::Append => segment.appended |= !sent & (sent + 1),
            Accept::Seal => segment.sealed = true,
            Accept::Sync => {
                segment.synced = segment.appended;
                if segment.sealed && usize::from(self.segment) + 1 < SEGMENTS {
                    self.segment += 1;
                }
            }
            Accept::Crash => {
                segment.appended = segment.synced;
                segment.sealed = false;
                self.segment += 1;
                self.crashes_left -= 1;
            }
        }
    }
}
