//! Rollouts that their cloud drives, over the in-memory provider: what is waited for, what is stopped, and who goes on with one
//! that was left.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::sync::Arc;

use dbird_core::{
    Outcome, Reason,
    provider::Driver,
    rollout::{Course, Request},
    spec::{Analysis, HookWhen, WeightStep},
};
use dbird_driver::{Asked, Error, Event, Interrupt, Operator, Order};
use dbird_testkit::{
    faulty::{Faulty, Fuse, Rates},
    memory::{Behaviour, Beside, Serves, ServiceBody},
};
use support::{Fused, R1, R2, World, body, canary, course, dead, documents, hook};

/// 5 % for a second, 50 % for two, and half a second's bake.
fn beside() -> Beside {
    Beside { shares: vec![(5, 1_000), (50, 2_000)], gate_limit_ms: 5_000, bake_ms: 500, ..Beside::default() }
}

fn driven(course: Course) -> Course {
    Course { driven: Driver::Cloud, ..course }
}

fn two(beside: Beside) -> ServiceBody {
    ServiceBody { beside: Some(beside), ..body("two", Behaviour::Healthy) }
}

async fn serving() -> World {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    world.events.lock().unwrap().clear();
    world
}

fn gated() -> Course {
    let step = |weight, gate| WeightStep { weight, pause_ms: 0, gate };
    driven(Course { weights: vec![step(5, true), step(100, false)], ..canary() })
}

fn waiting() -> Beside {
    Beside { shares: vec![(5, 100)], first_gate: true, gates: true, bake_gate: true, ..beside() }
}

#[tokio::test]
async fn it_follows_what_the_cloud_does() {
    let alarm = || Beside { alarm_ms: Some(1_500), ..beside() };
    let hooks = |when, code| driven(Course { hooks: vec![hook(when, &["exit", code])], ..canary() });
    let stuck = || driven(Course { deadline_ms: 2_000, ..canary() });
    let first = || Beside { first_gate: true, ..beside() };
    let cases = [
        ("canary", two(beside()), driven(canary()), Outcome::Succeeded, ""),
        ("with a gate before traffic", two(first()), hooks(HookWhen::BeforeTraffic, "0"), Outcome::Succeeded, ""),
        ("a hook fails before traffic", two(first()), hooks(HookWhen::BeforeTraffic, "1"), Outcome::RolledBack, "hook"),
        ("a hook fails at a weight", two(beside()), hooks(HookWhen::Step, "1"), Outcome::RolledBack, "hook"),
        (
            "an alarm of the cloud's",
            two(alarm()),
            driven(canary()),
            Outcome::RolledBack,
            "the cloud undid it: the alarm of r2",
        ),
        ("too slow", two(beside()), stuck(), Outcome::RolledBack, "deadline"),
        (
            "it dies before traffic",
            ServiceBody { beside: Some(beside()), ..body("two", Behaviour::Dies { last_words: "no".into() }) },
            driven(canary()),
            Outcome::RolledBack,
            "r2 died before it was ready",
        ),
        (
            "it dies under traffic",
            ServiceBody { beside: Some(beside()), ..body("two", Behaviour::DiesUnderTraffic { after_ms: 100 }) },
            driven(canary()),
            Outcome::RolledBack,
            "the cloud undid it: r2 died under traffic",
        ),
    ];
    for (what, body, course, outcome, why) in cases {
        let world = serving().await;
        let ended = world.deploy(body, &course).await.unwrap();
        assert_eq!(ended.release.outcome, outcome, "{what}: {}", ended.release.why);
        assert!(ended.release.why.contains(why), "{what}: {}", ended.release.why);
        let (live, exit_code) = if outcome == Outcome::Succeeded { ("r2=100", 0) } else { ("r1=100", 3) };
        assert_eq!((world.live().await.as_str(), ended.exit_code()), (live, exit_code), "{what}");
        assert_eq!(world.told(|e| matches!(e, Event::Shifting { .. })), 0, "{what}: dbird moved traffic");
    }
}

#[tokio::test]
async fn errors_on_the_way_stop_it() {
    let world = serving().await;
    let analysis = Analysis { interval_ms: 300, min_samples: 20, ..Analysis::default() };
    let serves = Serves { requests_per_s: 2_000, errors_permille: 500, latency_ms: 10 };
    let course = Course { analysis: Some(analysis), ..driven(canary()) };
    let ended = world.deploy(ServiceBody { serves, ..two(beside()) }, &course).await.unwrap();
    assert_eq!(ended.release.outcome, Outcome::RolledBack);
    assert!(ended.release.why.starts_with("at 5 %: "), "{}", ended.release.why);
    assert_eq!(world.live().await, "r1=100");
}

async fn order(world: &World, body: ServiceBody, course: &Course, no_wait: bool) -> Order {
    Order { no_wait, ..world.order(documents(body), Reason::Deploy, course).await }
}

#[tokio::test]
async fn what_is_left_is_followed_by_whoever_comes() {
    for (what, alarm_ms, outcome, live) in
        [("goes well", None, Outcome::Succeeded, "r2=100"), ("is undone", Some(100), Outcome::RolledBack, "r1=100")]
    {
        for waits in [true, false] {
            let world = serving().await;
            let order = order(&world, two(Beside { alarm_ms, ..beside() }), &driven(canary()), true).await;
            let left = world.operator().carry_out(order).await;
            assert!(matches!(left, Err(Error::Left { release: R2 })), "{what}: {left:?}");
            let operator = world.operator();
            assert!(operator.unfinished().await.unwrap().unwrap().beside && operator.holder().await.unwrap().is_none());
            let record = if waits {
                operator.wait(None).await.unwrap().unwrap()
            } else {
                operator.recover().await.unwrap().unwrap().ended.release
            };
            assert_eq!((record.id, record.outcome), (R2, outcome), "{what}: {}", record.why);
            assert_eq!(world.live().await, live, "{what}");
            assert_eq!(operator.release(R2).await.unwrap().unwrap().outcome, outcome, "{what}");
            assert!(operator.unfinished().await.unwrap().is_none(), "{what}");
        }
    }
}

#[tokio::test]
async fn whoever_dies_leaves_it_to_the_cloud() {
    for moments in (4..60).step_by(2) {
        let world = serving().await;
        let fuse = Fuse::new(Some(moments));
        let network =
            Arc::new(Faulty::new(world.provider.clone(), world.clock.clone(), 1, Rates::default(), fuse.clone()));
        let store = Arc::new(Fused { inner: world.store.clone(), fuse: fuse.clone() });
        let operator = world.operator_with(network, store).running_as(dead());
        let order = order(&world, two(Beside { bake_gate: true, ..beside() }), &driven(canary()), false).await;
        let ended = tokio::select! {
            biased;
            ended = operator.carry_out(order) => ended.map(|_| true).unwrap(),
            () = fuse.death() => false,
        };
        if ended {
            continue;
        }
        let asked = world.observed().await.releases.iter().any(|r| r.id == R2);
        let recovered = world.operator().recover().await.unwrap();
        if asked {
            // It may have died with everything written down.
            drop(recovered);
            let record = world.operator().release(R2).await.unwrap().unwrap();
            assert_eq!(record.outcome, Outcome::Succeeded, "{moments}: {}", record.why);
            assert!(world.operator().unfinished().await.unwrap().is_none(), "{moments}");
            assert_eq!(world.live().await, "r2=100", "{moments}");
        }
    }
}

#[tokio::test]
async fn people_go_on_at_gates_and_nowhere_else() {
    // Nobody comes: undone.
    let world = serving().await;
    let ended = world.deploy(two(Beside { gate_limit_ms: 600_000, ..waiting() }), &gated()).await.unwrap();
    assert_eq!((ended.release.outcome, ended.exit_code()), (Outcome::RolledBack, 3));
    assert_eq!(ended.release.why, "nobody went on from 5 % in time");

    // Left on its way, and promoted from there; a second word finds nothing.
    let world = serving().await;
    let beside = Beside { gate_limit_ms: 600_000, ..waiting() };
    let order = order(&world, two(beside), &gated(), true).await;
    let left = world.operator().carry_out(order).await;
    assert!(matches!(left, Err(Error::Left { .. })), "{left:?}");
    assert_eq!(world.live().await, "r1=95 r2=5");
    match world.operator().ask(Request::Promote, false).await.unwrap() {
        Asked::Ended(ended) => assert_eq!(ended.release.outcome, Outcome::Succeeded, "{}", ended.release.why),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.live().await, "r2=100");
    assert!(matches!(world.operator().ask(Request::Promote, false).await, Err(Error::NoRollout)));
}

#[tokio::test]
async fn an_abort_stops_what_was_left() {
    let world = serving().await;
    let order = order(&world, two(beside()), &driven(canary()), true).await;
    assert!(matches!(world.operator().carry_out(order).await, Err(Error::Left { .. })));
    match world.operator().ask(Request::Abort { why: "enough".into() }, false).await.unwrap() {
        Asked::Ended(ended) => {
            assert_eq!((ended.release.outcome, ended.live), (Outcome::RolledBack, Some(R1)));
            assert_eq!(ended.release.why, "aborted by ann@nest: enough");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_can_not_be_held_is_said() {
    let world = serving().await;
    let order = order(&world, two(beside()), &driven(canary()), true).await;
    assert!(matches!(world.operator().carry_out(order).await, Err(Error::Left { .. })));
    match world.operator().ask(Request::Pause, false).await.unwrap() {
        Asked::Ended(ended) => assert_eq!(ended.release.outcome, Outcome::Succeeded, "{}", ended.release.why),
        other => panic!("{other:?}"),
    }
    let said = "ann@nest asked in vain: the cloud moves the traffic and can't be held where it is; it can be aborted";
    assert_eq!(world.told(|e| matches!(e, Event::Warning { text } if text == said)), 1);
}

#[tokio::test]
async fn whoever_only_waits_stops_nothing() {
    let world = serving().await;
    let order = order(&world, two(beside()), &driven(canary()), true).await;
    assert!(matches!(world.operator().carry_out(order).await, Err(Error::Left { .. })));
    let interrupt = Interrupt::new();
    interrupt.raise();
    let waiting: Operator = world.operator().interrupted_by(interrupt);
    let left = waiting.wait(None).await;
    assert!(matches!(left, Err(Error::Left { .. } | Error::Interrupted)), "{left:?}");
    let late = world.operator().wait(Some(300)).await;
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    assert!(world.operator().holder().await.unwrap().is_none(), "the lease was not given back");
    assert_eq!(world.operator().wait(None).await.unwrap().unwrap().outcome, Outcome::Succeeded);
}
