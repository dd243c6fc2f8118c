//! The nemeses: a seed decides which one strikes whom, when and for how long. Each is told to the history, ends by itself,
//! and all of them end with the run. What the processes make of it is for others to judge.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::control::{Call, Deed, Rule};
use crate::fleet::{Fleet, Site};
use crate::history::History;

/// How long everyone is excused after the share came back.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nemesis {
    Kill,
    /// All at the same time.
    PowerFailure,
    Terminate,
    /// Stopped, and continued later.
    Pause,
    /// The folder has another name for a while, whatever is open stays open.
    Vanish,
    /// Whoever wants the writer's lock gets it, and one process is paused, at once or at its next call of some kind.
    LyingLock,
    Calls(Trouble),
}

/// What is done to the calls of a process below the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    FailedSync,
    FailedSyncThatLoses,
    FullDisk,
    TornWrite,
    ShortCalls,
    SlowSync,
    HangingSync,
    SlowShare,
    FailedRead,
    FailedOpen,
    FailedNames,
    /// Done, and denied: the answer got lost, and the repeat found it done already.
    LostAnswer,
    ReadOnly,
    Gone,
    DeathAt,
    /// With what was not synced.
    CrashAt,
}

const TROUBLES: [Trouble; 16] = [
    Trouble::FailedSync,
    Trouble::FailedSyncThatLoses,
    Trouble::FullDisk,
    Trouble::TornWrite,
    Trouble::ShortCalls,
    Trouble::SlowSync,
    Trouble::HangingSync,
    Trouble::SlowShare,
    Trouble::FailedRead,
    Trouble::FailedOpen,
    Trouble::FailedNames,
    Trouble::LostAnswer,
    Trouble::ReadOnly,
    Trouble::Gone,
    Trouble::DeathAt,
    Trouble::CrashAt,
];

const NAMES: [Call; 4] = [Call::Rename, Call::Unlink, Call::MakeDir, Call::RemoveDir];
const CHANGES: [Call; 7] =
    [Call::OpenWrite, Call::Write, Call::Truncate, Call::Rename, Call::Unlink, Call::MakeDir, Call::RemoveDir];

fn errno(error: Errno) -> i32 {
    error.raw_os_error()
}

impl Trouble {
    fn rules(self, random: &mut Rng) -> Vec<Rule> {
        let io = errno(Errno::IO);
        let every = |calls: &[Call], error: i32| calls.iter().map(|call| Rule::fail(*call, error)).collect::<Vec<_>>();
        let slow = |call, one_in, delay_us| Rule { deed: Deed::Slow, one_in, delay_us, ..Rule::fail(call, 0) };
        let one_in = [1, 3, 30][random.usize(..3)];
        match self {
            Self::FailedSync => vec![Rule { one_in, ..Rule::fail(Call::Sync, io) }],
            Self::FailedSyncThatLoses => vec![Rule { one_in, lose: true, ..Rule::fail(Call::Sync, io) }],
            Self::FullDisk => {
                let full = errno(Errno::NOSPC);
                let mut rules = every(&[Call::MakeDir, Call::Sync], full);
                rules.push(Rule { deed: [Deed::Fail, Deed::Half][random.usize(..2)], ..Rule::fail(Call::Write, full) });
                rules.iter_mut().for_each(|rule| rule.one_in = one_in);
                rules
            }
            Self::TornWrite => vec![Rule { deed: Deed::Half, one_in, ..Rule::fail(Call::Write, io) }],
            Self::ShortCalls => [Call::Read, Call::Write]
                .map(|call| Rule { deed: Deed::Short, one_in: 2, ..Rule::fail(call, 0) })
                .to_vec(),
            Self::SlowSync => vec![slow(Call::Sync, 1, 2_700)],
            Self::HangingSync => vec![slow(Call::Sync, one_in, 2_000_000)],
            Self::SlowShare => Call::ALL.map(|call| slow(call, 4, 20_000)).to_vec(),
            Self::FailedRead => vec![Rule { one_in, ..Rule::fail(Call::Read, io) }],
            Self::FailedOpen => [Call::OpenRead, Call::OpenWrite, Call::Look]
                .map(|call| Rule { one_in, ..Rule::fail(call, io) })
                .to_vec(),
            Self::FailedNames => NAMES.map(|call| Rule { one_in, ..Rule::fail(call, io) }).to_vec(),
            Self::LostAnswer => [
                (Call::OpenWrite, Errno::EXIST),
                (Call::MakeDir, Errno::EXIST),
                (Call::RemoveDir, Errno::NOENT),
                (Call::Unlink, Errno::NOENT),
                (Call::Rename, Errno::NOENT),
                (Call::Sync, Errno::IO),
                (Call::Write, Errno::IO),
            ]
            .map(|(call, error)| Rule {
                deed: Deed::FailAfter,
                one_in: one_in.max(2),
                ..Rule::fail(call, errno(error))
            })
            .to_vec(),
            Self::ReadOnly => every(&CHANGES, errno(Errno::ROFS)),
            Self::Gone => {
                let mut rules = every(&[Call::OpenRead, Call::OpenWrite, Call::Look], errno(Errno::NOENT));
                rules.extend(every(&NAMES, errno(Errno::NOENT)));
                rules.extend(every(&[Call::Read, Call::Write, Call::Sync, Call::Truncate], errno(Errno::STALE)));
                rules
            }
            Self::DeathAt | Self::CrashAt => {
                let deed = [Deed::DieBefore, Deed::DieAfter][random.usize(..2)];
                vec![Rule { lose: self == Self::CrashAt, ..at_some_call(deed, random) }]
            }
        }
    }
}

/// Once, soon: few calls are on names, and each of them is a boundary; many are reads and writes.
fn at_some_call(deed: Deed, random: &mut Rng) -> Rule {
    let calls = [Call::OpenWrite, Call::Rename, Call::Unlink, Call::MakeDir, Call::RemoveDir, Call::Write, Call::Sync];
    let call = calls[random.usize(..calls.len())];
    let many = matches!(call, Call::Write | Call::Sync);
    let one_in = 1 + random.u32(..if many { 64 } else { 4 });
    Rule { deed, one_in, once: true, ..Rule::fail(call, 0) }
}

fn choose(random: &mut Rng) -> Nemesis {
    match random.u32(..20) {
        0 | 1 => Nemesis::Kill,
        2 => Nemesis::PowerFailure,
        3..=5 => Nemesis::Terminate,
        6 | 7 => Nemesis::Pause,
        8 => Nemesis::Vanish,
        9 | 10 => Nemesis::LyingLock,
        _ => Nemesis::Calls(TROUBLES[random.usize(..TROUBLES.len())]),
    }
}

/// What ends a nemesis.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cure {
    Calls(Vec<usize>),
    Continue(usize),
    Return,
}

/// The nemeses of one run.
pub(crate) struct Faults<'a> {
    fleet: &'a Fleet,
    history: &'a History,
    random: Rng,
    share: PathBuf,
    away: PathBuf,
    shimmed: bool,
    spool: bool,
    cures: Vec<(Instant, Cure)>,
    /// How long a nemesis lasts at most.
    longest: Duration,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(fleet: &'a Fleet, site: &Site, seed: u64, longest: Duration, history: &'a History) -> Self {
        Self {
            fleet,
            history,
            random: Rng::with_seed(seed),
            share: site.share(),
            away: site.folder.join("away"),
            shimmed: site.shim.is_some(),
            spool: site.storage == "spool",
            cures: Vec::new(),
            longest,
        }
    }

    /// Torments the fleet until the deadline, and leaves everything healed.
    pub(crate) fn strike_until(&mut self, deadline: Instant) {
        let mut next = Instant::now() + self.between(50, 300);
        while Instant::now() < deadline {
            self.cure_until(Instant::now());
            self.fleet.keep_running();
            if Instant::now() >= next {
                self.strike();
                next = Instant::now() + self.between(30, 500);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.cure_until(deadline + self.longest);
        // A rule may have been set without a cure of its own, after another's.
        self.fleet.slots.iter().for_each(|slot| slot.control.set(&[]));
        self.history.tell("everything is healed");
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.random.u64(least_ms..most_ms))
    }

    /// Draws all it needs before it looks at who is troubled already, so that a seed is a plan.
    fn strike(&mut self) {
        let nemesis = choose(&mut self.random);
        let slot = self.random.usize(..self.fleet.slots.len());
        let everyone = self.random.u32(..4) == 0;
        let most_ms = u64::try_from(self.longest.as_millis()).unwrap();
        // Most are short even where long ones are allowed.
        let most_ms = if self.random.u32(..8) == 0 { most_ms } else { most_ms.min(1_500) };
        let lasting = self.between(20, most_ms.max(21));
        let rules = match nemesis {
            Nemesis::Calls(trouble) => trouble.rules(&mut self.random),
            Nemesis::LyingLock => {
                let stop = [Deed::StopBefore, Deed::StopAfter][self.random.usize(..2)];
                let lie = Rule { deed: Deed::Pretend, name: "writer.lock", ..Rule::fail(Call::Lock, 0) };
                vec![at_some_call(stop, &mut self.random), lie]
            }
            _ => Vec::new(),
        };
        let until = Instant::now() + lasting;
        match nemesis {
            Nemesis::Kill | Nemesis::PowerFailure | Nemesis::Terminate => {
                let signal = if nemesis == Nemesis::Terminate { Signal::TERM } else { Signal::KILL };
                let all = 0..self.fleet.slots.len();
                let struck = if nemesis == Nemesis::PowerFailure { all } else { slot..slot + 1 };
                self.history.tell(format!("{nemesis:?} of slots {struck:?}"));
                struck.for_each(|slot| self.fleet.signal(slot, signal));
            }
            Nemesis::Pause => self.pause(slot, until),
            Nemesis::Vanish if self.cures.iter().all(|(_, cure)| *cure != Cure::Return) => {
                self.history.tell(format!("the share vanishes for {lasting:?}"));
                self.fleet.excuse(lasting + AFTERMATH);
                std::fs::rename(&self.share, &self.away).unwrap();
                self.cures.push((until, Cure::Return));
            }
            Nemesis::LyingLock if self.spool => {
                let others = (0..self.fleet.slots.len()).filter(|other| *other != slot);
                self.set(others.collect(), &rules[1..], until, "LyingLock");
                self.set(vec![slot], &rules, until, "LyingLock");
                if everyone {
                    self.pause(slot, until);
                }
            }
            Nemesis::Calls(trouble) => {
                let slots = if everyone { (0..self.fleet.slots.len()).collect() } else { vec![slot] };
                self.set(slots, &rules, until, &format!("{trouble:?}"));
            }
            Nemesis::Vanish | Nemesis::LyingLock => {}
        }
    }

    fn pause(&mut self, slot: usize, until: Instant) {
        if self.cures.iter().any(|(_, cure)| *cure == Cure::Continue(slot)) {
            return;
        }
        self.history.tell(format!("Pause of slot {slot} for {:?}", until - Instant::now()));
        self.fleet.signal(slot, Signal::STOP);
        self.cures.push((until, Cure::Continue(slot)));
    }

    fn set(&mut self, mut slots: Vec<usize>, rules: &[Rule], until: Instant, what: &str) {
        let troubled =
            |slot: &usize| self.cures.iter().any(|(_, cure)| matches!(cure, Cure::Calls(of) if of.contains(slot)));
        slots.retain(|slot| !troubled(slot));
        if slots.is_empty() || !self.shimmed {
            return;
        }
        let rule = &rules[0];
        let first = format!("{:?} {:?} 1 in {}", rule.call, rule.deed, rule.one_in);
        let lasting = until - Instant::now();
        self.history.tell(format!("{what} ({first}, ..) for the calls of slots {slots:?} for {lasting:?}"));
        slots.iter().for_each(|slot| self.fleet.slots[*slot].control.set(rules));
        self.cures.push((until, Cure::Calls(slots)));
    }

    fn cure_until(&mut self, now: Instant) {
        let (due, later) = self.cures.drain(..).partition(|(until, _)| *until <= now);
        self.cures = later;
        for (_, cure) in due {
            match cure {
                Cure::Calls(slots) => {
                    for slot in &slots {
                        self.fleet.slots[*slot].control.set(&[]);
                        // A rule may have stopped it.
                        self.fleet.signal(*slot, Signal::CONT);
                    }
                    self.history.tell(format!("the calls of slots {slots:?} work again"));
                }
                Cure::Continue(slot) => {
                    self.fleet.signal(slot, Signal::CONT);
                    self.history.tell(format!("slot {slot} continues"));
                }
                Cure::Return => {
                    self.history.tell("the share is back");
                    if let Err(fault) = std::fs::rename(&self.away, &self.share) {
                        self.history.object(format!("something stands where the share was: {fault}"));
                        std::fs::rename(&self.share, self.share.with_extension("usurper")).unwrap();
                        std::fs::rename(&self.away, &self.share).unwrap();
                    }
                }
            }
        }
    }
}
