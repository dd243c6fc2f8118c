//! A candidate for the ingester's role, step by step: each step is one operation on the share. It decides what a process
//! does next from what it remembers and is answered; it never sees more of the share than that operation tells.

use crate::design::Design;
use crate::share::{Mark, Records, SEGMENTS, Share};

/// Where a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Has no epoch: waiting, crashed or fenced.
    #[default]
    Idle,
    /// About to fence an earlier epoch.
    Fencing {
        number: u8,
    },
    /// About to bar it.
    Barring {
        number: u8,
    },
    /// About to choose the base from a listing.
    Listing,
    /// About to look whether the base was left clean.
    Looking,
    /// About to rename the database that has this epoch's name.
    Moving {
        name: u8,
    },
    /// About to copy the log.
    Copying,
    /// About to copy the pages.
    Reading {
        log: Option<Records>,
    },
    /// About to read the log again.
    Comparing {
        log: Option<Records>,
        pages: [Records; 2],
    },
    /// About to give a copy, or an empty database, the epoch's name.
    Publishing {
        pages: [Records; 2],
    },
    /// About to begin.
    Beginning,
    /// Holds the epoch, and has committed nothing since its last check.
    Working,
    /// Checked, before the commit.
    Writing,
    /// Committed, and has not checked yet.
    Committed,
    /// Made the folder that says whether the epoch is still its own; these segments may go if so.
    Checking {
        segments: u8,
    },
    Deleting {
        segments: u8,
    },
    /// Closing the database.
    Leaving,
}

/// What a process remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) phase: Phase,
    pub(crate) epoch: u8,
    /// What it builds upon, until it has begun.
    pub(crate) base: u8,
    /// The inode it has open.
    pub(crate) database: u8,
}

/// One operation of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Claim,
    Fence,
    Bar,
    /// A listing that shows this epoch as the last that began.
    List {
        base: u8,
    },
    /// A look-up, and whether it found what it looked for. Here and below that may be denied although it is there: a
    /// machine remembers what was not there.
    Look {
        found: bool,
    },
    Rename {
        found: bool,
    },
    CopyLog {
        found: bool,
    },
    CopyPages {
        found: bool,
    },
    Compare {
        found: bool,
    },
    Publish,
    Begin,
    /// The same, and an error is answered although it was done.
    BeginUnanswered,
    /// After an error, take the database over once more.
    Repeat,
    Commit,
    /// The log is written, and its sync fails.
    CommitUnsynced,
    Checkpoint,
    EmptyLog,
    /// Make the folder.
    Check,
    /// Remove the folder.
    Checked,
    Delete,
    Leave,
    RemoveLog,
    MakeClean,
}

impl Process {
    /// Adds the steps that this process can take.
    pub(crate) fn offer(&self, design: Design, share: &Share, steps: &mut Vec<Step>) {
        let open = share.databases[usize::from(self.database)];
        let fresh = self.fresh(share) != 0;
        let denied = [true, false];
        let looks = denied.map(|found| Step::Look { found });
        match self.phase {
            Phase::Idle => steps.push(Step::Claim),
            Phase::Listing => {
                let began = (1..self.epoch).filter(|epoch| share.begun[usize::from(*epoch)] == Mark::Folder);
                steps.extend(began.chain([0]).map(|base| Step::List { base }));
            }
            Phase::Fencing { .. } => steps.push(Step::Fence),
            Phase::Barring { .. } => steps.push(Step::Bar),
            Phase::Looking if share.clean[usize::from(self.base)] => steps.extend(looks),
            Phase::Looking => steps.push(Step::Look { found: false }),
            Phase::Moving { .. } if design.is_original_renamed() => steps.push(Step::Rename { found: true }),
            Phase::Moving { .. } => steps.extend(denied.map(|found| Step::Rename { found })),
            Phase::Copying if design == Design::LogLookedUp => {
                steps.extend(denied.map(|found| Step::CopyLog { found }));
            }
            Phase::Copying => steps.push(Step::CopyLog { found: true }),
            Phase::Reading { .. } => steps.extend(denied.map(|found| Step::CopyPages { found })),
            Phase::Comparing { .. } => steps.extend(denied.map(|found| Step::Compare { found })),
            Phase::Publishing { .. } => steps.push(Step::Publish),
            Phase::Beginning => {
                steps.push(Step::Begin);
                if design == Design::WrittenBeforeBegun && fresh {
                    steps.push(Step::Commit);
                }
            }
            Phase::Working => {
                if fresh && !design.checks_first() {
                    steps.push(Step::Commit);
                }
                if design != Design::CachedCheck {
                    steps.push(Step::Check);
                }
                if !design.is_shared_file() {
                    if open.log.is_some_and(|log| log != 0) {
                        steps.push(if open.is_moved() { Step::EmptyLog } else { Step::Checkpoint });
                    }
                    steps.push(Step::Leave);
                }
            }
            Phase::Writing => steps.push(if fresh { Step::Commit } else { Step::Check }),
            Phase::Committed => {
                if !open.is_moved() {
                    steps.push(Step::Checkpoint);
                } else if design == Design::LogEmptiedBeforeCheck && open.log != Some(0) {
                    steps.push(Step::EmptyLog);
                }
                match design {
                    Design::LookedUpCheck => steps.extend(looks),
                    Design::CachedCheck => steps.push(Step::Delete),
                    Design::DeleteBeforeCheck if self.finished(design, share) != 0 => steps.push(Step::Delete),
                    _ => steps.push(Step::Check),
                }
            }
            Phase::Checking { .. } => steps.push(Step::Checked),
            Phase::Deleting { .. } => steps.push(Step::Delete),
            Phase::Leaving => {
                steps.push(if design == Design::CleanBeforeClosed && !share.clean[usize::from(self.epoch)] {
                    Step::MakeClean
                } else if !open.is_moved() {
                    Step::Checkpoint
                } else if open.log.is_some() {
                    Step::RemoveLog
                } else {
                    Step::MakeClean
                })
            }
        }
    }

    /// Adds the steps that go wrong.
    pub(crate) fn offer_trouble(&self, design: Design, share: &Share, steps: &mut Vec<Step>) {
        match self.phase {
            Phase::Beginning => steps.extend([Step::BeginUnanswered, Step::Repeat]),
            Phase::Working if self.fresh(share) != 0 && !design.checks_first() => steps.push(Step::CommitUnsynced),
            _ => {}
        }
    }

    /// What could be ingested.
    fn fresh(&self, share: &Share) -> Records {
        let [first, second] = share.databases[usize::from(self.database)].recovered();
        share.readable() & !(first | second)
    }

    /// Takes a step.
    pub(crate) fn take(&mut self, design: Design, share: &mut Share, step: Step) {
        let own = usize::from(self.epoch);
        let open = usize::from(self.database);
        match (self.phase, step) {
            (Phase::Idle, Step::Claim) => self.claim(design, share),
            (Phase::Fencing { number }, Step::Fence) => self.fence(design, share, number),
            (Phase::Barring { number }, Step::Bar) => match share.begun[usize::from(number)] {
                Mark::Folder => self.settle(design, share, number),
                Mark::Free | Mark::File => {
                    share.begun[usize::from(number)] = Mark::File;
                    self.descend(design, share, number - 1);
                }
            },
            (Phase::Listing, Step::List { base }) => self.settle(design, share, base),
            (Phase::Looking, Step::Look { found }) => {
                let renames = found || design == Design::UncleanRename;
                self.phase = if renames { Phase::Moving { name: self.base } } else { Phase::Copying };
            }
            (Phase::Moving { name }, Step::Rename { found }) => self.rename(design, share, name, found),
            (_, Step::CopyLog { .. } | Step::CopyPages { .. } | Step::Compare { .. }) => self.copy(design, share, step),
            (Phase::Publishing { pages }, Step::Publish) => {
                share.publish(self.epoch, pages);
                self.published(design, share);
            }
            (Phase::Beginning, Step::Begin) => {
                self.phase = if self.begin(share) { Phase::Working } else { Phase::Idle };
            }
            (Phase::Beginning, Step::BeginUnanswered) => {
                self.begin(share);
                self.build(design);
            }
            (Phase::Beginning, Step::Repeat) => self.build(design),
            (Phase::Working, Step::CommitUnsynced) => {
                let fresh = self.fresh(share);
                share.databases[open].commit(fresh, self.epoch);
                share.databases[open].unsure |= fresh;
                // The next epoch's copy is synced anew.
                self.phase = if design == Design::ReopenedAfterFailure { Phase::Working } else { Phase::Idle };
            }
            (Phase::Beginning, Step::Commit) => share.databases[open].commit(self.fresh(share), self.epoch),
            (phase, Step::Commit) => {
                share.databases[open].commit(self.fresh(share), self.epoch);
                let segments = self.finished(design, share);
                self.phase = if phase != Phase::Writing { Phase::Committed } else { after_check(segments) };
            }
            (_, Step::Checkpoint) => share.databases[open].checkpoint(self.epoch),
            (_, Step::EmptyLog) => share.databases[open].set_log(Some(0), self.epoch),
            (_, Step::RemoveLog) => share.databases[open].set_log(None, self.epoch),
            (_, Step::Check) => self.check(design, share),
            (Phase::Checking { segments }, Step::Checked) => match share.fences[own] {
                Mark::Folder => {
                    share.fences[own] = Mark::Free;
                    self.phase =
                        if design == Design::CheckBeforeWrite { Phase::Writing } else { after_check(segments) };
                }
                Mark::Free | Mark::File => self.phase = Phase::Idle,
            },
            (Phase::Committed, Step::Look { found }) => {
                let fenced = found && share.fences[own] == Mark::File;
                self.phase = if fenced { Phase::Idle } else { after_check(self.finished(design, share)) };
            }
            (Phase::Committed, Step::Delete) => {
                let segments = self.finished(design, share);
                self.phase = after_check(segments);
            }
            (Phase::Deleting { segments }, Step::Delete) => {
                let index = segments.trailing_zeros() as usize;
                assert!(index < SEGMENTS, "nothing to delete in {self:?}");
                share.segments[index].deleted = true;
                self.phase = match segments & (segments - 1) {
                    0 if design == Design::DeleteBeforeCheck => Phase::Committed,
                    rest => after_check(rest),
                };
            }
            (Phase::Working, Step::Leave) => self.phase = Phase::Leaving,
            (Phase::Leaving, Step::MakeClean) => {
                let closed = share.databases[open].log.is_none();
                share.clean[own] = true;
                if design != Design::CleanBeforeClosed || closed {
                    self.phase = Phase::Idle;
                }
            }
            (phase, step) => unreachable!("{step:?} in {phase:?}"),
        }
        if self.phase == Phase::Working {
            self.base = 0;
        }
        if self.phase == Phase::Idle {
            // It forgets its epoch and never touches that database again.
            *self = Self::default();
        }
    }

    fn claim(&mut self, design: Design, share: &mut Share) {
        share.claimed += 1;
        self.epoch = share.claimed;
        if design.is_shared_file() {
            share.databases[0].owner = self.epoch;
            self.phase = Phase::Working;
        } else if design == Design::CopiedBeforeFence {
            self.base = share.base();
            self.build(design);
        } else {
            self.descend(design, share, self.epoch - 1);
        }
    }

    /// Goes on with an earlier epoch; before the first there is nothing to fence.
    fn descend(&mut self, design: Design, share: &mut Share, number: u8) {
        match (number, design) {
            (0, Design::StaleListing) => self.phase = Phase::Listing,
            (0, _) => self.settle(design, share, 0),
            _ => self.phase = Phase::Fencing { number },
        }
    }

    fn fence(&mut self, design: Design, share: &mut Share, number: u8) {
        let mark = &mut share.fences[usize::from(number)];
        if *mark == Mark::Folder {
            // The holder is checking: now that fails.
            *mark = Mark::Free;
            return;
        }
        *mark = Mark::File;
        if design == Design::StaleListing {
            self.descend(design, share, number - 1);
        } else {
            self.phase = Phase::Barring { number };
        }
    }

    /// Knows what to build upon.
    fn settle(&mut self, design: Design, share: &mut Share, base: u8) {
        if design == Design::CopiedBeforeFence {
            self.phase = if base == self.base { Phase::Beginning } else { Phase::Idle };
            return;
        }
        self.base = base;
        self.build(design);
        if design == Design::BegunTooEarly && !self.begin(share) {
            self.phase = Phase::Idle;
        }
    }

    fn begin(&mut self, share: &mut Share) -> bool {
        let own = usize::from(self.epoch);
        if share.begun[own] != Mark::Free {
            return false;
        }
        share.begun[own] = Mark::Folder;
        share.built_on[own] = self.base;
        true
    }

    fn check(&mut self, design: Design, share: &mut Share) {
        let segments = self.finished(design, share);
        let own = usize::from(self.epoch);
        if design.is_shared_file() {
            let before = design == Design::LeaseBeforeWrite && self.phase == Phase::Working;
            self.phase = match (share.claimed == self.epoch, before) {
                (false, _) => Phase::Idle,
                (true, true) => Phase::Writing,
                (true, false) => after_check(segments),
            };
            return;
        }
        self.phase = match share.fences[own] {
            Mark::Free => {
                share.fences[own] = Mark::Folder;
                Phase::Checking { segments }
            }
            Mark::Folder | Mark::File => Phase::Idle,
        };
    }

    /// Segments that may go if what was ingested until now counts.
    fn finished(&self, design: Design, share: &Share) -> u8 {
        let ingested = share.databases[usize::from(self.database)].records();
        share.finished(ingested, design == Design::UnsealedDeleted)
    }
}

fn after_check(segments: u8) -> Phase {
    if segments == 0 { Phase::Working } else { Phase::Deleting { segments } }
}

impl Process {
    /// Whether it made the folder of its check, and a successor removed it.
    pub(crate) fn fails_its_check(&self, share: &Share) -> bool {
        matches!(self.phase, Phase::Checking { .. }) && share.fences[usize::from(self.epoch)] != Mark::Folder
    }

    /// Whether the log that it copied has changed since.
    pub(crate) fn has_a_spoilt_copy(&self, share: &Share) -> bool {
        let now = share.named(self.base).and_then(|source| source.log);
        matches!(self.phase, Phase::Comparing { log, .. } if log != now)
    }
}
