//! What people ask of a rollout: of one that somebody drives, of one that waits at a gate with nobody there, of one whose
//! driver died, and of none at all.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use dbird_core::{
    Outcome, Reason,
    rollout::{Course, Request},
    spec::{Hook, HookWhen, WeightStep},
};
use dbird_driver::{Asked, Error, Event, Order, Series, Store, StoreError};
use dbird_testkit::memory::Behaviour;
use support::{R1, R2, World, body, course, dead, documents};

fn gated() -> Course {
    let step = |weight, gate| WeightStep { weight, pause_ms: 0, gate };
    let weights = vec![step(10, true), step(50, true), step(100, false)];
    Course { strategy: "canary".into(), weights, pause_limit_ms: 60_000, ..course() }
}

fn abort(why: &str) -> Request {
    Request::Abort { why: why.into() }
}

/// One release serves; the order for the next, which stops at gates.
async fn ready(no_wait: bool) -> (World, Order) {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &gated()).await;
    (world, Order { no_wait, ..order })
}

/// The second release, left at its first gate.
async fn parked() -> World {
    let (world, order) = ready(true).await;
    let left = world.operator().carry_out(order).await.unwrap_err();
    assert!(matches!(left, Error::Parked { release: R2, weight: 10 }), "{left}");
    world
}

fn ended(asked: Asked) -> (Outcome, String) {
    match asked {
        Asked::Ended(ended) => (ended.release.outcome, ended.release.why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gate_is_left_and_passed_by_others() {
    let world = parked().await;
    assert_eq!(world.live().await, "r1=90 r2=10");
    let unfinished = world.operator().unfinished().await.unwrap().unwrap();
    assert_eq!((unfinished.release, unfinished.parked, unfinished.holder), (R2, Some(10), None));
    // Nothing else begins meanwhile, and nothing is undone by looking.
    let refused = world.operator().recover().await.unwrap_err();
    assert!(matches!(refused, Error::AtGate { release: R2, weight: 10 }), "{refused}");
    assert!(matches!(world.operator().wait(None).await, Err(Error::Parked { .. })));
    for request in [Request::Pause, Request::Resume] {
        let refused = world.operator().ask(request, false).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{refused}");
    }
    assert_eq!(world.live().await, "r1=90 r2=10");
    // To the next gate, and from there to the end.
    let left = world.operator().ask(Request::Promote, true).await.unwrap_err();
    assert!(matches!(left, Error::Parked { release: R2, weight: 50 }), "{left}");
    assert_eq!(world.live().await, "r1=50 r2=50");
    let (outcome, why) = ended(world.operator().ask(Request::Promote, false).await.unwrap());
    assert_eq!((outcome, why.as_str(), world.live().await.as_str()), (Outcome::Succeeded, "", "r2=100"));
    assert!(world.operator().unfinished().await.unwrap().is_none());
    assert!(matches!(world.operator().ask(Request::Promote, false).await, Err(Error::NoRollout)));
}

#[tokio::test]
async fn a_gate_is_left_and_undone_by_others() {
    let world = parked().await;
    let (outcome, why) = ended(world.operator().ask(abort("too slow"), false).await.unwrap());
    assert_eq!((outcome, why.as_str()), (Outcome::RolledBack, "aborted by ann@nest: too slow"));
    assert_eq!(world.live().await, "r1=100");
}

#[tokio::test]
async fn what_died_after_a_gate_is_undone() {
    let world = parked().await;
    let fuse = dbird_testkit::faulty::Fuse::new(Some(8));
    let store = std::sync::Arc::new(support::Fused { inner: world.store.clone(), fuse: fuse.clone() });
    let operator = world.operator_with(world.provider.clone(), store).running_as(dead());
    tokio::select! {
        biased;
        asked = operator.ask(Request::Promote, false) => panic!("it should have died: {asked:?}"),
        () = fuse.death() => {}
    }
    let recovered = world.operator().recover().await.unwrap().unwrap();
    assert_eq!(recovered.ended.release.outcome, Outcome::RolledBack);
    assert_eq!(world.live().await, "r1=100");
}

/// A store that lets others work while it is asked for requests: the in-memory provider's polls take time without giving way.
struct Patient(Arc<dyn Store>);

#[async_trait]
impl Store for Patient {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.0.create(series, number, bytes).await
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let turns = if series == Series::Requests { 40 } else { 0 };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.0.read(series, number).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        self.0.last(series, count).await
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

/// What one who drives and one who asks come to.
async fn together(requests: &[(u64, Request)]) -> (World, Result<Outcome, Error>, Vec<String>) {
    let (world, order) = ready(false).await;
    let driver = world.operator_with(world.provider.clone(), Arc::new(Patient(world.store.clone())));
    let asking = async {
        let mut answers = Vec::new();
        for (after_ms, request) in requests {
            dbird_driver::Clock::sleep(&support::Time(world.clock.clone()), *after_ms).await;
            answers.push(match world.operator().ask(request.clone(), false).await {
                Ok(Asked::Taken { release, by } | Asked::Noted { release, by }) => {
                    format!("{release} by {}", by.by.actor)
                }
                Ok(Asked::Ended(ended)) => format!("ended {:?}", ended.release.outcome),
                Err(e) => e.to_string(),
            });
        }
        answers
    };
    let (carried, answers) = tokio::join!(driver.carry_out(order), asking);
    (world, carried.map(|e| e.release.outcome), answers)
}

#[tokio::test]
async fn whoever_drives_is_asked() {
    let (world, outcome, answers) = together(&[(5_000, Request::Promote), (5_000, Request::Promote)]).await;
    assert_eq!(outcome.unwrap(), Outcome::Succeeded);
    assert_eq!(answers, ["r2 by ann@nest", "r2 by ann@nest"]);
    assert_eq!(world.live().await, "r2=100");
    assert_eq!(world.told(|e| matches!(e, Event::Requested { request: Request::Promote, .. })), 2);
    assert!(world.told(|e| matches!(e, Event::PersonNeeded { .. })) > 0);

    let (world, outcome, answers) = together(&[(5_000, abort(""))]).await;
    assert_eq!(outcome.unwrap(), Outcome::RolledBack);
    assert_eq!(answers, ["r2 by ann@nest"]);
    assert_eq!(world.operator().history(1).await.unwrap()[0].why, "aborted by ann@nest");
    assert_eq!(world.live().await, "r1=100");
}

#[tokio::test]
async fn requests_for_another_release_are_left_alone() {
    let (world, outcome, _) = together(&[(5_000, abort(""))]).await;
    assert_eq!(outcome.unwrap(), Outcome::RolledBack);
    // The abort of r2 still lies there when r3 begins.
    let ended = world.deploy(body("three", Behaviour::Healthy), &course()).await.unwrap();
    assert_eq!(ended.release.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn nobody_comes() {
    let (world, order) = ready(false).await;
    let ended = world.operator().carry_out(order).await.unwrap();
    assert_eq!((ended.release.outcome, ended.exit_code()), (Outcome::RolledBack, 3));
    assert_eq!(ended.release.why, "nobody went on from 10 % in time");
    assert_eq!((world.live().await, ended.live), ("r1=100".to_owned(), Some(R1)));
}

#[tokio::test]
async fn an_abort_does_not_wait_for_a_long_hook() {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let long = Hook { timeout_ms: 3_600_000, ..support::hook(HookWhen::BeforeTraffic, &["sleep", "1800000"]) };
    let course = Course { hooks: vec![long], deadline_ms: 7_200_000, ..course() };
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course).await;
    let driver = world.operator_with(world.provider.clone(), Arc::new(Patient(world.store.clone())));
    let started_ms = world.clock.now_ms();
    let asking = async {
        dbird_driver::Clock::sleep(&support::Time(world.clock.clone()), 10_000).await;
        world.operator().ask(abort("enough"), false).await
    };
    let (carried, asked) = tokio::join!(driver.carry_out(order), asking);
    let ended = carried.unwrap();
    assert!(matches!(asked, Ok(Asked::Taken { .. } | Asked::Noted { .. })), "{asked:?}");
    assert_eq!(
        (ended.release.outcome, ended.release.why.as_str()),
        (Outcome::RolledBack, "aborted by ann@nest: enough")
    );
    assert_eq!(world.live().await, "r1=100");
    assert!(world.clock.now_ms() - started_ms < 600_000, "{} ms", world.clock.now_ms() - started_ms);
}
