//! One copy of a service, kept running: started, probed, started again when it dies, stopped when asked. It decides when
//! the copy is ready and how long to wait before the next try; whether it gets traffic is decided elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::port;
use crate::probe::{self, Answer};
use crate::runtime::Runtime;
use crate::shim::{Exit, now_ms};
use crate::task::{self, Record, Task};

pub use crate::copy::{Copy, Health, State, Status};

/// Back-off before the first restart, doubled for each further one ...
pub const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// ... up to this ...
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// ... and forgotten when a task ran this long.
pub const STABLE: Duration = Duration::from_secs(60);
/// Folders of ended tasks that are kept, for their logs.
const ENDED_KEPT: usize = 12;
/// A task that fails its liveness probe is killed this long after it was asked to stop, if its own grace is longer.
const HUNG_GRACE: Duration = Duration::from_secs(5);
/// Nobody is worth a probe every few milliseconds for longer.
const HURRY_MAX: Duration = Duration::from_secs(5);
/// A task that never answered its liveness probe is given this long before that counts as failing.
const START_GRACE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Hurry,
    Stop,
    Kill,
}

/// A copy that is kept running until it is stopped. Dropped, it is left as it is, to be taken over by another.
#[derive(Debug)]
pub struct Slot {
    orders: watch::Sender<Order>,
    status: watch::Receiver<Status>,
    work: JoinHandle<()>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Slot {
    /// Starts a copy, or goes on with a task that was found running. Needs a tokio runtime.
    pub fn start(copy: Copy, found: Option<Task>) -> Slot {
        let (orders, ordered) = watch::channel(Order::Run);
        let state = if found.as_ref().is_some_and(Task::is_stopping) { State::Stopping } else { State::Starting };
        let first = Status {
            state,
            detail: String::new(),
            task: found.as_ref().map(|task| task.record().id.clone()),
            address: found.as_ref().and_then(|task| task.record().address),
            was_ready: false,
            restarts: 0,
            deaths: 0,
            died: None,
            hopeless: None,
            reported: BTreeMap::new(),
        };
        let (status, seen) = watch::channel(first);
        let worker = Worker { copy, orders: ordered, status };
        Slot { orders, status: seen, work: tokio::spawn(worker.run(found)) }
    }

    /// How it is, now and later.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How it is now.
    pub fn now(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Asks it to stop, for good.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Kills it, for good.
    pub fn kill(&self) {
        self.order(Order::Kill);
    }

    /// Every millisecond counts until it is ready: probes it as often as is sensible.
    pub fn hurry(&self) {
        self.order(Order::Hurry);
    }

    fn order(&self, order: Order) {
        self.orders.send_if_modified(|current| {
            let stronger = (order as u8) > (*current as u8);
            if stronger {
                *current = order;
            }
            stronger
        });
    }

    /// Waits until it is [`State::Stopped`].
    pub async fn stopped(&self) {
        // An error means that its work is over, which is as good.
        let _ = self.status.clone().wait_for(|status| status.state == State::Stopped).await;
    }
}

struct Worker {
    copy: Copy,
    orders: watch::Receiver<Order>,
    status: watch::Sender<Status>,
}

/// Consecutive results of one kind of probe.
#[derive(Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    fn note(&mut self, good: bool) {
        (self.good, self.bad) = if good { (self.good + 1, 0) } else { (0, self.bad + 1) };
    }
}

impl Worker {
    async fn run(mut self, mut found: Option<Task>) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let begun = Instant::now();
            let task = match found.take() {
                Some(task) => Ok(task),
                None if self.is_to_stop() => break,
                None => self.begin(),
            };
            match task {
                Ok(task) => {
                    let id = task.record().id.clone();
                    let exit = self.attend(task).await;
                    if self.is_to_stop() {
                        break;
                    }
                    let detail = exit.describe();
                    self.died(detail, Some((id, exit)));
                }
                Err(why) => self.died(why, None),
            }
            if begun.elapsed() >= STABLE {
                back_off = BACK_OFF_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(back_off) => {}
                () = stop_ordered(&mut self.orders) => break,
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
            self.status.send_modify(|status| status.restarts += 1);
        }
        self.status.send_modify(|status| {
            status.state = State::Stopped;
            status.address = None;
            status.detail.clear();
        });
    }

    fn is_to_stop(&self) -> bool {
        matches!(*self.orders.borrow(), Order::Stop | Order::Kill)
    }

    fn died(&self, detail: String, died: Option<(String, Exit)>) {
        self.status.send_modify(|status| {
            status.state = State::BackingOff;
            status.detail = detail;
            status.address = None;
            status.was_ready = false;
            status.deaths += 1;
            status.reported.clear();
            if died.is_some() {
                status.died = died;
            }
        });
    }

    /// Starts the next task.
    fn begin(&self) -> Result<Task, String> {
        let Copy { recipe, group, slot, tasks, program, container_prefix, .. } = &self.copy;
        // Old logs are not worth a failure.
        let _ = task::collect(tasks, ENDED_KEPT);
        let stem = format!("{group}-{slot}.");
        let names = crate::files::names(tasks).map_err(|error| format!("can't read {}: {error}", tasks.display()))?;
        let attempt = 1 + names.iter().filter_map(|name| name.strip_prefix(&stem)?.parse().ok()).max().unwrap_or(0);
        let id = format!("{stem}{attempt}");
        let port = match &recipe.port {
            Some(_) if recipe.has_own_port() => Some(port::free().ok_or("no TCP port is free")?),
            port => port.as_ref().map(|port| port.inside),
        };
        let container = matches!(recipe.runtime, Runtime::Podman { .. }).then(|| format!("{container_prefix}{id}"));
        let launch = recipe.launch(container.as_deref().unwrap_or(&id), port).map_err(|error| {
            self.status.send_modify(|status| status.hopeless = Some(error.to_string()));
            error.to_string()
        })?;
        let address = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let record = Record {
            id: id.clone(),
            group: group.clone(),
            slot: Some(*slot),
            attempt,
            address,
            made_unix_ms: now_ms(),
            container,
        };
        let task = Task::start(tasks, record, &launch, program).map_err(|error| with_causes(&error))?;
        self.status.send_modify(|status| {
            status.state = State::Starting;
            status.detail = "starting".to_owned();
            status.hopeless = None;
            status.task = Some(id);
            status.address = address;
        });
        Ok(task)
    }

    /// Stays with a running task until it has ended, for whatever reason.
    async fn attend(&mut self, mut task: Task) -> Exit {
        let begun = Instant::now();
        let (mut ready, mut live) = (Streak::default(), Streak::default());
        let mut was_alive = false;
        let mut hurried = None;
        let mut kill_at: Option<Instant> = None;
        let Some(address) = task.record().address else { return self.until_ended(task).await };
        loop {
            if self.is_to_stop() || kill_at.is_some() {
                break;
            }
            if *self.orders.borrow() == Order::Hurry {
                hurried.get_or_insert_with(Instant::now);
            }
            let wait = self.pace(begun, hurried);
            let asked = self.copy.health.clone();
            let ask_live = self.status.borrow().was_ready || begun.elapsed() > START_GRACE || was_alive;
            let probes = async {
                tokio::time::sleep(wait).await;
                let ready = probe::ask(address, &asked.ready, asked.timeout);
                if ask_live && asked.live != asked.ready {
                    let (ready, live) = tokio::join!(ready, probe::ask(address, &asked.live, asked.timeout));
                    (ready, Some(live))
                } else {
                    (ready.await, None)
                }
            };
            let mut orders = self.orders.clone();
            orders.mark_unchanged();
            tokio::select! {
                exit = task.ended() => return exit,
                // Stop, or a new pace.
                _ = orders.changed() => {}
                (answer, alive) = probes => {
                    // What answers at all is alive, unless it is asked and says that it isn't.
                    let is_alive = alive.map_or(answer.status.is_some(), |alive| alive.is_good());
                    was_alive |= is_alive;
                    live.note(is_alive);
                    ready.note(answer.is_good());
                    self.answered(answer, &ready);
                    let counts = was_alive || begun.elapsed() > START_GRACE;
                    if counts && live.bad >= self.copy.health.unhealthy_after && self.slow_probes(begun, hurried) {
                        kill_at = Some(Instant::now() + HUNG_GRACE.min(Duration::from_millis(self.copy.recipe.stop_grace_ms)));
                    }
                }
            }
        }
        let Some(kill_at) = kill_at else { return self.until_ended(task).await };
        self.status.send_modify(|status| {
            status.state = State::Unready;
            status.detail = "failed its liveness probe".to_owned();
        });
        task.stop();
        tokio::select! {
            exit = task.ended() => return exit,
            () = tokio::time::sleep_until(kill_at) => task.kill(),
        }
        task.ended().await
    }

    /// Liveness is only judged at the pace that the service's owner chose, not by hasty first probes.
    fn slow_probes(&self, begun: Instant, hurried: Option<Instant>) -> bool {
        self.pace(begun, hurried) >= self.copy.health.interval.min(Duration::from_millis(250))
    }

    /// The time to the next probe: an impatient start, then what was asked for.
    fn pace(&self, begun: Instant, hurried: Option<Instant>) -> Duration {
        let interval = self.copy.health.interval;
        let status = self.status.borrow();
        let hurries = hurried.is_some_and(|since| since.elapsed() < HURRY_MAX);
        let quick = match status.state {
            State::Ready => return interval,
            _ if hurries && !status.was_ready => 4,
            State::Unready => 250,
            State::Waiting => 50,
            _ if begun.elapsed() < Duration::from_secs(5) => 10,
            _ if begun.elapsed() < Duration::from_secs(30) => 50,
            _ => 250,
        };
        interval.min(Duration::from_millis(quick))
    }

    fn answered(&self, answer: Answer, streak: &Streak) {
        let Health { healthy_after, unhealthy_after, .. } = self.copy.health;
        self.status.send_if_modified(|status| {
            let before = (status.state, status.detail.clone());
            let detail = answer.describe();
            if answer.is_good() {
                if status.state != State::Ready && streak.good >= healthy_after {
                    (status.state, status.was_ready) = (State::Ready, true);
                    status.detail.clear();
                }
            } else if status.was_ready {
                if status.state != State::Ready || streak.bad >= unhealthy_after {
                    (status.state, status.detail) = (State::Unready, detail);
                }
            } else {
                status.state = if answer.waiting_for.is_some() { State::Waiting } else { State::Starting };
                status.detail = detail;
            }
            let reported = !answer.reported.is_empty() && status.reported != answer.reported;
            if reported {
                status.reported = answer.reported;
            }
            reported || before != (status.state, status.detail.clone())
        });
    }

    /// Passes on the order to stop and waits for the end. A task without an address is not probed.
    async fn until_ended(&mut self, mut task: Task) -> Exit {
        loop {
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Stop => task.stop(),
                Order::Kill => task.kill(),
                Order::Run | Order::Hurry => {}
            }
            if self.is_to_stop() {
                self.status.send_modify(|status| {
                    status.state = State::Stopping;
                    status.detail = "finishing what it has".to_owned();
                });
            }
            tokio::select! {
                exit = task.ended() => return exit,
                Ok(()) = self.orders.changed() => {}
            }
        }
    }
}

async fn stop_ordered(orders: &mut watch::Receiver<Order>) {
    let stop = orders.wait_for(|order| matches!(order, Order::Stop | Order::Kill)).await.is_ok();
    if !stop {
        // The slot was dropped and this work ends with it.
        std::future::pending().await
    }
}

/// An error and why, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
