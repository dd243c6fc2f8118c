//! The engine against a cloud that does anything at any time: it always ends, never gives a candidate traffic before it is
//! ready, never gives up the old release before the new one has everything, and says how it ended truthfully.

use dbird_core::{
    Outcome, Phase, Progress, ReleaseId, Steer, Weights,
    analysis::{Latency, Look, Side},
    rollout::{Course, Decision, Engine, Event, Looked, Request},
    spec::{Analysis, Hook, HookWhen, NoData, WeightStep},
};
use proptest::prelude::*;

const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);
/// The engine's own limits bound a rollout: its deadline and pauses (under 150 s here), and ten minutes each for finishing and
/// undoing. A turn takes at least 40 ms, so this many are more than it may need.
const TURNS_MAX: u32 = 50_000;

/// A cloud in a few lines: what it was told, and how it stands.
struct Cloud {
    phase: Phase,
    to: Option<Weights>,
    weights: Weights,
    parent: Option<ReleaseId>,
    was_ready: bool,
}

impl Cloud {
    fn new(parent: Option<ReleaseId>) -> Self {
        let weights = parent.map(Weights::all).unwrap_or_default();
        Cloud { phase: Phase::Working, to: None, weights, parent, was_ready: false }
    }

    /// Something happens, or not.
    fn turn(&mut self, luck: u8) {
        let dies = luck < 4;
        self.phase = match (&self.phase, luck) {
            (Phase::Working | Phase::Ready | Phase::Shifting | Phase::Finishing, _) if dies => {
                Phase::Failed { why: "it died".into(), logs: Vec::new() }
            }
            (Phase::Working, 100..) => {
                self.was_ready = true;
                Phase::Ready
            }
            (Phase::Shifting, 60..) => {
                self.weights = self.to.take().unwrap_or_default();
                Phase::Ready
            }
            (Phase::Finishing, 80..) => Phase::Finished,
            (Phase::RollingBack, 80..) => {
                self.weights = self.parent.map(Weights::all).unwrap_or_default();
                Phase::RolledBack
            }
            (phase, _) => phase.clone(),
        };
    }

    fn steer(&mut self, steer: &Steer) -> Result<(), TestCaseError> {
        match steer {
            Steer::Shift { weights, .. } => {
                prop_assert!(self.was_ready, "traffic for a candidate that never was ready");
                prop_assert_eq!(weights.0.values().map(|w| u32::from(*w)).sum::<u32>(), 100);
                if self.phase == Phase::Ready {
                    (self.to, self.phase) = (Some(weights.clone()), Phase::Shifting);
                }
            }
            Steer::Finish => {
                prop_assert_eq!(self.weights.of(NEW), 100, "finished without all traffic");
                if self.phase == Phase::Ready {
                    self.phase = Phase::Finishing;
                }
            }
            Steer::Stop { roll_back } => {
                prop_assert!(*roll_back);
                if !matches!(self.phase, Phase::Finished | Phase::RolledBack) {
                    self.phase = Phase::RollingBack;
                }
            }
            Steer::Continue { .. } => prop_assert!(false, "there are no gates to pass in the cloud"),
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { weights: self.weights.clone(), ..Progress::in_phase(self.phase.clone()) }
    }
}

fn courses() -> impl Strategy<Value = Course> {
    let step = (1u8..100, 0u64..5_000, any::<bool>());
    let hook = prop_oneof![
        Just(HookWhen::BeforeTraffic),
        Just(HookWhen::Step),
        Just(HookWhen::After),
        Just(HookWhen::Rollback)
    ];
    (prop::collection::vec(step, 0..4), prop::collection::vec(hook, 0..3), 0u64..10_000, 1_000u64..60_000, analyses())
        .prop_map(|(steps, hooks, bake_ms, deadline_ms, analysis)| {
            let mut weights: Vec<_> =
                steps.into_iter().map(|(weight, pause_ms, gate)| WeightStep { weight, pause_ms, gate }).collect();
            weights.push(WeightStep { weight: 100, pause_ms: 0, gate: false });
            let hooks = hooks
                .into_iter()
                .map(|when| Hook { when, run: vec!["true".into()], url: None, timeout_ms: 1 })
                .collect();
            Course {
                strategy: "canary".into(),
                swap: false,
                weights,
                bake_ms,
                deadline_ms,
                pause_limit_ms: 8_000,
                hooks,
                analysis,
                ..Course::default()
            }
        })
}

fn analyses() -> impl Strategy<Value = Option<Analysis>> {
    let no_data = prop_oneof![Just(NoData::Pause), Just(NoData::Pass), Just(NoData::Fail)];
    let some = (200u64..3_000, 1u32..6, 1u32..3, 0u64..100, no_data, any::<bool>()).prop_map(
        |(interval_ms, count, failure_limit, min_samples, no_data, baseline)| Analysis {
            interval_ms,
            count,
            failure_limit,
            min_samples,
            no_data,
            baseline,
            ..Analysis::default()
        },
    );
    prop::option::of(some)
}

/// What a look finds, or that it finds nothing.
fn look(luck: u8) -> Option<Look> {
    let side = |requests: u64, errors: u64| Side { requests, errors, latency: Latency::default() };
    let candidate = match luck {
        0..=9 => return None,
        10..=24 => side(100, 60),
        25..=90 => side(0, 0),
        _ => side(80, 0),
    };
    Some(Look { candidate, current: Some(side(500, u64::from(luck % 3))), health: None, probes: 0 })
}

fn request(luck: u8) -> Option<Request> {
    match luck {
        0..=2 => Some(Request::Interrupt),
        3..=4 => Some(Request::Abort { why: "enough".into() }),
        5..=7 => Some(Request::Pause),
        8..=12 => Some(Request::Resume),
        13..=20 => Some(Request::Promote),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_ends_and_tells_the_truth(
        course in courses(),
        first in any::<bool>(),
        luck in prop::collection::vec((any::<u8>(), any::<u8>(), 40u64..900), 1..200),
        asked_for in any::<bool>(),
    ) {
        let parent = (!first).then_some(OLD);
        let mut cloud = Cloud::new(parent);
        let mut engine = Engine::new(course, NEW, parent, 0);
        let (mut now_ms, mut event, mut turns, mut given) = (0, Event::Tick, 0, None);
        let mut dice = luck.iter().cycle();
        let (outcome, why) = loop {
            turns += 1;
            prop_assert!(turns < TURNS_MAX, "it does not end");
            let (happens, asks, passes_ms) = *dice.next().unwrap_or(&(0, 0, 1));
            // Sometimes the cloud fails until the end, sometimes it is lucky: luck is dealt anew in each round.
            let happens = happens.rotate_left(turns % 8);
            let decision = given.take().unwrap_or_else(|| engine.next(now_ms, std::mem::replace(&mut event, Event::Tick)));
            now_ms += passes_ms;
            event = match decision {
                Decision::Done { outcome, why, .. } => break (outcome, why),
                Decision::Steer(steer) => {
                    // The request may be lost on its way.
                    if happens % 5 != 0 {
                        cloud.steer(&steer)?;
                    }
                    Event::Tick
                }
                Decision::Look { window_ms } => {
                    prop_assert!(cloud.was_ready);
                    let found = look(happens);
                    let looked = match &found {
                        _ if window_ms == 0 => Looked::Opened,
                        Some(look) => Looked::At(look),
                        None => Looked::Unreadable(None),
                    };
                    given = Some(engine.looked(now_ms, looked));
                    continue;
                }
                Decision::RunHook { index } => {
                    let failure = (happens % 7 == 0).then(|| "the hook failed".to_owned());
                    Event::HookEnded { index, failure }
                }
                Decision::Wait { until_ms, .. } => {
                    // Whoever waits for what has passed would not sleep at all.
                    let asked_ms = now_ms - passes_ms;
                    prop_assert!(until_ms.is_none_or(|until_ms| until_ms > asked_ms), "{:?} at {}", until_ms, asked_ms);
                    cloud.turn(happens);
                    match request(asks).filter(|_| asked_for) {
                        Some(request) => Event::Request(request),
                        None if happens % 3 == 0 => {
                            now_ms = until_ms.unwrap_or(now_ms).min(now_ms + 2_000).max(now_ms);
                            Event::Tick
                        }
                        None => Event::Progress(cloud.progress()),
                    }
                }
            };
        };
        match outcome {
            Outcome::Succeeded => prop_assert_eq!((cloud.weights.of(NEW), engine.is_undoing()), (100, false)),
            Outcome::RolledBack => prop_assert!(parent.is_some() && cloud.weights.of(OLD) == 100 && !why.is_empty()),
            Outcome::Removed => prop_assert!(parent.is_none() && cloud.weights.0.is_empty() && !why.is_empty()),
            // Only where the cloud itself failed to undo, or would not end.
            Outcome::Failed => prop_assert!(why.contains("undo"), "{}", why),
            Outcome::Destroyed => prop_assert!(false, "a rollout destroys nothing"),
        }
        // What has ended stays so.
        let again = engine.next(now_ms + 1, Event::Progress(Progress::in_phase(Phase::Working)));
        let ended = matches!(&again, Decision::Done { outcome: o, .. } if *o == outcome);
        prop_assert!(ended, "{:?}", again);
    }
}
