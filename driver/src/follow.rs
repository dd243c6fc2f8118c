//! Follows a step that was started: polls it and tells what happens. What a service step needs beyond that is `drive`'s.

use std::mem::Discriminant;

use dbird_core::{Handle, LiveRelease, Outcome, Phase, Progress, ProviderError, StepId, Weights, rollout::Waiting};

use crate::{
    Error, Event,
    call::{Answer, Caller, within},
    error::sentence,
    run::{Run, Verdict},
};

/// A step that makes no release may take this long where no rollout says otherwise.
const STEP_LIMIT_MS: u64 = 1_800_000;
/// The same thing is said again after this long.
const SAY_AGAIN_MS: u64 = 1_000;
/// A poll that says nothing new and took less than this is followed by a pause.
const QUICK_MS: u64 = 20;
const IDLE_MS: (u64, u64) = (5, 200);

/// What is remembered of a step between polls.
#[derive(Default)]
pub(crate) struct Watched {
    last: Option<Progress>,
    told: usize,
    pub(crate) idle_ms: u64,
    said: Option<(String, u64)>,
    /// What a person was told to be needed for.
    pub(crate) person: Option<Discriminant<Waiting>>,
}

impl Watched {
    /// The traffic, as it was last heard.
    pub(crate) fn weights(&self) -> Weights {
        self.last.as_ref().map(|p| p.weights.clone()).unwrap_or_default()
    }

    /// True where it waits at a gate, as it was last heard.
    pub(crate) fn waits(&self) -> bool {
        self.last.as_ref().is_some_and(|p| !p.gates.is_empty())
    }

    /// True where the cloud was heard to undo it.
    pub(crate) fn goes_back(&self) -> bool {
        self.last.as_ref().is_some_and(|p| matches!(p.phase, Phase::RollingBack | Phase::RolledBack))
    }

    /// Where it answers, as it was last heard.
    pub(crate) fn endpoint(&self, name: &str) -> Option<String> {
        self.last.as_ref().and_then(|p| p.endpoints.get(name).cloned())
    }
}

impl Run<'_> {
    /// Follows a step that makes no release to its end.
    pub(crate) async fn follow(&mut self, handle: &Handle) -> Result<Result<Progress, Verdict>, Error> {
        let clock = self.operator.clock.clone();
        // What the cloud needs for a network has nothing to do with how long a rollout may take.
        let limit_ms = self.begun.plan.course.as_ref().map_or(0, |c| c.deadline_ms).max(STEP_LIMIT_MS);
        let until_ms = clock.boot_ms().saturating_add(limit_ms);
        let mut watched = Watched::default();
        loop {
            let progress = match self.poll(handle, &mut watched, Some(until_ms), false).await? {
                Some(Ok(progress)) => progress,
                Some(Err(e)) if e.retry => return Err(self.unfinished(e)),
                Some(Err(e)) => {
                    let why = sentence(&e);
                    self.error = Some(e);
                    return Ok(Err(self.undone(why, Vec::new())));
                }
                None => {
                    let waiting_for = watched.last.map(|p| p.waiting_for).unwrap_or_default();
                    let why = format!("{} was not done within {} s: {waiting_for}", handle.step, limit_ms / 1000);
                    return Ok(Err(self.undone(why, Vec::new())));
                }
            };
            match &progress.phase {
                Phase::Finished => return Ok(Ok(progress)),
                Phase::Failed { why, logs } => return Ok(Err(self.undone(why.clone(), logs.clone()))),
                _ => self.say_waiting(&handle.step, &progress.waiting_for, &progress.weights, &mut watched),
            }
        }
    }

    /// Polls once, with a pause before when there was nothing new; none when that time, or an interruption, came first.
    pub(crate) async fn poll(
        &mut self,
        handle: &Handle,
        watched: &mut Watched,
        until_ms: Option<u64>,
        interruptible: bool,
    ) -> Result<Option<Answer<Progress>>, Error> {
        let operator = self.operator;
        let clock = &*operator.clock;
        let until_ms = until_ms.unwrap_or(u64::MAX);
        let stoppable = interruptible && !self.interrupt_told;
        let stop = async { if stoppable { operator.interrupt.wait().await } else { std::future::pending().await } };
        tokio::pin!(stop);
        if watched.idle_ms > 0 {
            let pause_until_ms = clock.boot_ms().saturating_add(watched.idle_ms).min(until_ms);
            if within(clock, pause_until_ms, &mut stop).await.is_some() {
                return Ok(None);
            }
        }
        if clock.boot_ms() >= until_ms {
            return Ok(None);
        }
        let asked_ms = clock.boot_ms();
        let answer = {
            let (provider, target) = (&operator.provider, &operator.target);
            let mut caller = self.caller();
            let polled = caller.ask("poll", || provider.poll(target, handle));
            tokio::pin!(polled);
            let either = futures::future::select(polled, stop);
            match within(clock, until_ms, either).await {
                Some(futures::future::Either::Left((answer, _))) => answer?,
                Some(futures::future::Either::Right(_)) | None => return Ok(None),
            }
        };
        if let Ok(progress) = &answer {
            let changed = self.tell(&handle.step, progress, watched);
            let quick = clock.boot_ms().saturating_sub(asked_ms) < QUICK_MS;
            watched.idle_ms = match (changed, quick) {
                (true, _) | (_, false) => 0,
                (false, true) => (watched.idle_ms * 2).clamp(IDLE_MS.0, IDLE_MS.1),
            };
            watched.last = Some(progress.clone());
        }
        Ok(Some(answer))
    }

    /// Tells what is new; true when there was something.
    fn tell(&mut self, step: &StepId, progress: &Progress, watched: &mut Watched) -> bool {
        for event in progress.events.iter().skip(watched.told) {
            self.operator.report(&Event::Happened {
                step: step.clone(),
                at_unix_ms: event.at_unix_ms,
                text: event.text.clone(),
            });
        }
        watched.told = watched.told.max(progress.events.len());
        let before = watched.last.as_ref().map(|p| &p.weights);
        if !progress.weights.0.is_empty() && before != Some(&progress.weights) && progress.phase != Phase::Working {
            self.operator.report(&Event::Shifted { weights: progress.weights.clone() });
        }
        if !progress.endpoints.is_empty() {
            self.endpoints.clone_from(&progress.endpoints);
        }
        watched.last.as_ref() != Some(progress)
    }

    pub(crate) fn say_waiting(&mut self, step: &StepId, waiting_for: &str, weights: &Weights, watched: &mut Watched) {
        let now_ms = self.operator.clock.boot_ms();
        let said = watched.said.as_ref();
        if said.is_some_and(|(text, at_ms)| text == waiting_for && now_ms.saturating_sub(*at_ms) < SAY_AGAIN_MS) {
            return;
        }
        watched.said = Some((waiting_for.to_owned(), now_ms));
        self.operator.report(&Event::Waiting {
            step: Some(step.clone()),
            waiting_for: waiting_for.to_owned(),
            weights: weights.clone(),
            elapsed_ms: now_ms.saturating_sub(self.started_boot_ms),
        });
    }

    /// The releases that have tasks.
    pub(crate) async fn live(&mut self) -> Result<Vec<LiveRelease>, Error> {
        let (provider, target) = (self.operator.provider.clone(), self.operator.target.clone());
        match self.caller().ask("observe", || provider.observe(&target)).await? {
            Ok(observed) => Ok(observed.releases),
            Err(e) => Err(self.unfinished(e)),
        }
    }

    pub(crate) fn caller(&mut self) -> Caller<'_> {
        Caller { clock: &*self.operator.clock, cloud: self.begun.plan.cloud, lease: Some(&mut self.lease) }
    }

    pub(crate) fn unfinished(&self, e: ProviderError) -> Error {
        Error::Unfinished {
            release: self.begun.release,
            why: format!("the cloud does not answer ({})", sentence(&e)),
            cause: Some(Box::new(e)),
        }
    }

    /// The end of a plan that failed before its release had all traffic.
    pub(crate) fn undone(&self, why: String, logs: Vec<String>) -> Verdict {
        let destroying = self.begun.plan.reason == dbird_core::Reason::Destroy;
        let outcome = match self.begun.plan.parent {
            _ if destroying => Outcome::Failed,
            Some(_) => Outcome::RolledBack,
            None => Outcome::Removed,
        };
        Verdict { outcome, why, logs }
    }
}
