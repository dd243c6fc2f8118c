//! Carries out one plan: its steps in order, each written down before and after, and a record at the end.

use std::collections::{BTreeMap, BTreeSet};

use dbird_core::{
    Action, Digest, Document, Handle, Outcome, Outputs, ProviderError, Reason, Release, ReleaseId, Start, Step, StepId,
    StepKind, Work,
    document::{REFERENCE_KEY, fill},
    journal::{Begun, Unfinished, What},
    release::RELEASE_FORMAT,
    release::{CHANGES_MAX, LastLook},
    rollout::{Engine, Event as Happened},
    snapshot::Snapshot,
    spec::HookWhen,
};
use serde_json::Value;

use crate::{
    Ended, Error, Event, Operator, Order, call::Caller, error::sentence, history, journal::Journal, lease::Lease,
    operator::exit_code,
};

/// How a plan ended.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) why: String,
    pub(crate) logs: Vec<String>,
}

/// How long a command stays with a rollout.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stay {
    /// At a gate it leaves, and where the cloud goes on alone.
    pub(crate) no_wait: bool,
    /// It only goes with a cloud that drives: a person who stops it does not mean the rollout, ...
    pub(crate) only_follows: bool,
    /// ... and by then it leaves.
    pub(crate) until_ms: Option<u64>,
}

/// A plan under way.
pub(crate) struct Run<'a> {
    pub(crate) operator: &'a Operator,
    pub(crate) lease: Lease,
    pub(crate) journal: Journal,
    pub(crate) begun: Begun,
    pub(crate) started_boot_ms: u64,
    pub(crate) outputs: Outputs,
    pub(crate) done: Vec<(StepId, u64)>,
    pub(crate) endpoints: BTreeMap<String, String>,
    pub(crate) error: Option<ProviderError>,
    pub(crate) interrupt_told: bool,
    /// What is to be said of a success.
    pub(crate) remark: String,
    /// When it leaves instead of waiting.
    pub(crate) stay: Stay,
    pub(crate) requests_taken: BTreeSet<u64>,
    pub(crate) looked: Option<LastLook>,
    pub(crate) snapshot: Option<Snapshot>,
    /// The place that a copy was begun at.
    pub(crate) copying: Option<String>,
}

impl<'a> Run<'a> {
    /// Begins a plan: looks whether it still stands, and writes down that it begins.
    pub(crate) async fn begin(
        operator: &'a Operator,
        mut lease: Lease,
        mut journal: Journal,
        order: Order,
    ) -> Result<Run<'a>, (Lease, Error)> {
        let checked = Self::check(operator, &mut lease, &mut journal, &order).await;
        let release = match checked {
            Ok(release) => release,
            Err(e) => return Err((lease, e)),
        };
        let stay = Stay { no_wait: order.no_wait, ..Stay::default() };
        let begun = Begun {
            release,
            plan_digest: order.plan.digest(),
            plan: order.plan,
            documents: order.documents,
            actor: operator.who.actor.clone(),
            git_revision: order.git_revision,
            started_unix_ms: operator.clock.unix_ms(),
        };
        if let Err(e) = journal.write(What::Begin(Box::new(begun.clone()))).await {
            return Err((lease, e));
        }
        operator.report(&Event::Started { release, reason: begun.plan.reason.clone(), parent: begun.plan.parent });
        Ok(Run { stay, ..Run::go_on(operator, lease, journal, begun) })
    }

    /// A plan that was begun before.
    pub(crate) fn go_on(operator: &'a Operator, lease: Lease, journal: Journal, begun: Begun) -> Run<'a> {
        Run {
            operator,
            lease,
            journal,
            begun,
            started_boot_ms: operator.clock.boot_ms(),
            outputs: Outputs::default(),
            done: Vec::new(),
            endpoints: BTreeMap::new(),
            error: None,
            interrupt_told: false,
            remark: String::new(),
            stay: Stay::default(),
            requests_taken: BTreeSet::new(),
            looked: None,
            snapshot: None,
            copying: None,
        }
    }

    /// A plan that somebody else began, as far as the journal says that it came.
    pub(crate) fn taking_over(operator: &'a Operator, lease: Lease, journal: Journal, found: &Unfinished) -> Run<'a> {
        let acts = |id: &StepId| found.begun.plan.steps.iter().any(|s| s.id == *id && s.action.acts());
        Run {
            outputs: found.outputs.clone(),
            done: found.done.iter().filter(|(id, _)| acts(id)).cloned().collect(),
            requests_taken: found.requests_taken.clone(),
            snapshot: found.snapshot.clone(),
            copying: found.copying.clone(),
            ..Run::go_on(operator, lease, journal, found.begun.clone())
        }
    }

    /// Goes on after a service step that somebody else began has ended: with the steps that are left, if it ended well.
    pub(crate) async fn after_service(&mut self, step: &Step, verdict: Verdict) -> Result<Verdict, Error> {
        if verdict.outcome != Outcome::Succeeded {
            return Ok(verdict);
        }
        self.remark = verdict.why;
        self.step_done(step, BTreeMap::new(), 0).await?;
        self.steps().await
    }

    async fn check(
        operator: &Operator,
        lease: &mut Lease,
        journal: &mut Journal,
        order: &Order,
    ) -> Result<ReleaseId, Error> {
        if order.documents.digest() != order.plan.documents {
            return Err(Error::Order("its documents are not those that it was made from"));
        }
        if order.plan.is_empty() {
            return Err(Error::Order("it has nothing to do"));
        }
        if lease.overtaken {
            journal.write(What::TakenOver { by: operator.who.actor.clone() }).await?;
            lease.let_the_other_end().await?;
        }
        let (provider, target) = (&operator.provider, &operator.target);
        let cloud = provider.capabilities().cloud;
        let mut caller = Caller { clock: &*operator.clock, cloud, lease: Some(lease) };
        let observed = caller.ask("observe", || provider.observe(target)).await?.map_err(Error::from)?;
        let serves = observed.current().map(|r| r.id);
        if serves != order.plan.parent {
            let name = |r: Option<ReleaseId>| r.map_or_else(|| "nothing".to_owned(), |r| r.to_string());
            let what = format!("it was made while {} served, now {} serves", name(order.plan.parent), name(serves));
            return Err(Error::Moved { what });
        }
        if observed.digest() != order.plan.observed {
            return Err(Error::Moved { what: "the documents or weights that are live have changed since".to_owned() });
        }
        if operator.interrupt.raised() {
            return Err(Error::Interrupted);
        }
        let highest = observed.releases.iter().map(|r| r.id).chain(observed.last).max().map_or(0, |r| r.0);
        // Read, not only counted: nothing is written after a record that a newer dbird wrote.
        let last = history::last(&*operator.store, 1).await?.pop().map_or(0, |r| r.id.0);
        Ok(ReleaseId(highest.max(last) + 1))
    }

    /// Carries it out from its start.
    pub(crate) async fn carry_out(&mut self) -> Result<Verdict, Error> {
        if self.begun.plan.reason != Reason::Destroy {
            match self.begun.plan.parent {
                Some(parent) => {
                    if let Some(why) = self.hooks_before(parent).await? {
                        return Ok(self.undone(why, Vec::new()));
                    }
                    if let Some(why) = self.copy_data(parent).await? {
                        return Ok(self.undone(why, Vec::new()));
                    }
                }
                None if self.begun.plan.course.as_ref().is_some_and(|c| !c.hooks_at(HookWhen::Before).is_empty()) => {
                    let text = "nothing serves yet, so the hooks before a release have nothing to run in: left out";
                    self.operator.report(&Event::Note { text: text.to_owned() });
                }
                None => {}
            }
        }
        self.steps().await
    }

    /// Carries out the steps that are not done.
    pub(crate) async fn steps(&mut self) -> Result<Verdict, Error> {
        let plan = self.begun.plan.clone();
        let asked_for = self.asked_for();
        for step in &plan.steps {
            let looked_up = !step.action.acts() && asked_for.contains(&step.id);
            if self.done.iter().any(|(done, _)| *done == step.id) || !(step.action.acts() || looked_up) {
                continue;
            }
            if self.operator.interrupt.raised() && !self.past_return() {
                self.interrupt_told = true;
                return Ok(self.undone("interrupted".to_owned(), Vec::new()));
            }
            // A step with nothing to do is asked what it gave when that was, where a later one needs it.
            let action = if looked_up { Action::Adopt } else { step.action };
            if let Some(verdict) = self.step(step, action).await? {
                return Ok(verdict);
            }
        }
        let outcome = if plan.reason == Reason::Destroy { Outcome::Destroyed } else { Outcome::Succeeded };
        Ok(Verdict { outcome, why: self.remark.clone(), logs: Vec::new() })
    }

    /// True once the release serves: from here on the only way is forward.
    fn past_return(&self) -> bool {
        self.begun.service_step().is_some_and(|s| self.done.iter().any(|(done, _)| *done == s.id))
    }

    /// Carries out one step; how everything ended when it failed.
    async fn step(&mut self, step: &Step, action: Action) -> Result<Option<Verdict>, Error> {
        let clock = self.operator.clock.clone();
        let start_ms = clock.boot_ms();
        if step.action.acts() {
            self.operator.report(&Event::StepStarted {
                step: step.id.clone(),
                kind: step.kind,
                title: step.title.clone(),
                action,
            });
        }
        let ended = match self.apply(step, action).await? {
            Err(verdict) => Err(verdict),
            Ok(handle) if makes_release(step) => {
                let course =
                    self.begun.plan.course.clone().ok_or(Error::Order("it makes a release without a course"))?;
                let engine = Engine::new(course, self.begun.release, self.begun.plan.parent, clock.boot_ms());
                let engine = self.operator.decider(engine);
                let verdict = self.drive(engine, &handle, Happened::Tick).await?;
                if verdict.outcome == Outcome::Succeeded {
                    self.remark = verdict.why;
                    Ok(BTreeMap::new())
                } else {
                    Err(verdict)
                }
            }
            Ok(handle) => self.follow(&handle).await?.map(|progress| progress.outputs),
        };
        let took_ms = clock.boot_ms().saturating_sub(start_ms);
        match ended {
            Ok(outputs) => {
                self.step_done(step, outputs, took_ms).await?;
                Ok(None)
            }
            Err(verdict) => {
                self.done.push((step.id.clone(), took_ms));
                self.operator.report(&Event::StepFailed {
                    step: step.id.clone(),
                    why: verdict.why.clone(),
                    logs: verdict.logs.clone(),
                    took_ms,
                });
                Ok(Some(verdict))
            }
        }
    }

    pub(crate) async fn step_done(
        &mut self,
        step: &Step,
        outputs: BTreeMap<String, Value>,
        took_ms: u64,
    ) -> Result<(), Error> {
        self.outputs.insert(step.id.clone(), outputs.clone());
        self.journal.write(What::Done { step: step.id.clone(), outputs, took_ms }).await?;
        if step.action.acts() {
            self.done.push((step.id.clone(), took_ms));
            self.operator.report(&Event::StepFinished { step: step.id.clone(), took_ms });
        }
        Ok(())
    }

    /// Asks the provider for a step, written down before and after; one that has nothing to do is only asked what it gave. A
    /// provider that refuses has made nothing.
    pub(crate) async fn apply(&mut self, step: &Step, action: Action) -> Result<Result<Handle, Verdict>, Error> {
        let body = match self.body(step, action) {
            Ok(body) => body,
            Err(why) => return Ok(Err(self.undone(why, Vec::new()))),
        };
        let acts = step.action.acts();
        if acts {
            self.journal.write(What::Intent { step: step.id.clone(), body: Digest::of_json(&body) }).await?;
        }
        match self.ask_for(step, action, body).await? {
            Ok(handle) => {
                if acts {
                    self.journal.write(What::Applied { handle: handle.clone() }).await?;
                }
                Ok(Ok(handle))
            }
            Err(e) if e.retry => Err(self.unfinished(e)),
            Err(e) => {
                let why = sentence(&e);
                self.error = Some(e);
                Ok(Err(self.undone(why, Vec::new())))
            }
        }
    }

    /// The call alone.
    pub(crate) async fn ask_for(
        &mut self,
        step: &Step,
        action: Action,
        body: Value,
    ) -> Result<Result<Handle, ProviderError>, Error> {
        let work = Work {
            step: step.id.clone(),
            kind: step.kind,
            action,
            release: self.begun.release,
            document: step.document.clone(),
            body,
            start: match &self.begun.plan.course {
                Some(course) if makes_release(step) => course.start(self.begun.plan.parent),
                _ => Start::All,
            },
        };
        let (provider, target) = (self.operator.provider.clone(), self.operator.target.clone());
        self.caller().change("apply", || provider.apply(&target, &work)).await
    }

    /// The document with its references filled; null for a removal.
    pub(crate) fn body(&self, step: &Step, action: Action) -> Result<Value, String> {
        let document: Option<&Document> = self.begun.documents.get(&step.id);
        match document {
            _ if action == Action::Delete => Ok(Value::Null),
            Some(document) => fill(&document.body, &self.outputs).map_err(|e| format!("{}: {e}", step.id)),
            None => Err(format!("{} has no document", step.id)),
        }
    }

    /// The steps whose outputs an acting step's document asks for.
    fn asked_for(&self) -> BTreeSet<StepId> {
        let mut steps = BTreeSet::new();
        for step in self.begun.plan.steps.iter().filter(|s| s.action.acts() && s.action != Action::Delete) {
            if let Some(document) = self.begun.documents.get(&step.id) {
                references(&document.body, &mut steps);
            }
        }
        steps
    }

    /// Writes the record, then that it ended.
    pub(crate) async fn end(&mut self, verdict: Verdict) -> Result<Ended, Error> {
        let Verdict { outcome, why, logs } = verdict;
        let began_here = self.operator.clock.boot_ms().saturating_sub(self.started_boot_ms);
        let begun = &self.begun;
        let release = Release {
            format: RELEASE_FORMAT,
            id: begun.release,
            service: begun.plan.service.clone(),
            environment: begun.plan.environment.clone(),
            cloud: begun.plan.cloud,
            parent: begun.plan.parent,
            reason: begun.plan.reason.clone(),
            digest: begun.plan.documents.clone(),
            documents: begun.documents.clone(),
            image: begun.plan.image.clone(),
            actor: begun.actor.clone(),
            git_revision: begun.git_revision.clone(),
            outcome,
            why,
            started_unix_ms: begun.started_unix_ms,
            took_ms: began_here,
            step_ms: self.done.clone(),
            changes: begun.plan.steps.iter().flat_map(|s| s.changes.clone()).take(CHANGES_MAX).collect(),
            looked: self.looked.clone(),
            snapshot: self.snapshot.clone(),
            copy_lost: self.copying.clone(),
        };
        // The record counts as an act: whoever was overtaken writes none.
        self.lease.renew().await?;
        history::write(&*self.operator.store, &release).await?;
        self.close(release, logs).await
    }

    /// Writes that it ended, for a record that is there.
    pub(crate) async fn close(&mut self, release: Release, logs: Vec<String>) -> Result<Ended, Error> {
        self.journal.write(What::End { release: release.id, outcome: release.outcome }).await?;
        let made = self.begun.service_step().is_some();
        let live = match release.outcome {
            Outcome::Succeeded if made => Some(release.id),
            Outcome::Succeeded | Outcome::RolledBack => release.parent,
            Outcome::Removed | Outcome::Destroyed => None,
            Outcome::Failed => {
                let live = self.live().await.unwrap_or_default();
                live.iter().filter(|r| r.weight > 0).max_by_key(|r| (r.weight, r.id)).map(|r| r.id)
            }
        };
        let interrupted = self.interrupt_told && !matches!(release.outcome, Outcome::Succeeded | Outcome::Destroyed);
        let took_ms = self.operator.clock.boot_ms().saturating_sub(self.started_boot_ms);
        self.operator.report(&Event::Finished {
            release: release.id,
            outcome: release.outcome,
            why: release.why.clone(),
            live,
            exit_code: exit_code(release.outcome, interrupted),
            took_ms,
        });
        let (endpoints, error) = (std::mem::take(&mut self.endpoints), self.error.take());
        Ok(Ended { release, interrupted, logs, live, endpoints, error })
    }
}

/// True for a step that makes a candidate, which the engine follows.
pub(crate) fn makes_release(step: &Step) -> bool {
    step.kind == StepKind::Service && step.action != Action::Delete
}

fn references(body: &Value, steps: &mut BTreeSet<StepId>) {
    match body {
        Value::Object(map) => {
            if let Some(step) = map.get(REFERENCE_KEY).and_then(|r| r.get("step")).and_then(Value::as_str) {
                steps.insert(StepId::new(step));
            }
            map.values().for_each(|v| references(v, steps));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, steps)),
        _ => {}
    }
}
