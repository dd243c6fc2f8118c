//! Asking a rollout that is under way: promote, abort, pause, resume. Whoever drives it is asked; where nobody does any more,
//! this command takes the lease and does it itself.

use dbird_core::{
    Reason, ReleaseId,
    journal::{Unfinished, What, aborted},
    provider::ErrorKind,
    rollout::{Course, Engine, Request},
};

use crate::{
    Ended, Error, Event, Held, Operator,
    journal::{self, Journal},
    lease::Lease,
    operator::random,
    recover::{self, course},
    requests::{Inbox, ask},
    run::{Run, Stay},
};

/// Whoever drives reads requests at every poll. After this it is looked whether anybody is there: a hook, or a cloud that does
/// not answer, may keep one from polling.
const TAKEN_WITHIN_MS: u64 = 10_000;
/// Between looks whether it was taken up, doubled each time.
const LOOK_MS: (u64, u64) = (50, 500);

/// What became of a request.
#[derive(Debug)]
pub enum Asked {
    /// Whoever drives the rollout took it up.
    Taken {
        /// The release.
        release: ReleaseId,
        /// Who drives it.
        by: Held,
    },
    /// Somebody drives it, and has not taken it up yet: it is written down, and is heard at the next poll.
    Noted {
        /// The release.
        release: ReleaseId,
        /// Who drives it.
        by: Held,
    },
    /// Nobody drove it: this command did, to this end.
    Ended(Box<Ended>),
}

impl Operator {
    /// Asks for something. `no_wait`: where this command has to drive it, it leaves at the next gate.
    pub async fn ask(&self, request: Request, no_wait: bool) -> Result<Asked, Error> {
        let Some(found) = journal::tail(&*self.store).await?.1 else { return Err(Error::NoRollout) };
        if found.begun.plan.reason == Reason::Drill && request == Request::Promote {
            let why = format!("{} is a drill, with faults on purpose: it never gets more traffic", found.begun.release);
            return Err(Error::Refused(why));
        }
        match self.holder().await? {
            Some(held) => self.ask_holder(&found, request, held, no_wait).await,
            None => self.act(request, no_wait).await,
        }
    }

    async fn ask_holder(
        &self,
        found: &Unfinished,
        request: Request,
        held: Held,
        no_wait: bool,
    ) -> Result<Asked, Error> {
        let run = format!("{}-{:016x}", self.machine.pid, random());
        let release = found.begun.release;
        let about = (release, found.weight);
        let number = ask(&*self.store, &*self.clock, about, request.clone(), &self.who.actor, &run).await?;
        let until_ms = self.clock.boot_ms().saturating_add(TAKEN_WITHIN_MS);
        let mut look_ms = LOOK_MS.0;
        loop {
            let found = journal::tail(&*self.store).await?.1.filter(|f| f.begun.release == release);
            match found {
                // It may have ended just because it heard.
                None if journal::requested(&*self.store, number).await? => {
                    return Ok(Asked::Taken { release, by: held });
                }
                None => return Err(Error::Refused(format!("{release} ended before it could be asked"))),
                Some(found) if found.requests_taken.contains(&number) => return Ok(Asked::Taken { release, by: held }),
                Some(_) if self.holder().await?.is_none() => return Box::pin(self.act(request, no_wait)).await,
                Some(_) if self.clock.boot_ms() >= until_ms => {
                    return match Box::pin(self.act(request, no_wait)).await {
                        Err(Error::Held(by)) => Ok(Asked::Noted { release, by: *by }),
                        other => other,
                    };
                }
                Some(_) if self.interrupt.raised() => return Err(Error::Interrupted),
                Some(_) => {
                    self.clock.sleep(look_ms).await;
                    look_ms = (look_ms * 2).min(LOOK_MS.1);
                }
            }
        }
    }

    /// Nobody drives it: takes the lease and does what was asked.
    async fn act(&self, request: Request, no_wait: bool) -> Result<Asked, Error> {
        let lease = self.take_lease().await?;
        let (journal, found) = match self.open_journal(&lease).await {
            Ok((journal, Some(found))) => (journal, found),
            Ok((_, None)) => return Err(self.give_back(lease, Error::NoRollout).await),
            Err(e) => return Err(self.give_back(lease, e).await),
        };
        let beside = found.begun.plan.course.as_ref().is_some_and(Course::is_cloud_driven);
        let at = found.parked.or_else(|| waited_at(&found).filter(|_| request == Request::Promote));
        // Where the cloud is by now it says itself.
        let at = at.filter(|_| !beside);
        let (lease, result) = match at {
            Some(step) => self.go_on(lease, journal, found, step, request, no_wait).await,
            None => {
                let mut found = found;
                // What died on its way is finished or undone; a wish to undo is heard.
                if let (Request::Abort { why }, None, false) = (&request, &found.undoing, found.finishing) {
                    found.undoing = Some((aborted(&self.who.actor, why), Vec::new()));
                }
                // Whoever goes with its cloud from here hears it as if somebody else had asked.
                if beside && !matches!(request, Request::Abort { .. }) {
                    let run = format!("{}-{:016x}", self.machine.pid, random());
                    let about = (found.begun.release, None);
                    if let Err(e) = ask(&*self.store, &*self.clock, about, request, &self.who.actor, &run).await {
                        return Err(self.give_back(lease, e).await);
                    }
                }
                let stay = Stay { no_wait, ..Stay::default() };
                let (lease, result) = recover::recover(self, lease, journal, found, stay).await;
                (lease, result.map(|r| r.ended))
            }
        };
        match result {
            Ok(ended) => {
                lease.give_back().await?;
                Ok(Asked::Ended(Box::new(ended)))
            }
            Err(e) => Err(self.give_back(lease, e).await),
        }
    }

    async fn go_on(
        &self,
        lease: Lease,
        journal: Journal,
        found: Unfinished,
        step: usize,
        request: Request,
        no_wait: bool,
    ) -> (Lease, Result<Ended, Error>) {
        let stay = Stay { no_wait, ..Stay::default() };
        let mut run = Run { stay, ..Run::taking_over(self, lease, journal, &found) };
        let result = from_gate(&mut run, &found, step, request).await;
        (run.lease, result)
    }
}

/// The gate at which whoever drove it died while it waited, as far as the journal tells.
fn waited_at(found: &Unfinished) -> Option<usize> {
    if found.undoing.is_some() || found.finishing {
        return None;
    }
    let weight = found.weight?;
    let course = found.begun.plan.course.as_ref()?;
    course.weights.iter().position(|w| w.gate && w.weight == weight)
}

async fn from_gate(run: &mut Run<'_>, found: &Unfinished, step: usize, request: Request) -> Result<Ended, Error> {
    let operator = run.operator;
    let (release, parent) = (found.begun.release, found.begun.plan.parent);
    if !matches!(request, Request::Promote | Request::Abort { .. }) {
        let why = format!("{release} waits at a gate and nobody drives it: there is nothing to pause or resume");
        return Err(Error::Refused(why));
    }
    let Some(service) = found.begun.service_step() else {
        return Err(Error::Order("it waits at a gate without a release"));
    };
    let Some(handle) = found.handles.get(&service.id).cloned() else {
        return Err(Error::Order("it waits at a gate and has no handle"));
    };
    let (provider, target) = (operator.provider.clone(), operator.target.clone());
    match run.caller().ask("poll", || provider.poll(&target, &handle)).await? {
        Ok(_) => {}
        Err(e) if e.kind == ErrorKind::NotFound => {
            let why = format!("the cloud does not know {release} any more, while it waited at a gate");
            run.journal.write(What::TakenOver { by: operator.who.actor.clone() }).await?;
            let verdict = run.undone(why, Vec::new());
            return run.end(verdict).await;
        }
        Err(e) => return Err(run.unfinished(e)),
    }
    run.journal.write(What::TakenOver { by: operator.who.actor.clone() }).await?;
    if run.lease.overtaken {
        run.lease.let_the_other_end().await?;
    }
    // Requests that came while nobody drove it are older than this one, and nobody waits for them any more.
    let older = Inbox::open(operator.store.clone(), release, &run.requests_taken).await?;
    run.requests_taken.extend(older.waiting());
    let text = format!("{release} goes on from its gate");
    operator.report(&Event::Note { text });
    let first = run.take_up(0, operator.who.actor.clone(), request).await?;
    let engine = Engine::holding(course(found)?, release, parent, step, operator.clock.boot_ms());
    let verdict = run.drive(operator.decider(engine), &handle, first).await?;
    let verdict = run.after_service(service, verdict).await?;
    run.end(verdict).await
}
