//! The life of one task, from its network interface to its last exit code. It decides in which order things happen to it and what
//! is said of its end; whether it should live is the scheduler's or a caller's.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dataplane::{
    logs,
    shim::Exit,
    task::{Record, Task as Process},
};
use futures::{FutureExt, future::select_all};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    balance,
    container::{self, Ready, Wanted},
    names, processes, scheduler,
    task::{Status, Stop, Task},
};
use crate::aws::{World, efs::Efs, list, number};

/// Attaching a network interface takes so long, and taking it away.
const INTERFACE_MS: u64 = 8_000;
const RELEASE_MS: u64 = 3_000;
/// An image is pulled so fast, after this.
const PULL_BYTES_PER_MS: u64 = 100_000;
const PULL_BEGINS_MS: u64 = 1_500;
/// A container that ends within this never ran: simulated time and ours.
const STARTS_MS: u64 = 1_000;
const STARTS: Duration = Duration::from_millis(150);
/// A container's engine is waited for so long.
const ENGINE_STARTS: Duration = Duration::from_secs(60);
/// How often a log is looked at.
const LOG_EVERY: Duration = Duration::from_millis(100);
const LOG_LINES_MAX: usize = 1_000;
/// So long after it ran a task dies by the fault `task-dies-after-ready`.
const DIES_AFTER_MS: u64 = 300_000;
/// Nothing drains longer than this: the longest that a target group may be told.
const DRAIN_MS_MAX: u64 = 3_600_000;
/// The folder below the simulator's where tasks have theirs.
const TASKS: &str = "tasks";
/// A task that was killed is gone within this.
const KILLED: Duration = Duration::from_secs(5);

/// A container that was started.
struct Started {
    name: String,
    is_essential: bool,
    process: Option<Process>,
    exit: Option<Exit>,
    log: Option<JoinHandle<()>>,
    is_done: Arc<AtomicBool>,
}

/// Lets a task live, in the background.
pub(super) fn begin(world: &Arc<World>, id: String) {
    let world = world.clone();
    tokio::spawn(async move { live(&world, &id).await });
}

/// Changes a task, if it is still known.
fn with<T>(world: &World, id: &str, change: impl FnOnce(&mut Task) -> T) -> Option<T> {
    world.ecs.state().tasks.get_mut(id).map(change)
}

fn enter(world: &World, id: &str, status: Status, time: Option<&'static str>) {
    let now = world.clock.now_ms();
    with(world, id, |task| {
        task.status = status;
        if let Some(time) = time {
            task.times.entry(time).or_insert(now);
        }
    });
    scheduler::wake(world, id);
}

/// Says that a task is to stop, and why; the first to say so is right.
pub(super) fn ask(task: &mut Task, code: &'static str, reason: &str) {
    if task.stop.is_none() {
        task.stop = Some(Stop { code, reason: reason.to_owned() });
    }
    task.asked.send_replace(true);
}

async fn live(world: &Arc<World>, id: &str) {
    let Some(mut asked) = with(world, id, |task| task.asked.subscribe()) else { return };
    let mut started = Vec::new();
    let risen = tokio::select! {
        risen = rise(world, id, &mut started) => Some(risen),
        () = until(&mut asked) => None,
    };
    match risen {
        Some(Ok(())) => {
            let target = attach(world, id);
            enter(world, id, Status::Running, Some("startedAt"));
            tokio::select! {
                () = run(world, id, &mut started) => {}
                () = until(&mut asked) => {}
                () = doom(world, id) => started.iter().filter_map(|s| s.process.as_ref()).for_each(Process::kill),
            }
            if essential_ended(&started) {
                with(world, id, |task| ask(task, "EssentialContainerExited", "Essential container in task exited"));
            }
            if let Some((group, ip)) = target {
                detach(world, id, &group, &ip, essential_ended(&started)).await;
            }
        }
        Some(Err(stop)) => {
            with(world, id, |task| ask(task, stop.code, &stop.reason));
        }
        None => {}
    }
    fall(world, id, started).await;
}

async fn until(asked: &mut watch::Receiver<bool>) {
    // An error means that the task is not known any more, which is as good a reason.
    let _ = asked.wait_for(|is_asked| *is_asked).await;
}

fn failed(reason: impl Into<String>) -> Stop {
    Stop { code: "TaskFailedToStart", reason: reason.into() }
}

/// Everything until its containers run.
async fn rise(world: &Arc<World>, id: &str, started: &mut Vec<Started>) -> Result<(), Stop> {
    let wanted = {
        let state = world.ecs.state();
        let task = state.tasks.get(id).ok_or_else(|| failed("the task is not known"))?;
        let definition =
            state.definition(&task.definition).ok_or_else(|| failed("the task definition is not known"))?;
        Arc::new(Wanted::of(task, definition))
    };
    world.clock.sleep_ms(INTERFACE_MS).await;
    enter(world, id, Status::Pending, Some("pullStartedAt"));
    container::roles(world, &wanted).map_err(failed)?;
    let ready = {
        let (world, wanted) = (world.clone(), wanted.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&world, &wanted)).await;
        prepared.map_err(|_| failed("the image could not be unpacked"))?
    };
    let (ready, ports, bytes) = ready.map_err(|(name, why)| {
        with(world, id, |task| {
            task.containers.iter_mut().filter(|c| c.name == name).for_each(|c| c.reason = Some(why.clone()));
        });
        failed(why)
    })?;
    world.clock.sleep_ms(PULL_BEGINS_MS + bytes / PULL_BYTES_PER_MS).await;
    enter(world, id, Status::Activating, Some("pullStoppedAt"));
    for container in ready {
        started.push(start(world, id, container, &ports)?);
    }
    with(world, id, |task| {
        let inside = task.target.as_ref().map(|(_, port)| *port);
        task.address = inside.and_then(|p| ports.get(&p)).map(|port| SocketAddr::from(([127, 0, 0, 1], *port)));
    });
    let pause = STARTS.max(world.clock.real(STARTS_MS));
    let containers = if world.settings.podman { folders(started) } else { Vec::new() };
    tokio::select! {
        () = async { tokio::join!(tokio::time::sleep(pause), up(&containers)); } => {}
        () = run(world, id, started) => {}
    }
    if !essential_ended(started) {
        return Ok(());
    }
    let bad = started.iter().find_map(|s| s.exit.as_ref().and_then(|e| e.error.clone()));
    Err(match bad {
        Some(why) => failed(format!("CannotStartContainerError: {why}")),
        None => Stop { code: "EssentialContainerExited", reason: "Essential container in task exited".to_owned() },
    })
}

fn folders(started: &[Started]) -> Vec<PathBuf> {
    started.iter().filter_map(|s| Some(s.process.as_ref()?.folder().to_owned())).collect()
}

/// Returns once containers run that an engine brings up: until then nothing in them could answer, however long that takes on
/// this machine.
async fn up(containers: &[PathBuf]) {
    let deadline = Instant::now() + ENGINE_STARTS;
    let is_up = |folder: &PathBuf| dataplane::task::pid(folder).is_some_and(processes::is_in_container);
    while Instant::now() < deadline && !containers.iter().all(is_up) {
        tokio::time::sleep(STARTS).await;
    }
}

type Prepared = (Vec<Ready>, BTreeMap<u16, u16>, u64);

fn prepare(world: &Arc<World>, wanted: &Wanted) -> Result<Prepared, (String, String)> {
    let _one = world.ecs.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = String::new;
    let mut ports =
        container::ports(&wanted.definition).ok_or_else(|| (whole(), "no port of this machine is free".to_owned()))?;
    let mut all = Vec::new();
    let mut bytes = 0;
    for container in wanted.definition.containers() {
        let ready = container::prepare(world, wanted, container, &mut ports);
        let name = || crate::aws::text(container, "name").unwrap_or_default().to_owned();
        let ready = ready.map_err(|why| (name(), why))?;
        bytes += ready.launch.as_ref().and_then(|l| std::fs::metadata(&l.program).ok()).map_or(0, |m| m.len());
        all.push(ready);
    }
    Ok((all, ports, bytes))
}

fn start(world: &Arc<World>, id: &str, ready: Ready, ports: &BTreeMap<u16, u16>) -> Result<Started, Stop> {
    let record = Record {
        id: format!("{id}-{}", ready.name),
        group: id.to_owned(),
        slot: None,
        attempt: 0,
        address: ports.values().next().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))),
        made_unix_ms: world.clock.now_ms(),
        container: ready.podman_name,
    };
    let process = match &ready.launch {
        None => None,
        Some(launch) => {
            let tasks = world.settings.folder.join(TASKS);
            let process = Process::start(&tasks, record, launch, &world.settings.shim);
            Some(process.map_err(|why| failed(format!("CannotStartContainerError: {why}")))?)
        }
    };
    let folder = process.as_ref().map(|p| p.folder().to_owned());
    with(world, id, |task| {
        for container in task.containers.iter_mut().filter(|c| c.name == ready.name) {
            container.digest.clone_from(&ready.digest);
            container.folder.clone_from(&folder);
        }
    });
    if let Some(folder) = &folder {
        Efs::opened(world, id, folder);
    }
    let is_done = Arc::new(AtomicBool::new(false));
    let log = folder.zip(ready.log).map(|(folder, (group, stream))| {
        let (world, is_done) = (world.clone(), is_done.clone());
        tokio::spawn(async move { follow(&world, &folder, &group, &stream, &is_done).await })
    });
    Ok(Started { name: ready.name, is_essential: ready.is_essential, process, exit: None, log, is_done })
}

/// Copies a log's lines to where AWS keeps them, until its container has ended and all was read.
async fn follow(world: &Arc<World>, folder: &std::path::Path, group: &str, stream: &str, is_done: &AtomicBool) {
    let mut at = logs::Position::default();
    let origin = world.clock.origin_unix_ms();
    loop {
        let was_done = is_done.load(Ordering::SeqCst);
        let lines = logs::read(folder, at, LOG_LINES_MAX).unwrap_or_default();
        for line in &lines {
            let passed = line.at_unix_ms.saturating_sub(origin) as f64 * world.clock.speed();
            balance::log(world, group, stream, origin + passed as u64, &line.text);
            at = line.after;
        }
        if lines.is_empty() {
            if was_done {
                return;
            }
            tokio::time::sleep(LOG_EVERY).await;
        }
    }
}

/// Returns once an essential container has ended.
async fn run(world: &Arc<World>, id: &str, started: &mut [Started]) {
    while !essential_ended(started) {
        let waits: Vec<_> = started
            .iter_mut()
            .filter(|s| s.exit.is_none())
            .filter_map(|s| {
                let process = s.process.as_mut()?;
                Some(async { process.ended().await }.map(|exit| (s.name.clone(), exit)).boxed())
            })
            .collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        let ((name, exit), ..) = select_all(waits).await;
        told(world, id, &name, &exit);
        started.iter_mut().filter(|s| s.name == name).for_each(|s| s.exit = Some(exit.clone()));
    }
}

/// Writes down how a container ended.
fn told(world: &World, id: &str, name: &str, exit: &Exit) {
    with(world, id, |task| {
        for container in task.containers.iter_mut().filter(|c| c.name == name) {
            container.exit_code = Some(exit.status());
            container.reason = exit.error.clone().map(|why| format!("CannotStartContainerError: {why}"));
        }
    });
}

fn essential_ended(started: &[Started]) -> bool {
    started.iter().any(|s| s.is_essential && s.exit.is_some())
}

/// Makes it a target of its group, if it has one.
fn attach(world: &Arc<World>, id: &str) -> Option<(String, String)> {
    let (group, ip, address) =
        with(world, id, |task| Some((task.target.as_ref()?.0.clone(), task.ip.clone(), task.address?)))??;
    match balance::register(world, &group, &ip, address) {
        Ok(()) => scheduler::tell(world, id, &format!("registered 1 targets in (target-group {group})")),
        Err(why) => scheduler::tell(
            world,
            id,
            &format!("was unable to register targets in (target-group {group}): {}", why.message),
        ),
    }
    Some((group, ip))
}

/// Takes it out of its group and waits until nobody is served by it any more.
async fn detach(world: &Arc<World>, id: &str, group: &str, ip: &str, has_died: bool) {
    enter(world, id, Status::Deactivating, Some("stoppingAt"));
    scheduler::tell(world, id, "has begun draining connections on 1 tasks.");
    balance::deregister(world, group, ip);
    scheduler::tell(world, id, &format!("deregistered 1 targets in (target-group {group})"));
    let limit = world.clock.now_ms() + DRAIN_MS_MAX;
    let drains = || balance::health(world, group).iter().any(|(target, state)| target == ip && state == "draining");
    while !has_died && drains() && world.clock.now_ms() < limit {
        tokio::time::sleep(world.clock.real(250).max(Duration::from_millis(5))).await;
    }
}

/// Never returns but by the fault `task-dies-after-ready`.
async fn doom(world: &Arc<World>, id: &str) {
    let seconds = world.faults.argument("task-dies-after-ready").and_then(|s| s.parse::<u64>().ok());
    let is_asked = seconds.is_some() || world.faults.has("task-dies-after-ready");
    if is_asked && !scheduler::is_of_first_set(world, id) {
        world.clock.sleep_ms(seconds.map_or(DIES_AFTER_MS, |s| s * 1000)).await;
        return;
    }
    std::future::pending().await
}

/// Everything from being asked to stop to the end.
async fn fall(world: &Arc<World>, id: &str, mut started: Vec<Started>) {
    enter(world, id, Status::Stopping, Some("stoppingAt"));
    started.iter().filter(|s| s.exit.is_none()).filter_map(|s| s.process.as_ref()).for_each(Process::stop);
    for container in &mut started {
        if let (Some(process), None) = (container.process.as_mut(), &container.exit) {
            let exit = process.ended().await;
            told(world, id, &container.name, &exit);
            container.exit = Some(exit);
        }
        container.is_done.store(true, Ordering::SeqCst);
    }
    Efs::closed(world, id);
    for container in started {
        if let Some(log) = container.log {
            // It ends by itself; a panic in it would have been told already.
            let _ = log.await;
        }
    }
    // What lay in its own volumes goes with it.
    let _ = std::fs::remove_dir_all(world.settings.folder.join("scratch").join(id));
    enter(world, id, Status::Deprovisioning, Some("executionStoppedAt"));
    world.clock.sleep_ms(RELEASE_MS).await;
    enter(world, id, Status::Stopped, Some("stoppedAt"));
}

/// Kills every task that has a process and waits until none has.
pub(super) async fn end(world: &Arc<World>) {
    {
        let mut state = world.ecs.state();
        for task in state.tasks.values_mut().filter(|t| !t.is_over()) {
            ask(task, "UserInitiated", "The simulator ends.");
        }
    }
    let folders = || -> Vec<std::path::PathBuf> {
        let state = world.ecs.state();
        let containers = state.tasks.values().flat_map(|t| &t.containers);
        containers.filter_map(|c| c.folder.clone()).filter(|f| dataplane::task::exit_of(f).is_none()).collect()
    };
    let deadline = Instant::now() + KILLED;
    loop {
        let left = folders();
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for folder in left {
            if let Ok(Ok(dataplane::task::Found::Running(process))) =
                tokio::time::timeout(KILLED, Process::adopt(&folder)).await
            {
                process.kill();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The containers that a definition has, before any of them runs.
pub(super) fn containers(definition: &super::definition::Definition) -> Vec<super::task::Container> {
    let text = |value: &Value, name: &str| crate::aws::text(value, name).unwrap_or_default().to_owned();
    let all = definition.containers().iter();
    all.map(|c| super::task::Container { name: text(c, "name"), image: text(c, "image"), ..Default::default() })
        .collect()
}

/// The port of a container that a load balancer is told of, if a definition has it.
pub(super) fn has_port(definition: &super::definition::Definition, container: &str, port: i64) -> bool {
    let named = definition.containers().iter().find(|c| crate::aws::text(c, "name") == Some(container));
    named.is_some_and(|c| list(c, "portMappings").iter().any(|p| number(p, "containerPort") == Some(port)))
}

/// An address as a task's network interface has one.
pub(super) fn ip() -> String {
    let part = || fastrand::u8(1..=254);
    format!("10.{}.{}.{}", part(), part(), part())
}

/// A new task's id and ARN.
pub(super) fn new_id(world: &World, cluster: &str) -> (String, String) {
    let id = names::id();
    let arn = world.arn("ecs", &format!("task/{cluster}/{id}"));
    (id, arn)
}
