//! A world to try a driver in: the in-memory provider, a store in memory and a clock that only moves when somebody waits.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part, so an expectation would fail in one"
)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use dbird_core::{
    Capabilities, Cloud, Command, Cursor, Document, Documents, Handle, LogPage, LogQuery, Observed, Phase, Preview,
    Progress, Provider, Reason, ReleaseId, Samples, Steer, StepId, StepKind, Target, Window, Work,
    planning::{self, Input},
    provider::Result as Answer,
    rollout::Course,
    spec::{Hook, HookWhen, WeightStep},
};
use dbird_driver::{
    Clock, Ended, Error, Event, Interrupt, Machine, Objects, Operator, Order, Series, Store, StoreError, Who,
};
use dbird_testkit::{
    broken::Fault,
    faulty::Fuse,
    memory::{Behaviour, MemoryProvider, ServiceBody, VirtualClock},
};
use object_store::memory::InMemory;
use serde_json::json;
use tokio::sync::Notify;

/// A driver's clock over the provider's.
pub(crate) struct Time(pub(crate) Arc<VirtualClock>);

#[async_trait]
impl Clock for Time {
    fn boot_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.now_ms()
    }

    async fn sleep(&self, ms: u64) {
        // In small steps, so that of several that sleep the shortest wakes first.
        let until_ms = self.0.now_ms() + ms;
        while self.0.now_ms() < until_ms {
            tokio::task::yield_now().await;
            self.0.advance((until_ms.saturating_sub(self.0.now_ms())).min(50));
        }
    }
}

/// The clock of a laptop that sleeps: nobody wakes up by it until it is opened, while time goes on.
pub(crate) struct Laptop {
    pub(crate) time: Time,
    pub(crate) open: Arc<AtomicBool>,
}

#[async_trait]
impl Clock for Laptop {
    fn boot_ms(&self) -> u64 {
        self.time.boot_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.time.unix_ms()
    }

    async fn sleep(&self, ms: u64) {
        while !self.open.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        self.time.sleep(ms).await;
    }
}

/// A store whose caller may die before or after each write.
pub(crate) struct Fused {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) fuse: Arc<Fuse>,
}

#[async_trait]
impl Store for Fused {
    async fn create(&self, series: Series, number: u64, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.fuse.burn().await;
        let made = self.inner.create(series, number, bytes).await;
        self.fuse.burn().await;
        made
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

/// Everything there is.
pub(crate) struct World {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) provider: Arc<MemoryProvider>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) target: Target,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) interrupt: Interrupt,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(None)
    }

    pub(crate) fn with(fault: Option<Fault>) -> World {
        let clock = Arc::new(VirtualClock::new());
        let provider = match fault {
            Some(fault) => MemoryProvider::broken(clock.clone(), fault),
            None => MemoryProvider::new(clock.clone()),
        };
        World {
            provider: Arc::new(provider),
            clock,
            store: Arc::new(Objects::new(Arc::new(InMemory::new()), "local/bird/dev", "memory:")),
            target: Target { service: "bird".into(), environment: "dev".into() },
            events: Arc::default(),
            interrupt: Interrupt::new(),
        }
    }

    /// An operator on this machine.
    pub(crate) fn operator(&self) -> Operator {
        self.operator_with(self.provider.clone(), self.store.clone())
    }

    pub(crate) fn operator_with(&self, provider: Arc<dyn Provider>, store: Arc<dyn Store>) -> Operator {
        let events = self.events.clone();
        let who =
            Who { actor: "ann@nest".into(), host: "nest".into(), command: "deploy".into(), version: "0.1.0".into() };
        Operator::new(provider, store, self.target.clone(), who)
            .timed_by(Arc::new(Time(self.clock.clone())))
            .interrupted_by(self.interrupt.clone())
            .reporting_to(Arc::new(move |e: &Event| events.lock().unwrap().push(e.clone())))
    }

    pub(crate) async fn observed(&self) -> Observed {
        self.provider.observe(&self.target).await.unwrap()
    }

    /// What serves, with everything else that has tasks: `r1=100 r2=0`.
    pub(crate) async fn live(&self) -> String {
        let observed = self.observed().await;
        observed.releases.iter().map(|r| format!("{}={}", r.id, r.weight)).collect::<Vec<_>>().join(" ")
    }

    pub(crate) async fn order(&self, documents: Documents, reason: Reason, course: &Course) -> Order {
        let observed = self.observed().await;
        let course = (reason != Reason::Destroy).then_some(course);
        let input = Input {
            documents: &documents,
            observed: &observed,
            preview: &Preview::default(),
            image: None,
            reason,
            course,
            copies: 1,
            delete_data: &[],
        };
        let plan = planning::plan(&input).unwrap();
        Order { plan, documents, git_revision: "abc123".into(), no_wait: false }
    }

    /// A deploy as the command line does it.
    pub(crate) async fn deploy(&self, body: ServiceBody, course: &Course) -> Result<Ended, Error> {
        let operator = self.operator();
        operator.recover().await?;
        operator.carry_out(self.order(documents(body), Reason::Deploy, course).await).await
    }

    pub(crate) fn told(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|e| wanted(e)).count()
    }
}

/// A process on this machine that does not run any more.
pub(crate) fn dead() -> Machine {
    Machine { pid: 4_194_000, started_ticks: 1, ..Machine::here() }
}

/// A process that can't be looked up from here.
pub(crate) fn far_away() -> Machine {
    Machine { host: "far".into(), boot: "another boot".into(), pid: 7, started_ticks: 7 }
}

pub(crate) fn body(greeting: &str, behaves: Behaviour) -> ServiceBody {
    ServiceBody { greeting: greeting.into(), behaves, ..ServiceBody::default() }
}

pub(crate) fn documents(body: ServiceBody) -> Documents {
    let document =
        |step: &str, kind, title: &str, body| Document { step: StepId::new(step), kind, title: title.into(), body };
    Documents {
        service: "bird".into(),
        environment: "dev".into(),
        cloud: Cloud::Local,
        steps: vec![
            document("data", StepKind::Data, "data folder /data", json!({ "name": "data" })),
            document("service", StepKind::Service, "service bird", json!(body)),
        ],
    }
}

/// All traffic at once.
pub(crate) fn course() -> Course {
    Course {
        strategy: "blue-green".into(),
        swap: false,
        weights: vec![WeightStep { weight: 100, pause_ms: 0, gate: false }],
        bake_ms: 500,
        deadline_ms: 60_000,
        pause_limit_ms: 60_000,
        hooks: Vec::new(),
        ..Course::default()
    }
}

pub(crate) fn canary() -> Course {
    let step = |weight, pause_ms| WeightStep { weight, pause_ms, gate: false };
    Course { strategy: "canary".into(), weights: vec![step(5, 1_000), step(50, 2_000), step(100, 0)], ..course() }
}

pub(crate) fn hook(when: HookWhen, argv: &[&str]) -> Hook {
    Hook { when, run: argv.iter().map(|a| (*a).to_owned()).collect(), url: None, timeout_ms: 5_000 }
}

pub(crate) const R1: ReleaseId = ReleaseId(1);
pub(crate) const R2: ReleaseId = ReleaseId(2);

/// A provider with something odd about it.
pub(crate) struct Twisted {
    pub(crate) inner: Arc<MemoryProvider>,
    pub(crate) twist: Twist,
}

pub(crate) enum Twist {
    /// Whoever steers falls asleep before the call is sent.
    Sleepy(Arc<Sleepy>),
    /// Once a candidate is ready, its step is not known any more.
    Forgetful(AtomicBool),
}

#[derive(Default)]
pub(crate) struct Sleepy {
    pub(crate) asleep: Notify,
    pub(crate) wake: Notify,
    pub(crate) sent: AtomicUsize,
    pub(crate) steered: Mutex<Option<Handle>>,
}

#[async_trait]
impl Provider for Twisted {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn observe(&self, target: &Target) -> Answer<Observed> {
        self.inner.observe(target).await
    }

    async fn preview(&self, target: &Target, documents: &Documents) -> Answer<Preview> {
        self.inner.preview(target, documents).await
    }

    async fn apply(&self, target: &Target, work: &Work) -> Answer<Handle> {
        self.inner.apply(target, work).await
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Answer<Progress> {
        let progress = self.inner.poll(target, handle).await?;
        if let Twist::Forgetful(forgot) = &self.twist {
            forgot.fetch_or(progress.phase == Phase::Ready, Ordering::SeqCst);
            if forgot.load(Ordering::SeqCst) {
                return self.inner.poll(target, &Handle { token: "nobody".into(), ..handle.clone() }).await;
            }
        }
        Ok(progress)
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Answer<()> {
        if let Twist::Sleepy(sleepy) = &self.twist {
            *sleepy.steered.lock().unwrap() = Some(handle.clone());
            sleepy.asleep.notify_one();
            sleepy.wake.notified().await;
            sleepy.sent.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.steer(target, handle, steer).await
    }

    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Answer<Vec<Samples>> {
        self.inner.sample(target, releases, window).await
    }

    async fn run(&self, target: &Target, command: &Command) -> Answer<Handle> {
        self.inner.run(target, command).await
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Answer<LogPage> {
        self.inner.logs(target, query, cursor).await
    }
}
