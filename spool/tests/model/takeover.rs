//! How a candidate gets its database: the base's renamed if that was left clean, else a copy. It decides what comes after
//! each answer; when to begin is not its business.

use crate::design::Design;
use crate::process::{Phase, Process, Step};
use crate::share::{NOBODY, Records, Share};

impl Process {
    /// Knows what to build upon, and how to go about it.
    pub(crate) fn build(&mut self, design: Design) {
        self.phase = match self.base {
            0 if design.is_original_renamed() => Phase::Moving { name: 0 },
            0 => Phase::Copying,
            _ => Phase::Looking,
        };
    }

    /// Renames the database with the name of epoch `name` to the own one, or goes on with the next name. After the base's
    /// the own one is asked, which an earlier try may have got that failed afterwards.
    pub(crate) fn rename(&mut self, design: Design, share: &mut Share, name: u8, found: bool) {
        let inode = share.names[usize::from(name)];
        if found && inode != NOBODY {
            share.names[usize::from(name)] = NOBODY;
            share.names[usize::from(self.epoch)] = inode;
            self.published(design, share);
            return;
        }
        self.phase = self.next_name(design, name);
    }

    fn next_name(&self, design: Design, name: u8) -> Phase {
        let next = match design {
            Design::OriginalRenamedUpwards => name + 1,
            Design::OriginalRenamed if name == self.base => self.epoch - 1,
            _ if name == self.base => self.epoch,
            _ => name - 1,
        };
        if self.base < next && next <= self.epoch {
            Phase::Moving { name: next }
        } else if design.is_original_renamed() && self.base == 0 {
            Phase::Publishing { pages: [0; 2] }
        } else if self.base == 0 {
            Phase::Copying
        } else {
            Phase::Looking
        }
    }

    pub(crate) fn copy(&mut self, design: Design, share: &mut Share, step: Step) {
        let source = share.databases.get_mut(usize::from(share.names[usize::from(self.base)]));
        self.phase = match (self.phase, step, source) {
            (Phase::Copying, Step::CopyLog { found }, Some(source)) => {
                if design == Design::LogLookedUp {
                    Phase::Reading { log: source.log.filter(|_| found) }
                } else {
                    // Making the log, which fails if there is one, is the only way to learn that there is none.
                    Phase::Reading { log: Some(*source.log.get_or_insert(0)) }
                }
            }
            (Phase::Reading { log }, Step::CopyPages { found: true }, Some(source)) => {
                Phase::Comparing { log, pages: source.pages }
            }
            (Phase::Comparing { log, pages }, Step::Compare { found }, source) => {
                let now = source.and_then(|source| source.log).filter(|_| found);
                if is_same(design, log, now) {
                    Phase::Publishing { pages: pages.map(|page| page | log.unwrap_or_default()) }
                } else {
                    Phase::Copying
                }
            }
            (_, _, Some(_)) if design == Design::UnseenRename => Phase::Moving { name: self.base },
            // An epoch that never began renamed it, or it seems so. It is not renamed from here: its holder may be alive.
            _ => self.next_name(design, self.base),
        };
    }

    /// The database has the epoch's name.
    pub(crate) fn published(&mut self, design: Design, share: &mut Share) {
        self.database = share.names[usize::from(self.epoch)];
        share.databases[usize::from(self.database)].owner = self.epoch;
        self.phase = match design {
            Design::BegunTooEarly => Phase::Working,
            Design::CopiedBeforeFence if self.epoch > 1 => Phase::Fencing { number: self.epoch - 1 },
            _ => Phase::Beginning,
        };
    }
}

/// Whether nothing was committed between two readings of a log, as the design has it.
fn is_same(design: Design, before: Option<Records>, now: Option<Records>) -> bool {
    match (before, now) {
        // The header changes when the log begins anew, not when something is appended.
        (Some(before), Some(now)) if design == Design::HeaderCompared => {
            before == now || (before != 0 && before & !now == 0)
        }
        (before, now) => before == now,
    }
}
