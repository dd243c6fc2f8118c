//! One run: processes, load and nemeses for a while, then everything healed, ended in order, and judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::check::check;
use crate::control::{self, Call, Rule};
use crate::faults::Faults;
use crate::fleet::{Fleet, Site};
use crate::history::History;
use crate::ledger::{Ledger, returns};
use crate::load::{Load, Runs, submit_next};
use crate::watch::{Watch, epochs_in, leaderboard, readiness};

/// How long the processes may take to be themselves again once everything works.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// How long a score that was acknowledged may take to be shown everywhere.
const SHOWN_MAX: Duration = Duration::from_secs(3);
const CLIENTS: usize = 6;

/// What a run is like; the same plan strikes the same way.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) storage: &'static str,
    pub(crate) processes: usize,
    pub(crate) seed: u64,
    pub(crate) lasting: Duration,
    /// Whether files can be locked.
    pub(crate) locks: bool,
}

/// Runs a plan; panics with everything that is known if a promise was broken.
pub(crate) fn run(plan: &Plan) {
    let longest = if plan.lasting < Duration::from_secs(60) { plan.lasting / 5 } else { Duration::from_secs(60) };
    let (history, folder, summary) = run_with(plan, |fleet, site, history| {
        Faults::new(fleet, site, plan.seed, longest, history).strike_until(Instant::now() + plan.lasting);
    });
    if history.is_clean() {
        crate::say(&format!("{plan:?}: {summary}"));
        return;
    }
    let kept = folder.keep();
    panic!(
        "NEMESIS_SEED={} NEMESIS_SECONDS={} NEMESIS_PROCESSES={} {}{}: {summary}\n{history}files and logs are in {}",
        plan.seed,
        plan.lasting.as_secs(),
        plan.processes,
        plan.storage,
        if plan.locks { "" } else { " without locks" },
        kept.display()
    );
}

/// Runs a plan with other nemeses than its own, and returns what there is to say.
pub(crate) fn run_with(
    plan: &Plan,
    torment: impl FnOnce(&Fleet, &Site, &History),
) -> (Arc<History>, tempfile::TempDir, String) {
    let folder = tempfile::Builder::new().prefix("nemesis-").tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let shim = match control::compile(&root) {
        Ok(library) => Some(library),
        Err(why) => {
            crate::say(&format!("SKIPPED: faults of single calls: {why}"));
            None
        }
    };
    let no_locks = Rule::fail(Call::Lock, rustix::io::Errno::NOLCK.raw_os_error());
    let always = if plan.locks { Vec::new() } else { vec![no_locks] };
    let site = Site { folder: root, storage: plan.storage, shim, always };
    std::fs::create_dir(site.share()).unwrap();
    let history = Arc::new(History::new());
    let summary = play(plan, &site, &history, torment);
    (history, folder, summary)
}

fn play(plan: &Plan, site: &Site, history: &Arc<History>, torment: impl FnOnce(&Fleet, &Site, &History)) -> String {
    let spool = plan.storage == "spool";
    let ledger = Ledger::new(&site.ledger());
    let runs = Arc::new(Runs::new(plan.seed));
    let fleet = Arc::new(Fleet::new(site.clone(), plan.processes, history.clone()));
    fleet.keep_running();
    until_recovered(&fleet, plan, history);
    let watch = Watch::start(&fleet, &site.share(), spool, history);
    // Long runs submit less often, so that the checker can hold them in memory.
    let pause = Duration::from_micros((plan.lasting.as_secs() * CLIENTS as u64).max(1_000));
    let load = Load::start(CLIENTS, pause, &fleet, &runs, history);
    torment(&fleet, site, history);
    until_recovered(&fleet, plan, history);
    let acknowledged = load.stop();
    if acknowledged == 0 {
        history.object("nothing was ever acknowledged");
    }
    let answering = (0..plan.processes).filter_map(|slot| fleet.place(slot)).filter(|place| is_ready(place.address));
    for place in answering {
        if !submit_next(place, &runs, history) {
            history.object(format!(
                "process {}: ready, yet a score was refused after everything was healed",
                place.number
            ));
        }
    }
    until_shown(&fleet, &runs, history);
    let hits: u64 = fleet.slots.iter().map(|slot| slot.control.hits()).sum();
    let highest = watch.epochs.lock().unwrap().highest();
    watch.stop();
    for slot in 0..plan.processes {
        fleet.end(slot);
    }
    history.tell("all ended; one last process takes in what is left");
    fleet.start(0);
    until_recovered(&fleet, &Plan { processes: 1, ..plan.clone() }, history);
    until_shown(&fleet, &runs, history);
    fleet.end(0);
    if site.shim.is_some() {
        all_calls_pass_the_shim(&fleet, spool, history);
    }
    drop(fleet);
    let database = database(site, spool, history);
    judge(&database, &runs, history);
    let (events, full) = ledger.events();
    if spool {
        // With one database for all, a file does pass back, with SQLite's lock of it.
        returns(&events).into_iter().for_each(|fault| history.object(fault));
    }
    format!(
        "{} scores, {acknowledged} acknowledgements, {hits} calls hit, {} writers noted{}, {highest} epochs",
        runs.list.lock().unwrap().len(),
        events.len(),
        if full { " (no room for more)" } else { "" },
    )
}

fn is_ready(address: std::net::SocketAddr) -> bool {
    readiness(address).is_some_and(|(status, _)| status == 200)
}

/// Waits until all are ready and one is active; with one process at a time (`direct`), until one is ready.
fn until_recovered(fleet: &Fleet, plan: &Plan, history: &History) {
    let deadline = Instant::now() + RECOVERY_MAX;
    let mut answers;
    loop {
        (0..plan.processes).filter(|slot| fleet.reap(*slot)).for_each(|slot| fleet.start(slot));
        answers = (0..plan.processes)
            .map(|slot| fleet.place(slot).and_then(|place| readiness(place.address)))
            .collect::<Vec<_>>();
        let ready = answers.iter().flatten().filter(|(status, _)| *status == 200).count();
        let active = answers.iter().flatten().filter(|(_, says)| says["role"] == "active").count();
        let recovered = if plan.storage == "spool" { ready == plan.processes && active == 1 } else { ready == 1 };
        if recovered {
            return;
        }
        if Instant::now() > deadline {
            history.object(format!("not all well {RECOVERY_MAX:?} after everything was healed: {answers:?}"));
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until every process that is ready shows the best scores that were acknowledged.
fn until_shown(fleet: &Fleet, runs: &Runs, history: &History) {
    if !history.is_clean() {
        return;
    }
    let deadline = Instant::now() + SHOWN_MAX;
    for slot in 0..fleet.slots.len() {
        let Some(place) = fleet.place(slot).filter(|place| is_ready(place.address)) else { continue };
        loop {
            let shown = leaderboard(place.address);
            let missing = shown.as_ref().map(|shown| runs.missing_in(shown));
            if missing.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            if Instant::now() > deadline {
                let number = place.number;
                history.object(format!("process {number}: the leaderboard {shown:?} is without {missing:?}"));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What is never seen can't be made to fail, so the run would have proved less than it seems.
fn all_calls_pass_the_shim(fleet: &Fleet, spool: bool, history: &History) {
    let seen = |call: Call| fleet.slots.iter().map(|slot| slot.control.count(call).0).sum::<u32>();
    let hit = |call: Call| fleet.slots.iter().map(|slot| slot.control.count(call).1).sum::<u32>();
    history.tell(format!("calls seen and hit: {:?}", Call::ALL.map(|call| (call, seen(call), hit(call)))));
    let spools = [Call::OpenRead, Call::Rename, Call::Unlink, Call::MakeDir, Call::RemoveDir, Call::Lock];
    let expected = [Call::OpenWrite, Call::Read, Call::Write, Call::Sync].into_iter();
    for call in expected.chain(spools.into_iter().filter(|_| spool)).filter(|call| seen(*call) == 0) {
        history.object(format!("no {call:?} below the share went through the C library"));
    }
}

/// The database that counts at the end.
fn database(site: &Site, spool: bool, history: &History) -> PathBuf {
    if !spool {
        return site.database();
    }
    let share = site.share();
    let highest = epochs_in(&share).and_then(|epochs| epochs.keys().next_back().copied()).unwrap_or(0);
    if !share.join(format!("clean.{highest}")).exists() {
        history.object(format!("the last process ended in order without leaving clean.{highest}"));
    }
    share.join(format!("drafty.{highest}.db"))
}

fn judge(database: &Path, runs: &Runs, history: &History) {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        history.object(format!("{} was left behind", log.display()));
    }
    match Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Ok(connection) => check(&connection, runs).into_iter().for_each(|fault| history.object(fault)),
        Err(fault) => history.object(format!("{}: {fault}", database.display())),
    }
}
