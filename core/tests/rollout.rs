//! The engine, event by event, as tables: each line is a time and what happened, and what is decided then.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dbird_core::{
    Phase, Progress, ReleaseId, Steer, Weights,
    rollout::{Course, Decision, Engine, Event, Request, Waiting},
    spec::{Hook, HookWhen, WeightStep},
};

const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);

fn course(weights: &[(u8, u64, bool)], hooks: &[HookWhen]) -> Course {
    let hook = |when: &HookWhen| Hook { when: *when, run: vec!["true".into()], url: None, timeout_ms: 1_000 };
    Course {
        strategy: "canary".into(),
        swap: false,
        weights: weights
            .iter()
            .map(|(weight, pause_ms, gate)| WeightStep { weight: *weight, pause_ms: *pause_ms, gate: *gate })
            .collect(),
        bake_ms: 500,
        deadline_ms: 10_000,
        pause_limit_ms: 3_000,
        hooks: hooks.iter().map(hook).collect(),
        ..Course::default()
    }
}

fn all() -> Course {
    course(&[(100, 0, false)], &[])
}

fn canary() -> Course {
    course(&[(10, 1_000, false), (100, 0, false)], &[])
}

/// `working`, `ready 10` (percent of the candidate), `shifting`, `failed`, ...
fn event(text: &str) -> Event {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let progress = |phase| {
        let share: u8 = rest.parse().unwrap_or(0);
        let mut progress = Progress::in_phase(phase);
        progress.weights = match share {
            100 => Weights::all(NEW),
            0 => Weights::all(OLD),
            share => Weights([(NEW, share), (OLD, 100 - share)].into()),
        };
        progress.waiting_for = "readiness".into();
        Event::Progress(progress)
    };
    match word {
        "tick" => Event::Tick,
        "working" => progress(Phase::Working),
        "ready" => progress(Phase::Ready),
        "shifting" => progress(Phase::Shifting),
        "finishing" => progress(Phase::Finishing),
        "finished" => progress(Phase::Finished),
        "rolling-back" => progress(Phase::RollingBack),
        "rolled-back" => progress(Phase::RolledBack),
        "failed" => progress(Phase::Failed { why: "it died".into(), logs: vec!["last words".into()] }),
        "hook" => Event::HookEnded {
            index: rest.split(' ').next().unwrap().parse().unwrap(),
            failure: rest.ends_with("failed").then(|| "the hook failed".to_owned()),
        },
        "promote" => Event::Request(Request::Promote),
        "abort" => Event::Request(Request::Abort { why: "ann said so".into() }),
        "pause" => Event::Request(Request::Pause),
        "resume" => Event::Request(Request::Resume),
        "interrupt" => Event::Request(Request::Interrupt),
        other => panic!("what is {other}?"),
    }
}

/// `shift 10`, `finish`, `undo`, `hook 0`, `wait`, `wait until 1500 for ...`, `done rolled-back: it died`.
fn text(decision: &Decision) -> String {
    match decision {
        Decision::Steer(Steer::Shift { weights, .. }) => format!("shift {}", weights.of(NEW)),
        Decision::Steer(Steer::Finish) => "finish".into(),
        Decision::Steer(Steer::Stop { roll_back: true }) => "undo".into(),
        Decision::Steer(other) => format!("{other:?}"),
        Decision::RunHook { index } => format!("hook {index}"),
        Decision::Look { window_ms } => format!("look {window_ms}"),
        Decision::Wait { until_ms, waiting_for } if *waiting_for != Waiting::Provider => {
            format!("wait until {} for {waiting_for}", until_ms.unwrap())
        }
        Decision::Wait { .. } => "wait".into(),
        Decision::Done { outcome, why, .. } => {
            let outcome = serde_json::to_value(outcome).unwrap();
            format!("done {}{}{why}", outcome.as_str().unwrap(), if why.is_empty() { "" } else { ": " })
        }
    }
}

fn play(what: &str, engine: &mut Engine, lines: &[(u64, &str, &str)]) {
    for (n, (at_ms, happened, expected)) in lines.iter().enumerate() {
        let decision = engine.next(*at_ms, event(happened));
        assert_eq!(text(&decision), *expected, "{what}, line {}: at {at_ms} {happened}", n + 1);
    }
}

#[test]
fn good_releases() {
    type Lines = &'static [(u64, &'static str, &'static str)];
    let cases: [(&str, Course, Option<ReleaseId>, Lines); 6] = [
        (
            "all at once",
            all(),
            Some(OLD),
            &[
                (0, "tick", "wait"),
                (100, "working", "wait"),
                (200, "ready 0", "shift 100"),
                (210, "shifting 0", "wait"),
                (220, "ready 100", "wait until 720 for the bake time to pass"),
                (700, "ready 100", "wait until 720 for the bake time to pass"),
                (720, "tick", "finish"),
                (730, "finishing 100", "wait"),
                (900, "finished 100", "done succeeded"),
                (950, "failed", "done succeeded"),
            ],
        ),
        (
            "a first release does not bake",
            all(),
            None,
            &[(0, "ready 0", "shift 100"), (10, "ready 100", "finish"), (20, "finished 100", "done succeeded")],
        ),
        ("a first release has nobody to share with", canary(), None, &[(0, "ready 0", "shift 100")]),
        (
            "canary",
            canary(),
            Some(OLD),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 1010 for the pause at 10 % to pass"),
                (1_010, "tick", "shift 100"),
                (1_020, "ready 100", "wait until 1520 for the bake time to pass"),
            ],
        ),
        (
            "hooks",
            course(
                &[(50, 0, false), (100, 0, false)],
                &[HookWhen::Step, HookWhen::BeforeTraffic, HookWhen::After, HookWhen::Step],
            ),
            Some(OLD),
            &[
                (0, "ready 0", "hook 1"),
                (5, "tick", "wait"),
                (6, "hook 0", "wait"),
                (10, "hook 1", "shift 50"),
                (20, "ready 50", "hook 0"),
                (30, "hook 0", "hook 3"),
                (40, "hook 3", "shift 100"),
                (50, "ready 100", "hook 0"),
                (60, "hook 0", "hook 3"),
                (70, "hook 3", "wait until 570 for the bake time to pass"),
                (570, "tick", "finish"),
                (580, "finished 100", "hook 2"),
                (590, "hook 2 failed", "done succeeded: the hook failed"),
            ],
        ),
        (
            "steers that were lost are repeated",
            all(),
            Some(OLD),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 0", "wait"),
                (1_999, "ready 0", "wait"),
                (2_000, "ready 0", "shift 100"),
                (2_010, "ready 100", "wait until 2510 for the bake time to pass"),
                (2_510, "tick", "finish"),
                (3_000, "ready 100", "wait"),
                (4_510, "ready 100", "finish"),
                (4_520, "finished 100", "done succeeded"),
            ],
        ),
    ];
    for (what, course, parent, lines) in cases {
        play(what, &mut Engine::new(course, NEW, parent, 0), lines);
    }
}

#[test]
fn bad_releases_are_undone() {
    type Lines = &'static [(u64, &'static str, &'static str)];
    let cases: [(&str, Course, Option<ReleaseId>, Lines); 13] = [
        (
            "dies before it is ready",
            all(),
            Some(OLD),
            &[
                (0, "working", "wait"),
                (10, "failed", "undo"),
                (20, "rolling-back", "wait"),
                (30, "rolled-back", "done rolled-back: it died"),
            ],
        ),
        (
            "a first release is removed",
            all(),
            None,
            &[(10, "failed", "undo"), (30, "rolled-back", "done removed: it died")],
        ),
        (
            "dies at a weight",
            canary(),
            Some(OLD),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 1010 for the pause at 10 % to pass"),
                (500, "failed 10", "undo"),
                (510, "rolled-back", "done rolled-back: it died"),
            ],
        ),
        (
            "dies while it bakes",
            all(),
            Some(OLD),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 100", "wait until 510 for the bake time to pass"),
                (400, "failed 100", "undo"),
                (500, "rolled-back", "done rolled-back: it died"),
            ],
        ),
        (
            "dies while the old one drains",
            all(),
            Some(OLD),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 100", "wait until 510 for the bake time to pass"),
                (510, "tick", "finish"),
                (520, "failed 100", "undo"),
                (600, "rolled-back", "done rolled-back: it died"),
            ],
        ),
        (
            "is late",
            all(),
            Some(OLD),
            &[
                (9_999, "working", "wait"),
                (10_000, "tick", "undo"),
                (10_010, "rolled-back", "done rolled-back: not done within the deadline of 10s: waiting for readiness"),
            ],
        ),
        (
            "a hook before traffic fails",
            course(&[(100, 0, false)], &[HookWhen::BeforeTraffic, HookWhen::Rollback]),
            Some(OLD),
            &[
                (0, "ready 0", "hook 0"),
                (10, "hook 0 failed", "undo"),
                (20, "rolled-back", "hook 1"),
                (30, "hook 1 failed", "done rolled-back: the hook failed"),
            ],
        ),
        (
            "the cloud undoes it by itself",
            all(),
            Some(OLD),
            &[
                (0, "working", "wait"),
                (10, "rolling-back", "wait"),
                (20, "rolled-back", "done rolled-back: the cloud undid it"),
            ],
        ),
        (
            "an undo that was lost is repeated",
            all(),
            Some(OLD),
            &[
                (0, "failed", "undo"),
                (10, "failed", "wait"),
                (2_000, "failed", "undo"),
                (2_010, "rolled-back", "done rolled-back: it died"),
            ],
        ),
        (
            "an undo that fails again and again is told",
            all(),
            Some(OLD),
            &[
                (0, "failed", "undo"),
                (2_000, "failed", "undo"),
                (4_000, "failed", "undo"),
                (6_000, "failed", "undo"),
                (8_000, "failed", "undo"),
                (10_000, "failed", "done failed: it died; undoing it failed too: it died"),
            ],
        ),
        (
            "an undo that never ends is told",
            all(),
            Some(OLD),
            &[
                (0, "failed", "undo"),
                (599_999, "rolling-back", "wait"),
                (600_000, "tick", "done failed: it died; undoing it has not ended after 600 s"),
            ],
        ),
        (
            "too late to be undone",
            all(),
            Some(OLD),
            &[
                (0, "failed", "undo"),
                (10, "finished 100", "wait"),
                (2_000, "finished 100", "done failed: it died; it was too late to undo it"),
            ],
        ),
        (
            "finished without all traffic",
            all(),
            Some(OLD),
            &[(0, "finished 40", "done failed: the cloud calls it finished, but it does not have all traffic")],
        ),
    ];
    for (what, course, parent, lines) in cases {
        let mut engine = Engine::new(course, NEW, parent, 0);
        play(what, &mut engine, lines);
        if lines.iter().any(|(_, happened, _)| happened.starts_with("failed")) {
            assert_eq!(engine.logs(), ["last words"], "{what}");
        }
    }
}

#[test]
fn people_are_obeyed() {
    type Lines = &'static [(u64, &'static str, &'static str)];
    let gated = || course(&[(10, 0, true), (100, 0, false)], &[]);
    let cases: [(&str, Course, Lines); 10] = [
        (
            "a gate waits for somebody",
            gated(),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 3010 for somebody to go on (at 10 %)"),
                (2_000, "promote", "shift 100"),
                (2_010, "ready 100", "wait until 2510 for the bake time to pass"),
            ],
        ),
        (
            "but not for ever",
            gated(),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 3010 for somebody to go on (at 10 %)"),
                (3_010, "tick", "undo"),
                (3_020, "rolled-back", "done rolled-back: nobody went on from 10 % in time"),
            ],
        ),
        (
            "time at a gate does not count against the deadline",
            course(&[(10, 0, true), (100, 0, false)], &[]),
            &[
                (9_000, "ready 0", "shift 10"),
                (9_010, "ready 10", "wait until 12010 for somebody to go on (at 10 %)"),
                (11_010, "promote", "shift 100"),
                (11_020, "shifting 10", "wait"),
                (12_000, "tick", "undo"),
            ],
        ),
        (
            "a pause is cut short",
            canary(),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 1010 for the pause at 10 % to pass"),
                (20, "promote", "shift 100"),
            ],
        ),
        (
            "pause and resume",
            canary(),
            &[
                (0, "ready 0", "shift 10"),
                (5, "pause", "wait"),
                (10, "ready 10", "wait until 3010 for somebody to resume (at 10 %)"),
                (2_000, "tick", "wait until 3010 for somebody to resume (at 10 %)"),
                (2_500, "resume", "shift 100"),
            ],
        ),
        (
            "a bake is cut short",
            all(),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 100", "wait until 510 for the bake time to pass"),
                (20, "promote", "finish"),
            ],
        ),
        (
            "abort",
            canary(),
            &[
                (0, "ready 0", "shift 10"),
                (10, "ready 10", "wait until 1010 for the pause at 10 % to pass"),
                (20, "abort", "undo"),
                (30, "abort", "wait"),
                (40, "rolled-back", "done rolled-back: ann said so"),
            ],
        ),
        (
            "abort comes too late",
            all(),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 100", "wait until 510 for the bake time to pass"),
                (510, "tick", "finish"),
                (520, "abort", "wait"),
                (530, "finished 100", "done succeeded"),
            ],
        ),
        (
            "interrupted before it has all traffic",
            canary(),
            &[
                (0, "ready 0", "shift 10"),
                (10, "interrupt", "undo"),
                (20, "rolled-back", "done rolled-back: interrupted"),
            ],
        ),
        (
            "interrupted once it has all traffic",
            all(),
            &[
                (0, "ready 0", "shift 100"),
                (10, "ready 100", "wait until 510 for the bake time to pass"),
                (20, "interrupt", "finish"),
                (30, "finished 100", "done succeeded: interrupted once it had all traffic: finished at once"),
            ],
        ),
    ];
    for (what, course, lines) in cases {
        play(what, &mut Engine::new(course, NEW, Some(OLD), 0), lines);
    }
}

#[test]
fn what_was_left_is_finished_or_undone() {
    play(
        "finish",
        &mut Engine::finishing(all(), NEW, Some(OLD), 0),
        &[(0, "tick", "finish"), (10, "finishing 100", "wait"), (20, "finished 100", "done succeeded")],
    );
    play(
        "undo",
        &mut Engine::undoing(all(), NEW, Some(OLD), 0, "its driver died"),
        &[(0, "tick", "undo"), (10, "rolled-back", "done rolled-back: its driver died")],
    );
    play(
        "undo what is undone",
        &mut Engine::undoing(all(), NEW, None, 0, "its driver died"),
        &[(0, "rolled-back", "done removed: its driver died")],
    );
    let engine = Engine::undoing(all(), NEW, None, 0, "its driver died");
    assert!(engine.is_undoing() && engine.why() == "its driver died");
    assert!(!Engine::finishing(all(), NEW, None, 0).is_undoing());
}
