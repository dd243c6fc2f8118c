//! The protocol's own code over a simulated share, in schedules that a seed decides. Whatever happens, every acknowledged
//! score is in the database exactly once, and every other one at most once. `SPOOL_SEED` runs one seed, `SPOOL_SEEDS` as
//! many as it says.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test tells what it did")]

mod book;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use book::{Book, Books};
use spool::{
    AppendError, Appender, Config, Ingested, Keeper, Leader, Ledger, Ledgers, Locking, Observer, Record, Role, Share,
    Shared, Status,
};
use world::{Broken, Client, Faults, World};

const PROCESSES: usize = 3;
const ORIGINAL: &str = "db.sqlite";
/// Scores in the database that was there before.
const OLD_SCORES: u64 = 5;
/// Simulated time during which things go wrong.
const TROUBLED: Duration = Duration::from_secs(12);
/// Steps of the last ingester: all of them find nothing wrong.
const LAST_STEPS: u32 = 40;

struct Nobody;

impl Observer for Nobody {
    fn leaders(&self, _list: &[Leader]) {}
    fn status(&self, _status: &Status) {}
    fn ingested(&self, _what: Ingested, _oldest_created_ms: Option<i64>) {}
    fn set_aside(&self, _bytes: usize) {}
}

#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<String, Record>,
    tried: BTreeMap<String, Vec<Record>>,
    next: u64,
    hand_overs: u64,
    kills: u64,
    claims: u64,
    ended: usize,
}

impl Told {
    fn record(&mut self, world: &World) -> Record {
        // Now and then a repeat, with another time: through another process.
        let number = if self.next > 0 && world.random(|rng| rng.u8(..10)) == 0 {
            world.random(|rng| rng.u64(..self.next))
        } else {
            self.next += 1;
            self.next - 1
        };
        let score = f64::from(u32::try_from(number % 97).unwrap());
        let created_ms = i64::try_from(world.now().as_millis()).unwrap();
        Record { run_id: format!("r{number}").into(), player: format!("p{}", number % 7).into(), score, created_ms }
    }
}

/// A database from before the protocol, whose scores count as acknowledged.
fn original(world: &Arc<World>, told: &mut Told) {
    let client = world.client(0);
    let mut book = Books(client).open(ORIGINAL).unwrap();
    let records: Vec<Record> = (0..OLD_SCORES).map(|_| told.record(world)).collect();
    book.ingest(&records.iter().collect::<Vec<_>>()).unwrap();
    book.close().unwrap();
    for record in records {
        told.tried.entry(record.run_id.to_string()).or_default().push(record.clone());
        told.acknowledged.entry(record.run_id.to_string()).or_insert(record);
    }
}

/// One process after another in the same place, each until it is killed, stops or fences itself.
fn place(world: &Arc<World>, thread: usize, locking: Locking, told: &Mutex<Told>) {
    world.begin(thread);
    while world.now() < TROUBLED {
        let client = world.client(thread);
        process(world, thread, &client, locking, told);
        if client.is_dead() {
            told.lock().unwrap().kills += 1;
        } else {
            client.die();
        }
        let pause = Duration::from_millis(world.random(|rng| rng.u64(..1_500)));
        world.sleep(thread, pause);
    }
    told.lock().unwrap().ended += 1;
    world.end(thread);
}

fn keeper(world: &World, client: &Client, shared: &Arc<Shared>) -> Keeper<Client, Books> {
    let node = format!("{:016x}", world.random(|rng| rng.u64(..)));
    let config = Config { node, batch_records_max: 5, ..Config::new(ORIGINAL.to_owned()) };
    Keeper::new(Arc::new(client.clone()), Books(client.clone()), config, shared.clone())
}

fn process(world: &Arc<World>, thread: usize, client: &Client, locking: Locking, told: &Mutex<Told>) {
    let shared = Shared::new(Ok(locking), Box::new(Nobody));
    let mut keeper = keeper(world, client, &shared);
    let node = format!("{:016x}", world.random(|rng| rng.u64(..)));
    let mut appender = Appender::new(Arc::new(client.clone()), node);
    let stops = world.now() + Duration::from_millis(world.random(|rng| rng.u64(..10_000)));
    let mut stepped = world.now();
    let mut pause = Some(Duration::ZERO);
    let mut was = Role::Standby;
    while !client.is_dead() {
        if world.now() >= stops.min(TROUBLED) {
            shared.release();
        }
        if let Some(wanted) = pause
            && world.now() >= stepped + wanted
        {
            pause = keeper.step();
            stepped = world.now();
            let role = keeper.status().role;
            let mut told = told.lock().unwrap();
            told.claims += u64::from(role == Role::Active && was != Role::Active);
            told.hand_overs += u64::from(role == Role::Released && was == Role::Active);
            was = role;
        }
        if pause.is_none() && world.random(|rng| rng.u8(..4)) == 0 {
            drop(appender.seal());
            return;
        }
        if world.random(|rng| rng.u8(..3)) == 0 {
            let count = world.random(|rng| rng.usize(1..4));
            let records: Vec<Record> = (0..count).map(|_| told.lock().unwrap().record(world)).collect();
            for record in &records {
                told.lock().unwrap().tried.entry(record.run_id.to_string()).or_default().push(record.clone());
            }
            let appended = appender.append(&records);
            if std::env::var_os("SPOOL_TRACE").is_some() {
                let runs: Vec<_> = records.iter().map(|record| &*record.run_id).collect();
                eprintln!("{:?} place {thread}: {runs:?} {appended:?}", world.now());
            }
            match appended {
                Ok(()) => {
                    shared.accepted(&records);
                    let mut told = told.lock().unwrap();
                    for record in records {
                        told.acknowledged.entry(record.run_id.to_string()).or_insert(record);
                    }
                }
                Err(AppendError::Refused { .. }) => {}
                Err(AppendError::Fenced { .. }) => return,
            }
        }
        if world.random(|rng| rng.u8(..40)) == 0 {
            // As if the segment were full.
            drop(appender.seal());
        }
        world.sleep(thread, Duration::from_millis(world.random(|rng| rng.u64(..120))));
    }
}

/// When all trouble is over: one process moves what is left, and the database says what it has.
fn settle(world: &Arc<World>, locking: Locking, told: &Mutex<Told>) -> Result<(Book, u64), String> {
    world.begin(PROCESSES);
    while told.lock().unwrap().ended < PROCESSES {
        world.sleep(PROCESSES, Duration::from_secs(1));
    }
    world.trouble(Faults::NONE);
    let client = world.client(PROCESSES);
    let shared = Shared::new(Ok(locking), Box::new(Nobody));
    let mut keeper = keeper(world, &client, &shared);
    let (mut steps, mut active) = (0, 0);
    while let Some(pause) = keeper.step() {
        world.sleep(PROCESSES, pause);
        steps += 1;
        active += u32::from(keeper.status().role == Role::Active);
        if active > LAST_STEPS {
            shared.release();
        }
        if steps > 5_000 {
            return Err(format!("it never settles: {:?}", keeper.status()));
        }
    }
    let epoch = keeper.status().epoch;
    let names = client.list("").unwrap();
    if !names.contains(&format!("clean.{epoch}")) {
        return Err(format!("epoch {epoch} was not left clean: {:?}", keeper.status()));
    }
    let book = Books(client).open(&format!("drafty.{epoch}.db")).map_err(|error| error.to_string())?;
    world.end(PROCESSES);
    Ok((book, epoch))
}

struct Outcome {
    acknowledged: usize,
    told: Told,
    calls: u64,
}

fn run(seed: u64, broken: Broken) -> Result<Outcome, String> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5EED);
    let mut often = |most: u32| rng.u32(..=most);
    let faults = Faults {
        switch: 200 + often(600),
        fail: often(15),
        kill: often(4),
        pause: often(4),
        stale: often(400),
        lose_lock: often(3),
    };
    let locking = if rng.bool() { Locking::Lock } else { Locking::Heartbeat(Duration::from_secs(2)) };
    let world = World::new(seed, Faults::NONE, broken, PROCESSES + 1);
    let told = Mutex::new(Told::default());
    if rng.bool() {
        original(&world, &mut told.lock().unwrap());
    }
    world.trouble(faults);
    let settled = std::thread::scope(|scope| {
        for thread in 0..PROCESSES {
            let (world, told) = (&world, &told);
            scope.spawn(move || place(world, thread, locking, told));
        }
        let settled = settle(&world, locking, &told);
        if settled.is_err() {
            world.end(PROCESSES);
        }
        settled
    });
    let (book, epoch) = settled?;
    let told = told.into_inner().unwrap();
    let mut stored: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &book.records {
        stored.entry(&record.run_id).or_default().push(record);
    }
    for (run_id, record) in &told.acknowledged {
        let found = stored.get(&**run_id).map_or(&[][..], Vec::as_slice);
        let [found] = found else {
            return Err(format!("{run_id} was acknowledged and is there {} times", found.len()));
        };
        if (&found.player, found.score) != (&record.player, record.score) {
            return Err(format!("{run_id} is there as {found:?} and not as {record:?}"));
        }
    }
    for (run_id, found) in &stored {
        let tried = told.tried.get(*run_id).is_some_and(|tried| tried.contains(found[0]));
        if found.len() != 1 || !tried {
            return Err(format!("{run_id} is there {} times, tried: {tried}", found.len()));
        }
    }
    if epoch < told.claims {
        return Err(format!("{} claims made only {epoch} epochs", told.claims));
    }
    Ok(Outcome { acknowledged: told.acknowledged.len(), told, calls: world.calls() })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_acknowledged_score_is_kept_once() {
    let seeds = match number("SPOOL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SPOOL_SEEDS").unwrap_or(1000),
    };
    let (next, count) = (AtomicU64::new(seeds.start), seeds.end - seeds.start);
    let sums = Mutex::new([0; 5]);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            let Outcome { acknowledged, told, calls } =
                run(seed, Broken::Nothing).map_err(|why| format!("SPOOL_SEED={seed}: {why}"))?;
            let found = [acknowledged as u64, told.claims, told.hand_overs, told.kills, calls];
            sums.lock().unwrap().iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        }
    };
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    results.into_iter().collect::<Result<(), _>>().unwrap();
    let [acknowledged, claims, hand_overs, kills, calls] = sums.into_inner().unwrap();
    println!(
        "{count} seeds: {acknowledged} scores acknowledged, {claims} epochs begun, {hand_overs} handed over, {kills} processes \
         killed, {calls} calls"
    );
    if count > 50 {
        let enough = [acknowledged, claims, hand_overs, kills].iter().all(|sum| *sum > count / 4);
        assert!(enough, "hardly anything happened");
    }
}

#[test]
fn a_share_that_breaks_its_word_is_found_out() {
    for broken in [Broken::CachedFolders, Broken::LyingSync, Broken::SharedCreate] {
        let found = (0..400).find(|seed| std::panic::catch_unwind(|| run(*seed, broken)).is_ok_and(|run| run.is_err()));
        assert!(found.is_some(), "{broken:?} was not noticed");
    }
}
