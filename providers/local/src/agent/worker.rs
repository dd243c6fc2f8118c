//! The agent's main process: takes over what an earlier one left, serves doors and socket, and goes when it is told to. It
//! decides what is started again after a crash; everything else is decided by the parts that it starts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use dataplane::files;
use dataplane::proxy::HoldLimits;
use dataplane::supervise::Slot;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::channel::{Channel, Word};
use super::control::{self, Order, SOCKET_NAME};
use super::doors::Doors;
use super::keeper::Keeper;
use super::releases::EVICTION;
use super::state::{Stage, State};
use super::{Options, course, lock, log, sampling, steps, targets, watchdog};
use crate::config::Paths;

/// An earlier agent's lock is gone by then, if it is.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// An agent with nothing to look after goes after this long.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// A watchdog that can't be started is tried this often.
const WATCHDOG_EVERY: Duration = Duration::from_millis(500);
/// A rollout that moves traffic may end before a successor takes over.
const MOVES_MAX: Duration = Duration::from_secs(20);

enum Event {
    Said(Word),
    WatchdogGone,
}

/// Serves until told to end. Returns the exit code.
pub(super) fn run(options: Options) -> u8 {
    match begin(options) {
        Ok(code) => code,
        Err(error) => {
            log(format_args!("the agent can't work: {error}"));
            1
        }
    }
}

fn begin(options: Options) -> io::Result<u8> {
    let channel = Channel::inherited()?;
    let paths = Paths::new(&options.project, &options.environment);
    let Some(lock) = lock_soon(&paths)? else { return Ok(watchdog::BUSY) };
    let mut sockets: BTreeMap<String, OwnedFd> = BTreeMap::new();
    while let Some((word, socket)) = channel.hear()? {
        match (word, socket) {
            (Word::Socket(name), Some(socket)) => drop(sockets.insert(name, socket)),
            (Word::Begin, _) => break,
            _ => {}
        }
    }
    let state = State::load(&paths.state()).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let code = runtime.block_on(Worker::serve(options, state, sockets, channel, lock));
    // What unpacks an image right now may be cut off; it appears whole or not at all.
    runtime.shutdown_background();
    code
}

fn lock_soon(paths: &Paths) -> io::Result<Option<File>> {
    let deadline = std::time::Instant::now() + LOCK_WAIT;
    loop {
        let lock = lock(&paths.folder.join(Paths::WORKER_LOCK))?;
        if lock.is_some() || std::time::Instant::now() > deadline {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Worker {
    keeper: Arc<Keeper>,
    lock: Option<File>,
    events: mpsc::Sender<Event>,
    /// The folder as it was; one of the same name that somebody made later is another.
    folder: File,
    /// A watchdog that this process had to start is its child.
    watchdog: Option<std::process::Child>,
}

impl Worker {
    async fn serve(
        options: Options,
        state: State,
        mut sockets: BTreeMap<String, OwnedFd>,
        channel: Channel,
        lock: File,
    ) -> io::Result<u8> {
        let paths = Paths::new(&options.project, &options.environment);
        let folder = File::open(&paths.folder)?;
        let (events, mut happened) = mpsc::channel(16);
        let control = match sockets.remove(SOCKET_NAME).and_then(|socket| control::inherited(&paths.folder, socket)) {
            Some(listener) => listener,
            None => control::bind(&paths.folder)?,
        };
        control.set_nonblocking(true)?;
        listen(channel.again()?, events.clone())?;
        let _ = channel.say(&Word::Socket(SOCKET_NAME.to_owned()), Some(&OwnedFd::from(control.try_clone()?)));
        let kept = control.try_clone()?;
        let keeper = Keeper::new(options, state, Doors::new(sockets, Some(channel)));
        keeper.lock().watchdog_pid =
            rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        let (orders, mut ordered) = mpsc::channel(4);
        let mut worker = Worker { keeper: Arc::clone(&keeper), lock: Some(lock), events, folder, watchdog: None };
        worker.take_over().await;
        let mut serving = tokio::spawn(control::serve(
            Arc::clone(&keeper),
            tokio::net::UnixListener::from_std(control)?,
            orders.clone(),
        ));
        keeper.doors.lock().await.say(&Word::Up);
        log(format_args!("the agent serves {}", keeper.paths.folder.display()));
        let mut tick = tokio::time::interval(sampling::EVERY);
        let mut rollout_tick = tokio::time::interval(sampling::EVERY_IN_ROLLOUT);
        rollout_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = (keeper.version(), Instant::now());
        let mut leaving = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    if worker.look_around(&mut busy) {
                        return Ok(worker.bye().await);
                    }
                }
                _ = rollout_tick.tick(), if keeper.read(|state| state.rollout.is_some()) => keeper.take_counts(),
                Some(event) = happened.recv() => match event {
                    Event::WatchdogGone => worker.get_watchdog(&kept).await,
                    Event::Said(Word::Leave) if leaving => {
                        keeper.doors.lock().await.leave().await;
                        return Ok(0);
                    }
                    Event::Said(Word::Stay(why)) if leaving => {
                        leaving = false;
                        keeper.note(format!("a newer agent could not take over: {why}"));
                        worker.lock = lock_soon(&keeper.paths)?;
                        if worker.lock.is_none() {
                            return Ok(watchdog::BUSY);
                        }
                        keeper.thaw();
                        worker.take_over().await;
                        let listener = tokio::net::UnixListener::from_std(kept.try_clone()?)?;
                        serving = tokio::spawn(control::serve(Arc::clone(&keeper), listener, orders.clone()));
                    }
                    Event::Said(_) => {}
                },
                Some(order) = ordered.recv() => match order {
                    Order::Shutdown => return Ok(worker.bye().await),
                    Order::HandOver(program) if !leaving => {
                        leaving = true;
                        worker.make_room(&serving, program).await;
                    }
                    Order::HandOver(_) => {}
                },
            }
        }
    }

    /// Takes over what the state and the tasks' folders say.
    async fn take_over(&self) {
        let keeper = &self.keeper;
        let (mut services, runs) = keeper.find_tasks().await;
        for task in runs {
            if task.record().slot.is_none() { keeper.follow(task) } else { keeper.evict(task) }
        }
        let state = keeper.read(Clone::clone);
        let stage = state.rollout.as_ref().map(|rollout| (rollout.release, rollout.stage.clone()));
        let (mut taken, mut missing) = (0, 0);
        // What must not run goes first: another release may have to wait for its end.
        for (release, _) in state.releases.iter().filter(|(_, record)| !record.up) {
            let found = services.remove(&release.to_string()).unwrap_or_default();
            taken += found.len();
            found.into_values().for_each(|task| keeper.evict(task));
        }
        if state.is_cold() {
            keeper.evicted().await;
        }
        for (release, record) in state.releases.iter().filter(|(_, record)| record.up) {
            let found = services.remove(&release.to_string()).unwrap_or_default();
            let moving = match &stage {
                Some((candidate, Stage::RollingBack)) => *release == *candidate || state.takes_turns(),
                Some((_, Stage::Shifting(_))) => state.takes_turns(),
                Some((candidate, Stage::Finishing)) => release != candidate,
                // It has failed for good, and is only waiting to be taken away.
                Some((candidate, Stage::Failed { .. })) => release == candidate && state.weights.of(*release) == 0,
                _ => state.removing,
            };
            taken += found.len();
            if !moving {
                missing += (record.wanted() as usize).saturating_sub(found.len());
            }
            match keeper.raise_with(*release, found, moving).await {
                Ok(()) => {}
                Err(error) => {
                    keeper.note(format!("{release} can't be started again: {}", error.causes.join(": ")));
                    keeper.background(course::raise_later(Arc::clone(keeper), *release));
                }
            }
        }
        for task in services.into_values().flat_map(BTreeMap::into_values) {
            keeper.note(format!("task {} belongs to no release any more and is stopped", task.record().id));
            keeper.evict(task);
        }
        if !state.releases.is_empty() {
            keeper.note(format!("the agent had ended; it was started again, took over {taken} running tasks and started {missing} that were gone"));
        }
        if state.current().is_some() {
            keeper.front.hold(HoldLimits::default());
            let in_swap = matches!(&stage, Some((_, Stage::Shifting(_) | Stage::RollingBack)));
            if !in_swap || !state.takes_turns() {
                keeper.background(course::let_in(Arc::clone(keeper)));
            }
        }
        keeper.publish();
        keeper.background(targets::follow(Arc::clone(keeper)));
        keeper.align_doors().await;
        if state.removing {
            keeper.background(steps::remove(Arc::clone(keeper)));
        } else if let Some((release, _)) = stage {
            keeper.background(course::run(Arc::clone(keeper), release));
        }
    }

    /// Once a second. True when there is no reason to stay.
    fn look_around(&mut self, busy: &mut (u64, Instant)) -> bool {
        let keeper = &self.keeper;
        keeper.take_counts();
        keeper.save_what_is_behind();
        super::trim_log(&keeper.paths.log());
        if let Some(watchdog) = &mut self.watchdog {
            // Only to reap it.
            let _ = watchdog.try_wait();
        }
        if rustix::fs::fstat(&self.folder).is_ok_and(|stat| stat.st_nlink == 0) {
            log(format_args!("the folder of this environment was removed, so everything in it ends"));
            return true;
        }
        if keeper.version() != busy.0 || keeper.read(|state| !state.is_empty()) || !keeper.lock().runs.is_empty() {
            *busy = (keeper.version(), Instant::now());
        }
        busy.1.elapsed() > IDLE_MAX
    }

    /// Ends for good.
    async fn bye(&self) -> u8 {
        let keeper = &self.keeper;
        let releases = keeper.lock().live.keys().copied().collect::<Vec<_>>();
        for release in &releases {
            keeper.each(*release, Slot::stop);
        }
        for release in releases {
            if !keeper.stopped(release, EVICTION).await {
                keeper.each(release, Slot::kill);
                keeper.stopped(release, EVICTION).await;
            }
        }
        let _ = fs::remove_file(keeper.paths.folder.join(Paths::SOCKET));
        let mut doors = keeper.doors.lock().await;
        doors.say(&Word::Bye);
        doors.close_others(&[]);
        // Last, so that nobody writes it again.
        let _ = fs::remove_file(keeper.paths.prometheus());
        log(format_args!("the agent ends"));
        0
    }

    /// Stops deciding anything, so that a successor can; what is served goes on being served.
    async fn make_room(&mut self, serving: &tokio::task::JoinHandle<()>, program: std::path::PathBuf) {
        let keeper = &self.keeper;
        let still = |inner: &super::keeper::Inner| {
            let moving = |stage: &Stage| matches!(stage, Stage::Shifting(_) | Stage::RollingBack | Stage::Finishing);
            (!inner.state.rollout.as_ref().is_some_and(|rollout| moving(&rollout.stage))).then_some(())
        };
        keeper.within(MOVES_MAX, still).await;
        log(format_args!("making room for {}", program.display()));
        serving.abort();
        keeper.freeze();
        keeper.let_go();
        self.lock = None;
        keeper.doors.lock().await.say(&Word::Replace(program));
    }

    /// The watchdog died: starts another one, which is given all sockets.
    async fn get_watchdog(&mut self, control: &std::os::unix::net::UnixListener) {
        let started = watchdog::start_for_this_worker(&self.keeper.options).and_then(|(channel, child)| {
            listen(channel.again()?, self.events.clone())?;
            channel.say(&Word::Socket(SOCKET_NAME.to_owned()), Some(&OwnedFd::from(control.try_clone()?)))?;
            channel.say(&Word::Up, None)?;
            Ok((channel, child))
        });
        match started {
            Ok((channel, child)) => {
                self.keeper.lock().watchdog_pid = Some(child.id());
                self.watchdog = Some(child);
                self.keeper.doors.lock().await.acquaint(channel);
                self.keeper.note("the agent's watchdog had ended and was started again");
            }
            Err(error) => {
                log(format_args!("no watchdog can be started: {error}"));
                self.ask_again();
            }
        }
    }

    fn ask_again(&self) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WATCHDOG_EVERY).await;
            // Nobody listens any more only when this process ends.
            let _ = events.send(Event::WatchdogGone).await;
        });
    }
}

/// Passes on what the watchdog says. One that goes at once is not asked for again at once.
fn listen(channel: Channel, events: mpsc::Sender<Event>) -> io::Result<()> {
    let begun = std::time::Instant::now();
    std::thread::Builder::new().name("ear".to_owned()).stack_size(128 << 10).spawn(move || {
        while let Ok(Some((word, _))) = channel.hear() {
            if events.blocking_send(Event::Said(word)).is_err() {
                return;
            }
        }
        std::thread::sleep(WATCHDOG_EVERY.saturating_sub(begun.elapsed()));
        let _ = events.blocking_send(Event::WatchdogGone);
    })?;
    Ok(())
}

/// Makes sure of the folder and that only its owner may look into it.
pub(crate) fn make_folder(paths: &Paths) -> io::Result<()> {
    files::make_folder(&paths.folder)?;
    fs::set_permissions(&paths.folder, fs::Permissions::from_mode(0o700))?;
    files::make_folder(&paths.tasks())
}
