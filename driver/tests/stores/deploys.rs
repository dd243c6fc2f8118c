//! Whole deploys with their state in a store: a first and a second one, a holder that lives, one that died and one far away.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use dbird_core::{Outcome, Reason};
use dbird_driver::{Error, Machine, Operator, Series, Store, StoreError, TAKEOVER_MS};
use dbird_testkit::{faulty::Fuse, memory::Behaviour};
use tokio::sync::Notify;

use crate::{
    Kind,
    support::{Fused, R2, World, body, course, dead, documents, far_away},
};

/// Tries them all on one kind of store.
pub(crate) async fn work(kind: &Kind) {
    two_releases(kind, "two").await;
    one_who_lives_keeps_the_lease(kind).await;
    the_dead_and_the_far_are_overtaken(kind).await;
    of_many_who_take_over_one_does(kind).await;
}

async fn world(kind: &Kind, environment: &str) -> World {
    let mut world = World::new();
    world.store = (kind.open)(environment);
    let ended = world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    assert_eq!(ended.release.outcome, Outcome::Succeeded);
    world
}

pub(crate) async fn two_releases(kind: &Kind, environment: &str) {
    let world = world(kind, environment).await;
    world.deploy(body("two", Behaviour::Healthy), &course()).await.unwrap();
    assert_eq!(world.live().await, "r2=100", "{}", kind.name);
    // Another process reads the same.
    let operator = world.operator_with(world.provider.clone(), (kind.open)(environment));
    let history = operator.history(10).await.unwrap();
    let told: Vec<_> = history.iter().map(|r| (r.id.0, r.actor.as_str(), r.outcome)).collect();
    assert_eq!(told, [(1, "ann@nest", Outcome::Succeeded), (2, "ann@nest", Outcome::Succeeded)], "{}", kind.name);
    assert!(operator.unfinished().await.unwrap().is_none() && operator.holder().await.unwrap().is_none());
}

/// Holds its first intent back until it is let go.
struct Paused {
    inner: Arc<dyn Store>,
    paused: AtomicBool,
    reached: Notify,
    go_on: Notify,
}

#[async_trait]
impl Store for Paused {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        if series == Series::Journal && !self.paused.swap(true, Ordering::SeqCst) {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
        self.inner.create(series, number, bytes).await
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.read(series, number).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        self.inner.last(series, count).await
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

async fn one_who_lives_keeps_the_lease(kind: &Kind) {
    let world = world(kind, "live").await;
    let paused = Arc::new(Paused {
        inner: (kind.open)("live"),
        paused: AtomicBool::new(false),
        reached: Notify::new(),
        go_on: Notify::new(),
    });
    let operator = world.operator_with(world.provider.clone(), paused.clone());
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    let deploy = tokio::spawn(async move { operator.carry_out(order).await });
    paused.reached.notified().await;
    let other = world.operator_with(world.provider.clone(), (kind.open)("live"));
    let order = world.order(documents(body("three", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    let refused = other.carry_out(order).await;
    let Err(Error::Held(held)) = refused else { panic!("{}: {:?}", kind.name, refused.map(|e| e.live)) };
    assert_eq!((held.by.actor.as_str(), &held.by.machine), ("ann@nest", &Machine::here()));
    assert_eq!(other.holder().await.unwrap().unwrap().by, held.by, "{}", kind.name);
    paused.go_on.notify_one();
    assert_eq!(deploy.await.unwrap().unwrap().live, Some(R2), "{}", kind.name);
}

/// Leaves a deploy unfinished, as whoever dies in it.
async fn leave_unfinished(world: &World, machine: Machine) {
    let fuse = Fuse::new(Some(6));
    let store = Arc::new(Fused { inner: world.store.clone(), fuse: fuse.clone() });
    let operator = world.operator_with(world.provider.clone(), store).running_as(machine);
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    tokio::select! {
        biased;
        _ = operator.carry_out(order) => panic!("it was to die"),
        () = fuse.death() => {}
    }
}

async fn the_dead_and_the_far_are_overtaken(kind: &Kind) {
    for (environment, machine, waits) in [("dead", dead(), false), ("far", far_away(), true)] {
        let world = world(kind, environment).await;
        leave_unfinished(&world, machine).await;
        let start_ms = world.clock.now_ms();
        let recovered = world.operator().recover().await.unwrap().unwrap();
        assert_eq!(recovered.ended.release.id, R2, "{} {environment}", kind.name);
        let waited = world.clock.now_ms() - start_ms >= TAKEOVER_MS;
        assert_eq!(waited, waits, "{} {environment}", kind.name);
        assert_eq!(world.live().await, "r1=100", "{} {environment}", kind.name);
        assert!(world.operator().unfinished().await.unwrap().is_none());
        assert_eq!(world.operator().history(9).await.unwrap().len(), 2, "the record says what became of it");
        assert_eq!(world.store.last(Series::Releases, 9).await.unwrap(), [1, 2]);
    }
}

async fn of_many_who_take_over_one_does(kind: &Kind) {
    let world = world(kind, "many").await;
    leave_unfinished(&world, dead()).await;
    let operators: Vec<_> = (0..6).map(|_| world.operator_with(world.provider.clone(), (kind.open)("many"))).collect();
    let mut recovered = 0;
    for one in futures::future::join_all(operators.iter().map(Operator::recover)).await {
        match one {
            Ok(Some(_)) => recovered += 1,
            Ok(None) | Err(Error::Held(_)) => {}
            Err(e) => panic!("{}: {e}", kind.name),
        }
    }
    assert_eq!((recovered, world.live().await.as_str()), (1, "r1=100"), "{}", kind.name);
}
