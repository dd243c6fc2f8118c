//! The engine with a judge, as tables: when it looks, what a look leads to, and what happens when nobody can say.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dbird_core::{
    Phase, Progress, ReleaseId, Steer, Weights,
    analysis::{Health, Latency, Look, Side},
    rollout::{Course, Decision, Engine, Event, Looked, Request, Waiting},
    spec::{Analysis, NoData, WeightStep},
};

const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);

fn rules() -> Analysis {
    Analysis { interval_ms: 1_000, count: 3, error_limit: 2, ..Analysis::default() }
}

fn canary(rules: Analysis) -> Course {
    let step = |weight, pause_ms, gate| WeightStep { weight, pause_ms, gate };
    Course {
        strategy: "canary".into(),
        weights: vec![step(10, 3_000, false), step(100, 0, false)],
        bake_ms: 0,
        deadline_ms: 60_000,
        pause_limit_ms: 5_000,
        analysis: Some(rules),
        one_writer: true,
        ..Course::default()
    }
}

/// Requests, errors, and how long nearly all and the slowest hundredth took.
fn side(requests: u64, errors: u64, slow_ms: u64) -> Side {
    let tail = requests.div_ceil(50);
    let mut latency = Latency::default();
    latency.count(25, requests.saturating_sub(tail));
    latency.count(slow_ms, tail);
    for bound in [5, 10, 50, 100, 200, 500, 1_000] {
        latency.count(bound, 0);
    }
    Side { requests, errors, latency }
}

fn look(text: &str) -> Option<Look> {
    let health = |ready, restarts, writers| Health { tasks: 1, ready, restarts, writers: Some(writers) };
    let (candidate, current, health) = match text {
        "good" => (side(100, 0, 50), side(900, 1, 50), health(1, 0, 1)),
        "none" => (side(0, 0, 50), side(0, 0, 50), health(1, 0, 1)),
        "few" => (side(20, 0, 50), side(180, 0, 50), health(1, 0, 1)),
        "errors" => (side(100, 20, 50), side(900, 1, 50), health(1, 0, 1)),
        "some-errors" => (side(100, 10, 50), side(0, 0, 50), health(1, 0, 1)),
        "one-error" => (side(60, 1, 50), side(540, 0, 50), health(1, 0, 1)),
        "slow" => (side(5_000, 0, 1_000), side(45_000, 0, 50), health(1, 0, 1)),
        "slower" => (side(5_000, 0, 200), side(45_000, 0, 50), health(1, 0, 1)),
        "both-fail" => (side(500, 50, 50), side(4_500, 450, 50), health(1, 0, 1)),
        "unready" => (side(100, 0, 50), side(900, 1, 50), health(0, 0, 1)),
        "restarted" => (side(100, 0, 50), side(900, 1, 50), health(1, 1, 1)),
        "two-writers" => (side(100, 0, 50), side(900, 1, 50), health(1, 0, 2)),
        "unreadable" => return None,
        other => panic!("what is {other}?"),
    };
    Some(Look { candidate, current: Some(current), health: Some(health), probes: 0 })
}

/// Plays a cloud that does at once what it is told, and looks that find what the list says (its last word again and again).
fn play(course: Course, found: &[&str], requests: &[(u64, Request)]) -> Vec<String> {
    let mut engine = Engine::new(course, NEW, Some(OLD), 0);
    let (mut now_ms, mut weights, mut phase) = (0, Weights::all(OLD), Phase::Ready);
    let mut told = Vec::new();
    let mut found = found.iter();
    let mut last = *found.as_slice().last().unwrap_or(&"none");
    let mut requests = requests.iter().peekable();
    let ready = Progress { weights: weights.clone(), ..Progress::in_phase(Phase::Ready) };
    let mut decision = engine.next(0, Event::Progress(ready));
    for _ in 0..1_000 {
        let progress = |phase: &Phase, weights: &Weights| {
            Event::Progress(Progress { weights: weights.clone(), ..Progress::in_phase(phase.clone()) })
        };
        decision = match decision {
            Decision::Done { outcome, why, .. } => {
                let outcome = serde_json::to_value(outcome).unwrap();
                told.push(format!(
                    "{now_ms} {}{}{why}",
                    outcome.as_str().unwrap(),
                    if why.is_empty() { "" } else { ": " }
                ));
                return told;
            }
            Decision::Steer(steer) => {
                match &steer {
                    Steer::Shift { weights: to, .. } => weights = to.clone(),
                    Steer::Finish => phase = Phase::Finished,
                    Steer::Stop { .. } => (phase, weights) = (Phase::RolledBack, Weights::all(OLD)),
                    Steer::Continue { .. } => {}
                }
                if let Steer::Shift { weights, .. } = &steer {
                    told.push(format!("{now_ms} shift {}", weights.of(NEW)));
                }
                engine.next(now_ms, progress(&phase, &weights))
            }
            Decision::Look { window_ms: 0 } => engine.looked(now_ms, Looked::Opened),
            Decision::Look { window_ms } => {
                last = found.next().copied().unwrap_or(last);
                told.push(format!("{now_ms} look {window_ms} {last}"));
                match look(last) {
                    Some(look) => engine.looked(now_ms, Looked::At(&look)),
                    None => engine.looked(now_ms, Looked::Unreadable(None)),
                }
            }
            Decision::Wait { until_ms, waiting_for } => {
                if let Waiting::Evidence { .. } = waiting_for {
                    let line = format!("waits for {waiting_for}");
                    if told.iter().all(|t| !t.ends_with(&line)) {
                        told.push(format!("{now_ms} {line}"));
                    }
                }
                let until_ms = until_ms.unwrap_or(now_ms);
                match requests.peek() {
                    Some((at_ms, request)) if *at_ms <= until_ms => {
                        now_ms = *at_ms;
                        requests.next();
                        engine.next(now_ms, Event::Request(request.clone()))
                    }
                    _ => {
                        now_ms = until_ms;
                        engine.next(now_ms, progress(&phase, &weights))
                    }
                }
            }
            Decision::RunHook { .. } => panic!("there are no hooks"),
        };
    }
    panic!("it does not end: {told:?}")
}

#[test]
fn looks_and_what_they_lead_to() {
    let fail = Analysis { no_data: NoData::Fail, ..rules() };
    let pass = Analysis { no_data: NoData::Pass, ..rules() };
    let twice = Analysis { failure_limit: 2, ..rules() };
    let thrice = Analysis { success_limit: 5, ..rules() };
    type Case<'a> = (&'a str, Course, &'a [&'a str], &'a [(u64, Request)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "a good one",
            canary(rules()),
            &["good"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 good",
                "3000 look 1000 good",
                "3000 shift 100",
                "3000 succeeded",
            ],
        ),
        (
            "errors end it at once",
            canary(rules()),
            &["good", "errors"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 errors",
                "2000 rolled-back: at 10 %: 20 % of 100 requests failed, allowed are 1 %; the current release has 0.11 %",
            ],
        ),
        (
            "two bad looks are needed where two are allowed",
            canary(twice),
            &["errors", "good", "errors"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 errors",
                "2000 look 1000 good",
                "2000 rolled-back: at 10 %: 10 % of 200 requests failed, allowed are 1 %; the current release has 0.11 % (bad look 2 of 2)",
            ],
        ),
        (
            "over the limit of latency",
            canary(rules()),
            &["slow"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 slow",
                "1000 rolled-back: at 10 %: 99 % of 5000 requests took up to 750 ms, allowed are 500 ms; the current release has 38 ms",
            ],
        ),
        (
            "within the limit, and slower than the current one",
            canary(rules()),
            &["slower"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 slower",
                "1000 rolled-back: at 10 %: 99 % of 5000 requests took up to 150 ms; the current release has 38 ms in the same time, and up to 56 ms is allowed",
            ],
        ),
        (
            "readiness",
            canary(rules()),
            &["unready"],
            &[],
            &["0 shift 10", "1000 look 1000 unready", "1000 rolled-back: at 10 %: 0 of 1 tasks are ready"],
        ),
        (
            "restarts",
            canary(rules()),
            &["restarted"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 restarted",
                "1000 rolled-back: at 10 %: its tasks were started again 1 times since it got traffic",
            ],
        ),
        (
            "nothing to judge by: it waits, and goes on by itself once there is",
            canary(rules()),
            &["none", "none", "few", "few", "few"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 none",
                "2000 look 1000 none",
                "3000 look 1000 few",
                "3000 waits for something to judge by (at 10 %): only 20 of the 50 requests that are needed to judge it",
                "4000 look 1000 few",
                "4000 waits for something to judge by (at 10 %): only 40 of the 50 requests that are needed to judge it",
                "5000 look 1000 few",
                "5000 shift 100",
                "5000 succeeded",
            ],
        ),
        (
            "nothing to judge by, and nobody comes",
            canary(rules()),
            &["none"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 none",
                "2000 look 1000 none",
                "3000 look 1000 none",
                "3000 waits for something to judge by (at 10 %): only 0 of the 50 requests that are needed to judge it",
                "4000 look 1000 none",
                "5000 look 1000 none",
                "6000 look 1000 none",
                "7000 look 1000 none",
                "8000 look 1000 none",
                "8000 rolled-back: inconclusive at 10 %: only 0 of the 50 requests that are needed to judge it; nobody decided within 5s",
            ],
        ),
        (
            "nothing to judge by, and somebody decides",
            canary(rules()),
            &["none"],
            &[(3_500, Request::Promote)],
            &[
                "0 shift 10",
                "1000 look 1000 none",
                "2000 look 1000 none",
                "3000 look 1000 none",
                "3000 waits for something to judge by (at 10 %): only 0 of the 50 requests that are needed to judge it",
                "3500 shift 100",
                "3500 succeeded",
            ],
        ),
        (
            "nothing to judge by may pass",
            canary(pass),
            &["none"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 none",
                "2000 look 1000 none",
                "3000 look 1000 none",
                "3000 shift 100",
                "3000 succeeded",
            ],
        ),
        (
            "nothing to judge by may fail",
            canary(fail.clone()),
            &["none"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 none",
                "2000 look 1000 none",
                "3000 look 1000 none",
                "3000 rolled-back: at 10 %: only 0 of the 50 requests that are needed to judge it",
            ],
        ),
        (
            "a source that can't be read is no data, after some tries",
            canary(fail),
            &["good", "unreadable"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 unreadable",
                "3000 look 1000 unreadable",
                "3000 rolled-back: the source of its numbers can't be read (2 looks in a row)",
            ],
        ),
        (
            "what was good before the last look failed is not enough to go on",
            canary(rules()),
            &["good", "good", "unreadable", "good"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 good",
                "3000 look 1000 unreadable",
                "3000 waits for something to judge by (at 10 %): the source of its numbers can't be read",
                "4000 look 1000 good",
                "4000 shift 100",
                "4000 succeeded",
            ],
        ),
        (
            "one look that can't be read is forgiven",
            canary(rules()),
            &["good", "unreadable", "good"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 unreadable",
                "3000 look 1000 good",
                "3000 shift 100",
                "3000 succeeded",
            ],
        ),
        (
            "both fail: nobody can say",
            canary(rules()),
            &["good", "good", "both-fail", "good"],
            &[(4_500, Request::Abort { why: "ann said so".into() })],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 good",
                "3000 look 1000 both-fail",
                "3000 waits for something to judge by (at 10 %): both releases are over the limit: 7.14 % of 700 requests failed, allowed are 1 %; the current release has 7.17 %",
                "4000 look 1000 good",
                "4000 waits for something to judge by (at 10 %): both releases are over the limit: 6.25 % of 800 requests failed, allowed are 1 %; the current release has 6.29 %",
                "4500 rolled-back: ann said so",
            ],
        ),
        (
            "one error of sixty is over the limit, and too few to be sure: more requests tell",
            canary(rules()),
            &["one-error", "good"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 one-error",
                "2000 look 1000 good",
                "3000 look 1000 good",
                "3000 shift 100",
                "3000 succeeded",
            ],
        ),
        (
            "as many good looks as are wanted",
            canary(thrice),
            &["good"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 good",
                "3000 look 1000 good",
                "4000 look 1000 good",
                "5000 look 1000 good",
                "5000 shift 100",
                "5000 succeeded",
            ],
        ),
        (
            "a pause shorter than the interval ends with a look",
            Course {
                weights: vec![
                    WeightStep { weight: 10, pause_ms: 400, gate: false },
                    WeightStep { weight: 100, pause_ms: 0, gate: false },
                ],
                ..canary(rules())
            },
            &["good"],
            &[],
            &["0 shift 10", "400 look 400 good", "400 shift 100", "400 succeeded"],
        ),
        (
            "a weight without a pause lasts as long as its looks; the bake is judged too",
            Course {
                weights: vec![
                    WeightStep { weight: 10, pause_ms: 0, gate: false },
                    WeightStep { weight: 100, pause_ms: 0, gate: false },
                ],
                bake_ms: 1_500,
                ..canary(rules())
            },
            &["good", "good", "good", "good", "errors"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 good",
                "3000 look 1000 good",
                "3000 shift 100",
                "4000 look 1000 good",
                "4500 look 500 errors",
                "4500 rolled-back: at 100 %: 20 % of 100 requests failed, allowed are 1 %; the current release has 0.11 %",
            ],
        ),
        (
            "a gate is watched while it waits",
            Course {
                weights: vec![
                    WeightStep { weight: 10, pause_ms: 0, gate: true },
                    WeightStep { weight: 100, pause_ms: 0, gate: false },
                ],
                ..canary(rules())
            },
            &["good", "errors"],
            &[],
            &[
                "0 shift 10",
                "1000 look 1000 good",
                "2000 look 1000 errors",
                "2000 rolled-back: at 10 %: 20 % of 100 requests failed, allowed are 1 %; the current release has 0.11 %",
            ],
        ),
    ];
    for (what, course, found, requests, expected) in cases {
        assert_eq!(play(course.clone(), found, requests), *expected, "{what}");
    }
}

#[test]
fn two_writers_are_no_chance_after_half_a_minute() {
    let step = |weight, pause_ms| WeightStep { weight, pause_ms, gate: false };
    let long = Course { weights: vec![step(10, 60_000), step(100, 0)], deadline_ms: 120_000, ..canary(rules()) };
    let told = play(long.clone(), &["two-writers"], &[]);
    assert_eq!(
        told.last().unwrap(),
        "31000 rolled-back: at 10 %: 2 processes say that they write to the store, and one may"
    );
    let brief: Vec<_> = ["good"; 3].into_iter().chain(["two-writers"; 25]).chain(["good"]).collect();
    assert!(play(long, &brief, &[]).last().unwrap().ends_with("succeeded"));
    // While it may still be a hand-over, nobody goes on.
    let told = play(canary(rules()), &["good", "two-writers", "two-writers", "two-writers", "good"], &[]);
    assert_eq!(told[4], "3000 waits for something to judge by (at 10 %): 2 processes say that they write to the store");
    assert_eq!(told.last().unwrap(), "5000 succeeded");
}

#[test]
fn nothing_new_for_too_long_is_a_failure() {
    let course = Course { progress_deadline_ms: 2_000, ..canary(rules()) };
    let mut engine = Engine::new(course, NEW, Some(OLD), 0);
    let mut progress = Progress::in_phase(Phase::Working);
    progress.waiting_for = "a place to run (4 s)".into();
    for now_ms in [0, 500, 1_999] {
        assert!(matches!(
            engine.next(now_ms, Event::Progress(progress.clone())),
            Decision::Wait { until_ms: Some(2_000), .. }
        ));
        progress.waiting_for = format!("a place to run ({now_ms} ms)");
    }
    progress.events.push(dbird_core::provider::ProgressEvent { at_unix_ms: 1, text: "pulled the image".into() });
    assert!(matches!(
        engine.next(1_999, Event::Progress(progress.clone())),
        Decision::Wait { until_ms: Some(3_999), .. }
    ));
    assert!(matches!(engine.next(3_999, Event::Tick), Decision::Steer(Steer::Stop { roll_back: true })));
    assert_eq!(engine.why(), "nothing moved for 2s: waiting for a place to run (1999 ms)");
}

#[test]
fn what_fails_late_does_not_drown_in_what_was_good() {
    let step = |weight, pause_ms| WeightStep { weight, pause_ms, gate: false };
    let course = Course { weights: vec![step(10, 300_000), step(100, 0)], deadline_ms: 600_000, ..canary(rules()) };
    let found: Vec<_> = ["good"; 110].into_iter().chain(["some-errors"; 20]).collect();
    let told = play(course, &found, &[]);
    let end = told.last().unwrap();
    let at_ms: u64 = end.split(' ').next().unwrap().parse().unwrap();
    assert!(end.contains("rolled-back") && at_ms < 125_000, "{end}");
}

#[test]
fn a_candidate_that_hangs_is_noticed_although_its_numbers_can_not_be_read() {
    let mut engine = Engine::new(canary(rules()), NEW, Some(OLD), 0);
    let at = |phase, weights| Event::Progress(Progress { weights, ..Progress::in_phase(phase) });
    engine.next(0, at(Phase::Ready, Weights::all(OLD)));
    engine.next(0, at(Phase::Ready, Weights([(NEW, 10), (OLD, 90)].into())));
    engine.looked(0, Looked::Opened);
    assert!(matches!(engine.next(1_000, Event::Tick), Decision::Look { .. }));
    let health = Health { tasks: 1, ready: 0, restarts: 0, writers: None };
    let decision = engine.looked(1_000, Looked::Unreadable(Some(health)));
    assert!(matches!(decision, Decision::Steer(Steer::Stop { roll_back: true })), "{decision:?}");
    assert_eq!(engine.why(), "at 10 %: 0 of 1 tasks are ready");
}

#[test]
fn a_steer_without_effect_is_no_progress() {
    let course = Course { progress_deadline_ms: 10_000, deadline_ms: 3_600_000, ..canary(rules()) };
    let mut engine = Engine::new(course, NEW, Some(OLD), 0);
    let stays = Event::Progress(Progress { weights: Weights::all(OLD), ..Progress::in_phase(Phase::Ready) });
    let mut steers = 0;
    for now_ms in (0..20_000).step_by(500) {
        match engine.next(now_ms, stays.clone()) {
            Decision::Steer(Steer::Stop { .. }) => break,
            Decision::Steer(_) => steers += 1,
            _ => {}
        }
    }
    assert!(engine.is_undoing() && steers <= 6, "{steers} steers");
}
