//! Does what the engine decides until a service step has ended: steers, looks, runs hooks, waits, and passes on what people
//! ask for. It decides nothing itself.

use dbird_core::{
    Handle, Phase, Progress, ProviderError, ReleaseId, Steer, Weights,
    analysis::{Check, Unclear, Verdict},
    journal::{What, aborted},
    provider::ErrorKind,
    rollout::{Decide, Decision, Event as Happened, Looked, Request, Waiting},
    spec::HookWhen,
};

use crate::{
    Error, Event, Interrupt,
    error::sentence,
    follow::Watched,
    look::Eyes,
    requests::{Asked, Inbox},
    run::{Run, Stay, Verdict as End},
};

impl Run<'_> {
    /// Does what the engine decides until the service step has ended. `first` is what has just happened.
    pub(crate) async fn drive(
        &mut self,
        mut engine: Box<dyn Decide>,
        handle: &Handle,
        first: Happened,
    ) -> Result<End, Error> {
        let clock = self.operator.clock.clone();
        let mut watched = Watched::default();
        let mut eyes = Eyes::of(self);
        let mut inbox = Inbox::open(self.operator.store.clone(), self.begun.release, &self.requests_taken).await?;
        let mut told_undo = false;
        let mut decision = engine.next(clock.boot_ms(), first);
        loop {
            if engine.is_undoing() && !told_undo {
                told_undo = true;
                if let Verdict::Bad(fault) = engine.verdict()
                    && matches!(fault.check, Check::ErrorRate | Check::ErrorRateAgainstCurrent)
                {
                    engine.explain(&eyes.failing(), Vec::new());
                }
                if let Verdict::Unclear(Unclear::NoSource { .. }) = engine.verdict() {
                    engine.explain(eyes.trouble(), Vec::new());
                }
                if watched.goes_back() && engine.logs().is_empty() {
                    let logs = self.last_lines().await;
                    engine.explain("", logs);
                }
                self.operator.report(&Event::RollingBack { why: engine.why().to_owned() });
            }
            let happened = match decision {
                Decision::Done { outcome, why, logs } => {
                    let logs = if logs.is_empty() { engine.logs().to_vec() } else { logs };
                    self.looked = eyes.last();
                    return Ok(End { outcome, why, logs });
                }
                Decision::Steer(steer) => self.steer(&mut *engine, handle, steer, &mut watched).await?,
                Decision::Look { window_ms } => {
                    let found = self.look(&mut eyes, window_ms, handle, &mut watched).await?;
                    let looked = match &found.look {
                        _ if window_ms == 0 => Looked::Opened,
                        Some(look) => Looked::At(look),
                        None => Looked::Unreadable(found.health),
                    };
                    decision = engine.looked(clock.boot_ms(), looked);
                    if window_ms > 0 {
                        self.tell_look(&mut eyes, found.look.as_ref(), engine.verdict(), window_ms, &watched);
                    }
                    continue;
                }
                Decision::RunHook { index } => {
                    decision = self.run_hook(&mut *engine, index, &watched, &mut inbox).await?;
                    continue;
                }
                Decision::Wait { until_ms, waiting_for } => {
                    let holds = waiting_for != Waiting::Provider;
                    if let Some(left) = self.leaves(&*engine, &watched) {
                        return Err(left);
                    } else if self.operator.interrupt.raised() && !self.interrupt_told {
                        self.interrupt_told = true;
                        Happened::Request(Request::Interrupt)
                    } else if let Some((number, asked)) =
                        inbox.next(clock.boot_ms(), holds, !engine.is_ending()).await?
                    {
                        let refused =
                            || Some(format!("{} asked in vain: {}", asked.by, engine.refuses(&asked.request)?));
                        match self.stale(&asked, &watched).or_else(refused) {
                            Some(text) => {
                                self.take_up(number, asked.by, asked.request).await?;
                                self.operator.report(&Event::Warning { text });
                                Happened::Tick
                            }
                            None => self.take_up(number, asked.by, asked.request).await?,
                        }
                    } else if self.stay.no_wait && engine.may_leave() {
                        return Err(Error::Left { release: self.begun.release });
                    } else if let (true, Waiting::Gate { weight }, Some(step)) =
                        (self.stay.no_wait, waiting_for, engine.gate())
                    {
                        self.journal.write(What::Parked { step }).await?;
                        return Err(Error::Parked { release: self.begun.release, weight });
                    } else {
                        self.tell_person(waiting_for, &mut watched);
                        self.wait(handle, &mut watched, until_ms, &waiting_for).await?
                    }
                }
            };
            decision = engine.next(clock.boot_ms(), happened);
        }
    }

    /// Why this command can't stay, where the cloud goes on without it.
    fn leaves(&self, engine: &dyn Decide, watched: &Watched) -> Option<Error> {
        let release = self.begun.release;
        let Stay { only_follows, until_ms, .. } = self.stay;
        let stopped = self.operator.interrupt.raised() && !self.interrupt_told;
        // A bake that nobody can end is not waited for by somebody who has to go.
        let baking = engine.may_leave() && watched.weights().of(release) == 100 && !watched.waits();
        if stopped && (only_follows || baking) {
            return Some(Error::Left { release });
        }
        let started_ms = self.started_boot_ms;
        until_ms
            .filter(|ms| self.operator.clock.boot_ms() >= *ms)
            .map(|ms| Error::Late { what: format!("{release} did not end"), after_ms: ms.saturating_sub(started_ms) })
    }

    /// Why a request has no sense any more: whoever asked saw another weight, and means that one.
    fn stale(&self, asked: &Asked, watched: &Watched) -> Option<String> {
        let now = watched.weights().of(self.begun.release);
        let seen = asked.weight.filter(|seen| asked.request == Request::Promote && *seen != now)?;
        Some(format!("{} asked to go on from {seen} %, which had happened: it is at {now} %", asked.by))
    }

    /// Writes down that a request is taken up; the event that it is.
    pub(crate) async fn take_up(&mut self, number: u64, by: String, request: Request) -> Result<Happened, Error> {
        self.journal.write(What::Requested { number, by: by.clone(), request: request.clone() }).await?;
        self.requests_taken.insert(number);
        self.operator.report(&Event::Requested { by: by.clone(), request: request.clone() });
        Ok(Happened::Request(match request {
            Request::Abort { why } => Request::Abort { why: aborted(&by, &why) },
            other => other,
        }))
    }

    async fn steer(
        &mut self,
        engine: &mut dyn Decide,
        handle: &Handle,
        steer: Steer,
        watched: &mut Watched,
    ) -> Result<Happened, Error> {
        let undo = matches!(steer, Steer::Stop { .. });
        let (why, logs) = if undo { (engine.why().to_owned(), engine.logs().to_vec()) } else { Default::default() };
        self.journal.write(What::Steering { steer: steer.clone(), why, logs }).await?;
        if let Steer::Shift { weights, .. } = &steer {
            self.operator.report(&Event::Shifting { weights: weights.clone() });
        }
        let (provider, target) = (self.operator.provider.clone(), self.operator.target.clone());
        let mut caller = self.caller();
        match caller.change("steer", || provider.steer(&target, handle, &steer)).await? {
            Ok(()) => {
                watched.idle_ms = 0;
                // What it wrote last is read once users are safe.
                if undo && engine.logs().is_empty() && matches!(engine.verdict(), Verdict::Bad(_)) {
                    let logs = self.last_lines().await;
                    engine.explain("", logs);
                }
                Ok(Happened::Tick)
            }
            Err(e) if e.retry => Err(self.unfinished(e)),
            Err(e) => self.refused(handle, e).await,
        }
    }

    /// Runs a hook; what comes next. Whoever aborts meanwhile does not wait for its end.
    async fn run_hook(
        &mut self,
        engine: &mut dyn Decide,
        index: usize,
        watched: &Watched,
        inbox: &mut Inbox,
    ) -> Result<Decision, Error> {
        let clock = self.operator.clock.clone();
        let hook = self.begun.plan.course.as_ref().and_then(|c| c.hooks.get(index));
        let in_parent = hook.is_some_and(|h| h.when == HookWhen::Rollback);
        let warns = hook.is_some_and(|h| matches!(h.when, HookWhen::After | HookWhen::Rollback));
        let release = self.begun.plan.parent.filter(|_| in_parent).unwrap_or(self.begun.release);
        let weight = watched.weights().of(self.begun.release);
        let (failure, aborts) = if warns {
            (self.hook(index, release, weight, &Interrupt::new()).await?, None)
        } else {
            self.abortable_hook(index, release, weight, inbox).await?
        };
        if let (true, Some(why)) = (warns, &failure) {
            self.operator.report(&Event::Warning { text: why.clone() });
        }
        let now_ms = clock.boot_ms();
        if let Some((number, asked)) = aborts {
            let happened = self.take_up(number, asked.by, asked.request).await?;
            return Ok(engine.next(now_ms, happened));
        }
        if self.operator.interrupt.raised() && !self.interrupt_told {
            self.interrupt_told = true;
            let decision = engine.next(now_ms, Happened::Request(Request::Interrupt));
            if engine.is_undoing() {
                return Ok(decision);
            }
        }
        Ok(engine.next(now_ms, Happened::HookEnded { index, failure }))
    }

    /// Runs a hook, and stops it when somebody aborts: why it failed, and who aborted.
    async fn abortable_hook(
        &mut self,
        index: usize,
        release: ReleaseId,
        weight: u8,
        inbox: &mut Inbox,
    ) -> Result<(Option<String>, Option<(u64, Asked)>), Error> {
        let clock = self.operator.clock.clone();
        let (stop, mut aborts) = (Interrupt::new(), None);
        let running = self.hook(index, release, weight, &stop);
        tokio::pin!(running);
        loop {
            tokio::select! {
                biased;
                failure = &mut running => return Ok((failure?, aborts)),
                found = inbox.abort(&*clock), if aborts.is_none() => {
                    aborts = Some(found?);
                    stop.raise();
                }
            }
        }
    }

    /// Runs the hooks before a release, in what serves; why it is not begun.
    pub(crate) async fn hooks_before(&mut self, serving: ReleaseId) -> Result<Option<String>, Error> {
        let Some(course) = &self.begun.plan.course else { return Ok(None) };
        let hooks = course.hooks_at(HookWhen::Before);
        if hooks.is_empty() {
            return Ok(None);
        }
        let mut inbox = Inbox::open(self.operator.store.clone(), self.begun.release, &self.requests_taken).await?;
        for index in hooks {
            let (failure, aborts) = self.abortable_hook(index, serving, 0, &mut inbox).await?;
            if let Some((number, asked)) = aborts {
                return match self.take_up(number, asked.by, asked.request).await? {
                    Happened::Request(Request::Abort { why }) => Ok(Some(why)),
                    _ => Ok(failure),
                };
            }
            if failure.is_some() {
                return Ok(failure);
            }
        }
        Ok(None)
    }

    async fn wait(
        &mut self,
        handle: &Handle,
        watched: &mut Watched,
        until_ms: Option<u64>,
        waiting_for: &Waiting,
    ) -> Result<Happened, Error> {
        match self.poll(handle, watched, until_ms, true).await? {
            None => Ok(Happened::Tick),
            Some(Ok(progress)) => {
                let text = match waiting_for {
                    Waiting::Provider => progress.waiting_for.clone(),
                    other => other.to_string(),
                };
                self.say_waiting(&handle.step, &text, &progress.weights, watched);
                Ok(Happened::Progress(progress))
            }
            Some(Err(e)) if e.retry => Err(self.unfinished(e)),
            Some(Err(e)) => self.refused(handle, e).await,
        }
    }

    /// Says once, each time that a person is needed, what to type.
    fn tell_person(&mut self, waiting_for: Waiting, watched: &mut Watched) {
        let kind = waiting_for.for_a_person().then(|| std::mem::discriminant(&waiting_for));
        if kind.is_some() && watched.person != kind {
            let limit_ms = self.begun.plan.course.as_ref().map_or(0, |c| c.pause_limit_ms);
            self.operator.report(&Event::PersonNeeded {
                release: self.begun.release,
                waiting_for: waiting_for.to_string(),
                resumes: matches!(waiting_for, Waiting::Resume { .. }),
                undone_in_ms: limit_ms,
            });
        }
        watched.person = kind;
    }

    /// What an error that repeating does not help means for a service step. One that the provider does not know any more is
    /// looked for in what is live.
    async fn refused(&mut self, handle: &Handle, e: ProviderError) -> Result<Happened, Error> {
        let why = sentence(&e);
        let mut phase = Phase::Failed { why, logs: Vec::new() };
        let mut weights = Weights::default();
        if e.kind == ErrorKind::NotFound {
            let live = self.live().await?;
            let (candidate, parent) = (self.begun.release, self.begun.plan.parent);
            weights = Weights(live.iter().filter(|r| r.weight > 0).map(|r| (r.id, r.weight)).collect());
            if live.iter().all(|r| r.id != candidate) && parent.is_none_or(|p| weights.of(p) == 100) {
                phase = Phase::RolledBack;
            } else if weights.of(candidate) == 100 && live.len() == 1 {
                phase = Phase::Finished;
            }
        }
        self.error = Some(e);
        tracing::debug!(step = %handle.step, ?phase, "the provider refused");
        Ok(Happened::Progress(Progress { weights, ..Progress::in_phase(phase) }))
    }
}
