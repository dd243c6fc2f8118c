//! What is kept in a folder: lease, journal, records. Who may write, who has to wait, and what an older or newer dbird reads.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dbird_core::{
    Cloud, Outcome, Provider, Reason, Release, Steer, Target, Weights,
    journal::{Entry, What},
};
use dbird_driver::{Error, Event, Machine, Operator, Series, Store, StoreError, SystemClock, TAKEOVER_MS, open_store};
use dbird_testkit::memory::Behaviour;
use support::{R1, R2, Sleepy, Twist, Twisted, World, body, course, dead, documents, far_away};
use tempfile::TempDir;

fn target() -> Target {
    Target { service: "bird".into(), environment: "dev".into() }
}

fn folder(project: &Path) -> Arc<dyn Store> {
    open_store("file:.dbird/state", project, Cloud::Local, &target()).unwrap()
}

#[tokio::test]
async fn numbers_are_given_once_and_the_last_are_found() {
    let project = TempDir::new().unwrap();
    let store = folder(project.path());
    assert_eq!(store.last(Series::Journal, 3).await.unwrap(), Vec::<u64>::new());
    assert_eq!(store.read(Series::Journal, 1).await.unwrap(), None);
    assert!(!project.path().join(".dbird").exists(), "looking makes nothing");
    for n in [1, 2, 499, 500, 501, 1_000, 12_345] {
        assert!(store.create(Series::Journal, n, n.to_string().into_bytes()).await.unwrap());
        assert!(!store.create(Series::Journal, n, b"other".to_vec()).await.unwrap(), "{n} is taken");
        assert_eq!(store.read(Series::Journal, n).await.unwrap(), Some(n.to_string().into_bytes()));
    }
    assert_eq!(store.last(Series::Journal, 3).await.unwrap(), [501, 1_000, 12_345]);
    assert_eq!(store.last(Series::Journal, 100).await.unwrap(), [1, 2, 499, 500, 501, 1_000, 12_345]);
    assert_eq!(store.last(Series::Lease, 1).await.unwrap(), Vec::<u64>::new());
    // A second environment, and a second process, see their own and the same.
    let other = Target { environment: "prod".into(), ..target() };
    let other = open_store("file:.dbird/state", project.path(), Cloud::Local, &other).unwrap();
    assert_eq!(other.last(Series::Journal, 1).await.unwrap(), Vec::<u64>::new());
    assert_eq!(folder(project.path()).last(Series::Journal, 1).await.unwrap(), [12_345]);
}

#[tokio::test]
async fn of_many_who_create_a_number_one_wins() {
    let project = TempDir::new().unwrap();
    let won = Arc::new(AtomicUsize::new(0));
    let tries = (0..16).map(|n| {
        let (store, won) = (folder(project.path()), won.clone());
        tokio::spawn(async move {
            if store.create(Series::Lease, 1, format!("{n}").into_bytes()).await.unwrap() {
                won.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    for done in tries.collect::<Vec<_>>() {
        done.await.unwrap();
    }
    assert_eq!(won.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_place_that_can_not_be_written_is_named() {
    let project = TempDir::new().unwrap();
    std::fs::write(project.path().join(".dbird"), "a file is in the way").unwrap();
    let refused = folder(project.path()).create(Series::Lease, 1, Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains(".dbird/state") && refused.hint.is_some(), "{refused}");
}

/// Counts what is forced to disk.
struct Counting(Arc<dyn Store>, Arc<AtomicUsize>);

#[async_trait]
impl Store for Counting {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        if series != Series::Lease {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        self.0.create(series, number, bytes).await
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(series, number).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        self.0.last(series, count).await
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

#[tokio::test]
async fn a_deploy_writes_little_and_a_look_writes_nothing() {
    let project = TempDir::new().unwrap();
    let durable = Arc::new(AtomicUsize::new(0));
    let mut world = World::new();
    world.store = Arc::new(Counting(folder(project.path()), durable.clone()));
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    durable.store(0, Ordering::SeqCst);
    world.deploy(body("two", Behaviour::Healthy), &course()).await.unwrap();
    // Begin, Intent, Applied, two Steering, Done, the record, End.
    assert_eq!(durable.load(Ordering::SeqCst), 8);
    let leases = world.store.last(Series::Lease, 100).await.unwrap().len();
    let operator = world.operator();
    assert!(operator.recover().await.unwrap().is_none());
    assert_eq!(operator.history(1).await.unwrap()[0].id, R2);
    assert!(operator.holder().await.unwrap().is_none());
    assert_eq!(durable.load(Ordering::SeqCst), 8);
    assert_eq!(world.store.last(Series::Lease, 100).await.unwrap().len(), leases);
}

/// Leaves a deploy of this process unfinished.
async fn leave_unfinished(world: &World, machine: Machine) {
    let fuse = dbird_testkit::faulty::Fuse::new(Some(12));
    let network = dbird_testkit::faulty::Faulty::new(
        world.provider.clone(),
        world.clock.clone(),
        0,
        dbird_testkit::faulty::Rates::default(),
        fuse.clone(),
    );
    let store = Arc::new(support::Fused { inner: world.store.clone(), fuse: fuse.clone() });
    let operator = world.operator_with(Arc::new(network), store).running_as(machine);
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    tokio::select! {
        biased;
        _ = operator.carry_out(order) => panic!("it was to die"),
        () = fuse.death() => {}
    }
}

#[tokio::test]
async fn whoever_is_alive_keeps_the_lease() {
    // (who held it, what the next one gets, how long that takes it)
    let alive = Machine::here();
    let cases = [
        ("alive here", alive, false, 0),
        ("dead here", dead(), true, 0),
        ("out of sight", far_away(), true, 2 * TAKEOVER_MS),
    ];
    for (what, machine, taken, took_ms) in cases {
        let world = World::new();
        world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
        leave_unfinished(&world, machine).await;
        let unfinished = world.operator().unfinished().await.unwrap().unwrap();
        assert_eq!((unfinished.release, unfinished.holder.is_some()), (R2, what != "dead here"), "{what}");
        let start_ms = world.clock.now_ms();
        let recovered = world.operator().recover().await;
        let waited_ms = world.clock.now_ms() - start_ms;
        assert_eq!(recovered.is_ok(), taken, "{what}");
        assert!(waited_ms >= took_ms && waited_ms < took_ms + 2_000, "{what}: {waited_ms}");
        if let Err(e) = recovered {
            assert!(matches!(&e, Error::Held(held) if held.by.actor == "ann@nest"), "{e}");
            assert!(e.to_string().starts_with("`dbird deploy` of ann@nest is at work here since 0 s (process "), "{e}");
            // One that lives but shows no sign of it for long is overtaken too.
            world.clock.advance(3 * TAKEOVER_MS);
            assert!(world.operator().recover().await.unwrap().is_some());
        }
        assert_eq!(world.live().await, "r1=100", "{what}");
    }
}

#[tokio::test]
async fn a_holder_that_wakes_up_late_touches_nothing() {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let sleepy = Arc::new(Sleepy::default());
    let provider = Arc::new(Twisted { inner: world.provider.clone(), twist: Twist::Sleepy(sleepy.clone()) });
    let open = Arc::new(AtomicBool::new(false));
    let operator = world
        .operator_with(provider, world.store.clone())
        .running_as(far_away())
        .timed_by(Arc::new(support::Laptop { time: support::Time(world.clock.clone()), open: open.clone() }));
    let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    let sleeper = tokio::spawn(async move { operator.carry_out(order).await });
    sleepy.asleep.notified().await;
    // The other finds it unfinished, watches, takes over and undoes it.
    let written = world.store.last(Series::Journal, 1).await.unwrap()[0];
    let recovered = world.operator().recover().await.unwrap().unwrap();
    assert_eq!(recovered.ended.release.outcome, Outcome::RolledBack);
    assert_eq!(world.live().await, "r1=100");
    let fence = world.store.read(Series::Journal, written + 1).await.unwrap().unwrap();
    let fence: Entry = serde_json::from_slice(&fence).unwrap();
    assert_eq!(fence.what, What::TakenOver { by: "ann@nest".into() }, "the first thing that the other writes");
    // A call of the old holder that was on its way lands now.
    let handle = sleepy.steered.lock().unwrap().clone().unwrap();
    let late = Steer::shift(Weights::all(R2));
    world.provider.steer(&world.target, &handle, &late).await.unwrap_err();
    // And the old holder wakes up, in the middle of a call that it had not sent yet.
    sleepy.wake.notify_one();
    open.store(true, Ordering::SeqCst);
    let ended = sleeper.await.unwrap();
    assert!(matches!(ended, Err(Error::Fenced)), "{:?}", ended.map(|e| e.release));
    assert_eq!(sleepy.sent.load(Ordering::SeqCst), 0, "its time was over when it woke up");
    assert_eq!(world.live().await, "r1=100");
    assert_eq!(world.operator().history(5).await.unwrap().len(), 2);
    assert!(world.operator().unfinished().await.unwrap().is_none());
}

/// Lets others in between.
struct Slow(Arc<dyn Store>);

#[async_trait]
impl Store for Slow {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        self.0.create(series, number, bytes).await
    }

    async fn read(&self, series: Series, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        tokio::task::yield_now().await;
        self.0.read(series, number).await
    }

    async fn last(&self, series: Series, count: usize) -> Result<Vec<u64>, StoreError> {
        tokio::task::yield_now().await;
        self.0.last(series, count).await
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

#[tokio::test]
async fn of_many_who_take_over_one_does() {
    for round in 0..20 {
        let mut world = World::new();
        world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
        leave_unfinished(&world, dead()).await;
        world.store = Arc::new(Slow(world.store.clone()));
        let operators: Vec<_> = (0..6).map(|_| world.operator()).collect();
        let ended = futures::future::join_all(operators.iter().map(Operator::recover)).await;
        let mut recovered = 0;
        for one in ended {
            match one {
                Ok(Some(_)) => recovered += 1,
                Ok(None) | Err(Error::Held(_)) => {}
                Err(e) => panic!("round {round}: {e}"),
            }
        }
        assert_eq!(recovered, 1, "round {round}");
        assert_eq!(world.live().await, "r1=100");
    }
}

#[tokio::test]
async fn waiting_ends_with_what_is_under_way() {
    let world = World::new();
    assert!(world.operator().wait(Some(1_000)).await.unwrap().is_none());
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    leave_unfinished(&world, Machine::here()).await;
    let late = world.operator().wait(Some(1_000)).await.unwrap_err();
    assert!(matches!(late, Error::Late { .. }), "{late}");
    world.clock.advance(3 * TAKEOVER_MS);
    let (waiter, doer) = (world.operator(), world.operator());
    let (waited, _) = tokio::join!(waiter.wait(Some(600_000)), doer.recover());
    assert_eq!(waited.unwrap().unwrap().id, R2);
    leave_unfinished(&world, dead()).await;
    let alone = world.operator().wait(None).await.unwrap_err();
    assert!(matches!(alone, Error::Unfinished { .. }), "{alone}");
}

#[tokio::test]
async fn a_lease_cut_short_by_a_power_failure_needs_no_human() {
    let world = World::new();
    world.store.create(Series::Lease, 1, Vec::new()).await.unwrap();
    let ended = world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    assert_eq!(ended.live, Some(R1));
    assert_eq!(world.told(|e| matches!(e, Event::Note { .. })), 1);
}

#[tokio::test]
async fn specimens_are_read_and_newer_ones_are_refused() {
    let specimens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specimens");
    let mut seen = Vec::new();
    for file in std::fs::read_dir(specimens).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let specimen: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        // Whatever is written today has the newest specimen's shape, and keeps all that older ones say.
        let (series, today) = match name.split(['.', '-']).next().unwrap() {
            "lease" => (Series::Lease, specimen.clone()),
            "journal" => {
                (Series::Journal, serde_json::to_value(serde_json::from_slice::<Entry>(&bytes).unwrap()).unwrap())
            }
            _ => (Series::Releases, serde_json::to_value(serde_json::from_slice::<Release>(&bytes).unwrap()).unwrap()),
        };
        if name.contains(".1.") {
            assert!(holds(&today, &specimen), "{name}: {today:#}");
        } else {
            assert_eq!(today, specimen, "{name}");
        }
        let read = |bytes: Vec<u8>| async move {
            let world = World::new();
            world.store.create(series, 1, bytes).await.unwrap();
            let operator = world.operator();
            let found = [
                operator.holder().await?.is_some(),
                operator.unfinished().await?.is_some(),
                !operator.history(1).await?.is_empty(),
            ];
            Ok::<_, Error>((found.contains(&true), world))
        };
        let (said, _) = read(bytes).await.unwrap();
        assert_eq!(said, !name.starts_with("journal-") || name.starts_with("journal-begin"), "{name} says something");
        let mut newer = today;
        let newest = if series == Series::Lease { 1 } else { 2 };
        newer["format"] = (newest + 1).into();
        let refused = read(newer.to_string().into_bytes()).await.err().unwrap();
        let said = format!("has format {}, and this dbird reads formats up to {newest}", newest + 1);
        assert!(refused.to_string().contains(&said), "{refused}");
        assert!(refused.hint().is_some_and(|h| h.contains("newer dbird")), "{refused}");
        // Nothing is done over what can't be read.
        let world = World::new();
        world.store.create(series, 1, newer.to_string().into_bytes()).await.unwrap();
        world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap_err();
        assert_eq!(world.live().await, "", "{name}");
        seen.push(name);
    }
    assert_eq!(seen.len(), 20, "one for each thing that is written: {seen:?}");
}

/// True when everything that the older one says stands in the newer one as well.
fn holds(newer: &serde_json::Value, older: &serde_json::Value) -> bool {
    match (newer, older) {
        (serde_json::Value::Object(newer), serde_json::Value::Object(older)) => {
            older.iter().all(|(key, value)| newer.get(key).is_some_and(|n| holds(n, value)))
        }
        (serde_json::Value::Array(newer), serde_json::Value::Array(older)) => {
            newer.len() == older.len() && newer.iter().zip(older).all(|(n, o)| holds(n, o))
        }
        _ => newer == older,
    }
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let last = world.store.last(Series::Journal, 1).await.unwrap()[0];
    world.store.create(Series::Journal, last + 1, b"{\"format\":1,\"what\":".to_vec()).await.unwrap();
    let refused = world.operator().recover().await.unwrap_err();
    assert!(refused.to_string().contains(&format!("journal/{}", last + 1)), "{refused}");
    assert!(refused.hint().is_some());
}

#[tokio::test]
async fn the_machine_s_clock_goes_on() {
    use dbird_driver::Clock;
    let start_ms = SystemClock.boot_ms();
    SystemClock.sleep(5).await;
    assert!(SystemClock.boot_ms() >= start_ms + 4);
    assert!(SystemClock.unix_ms() > 1_600_000_000_000);
}
