//! What an engine does while traffic stays at a weight: it looks, it waits for time and for people, and it leaves. Only what
//! was judged good leaves by itself; what nobody can judge waits for somebody who can, and is undone when nobody comes.

use super::{
    Decision, Looked, Waiting,
    engine::{Engine, Stage},
};
use crate::{
    analysis::{Unclear, Verdict},
    spec::{NoData, WeightStep},
};

/// Traffic stays at a weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Holding {
    /// The weight's place in the course.
    pub(super) step: usize,
    pub(super) since_ms: u64,
    pub(super) looking: Looking,
    /// Looks in a row that were good.
    good: u32,
    /// The last look was not answered.
    blind: bool,
    /// Since when it could go on but for something to judge by.
    pub(super) unclear_since_ms: Option<u64>,
}

/// Where the next look stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Looking {
    /// The first window has not begun.
    Closed,
    /// Whoever drives was asked to begin one.
    Opening,
    /// The window began then.
    Open { since_ms: u64 },
    /// Whoever drives was asked what it was like.
    Asked { since_ms: u64 },
}

impl Holding {
    pub(super) fn new(step: usize, now_ms: u64) -> Self {
        Holding { step, since_ms: now_ms, looking: Looking::Closed, good: 0, blind: false, unclear_since_ms: None }
    }
}

impl Engine {
    /// What comes next, now that a look was answered.
    pub fn looked(&mut self, now_ms: u64, looked: Looked<'_>) -> Decision {
        if let (&Stage::Holding(holding), Some(judge)) = (&self.stage, &mut self.judge) {
            let mut holding = holding;
            match (holding.looking, looked) {
                (Looking::Opening, _) => {
                    judge.at_new_weight();
                    self.verdict = Verdict::Unclear(Unclear::NotYet);
                    holding.looking = Looking::Open { since_ms: now_ms };
                    self.stage = Stage::Holding(holding);
                }
                (Looking::Asked { .. }, Looked::At(look)) => {
                    self.verdict = judge.judge(now_ms, look);
                    holding.blind = false;
                    holding.looking = Looking::Open { since_ms: now_ms };
                    holding.good = if self.verdict == Verdict::Good { holding.good.saturating_add(1) } else { 0 };
                    self.stage = Stage::Holding(holding);
                    self.judged(now_ms, holding.step);
                }
                (Looking::Asked { .. }, looked) => {
                    let health = if let Looked::Unreadable(health) = looked { health } else { None };
                    let (verdict, hopeless) = judge.unreadable(now_ms, health);
                    let bad = matches!(verdict, Verdict::Bad(_));
                    // What was good may be called so until there is really nothing to go by.
                    if bad || hopeless || self.verdict == Verdict::Unclear(Unclear::NotYet) {
                        self.verdict = verdict;
                        holding.good = 0;
                    }
                    holding.blind = true;
                    holding.looking = Looking::Open { since_ms: now_ms };
                    self.stage = Stage::Holding(holding);
                    if bad {
                        self.judged(now_ms, holding.step);
                    } else if let (true, NoData::Fail, Verdict::Unclear(why)) = (hopeless, self.no_data(), verdict) {
                        self.undo(now_ms, why.to_string());
                    }
                }
                _ => {}
            }
        }
        self.decide(now_ms)
    }

    /// A bad look ends the release once there were enough of them.
    fn judged(&mut self, now_ms: u64, step: usize) {
        let Verdict::Bad(fault) = self.verdict else { return };
        self.bad_looks = self.bad_looks.saturating_add(1);
        let limit = self.course.analysis.as_ref().map_or(1, |a| a.failure_limit);
        if self.bad_looks >= limit {
            let weight = self.share_at(step);
            let nth = if limit > 1 { format!(" (bad look {} of {limit})", self.bad_looks) } else { String::new() };
            self.undo(now_ms, format!("at {weight} %: {fault}{nth}"));
        }
    }

    /// What to do at a weight; none when the stage has moved on.
    pub(super) fn hold(&mut self, now_ms: u64, mut holding: Holding) -> Option<Decision> {
        let Holding { step, since_ms, .. } = holding;
        let WeightStep { weight, gate, .. } = *self.weight(step);
        let last = step + 1 == self.course.weights.len();
        if self.hurry {
            self.remark = "interrupted once it had all traffic: finished at once".to_owned();
            self.leave(now_ms, step);
            return None;
        }
        let end_ms = since_ms.saturating_add(self.hold_ms(step));
        let person_since_ms = if gate { Some(since_ms) } else { self.paused_ms.map(|p| p.max(since_ms)) };
        let watched = self.judge.is_some() && (end_ms > since_ms || person_since_ms.is_some());
        let look_ms = if watched { self.next_look_ms(holding, end_ms) } else { u64::MAX };
        if watched && let Some(decision) = self.look(now_ms, &mut holding, look_ms) {
            return Some(decision);
        }
        let wait =
            |until_ms: u64, waiting_for| Some(Decision::Wait { until_ms: Some(until_ms.min(look_ms)), waiting_for });
        if let Some(person_since_ms) = person_since_ms {
            let limit_ms = person_since_ms.saturating_add(self.course.pause_limit_ms);
            if now_ms >= limit_ms {
                self.undo(now_ms, format!("nobody went on from {weight} % in time"));
                return None;
            }
            let waiting_for = if gate { Waiting::Gate { weight } } else { Waiting::Resume { weight } };
            return wait(limit_ms, waiting_for);
        }
        if now_ms < end_ms {
            if !last && self.late(now_ms) {
                return None;
            }
            return wait(end_ms, if last { Waiting::Bake } else { Waiting::Pause { weight } });
        }
        match if watched { self.missing(&holding) } else { None } {
            None => {
                self.leave(now_ms, step);
                None
            }
            Some(why) => {
                let unclear_since_ms = *holding.unclear_since_ms.get_or_insert(now_ms);
                self.stage = Stage::Holding(holding);
                let limit_ms = unclear_since_ms.saturating_add(self.course.pause_limit_ms);
                self.unclear(now_ms, weight, why, limit_ms)?;
                wait(limit_ms, Waiting::Evidence { weight, why })
            }
        }
    }

    /// The look that is due now, if one is.
    pub(super) fn look(&mut self, now_ms: u64, holding: &mut Holding, look_ms: u64) -> Option<Decision> {
        let window_ms = match holding.looking {
            Looking::Closed => {
                holding.looking = Looking::Opening;
                0
            }
            Looking::Open { since_ms } if now_ms >= look_ms => {
                holding.looking = Looking::Asked { since_ms };
                now_ms.saturating_sub(since_ms)
            }
            _ => return None,
        };
        self.stage = Stage::Holding(*holding);
        Some(Decision::Look { window_ms })
    }

    /// Nobody can say how it is: it stays until this time at the latest; none when it does not stay.
    pub(super) fn unclear(&mut self, now_ms: u64, weight: u8, why: Unclear, limit_ms: u64) -> Option<()> {
        let fails = matches!(why, Unclear::TooFew { .. } | Unclear::NoSource { .. }) && self.no_data() == NoData::Fail;
        if fails {
            self.undo(now_ms, format!("at {weight} %: {why}"));
            return None;
        }
        if now_ms >= limit_ms {
            let limit = humantime::format_duration(std::time::Duration::from_millis(self.course.pause_limit_ms));
            self.undo(now_ms, format!("inconclusive at {weight} %: {why}; nobody decided within {limit}"));
            return None;
        }
        Some(())
    }

    /// What is missing before it may go on by itself.
    pub(super) fn missing(&self, holding: &Holding) -> Option<Unclear> {
        let wanted = self.course.analysis.as_ref().map_or(0, |a| a.success_limit);
        match self.verdict {
            // Nobody leaves on what was good before the last look failed.
            Verdict::Good if holding.blind && self.no_data() != NoData::Pass => Some(Unclear::NoSource { looks: 1 }),
            Verdict::Good if holding.good >= wanted => None,
            Verdict::Good => Some(Unclear::TooFewGood { looks: holding.good, wanted }),
            Verdict::Unclear(Unclear::TooFew { .. } | Unclear::NoSource { .. } | Unclear::NotYet)
                if self.no_data() == NoData::Pass =>
            {
                None
            }
            Verdict::Unclear(why) => Some(why),
            Verdict::Bad(fault) => Some(Unclear::TooFewToBeSure(fault)),
        }
    }

    fn no_data(&self) -> NoData {
        self.course.analysis.as_ref().map_or(NoData::Pass, |a| a.no_data)
    }

    fn interval_ms(&self) -> u64 {
        self.course.analysis.as_ref().map_or(u64::MAX, |a| a.interval_ms.max(1))
    }

    /// Every interval, and once at the end of the time at this weight.
    pub(super) fn next_look_ms(&self, holding: Holding, end_ms: u64) -> u64 {
        let Looking::Open { since_ms } = holding.looking else { return u64::MAX };
        let interval_ms = self.interval_ms();
        // A rest of less than half an interval is looked at together with the last whole one.
        if since_ms < end_ms && end_ms - since_ms < interval_ms.saturating_add(interval_ms / 2) {
            return end_ms;
        }
        since_ms.saturating_add(interval_ms)
    }

    /// How long traffic stays at a weight.
    pub(super) fn hold_ms(&self, step: usize) -> u64 {
        self.course.hold_ms(step)
    }

    /// The gate at which a person is waited for.
    pub fn gate(&self) -> Option<usize> {
        match self.stage {
            // Not before somebody has looked once, where there is anything to see.
            Stage::Holding(holding) if self.weight(holding.step).gate => {
                let seen = matches!(holding.looking, Looking::Open { .. } | Looking::Asked { .. })
                    && self.verdict != Verdict::Unclear(Unclear::NotYet);
                (self.judge.is_none() || seen).then_some(holding.step)
            }
            _ => None,
        }
    }
}
