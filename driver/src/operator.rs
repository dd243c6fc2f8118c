//! Whoever operates one service in one environment: everything that the command line asks of a driver.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use dbird_core::{
    Command, Documents, Observed, Outcome, Phase, Plan, Provider, ProviderError, Reason, Release, ReleaseId, Steer,
    Target,
    provider::ErrorKind,
    rollout::{Decide, Engine},
};

use crate::{
    Clock, Error, Event, Held, Holder, Interrupt, Machine, Reporter, Silent, Store, SystemClock,
    call::Caller,
    history,
    hooks::{TaskOutcome, run_task},
    journal::{self, Journal},
    lease::{self, Lease},
    recover,
    run::{Run, Stay},
};

/// A rollout that the journal knows nothing of may take this long to be undone.
const STRANGER_LIMIT_MS: u64 = 600_000;
/// What was seen so lately need not be asked for again before anything is begun: a plan is checked under the lease.
const SEEN_LATELY_MS: u64 = 1_000;
/// How often `wait` looks.
const WAIT_LOOK_MS: u64 = 200;

/// Who gives a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `user@host`, or what CI says of itself.
    pub actor: String,
    /// The host's name, for people.
    pub host: String,
    /// The command: `deploy`.
    pub command: String,
    /// dbird's version.
    pub version: String,
}

/// A plan to carry out.
#[derive(Debug, Clone)]
pub struct Order {
    /// The plan.
    pub plan: Plan,
    /// The documents that it was made from.
    pub documents: Documents,
    /// The git revision of the project, `-dirty` appended with uncommitted changes; empty outside git.
    pub git_revision: String,
    /// At a gate it is left, and [`Error::Parked`] says so.
    pub no_wait: bool,
}

/// How a plan ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its record.
    pub release: Release,
    /// A person stopped it, and it was undone.
    pub interrupted: bool,
    /// The failing task's last log lines.
    pub logs: Vec<String>,
    /// What serves now.
    pub live: Option<ReleaseId>,
    /// `service` -> URL, `test` -> URL; empty when nothing was made.
    pub endpoints: BTreeMap<String, String>,
    /// The provider's error behind a failure, where there was one.
    pub error: Option<ProviderError>,
}

impl Ended {
    /// The exit code that it means: 0 done, 1 failed, 3 undone, 130 interrupted and undone.
    pub fn exit_code(&self) -> u8 {
        exit_code(self.release.outcome, self.interrupted)
    }
}

pub(crate) fn exit_code(outcome: Outcome, interrupted: bool) -> u8 {
    match outcome {
        Outcome::Succeeded | Outcome::Destroyed => 0,
        _ if interrupted => 130,
        Outcome::RolledBack => 3,
        Outcome::Removed | Outcome::Failed => 1,
    }
}

/// What an earlier command left, and what became of it.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// What was found and done, in a sentence.
    pub text: String,
    /// How it ended.
    pub ended: Ended,
}

/// A plan that has begun and not ended: under way, or left by a command that died.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// The release that it makes.
    pub release: ReleaseId,
    /// Why.
    pub reason: Reason,
    /// Who began it.
    pub actor: String,
    /// When, in Unix milliseconds.
    pub started_unix_ms: u64,
    /// Who is at work; none when nobody is any more.
    pub holder: Option<Held>,
    /// Its share of the traffic at the gate that it was left at.
    pub parked: Option<u8>,
    /// Its cloud drives it, and goes on whether anybody is at work or not.
    pub beside: bool,
}

/// How a one-off task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskEnd {
    /// Its exit code.
    pub exit_code: i32,
}

/// Operates one service in one environment.
pub struct Operator {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) target: Target,
    pub(crate) who: Who,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) interrupt: Interrupt,
    reporter: Arc<dyn Reporter>,
    pub(crate) machine: Machine,
    decides: Arc<Decides>,
    /// What [`Operator::recover`] saw, and when.
    seen: Mutex<Option<(u64, Observed)>>,
    /// The journal's last entry then, where it was an end.
    ended_at: Mutex<Option<u64>>,
}

/// Makes what decides in a rollout.
type Decides = dyn Fn(Engine) -> Box<dyn Decide> + Send + Sync;

impl Operator {
    /// Of this service in this environment.
    pub fn new(provider: Arc<dyn Provider>, store: Arc<dyn Store>, target: Target, who: Who) -> Self {
        let (clock, interrupt, reporter) = (Arc::new(SystemClock), Interrupt::new(), Arc::new(Silent));
        let decides: Arc<Decides> = Arc::new(|engine| Box::new(engine));
        let (machine, seen, ended_at) = (Machine::here(), Mutex::default(), Mutex::default());
        Operator { provider, store, target, who, clock, interrupt, reporter, machine, decides, seen, ended_at }
    }

    /// Tells somebody what happens.
    #[must_use]
    pub fn reporting_to(self, reporter: Arc<dyn Reporter>) -> Self {
        Operator { reporter, ..self }
    }

    /// Can be stopped by a person.
    #[must_use]
    pub fn interrupted_by(self, interrupt: Interrupt) -> Self {
        Operator { interrupt, ..self }
    }

    /// Has another clock than the machine's.
    #[must_use]
    pub fn timed_by(self, clock: Arc<dyn Clock>) -> Self {
        Operator { clock, ..self }
    }

    /// Calls itself another process than this one.
    #[must_use]
    pub fn running_as(self, machine: Machine) -> Self {
        Operator { machine, ..self }
    }

    /// Has something else than the engine decide; for tests that prove that they notice a broken one.
    #[must_use]
    pub fn deciding_by(self, decides: impl Fn(Engine) -> Box<dyn Decide> + Send + Sync + 'static) -> Self {
        Operator { decides: Arc::new(decides), ..self }
    }

    pub(crate) fn decider(&self, engine: Engine) -> Box<dyn Decide> {
        (self.decides)(engine)
    }

    /// The last so many records, oldest first.
    pub async fn history(&self, last: usize) -> Result<Vec<Release>, Error> {
        history::last(&*self.store, last).await
    }

    /// One record.
    pub async fn release(&self, id: ReleaseId) -> Result<Option<Release>, Error> {
        history::get(&*self.store, id).await
    }

    /// Another command that is at work here, or may be.
    pub async fn holder(&self) -> Result<Option<Held>, Error> {
        lease::holder(&*self.store, &self.machine, &*self.clock).await
    }

    /// A plan that has begun and not ended.
    pub async fn unfinished(&self) -> Result<Option<Unfinished>, Error> {
        let Some(found) = journal::tail(&*self.store).await?.1 else { return Ok(None) };
        let parked = found.parked_at();
        let beside = found.goes_on_alone();
        let begun = found.begun;
        Ok(Some(Unfinished {
            release: begun.release,
            reason: begun.plan.reason,
            actor: begun.actor,
            started_unix_ms: begun.started_unix_ms,
            holder: self.holder().await?,
            parked,
            beside,
        }))
    }

    /// Returns once no plan is under way: the release that ended meanwhile, or none when nothing was under way.
    pub async fn wait(&self, timeout_ms: Option<u64>) -> Result<Option<Release>, Error> {
        let until_ms = timeout_ms.map(|t| self.clock.boot_ms().saturating_add(t));
        let mut waited_for = None;
        loop {
            let Some(unfinished) = self.unfinished().await? else {
                return match waited_for {
                    Some(id) => self.release(id).await,
                    None => Ok(None),
                };
            };
            let release = unfinished.release;
            let Some(held) = unfinished.holder else {
                if let Some(weight) = unfinished.parked {
                    return Err(Error::Parked { release, weight });
                }
                if unfinished.beside {
                    match self.follow(until_ms).await? {
                        Some(recovered) => return Ok(Some(recovered.ended.release)),
                        None => continue,
                    }
                }
                let why =
                    "the command that made it died; the next one that changes something goes on with it".to_owned();
                return Err(Error::Unfinished { release, why, cause: None });
            };
            if waited_for.replace(release).is_none() {
                self.report(&Event::Note { text: format!("waiting for {release}: {held}") });
            }
            if self.interrupt.raised() {
                return Err(Error::Interrupted);
            }
            if let (Some(until_ms), Some(after_ms)) = (until_ms, timeout_ms)
                && self.clock.boot_ms() >= until_ms
            {
                return Err(Error::Late { what: format!("{release} did not end"), after_ms });
            }
            self.clock.sleep(WAIT_LOOK_MS).await;
        }
    }

    /// Goes with a rollout that its cloud drives and that was left, without being able to stop it; none when it has ended
    /// or somebody else does.
    async fn follow(&self, until_ms: Option<u64>) -> Result<Option<Recovered>, Error> {
        let lease = self.take_lease().await?;
        let (journal, found) = match self.open_journal(&lease).await {
            Ok(opened) => opened,
            Err(e) => return Err(self.give_back(lease, e).await),
        };
        let Some(found) = found.filter(|found| found.goes_on_alone()) else {
            lease.give_back().await?;
            return Ok(None);
        };
        let stay = Stay { only_follows: true, until_ms, ..Stay::default() };
        let (lease, result) = recover::recover(self, lease, journal, found, stay).await;
        match result {
            Ok(recovered) => {
                lease.give_back().await?;
                Ok(Some(recovered))
            }
            Err(e) => Err(self.give_back(lease, e).await),
        }
    }

    /// Finishes or undoes what an earlier command left when it died. To be called first by every command that changes
    /// something; costs one look when there is nothing to do.
    pub async fn recover(&self) -> Result<Option<Recovered>, Error> {
        if let (last, None) = journal::tail(&*self.store).await? {
            *self.ended_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
            self.undo_strangers().await?;
            return Ok(None);
        }
        let lease = self.take_lease().await?;
        // Whoever held it until now may have finished it.
        let (journal, found) = match self.open_journal(&lease).await {
            Ok(opened) => opened,
            Err(e) => return Err(self.give_back(lease, e).await),
        };
        let Some(found) = found else {
            lease.give_back().await?;
            return Ok(None);
        };
        if let Some(weight) = found.parked_at() {
            let release = found.begun.release;
            return Err(self.give_back(lease, Error::AtGate { release, weight }).await);
        }
        let (lease, result) = recover::recover(self, lease, journal, found, Stay::default()).await;
        match result {
            Ok(recovered) => {
                lease.give_back().await?;
                Ok(Some(recovered))
            }
            Err(e) => Err(self.give_back(lease, e).await),
        }
    }

    /// What is live, to make a plan from: what [`Operator::recover`] has just seen, once, or as it is now.
    pub async fn observe(&self) -> Result<Observed, ProviderError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match seen {
            Some((at_ms, seen)) if self.clock.boot_ms().saturating_sub(at_ms) < SEEN_LATELY_MS => Ok(seen),
            _ => self.provider.observe(&self.target).await,
        }
    }

    /// Undoes a rollout that the cloud knows of and the journal does not: the state it was written to is gone.
    async fn undo_strangers(&self) -> Result<(), Error> {
        let (provider, target) = (&*self.provider, &self.target);
        let cloud = provider.capabilities().cloud;
        let asked_ms = self.clock.boot_ms();
        let look = Caller { clock: &*self.clock, cloud, lease: None }
            .ask("observe", || provider.observe(target))
            .await?
            .map_err(Error::from)?;
        if look.unfinished.is_none() {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked_ms, look));
            return Ok(());
        }
        let mut lease = self.take_lease().await?;
        let undone = self.undo_stranger(&mut lease).await;
        match undone {
            Ok(()) => lease.give_back().await,
            Err(e) => Err(self.give_back(lease, e).await),
        }
    }

    async fn undo_stranger(&self, lease: &mut Lease) -> Result<(), Error> {
        let (provider, target) = (&*self.provider, &self.target);
        let cloud = provider.capabilities().cloud;
        if self.open_journal(lease).await?.1.is_some() {
            return Ok(()); // it belongs to somebody after all
        }
        let mut caller = Caller { clock: &*self.clock, cloud, lease: Some(lease) };
        let observed = caller.ask("observe", || provider.observe(target)).await?.map_err(Error::from)?;
        let Some(handle) = observed.unfinished else { return Ok(()) };
        self.report(&Event::Recovered {
            release: handle.release,
            found: format!(
                "the rollout of {} was left unfinished, and {} knows nothing of it",
                handle.release,
                self.store.place()
            ),
            did: "undoing it".to_owned(),
        });
        let stop = Steer::Stop { roll_back: true };
        caller.change("steer", || provider.steer(target, &handle, &stop)).await?.map_err(Error::from)?;
        let until_ms = self.clock.boot_ms().saturating_add(STRANGER_LIMIT_MS);
        loop {
            match caller.ask("poll", || provider.poll(target, &handle)).await? {
                Ok(progress) if matches!(progress.phase, Phase::RolledBack | Phase::Finished) => return Ok(()),
                Ok(_) if self.clock.boot_ms() < until_ms => self.clock.sleep(WAIT_LOOK_MS).await,
                Ok(_) => {
                    let what = format!("{} was not undone", handle.release);
                    return Err(Error::Late { what, after_ms: STRANGER_LIMIT_MS });
                }
                Err(e) if e.kind == ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Carries out a plan and says how it ended. An error means that nothing was changed, or that the journal says how far it
    /// came: the next [`Operator::recover`] goes on.
    pub async fn carry_out(&self, order: Order) -> Result<Ended, Error> {
        let lease = self.take_lease().await?;
        let journal = match self.open_journal(&lease).await {
            Ok((journal, None)) => journal,
            Ok((_, Some(found))) => {
                let what = format!("{} was begun since, and was left unfinished", found.begun.release);
                return Err(self.give_back(lease, Error::Moved { what }).await);
            }
            Err(e) => return Err(self.give_back(lease, e).await),
        };
        let mut run = match Run::begin(self, lease, journal, order).await {
            Ok(run) => run,
            Err((lease, e)) => return Err(self.give_back(lease, e).await),
        };
        let result = match run.carry_out().await {
            Ok(verdict) => run.end(verdict).await,
            Err(e) => Err(e),
        };
        match result {
            Ok(ended) => {
                run.lease.give_back().await?;
                Ok(ended)
            }
            Err(e) => Err(self.give_back(run.lease, e).await),
        }
    }

    /// Runs a one-off task to its end; its lines are told as events. Needs no lease. A time-out, given here or in the command,
    /// stops it.
    pub async fn run_task(&self, command: Command, timeout_ms: Option<u64>) -> Result<TaskEnd, Error> {
        let command = Command { timeout_ms: timeout_ms.or(command.timeout_ms), ..command };
        match run_task(self, None, &command, &Interrupt::new()).await? {
            TaskOutcome::Exited(exit_code) => Ok(TaskEnd { exit_code }),
            TaskOutcome::Interrupted => Err(Error::Interrupted),
            TaskOutcome::Failed(why, None) => Err(Error::Task(why)),
            TaskOutcome::Failed(_, Some(e)) => Err(e.into()),
        }
    }

    pub(crate) fn report(&self, event: &Event) {
        self.reporter.report(event);
    }

    pub(crate) async fn take_lease(&self) -> Result<Lease, Error> {
        let since_unix_ms = self.clock.unix_ms();
        let holder = Holder {
            actor: self.who.actor.clone(),
            command: self.who.command.clone(),
            run: format!("{}-{:016x}", self.machine.pid, random()),
            machine: self.machine.clone(),
            since_unix_ms,
        };
        let take = Lease::take(self.store.clone(), self.clock.clone(), holder, &*self.reporter);
        tokio::pin!(take);
        let stopped = self.interrupt.wait();
        tokio::pin!(stopped);
        match futures::future::select(take, stopped).await {
            futures::future::Either::Left((lease, _)) => lease,
            futures::future::Either::Right(_) => Err(Error::Interrupted),
        }
    }

    pub(crate) async fn open_journal(
        &self,
        lease: &Lease,
    ) -> Result<(Journal, Option<dbird_core::journal::Unfinished>), Error> {
        let (store, clock, run) = (self.store.clone(), self.clock.clone(), lease.run().to_owned());
        let ended_at = self.ended_at.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ended_at {
            Some(last) => Journal::reopen(store, clock, run, last).await,
            None => Journal::open(store, clock, run).await,
        }
    }

    /// Gives the lease back after an error, which is what counts.
    pub(crate) async fn give_back(&self, lease: Lease, e: Error) -> Error {
        if !matches!(e, Error::Fenced)
            && let Err(also) = lease.give_back().await
        {
            tracing::warn!(error = %also, "the lease could not be given back");
        }
        e
    }
}

/// A number that no other run has, on this machine or another: equal records must come from one run.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
