//! A wrapper that loses, repeats, delays and refuses calls by seed, and that lets the caller die at a chosen moment. What it
//! does is always something that a real network does.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use dbird_core::{
    Capabilities, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Preview, Progress, Provider,
    ProviderError, ReleaseId, Samples, Steer, Target, Window, Work,
    provider::{ErrorKind, Result},
};
use tokio::sync::Notify;

use crate::memory::VirtualClock;

/// Numbers that depend on the seed alone.
#[derive(Debug)]
pub struct Dice {
    state: Mutex<u64>,
}

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        Dice { state: Mutex::new(seed) }
    }

    /// A number below the bound (0 for 0).
    pub fn below(&self, bound: u64) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // splitmix64
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// Burns down with every call; when it is through, the caller is dead: nothing it waits for ever comes.
#[derive(Debug, Default)]
pub struct Fuse {
    left: AtomicU64,
    blown: AtomicBool,
    told: Notify,
    woken: AtomicBool,
    wakes: Notify,
}

impl Fuse {
    /// A fuse for so many moments; none never blows.
    pub fn new(moments: Option<u64>) -> Arc<Self> {
        Arc::new(Fuse { left: AtomicU64::new(moments.unwrap_or(u64::MAX)), ..Fuse::default() })
    }

    /// One moment passes. Returns only while the caller lives, and is awake.
    pub async fn burn(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 1 {
            self.left.store(1, Ordering::SeqCst);
            self.blown.store(true, Ordering::SeqCst);
            self.told.notify_one();
            while !self.woken.load(Ordering::SeqCst) {
                self.wakes.notified().await;
            }
            self.left.store(u64::MAX, Ordering::SeqCst);
        }
    }

    /// It was not death but sleep: the caller goes on where it was.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.wakes.notify_waiters();
    }

    /// Returns once the caller is dead, which is then to be dropped.
    pub async fn death(&self) {
        if !self.blown.load(Ordering::SeqCst) {
            self.told.notified().await;
        }
    }

    /// True once the caller is dead.
    pub fn blown(&self) -> bool {
        self.blown.load(Ordering::SeqCst)
    }
}

/// How often something goes wrong, in calls of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// The call does not arrive.
    pub lost_call: u64,
    /// It is carried out, and the answer does not arrive.
    pub lost_reply: u64,
    /// It arrives twice.
    pub twice: u64,
    /// It takes its time.
    pub slow: u64,
    /// It is refused for now.
    pub throttled: u64,
    /// It arrives, and later once more.
    pub again_later: u64,
}

/// The most that a slow call takes.
const SLOW_MS: u64 = 3_000;

enum Late {
    Apply(Target, Work),
    Steer(Target, Handle, Steer),
}

/// A provider behind a bad network.
pub struct Faulty<P> {
    inner: Arc<P>,
    dice: Dice,
    rates: Rates,
    clock: Arc<VirtualClock>,
    fuse: Arc<Fuse>,
    late: Mutex<Vec<Late>>,
}

impl<P: Provider> Faulty<P> {
    /// This provider, behind a network that behaves by this seed.
    pub fn new(inner: Arc<P>, clock: Arc<VirtualClock>, seed: u64, rates: Rates, fuse: Arc<Fuse>) -> Self {
        Faulty { inner, dice: Dice::new(seed), rates, clock, fuse, late: Mutex::default() }
    }

    /// Lets every call arrive that is still on its way. Their answers reach nobody.
    pub async fn deliver_late(&self) {
        loop {
            let next = self.late.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match next {
                None => return,
                Some(Late::Apply(target, work)) => drop(self.inner.apply(&target, &work).await),
                Some(Late::Steer(target, handle, steer)) => drop(self.inner.steer(&target, &handle, &steer).await),
            }
        }
    }

    fn happens(&self, rate: u64) -> bool {
        rate > 0 && self.dice.below(1_000) < rate
    }

    fn fails(&self, kind: ErrorKind, why: &str) -> ProviderError {
        ProviderError {
            kind,
            retry: true,
            cloud: self.inner.capabilities().cloud,
            operation: "call".to_owned(),
            object: String::new(),
            causes: vec![why.to_owned()],
            hint: None,
        }
    }

    /// Before a call is carried out.
    async fn before(&self) -> Result<()> {
        self.fuse.burn().await;
        if self.happens(self.rates.slow) {
            self.clock.advance(self.dice.below(SLOW_MS));
        }
        if self.dice.below(4) == 0 && self.happens(self.rates.again_later * 4) {
            self.deliver_late().await;
        }
        if self.happens(self.rates.lost_call) {
            return Err(self.fails(ErrorKind::Unavailable, "the call was lost"));
        }
        if self.happens(self.rates.throttled) {
            return Err(self.fails(ErrorKind::Exhausted, "too many calls"));
        }
        Ok(())
    }

    /// After it was carried out.
    async fn after<T>(&self, answer: Result<T>) -> Result<T> {
        self.fuse.burn().await;
        if self.happens(self.rates.lost_reply) {
            return Err(self.fails(ErrorKind::Unavailable, "the answer was lost"));
        }
        answer
    }

    fn repeats(&self) -> bool {
        self.happens(self.rates.twice)
    }

    fn comes_again(&self, late: impl FnOnce() -> Late) {
        if self.happens(self.rates.again_later) {
            self.late.lock().unwrap_or_else(PoisonError::into_inner).push(late());
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for Faulty<P> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn observe(&self, target: &Target) -> Result<Observed> {
        self.before().await?;
        self.after(self.inner.observe(target).await).await
    }

    async fn preview(&self, target: &Target, documents: &Documents) -> Result<Preview> {
        self.before().await?;
        self.after(self.inner.preview(target, documents).await).await
    }

    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        self.before().await?;
        self.comes_again(|| Late::Apply(target.clone(), work.clone()));
        if self.repeats() {
            drop(self.inner.apply(target, work).await);
        }
        self.after(self.inner.apply(target, work).await).await
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        self.before().await?;
        self.after(self.inner.poll(target, handle).await).await
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        self.before().await?;
        self.comes_again(|| Late::Steer(target.clone(), handle.clone(), steer.clone()));
        if self.repeats() {
            drop(self.inner.steer(target, handle, steer).await);
        }
        self.after(self.inner.steer(target, handle, steer).await).await
    }

    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>> {
        self.before().await?;
        self.after(self.inner.sample(target, releases, window).await).await
    }

    async fn run(&self, target: &Target, command: &Command) -> Result<Handle> {
        self.before().await?;
        if self.repeats() {
            drop(self.inner.run(target, command).await);
        }
        self.after(self.inner.run(target, command).await).await
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        self.before().await?;
        self.after(self.inner.logs(target, query, cursor).await).await
    }
}
