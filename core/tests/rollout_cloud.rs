//! The engine beside a cloud that moves traffic itself, event by event, as tables: each line is a time and what happened, and
//! what is decided then. It never moves traffic.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dbird_core::{
    Phase, Progress, ReleaseId, Steer, Weights,
    analysis::{Look, Side},
    provider::Driver,
    rollout::{Course, Decision, Engine, Event, Looked, Request, Waiting},
    spec::{Analysis, Hook, HookWhen, WeightStep},
};

const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);

type Lines = &'static [(u64, &'static str, &'static str)];

fn course(weights: &[(u8, u64, bool)], hooks: &[HookWhen]) -> Course {
    let hook = |when: &HookWhen| Hook { when: *when, run: vec!["true".into()], url: None, timeout_ms: 1_000 };
    let step =
        |(weight, pause_ms, gate): &(u8, u64, bool)| WeightStep { weight: *weight, pause_ms: *pause_ms, gate: *gate };
    Course {
        strategy: "canary".into(),
        weights: weights.iter().map(step).collect(),
        bake_ms: 500,
        deadline_ms: 10_000,
        pause_limit_ms: 4_000,
        hooks: hooks.iter().map(hook).collect(),
        driven: Driver::Cloud,
        ..Course::default()
    }
}

fn canary() -> Course {
    course(&[(10, 1_000, false), (100, 0, false)], &[])
}

fn judged() -> Course {
    let analysis = Analysis { interval_ms: 400, count: 1, min_samples: 20, ..Analysis::default() };
    Course { analysis: Some(analysis), ..canary() }
}

/// `ready 10 at gate-1`, `shifting 10`, `good`, `few`, ...
fn tell(engine: &mut Engine, at_ms: u64, text: &str) -> Decision {
    let side = |requests, errors| Side { requests, errors, ..Side::default() };
    let look = |requests, errors| Look { candidate: side(requests, errors), current: None, health: None, probes: 0 };
    let (text, gate) = text.split_once(" at ").map_or((text, None), |(text, gate)| (text, Some(gate)));
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let progress = |phase| {
        let share: u8 = rest.parse().unwrap_or(0);
        let mut progress = Progress::in_phase(phase);
        progress.weights = match share {
            100 => Weights::all(NEW),
            0 => Weights::all(OLD),
            share => Weights([(NEW, share), (OLD, 100 - share)].into()),
        };
        progress.gates.extend(gate.map(str::to_owned));
        Event::Progress(progress)
    };
    let event = match word {
        "opened" => return engine.looked(at_ms, Looked::Opened),
        "good" => return engine.looked(at_ms, Looked::At(&look(1_000, 0))),
        "bad" => return engine.looked(at_ms, Looked::At(&look(1_000, 500))),
        "few" => return engine.looked(at_ms, Looked::At(&look(1, 0))),
        "tick" => Event::Tick,
        "working" => progress(Phase::Working),
        "ready" => progress(Phase::Ready),
        "shifting" => progress(Phase::Shifting),
        "finishing" => progress(Phase::Finishing),
        "finished" => progress(Phase::Finished),
        "rolled-back" => progress(Phase::RolledBack),
        "alarm" => {
            let Event::Progress(mut progress) = progress(Phase::RollingBack) else { panic!("no progress") };
            progress.waiting_for = "the alarm bird-green-errors".into();
            Event::Progress(progress)
        }
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
    };
    engine.next(at_ms, event)
}

fn text(decision: &Decision) -> String {
    match decision {
        Decision::Steer(Steer::Continue { gate }) => format!("continue {gate}"),
        Decision::Steer(Steer::Finish) => "finish".into(),
        Decision::Steer(Steer::Stop { roll_back: true }) => "undo".into(),
        Decision::Steer(other) => format!("{other:?}"),
        Decision::RunHook { index } => format!("hook {index}"),
        Decision::Look { window_ms } => format!("look {window_ms}"),
        Decision::Wait { until_ms, waiting_for } if *waiting_for != Waiting::Provider => {
            format!("until {}: {waiting_for}", until_ms.unwrap())
        }
        Decision::Wait { .. } => "wait".into(),
        Decision::Done { outcome, why, .. } => {
            let outcome = serde_json::to_value(outcome).unwrap();
            format!("done {}{}{why}", outcome.as_str().unwrap(), if why.is_empty() { "" } else { ": " })
        }
    }
}

fn play(what: &str, engine: &mut Engine, lines: Lines) {
    for (n, (at_ms, happened, expected)) in lines.iter().enumerate() {
        let decision = tell(engine, *at_ms, happened);
        assert_eq!(text(&decision), *expected, "{what}, line {}: at {at_ms} {happened}", n + 1);
    }
}

#[test]
fn it_goes_with_the_cloud() {
    let before =
        || course(&[(10, 1_000, false), (100, 0, false)], &[HookWhen::BeforeTraffic, HookWhen::Step, HookWhen::After]);
    let gated = || course(&[(10, 1_000, true), (100, 0, false)], &[]);
    let cases: [(&str, Course, Lines); 10] = [
        (
            "a cloud that asks nobody",
            canary(),
            &[
                (0, "tick", "wait"),
                (10, "working 0", "wait"),
                (20, "shifting 0", "wait"),
                (30, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (1_030, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (1_100, "ready 100 at end", "until 1600: the bake time to pass"),
                (1_600, "tick", "finish"),
                (1_610, "finishing 100", "wait"),
                (1_700, "finished 100", "done succeeded"),
            ],
        ),
        (
            "a bake that the cloud ends",
            canary(),
            &[
                (0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (100, "ready 100", "until 600: the bake time to pass"),
                (600, "ready 100", "until 10600: the bake time to pass"),
                (900, "finishing 100", "wait"),
                (950, "finished 100", "done succeeded"),
            ],
        ),
        (
            "a gate before traffic",
            before(),
            &[
                (0, "working 0", "wait"),
                (10, "ready 0 at ready", "hook 0"),
                (20, "hook 0", "continue ready"),
                (30, "ready 0 at ready", "wait"),
                (40, "shifting 0", "wait"),
                (50, "shifting 10", "hook 1"),
                (60, "hook 1", "until 10000: the cloud to go on (at 10 %)"),
                (1_100, "ready 100", "hook 1"),
                (1_110, "hook 1", "until 1610: the bake time to pass"),
                (1_200, "finished 100", "hook 2"),
                (1_210, "hook 2", "done succeeded"),
            ],
        ),
        (
            "a lost answer at a gate, and a second gate",
            canary(),
            &[
                (0, "ready 0 at one", "continue one"),
                (1_999, "ready 0 at one", "wait"),
                (2_000, "ready 0 at one", "continue one"),
                (2_100, "ready 0 at two", "continue two"),
                (2_200, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (2_500, "ready 10 at three", "until 3200: the pause at 10 % to pass"),
                (3_200, "tick", "continue three"),
                (3_300, "ready 10 at three", "wait"),
                (5_200, "ready 10 at three", "continue three"),
                (5_300, "ready 100", "until 5800: the bake time to pass"),
            ],
        ),
        (
            "a gate for a person",
            gated(),
            &[
                (0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (100, "ready 10 at one", "until 4100: somebody to go on (at 10 %)"),
                (3_000, "promote", "continue one"),
                (3_010, "shifting 10", "until 12900: the cloud to go on (at 10 %)"),
            ],
        ),
        (
            "a gate where nobody comes",
            gated(),
            &[(100, "ready 10 at one", "until 4100: somebody to go on (at 10 %)"), (4_100, "tick", "undo")],
        ),
        (
            "a person pauses at a gate",
            canary(),
            &[
                (0, "ready 10 at one", "until 1000: the pause at 10 % to pass"),
                (10, "pause", "until 4010: somebody to resume (at 10 %)"),
                (2_000, "resume", "continue one"),
            ],
        ),
        (
            "what can't be held is not held",
            canary(),
            &[
                (0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (10, "pause", "until 10000: the cloud to go on (at 10 %)"),
                (20, "promote", "until 10000: the cloud to go on (at 10 %)"),
                (100, "ready 100 at end", "until 600: the bake time to pass"),
                (200, "promote", "finish"),
            ],
        ),
        (
            "what nothing holds is not judged",
            Course { bake_ms: 0, weights: course(&[(100, 0, false)], &[]).weights, ..judged() },
            &[
                (0, "shifting 33", "until 10000: the cloud to go on (at 33 %)"),
                (900, "shifting 66", "until 10000: the cloud to go on (at 66 %)"),
                (1_000, "finished 100", "done succeeded"),
            ],
        ),
        (
            "shares that nobody planned",
            course(&[(100, 0, false)], &[HookWhen::Step]),
            &[
                (0, "shifting 33", "until 10000: the cloud to go on (at 33 %)"),
                (100, "shifting 66", "until 10000: the cloud to go on (at 66 %)"),
                (200, "shifting 100", "hook 0"),
                (210, "hook 0", "until 710: the bake time to pass"),
            ],
        ),
    ];
    for (what, course, lines) in cases {
        play(what, &mut Engine::new(course, NEW, Some(OLD), 0), lines);
    }
}

#[test]
fn it_ends_what_is_bad_and_says_what_the_cloud_ended() {
    let cases: [(&str, Course, Lines); 10] = [
        (
            "a bad look on the way",
            judged(),
            &[
                (0, "shifting 10", "look 0"),
                (0, "opened", "until 400: the cloud to go on (at 10 %)"),
                (400, "tick", "look 400"),
                (400, "bad", "undo"),
                (410, "finished 100", "wait"),
                (
                    2_400,
                    "finished 100",
                    "done failed: at 10 %: 50 % of 1000 requests failed, allowed are 1 %; it was too late to undo it",
                ),
            ],
        ),
        (
            "nothing to judge by on the way is no reason to stop a cloud that goes on",
            judged(),
            &[
                (0, "shifting 10", "look 0"),
                (0, "opened", "until 400: the cloud to go on (at 10 %)"),
                (400, "tick", "look 400"),
                (400, "few", "until 800: the cloud to go on (at 10 %)"),
                (900, "ready 100 at end", "look 0"),
                (900, "opened", "until 1400: the bake time to pass"),
                (1_400, "tick", "look 500"),
                (1_400, "good", "finish"),
            ],
        ),
        (
            "a bake without a verdict lasts, and is undone before the cloud ends it",
            judged(),
            &[
                (0, "ready 100 at end", "look 0"),
                (0, "opened", "until 500: the bake time to pass"),
                (500, "tick", "look 500"),
                (
                    500,
                    "few",
                    "until 900: something to judge by (at 100 %): only 1 of the 20 requests that are needed to judge it",
                ),
                (3_500, "tick", "look 3000"),
                (3_500, "few", "undo"),
            ],
        ),
        (
            "a gate without a verdict waits",
            judged(),
            &[
                (0, "ready 10 at one", "look 0"),
                (0, "opened", "until 400: the pause at 10 % to pass"),
                (1_000, "tick", "look 1000"),
                (
                    1_000,
                    "few",
                    "until 1400: something to judge by (at 10 %): only 1 of the 20 requests that are needed to judge it",
                ),
                (1_400, "tick", "look 400"),
                (1_400, "good", "continue one"),
            ],
        ),
        (
            "the cloud's own alarm",
            course(&[(10, 1_000, false), (100, 0, false)], &[HookWhen::Rollback]),
            &[
                (0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (100, "alarm 10", "wait"),
                (200, "rolled-back 0", "hook 0"),
                (210, "hook 0", "done rolled-back: the cloud undid it: the alarm bird-green-errors"),
            ],
        ),
        (
            "an abort, and its loss",
            canary(),
            &[
                (0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"),
                (100, "abort", "undo"),
                (110, "shifting 10", "wait"),
                (2_100, "shifting 10", "undo"),
                (2_110, "ready 10 at one", "wait"),
                (2_200, "rolled-back 0", "done rolled-back: ann said so"),
            ],
        ),
        (
            "a failed hook before traffic",
            course(&[(100, 0, false)], &[HookWhen::BeforeTraffic]),
            &[(0, "ready 0 at ready", "hook 0"), (10, "hook 0 failed", "undo")],
        ),
        (
            "the deadline on the way",
            canary(),
            &[(0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"), (10_000, "tick", "undo")],
        ),
        (
            "interrupted with all traffic",
            canary(),
            &[
                (0, "ready 100 at end", "until 500: the bake time to pass"),
                (10, "interrupt", "finish"),
                (20, "finished 100", "done succeeded: interrupted once it had all traffic: finished at once"),
            ],
        ),
        (
            "interrupted on the way",
            canary(),
            &[(0, "shifting 10", "until 10000: the cloud to go on (at 10 %)"), (10, "interrupt", "undo")],
        ),
    ];
    for (what, course, lines) in cases {
        play(what, &mut Engine::new(course, NEW, Some(OLD), 0), lines);
    }
}

#[test]
fn whoever_follows_does_not_prepare_again() {
    let hooks = || course(&[(10, 0, false), (100, 0, false)], &[HookWhen::BeforeTraffic]);
    for (prepared, decided) in [(true, "continue ready"), (false, "hook 0")] {
        let mut engine = Engine::following(hooks(), NEW, Some(OLD), prepared, 0);
        assert_eq!(text(&tell(&mut engine, 0, "ready 0 at ready")), decided);
    }
}

#[test]
fn it_may_be_left_where_nobody_is_needed() {
    let gated = course(&[(10, 0, true), (100, 0, false)], &[]);
    let hooked = course(&[(100, 0, false)], &[HookWhen::BeforeTraffic]);
    for (what, course, at_once, with_traffic) in [
        ("plain", canary(), true, true),
        ("judged", judged(), false, true),
        ("gated", gated, false, true),
        ("let on at each weight", Course { waits: true, ..judged() }, false, false),
        ("hooked", hooked, false, true),
        ("ours", Course { driven: Driver::Dbird, ..canary() }, false, false),
    ] {
        let mut engine = Engine::new(course, NEW, Some(OLD), 0);
        assert_eq!(engine.may_leave(), at_once, "{what}");
        tell(&mut engine, 0, "shifting 10");
        assert_eq!(engine.may_leave(), with_traffic, "{what}");
    }
}
