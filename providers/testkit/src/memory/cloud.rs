//! What the in-memory provider holds for one target: documents, data, releases, rollouts, tasks and logs.

use std::collections::BTreeMap;

use dbird_core::{
    Action, Cloud as CloudName, Digest, Handle, LogLine, Observed, Phase, Progress, ProviderError, ReleaseId, Samples,
    Start, StepId, StepKind, Weights, Work,
    provider::{ErrorKind, ProgressEvent},
};
use serde_json::Value;

use super::{
    document::{Behaviour, ServiceBody},
    rollout::Rollout,
    running::Running,
    tasks::Task,
    traffic::Traffic,
};
use crate::broken::Fault;

/// How long a step that makes no release takes.
const STEP_MS: u64 = 40;

/// One target.
#[derive(Debug, Default)]
pub(super) struct Cloud {
    pub(super) fault: Option<Fault>,
    pub(super) documents: BTreeMap<StepId, Value>,
    pub(super) data: BTreeMap<String, String>,
    pub(super) running: BTreeMap<ReleaseId, Running>,
    pub(super) weights: Weights,
    pub(super) traffic: Traffic,
    pub(super) rollouts: BTreeMap<ReleaseId, Rollout>,
    pub(super) operations: BTreeMap<String, Operation>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) logs: Vec<LogLine>,
}

/// A step that makes no release.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) work: Work,
    pub(super) until_ms: u64,
    pub(super) done: bool,
}

pub(super) fn error(kind: ErrorKind, operation: &str, why: String) -> ProviderError {
    ProviderError {
        kind,
        retry: false,
        cloud: CloudName::Local,
        operation: operation.to_owned(),
        object: String::new(),
        causes: vec![why],
        hint: None,
    }
}

impl Cloud {
    /// Lets everything happen that happens by that time.
    pub(super) fn settle(&mut self, now_ms: u64) {
        for token in self.operations.keys().cloned().collect::<Vec<_>>() {
            let Some(operation) = self.operations.get_mut(&token) else { continue };
            if !operation.done && operation.until_ms <= now_ms {
                operation.done = true;
                let work = operation.work.clone();
                self.carry_out(&work, now_ms);
            }
        }
        for id in self.rollouts.keys().copied().collect::<Vec<_>>() {
            if let Some(rollout) = self.rollouts.get(&id).cloned() {
                let rollout = self.advance_rollout(rollout, now_ms);
                self.rollouts.insert(id, rollout);
            }
        }
        self.advance_tasks(now_ms);
    }

    /// When something happens by itself next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let operations = self.operations.values().filter(|o| !o.done).map(|o| o.until_ms);
        let rollouts = self.rollouts.values().filter_map(Rollout::next_ms);
        operations.chain(rollouts).chain(self.tasks.values().filter_map(Task::next_ms)).min()
    }

    pub(super) fn apply(&mut self, work: &Work, now_ms: u64) -> Result<Handle, ProviderError> {
        let token = format!("{}/{}/{:?}", work.release, work.step, work.action);
        let handle = Handle { step: work.step.clone(), release: work.release, token };
        match work.action {
            Action::None | Action::Keep => {
                return Err(error(ErrorKind::Invalid, "apply", format!("{} has nothing to do", work.step)));
            }
            Action::Delete => {}
            _ if work.kind == StepKind::Service => return self.candidate(work, handle, now_ms),
            _ => {}
        }
        self.operations.entry(handle.token.clone()).or_insert_with(|| Operation {
            work: work.clone(),
            until_ms: now_ms + STEP_MS,
            done: false,
        });
        Ok(handle)
    }

    fn candidate(&mut self, work: &Work, handle: Handle, now_ms: u64) -> Result<Handle, ProviderError> {
        if self.rollouts.contains_key(&work.release) {
            if self.fault == Some(Fault::AppliesAgain)
                && let Some(running) = self.running.get_mut(&work.release)
            {
                running.copies.extend(running.copies.first().copied());
            }
            return Ok(handle);
        }
        let conflict = |why: String| Err(error(ErrorKind::Conflict, "apply", why));
        if let Some(other) = self.rollouts.values().find(|r| !r.ended()) {
            return conflict(format!("the rollout of {} is under way", other.handle.release));
        }
        // A request that was overtaken on its way: what it would replace is not what was planned over.
        if let Some((newer, _)) = self.rollouts.last_key_value().filter(|(id, _)| **id > work.release) {
            return conflict(format!("{newer} was made since"));
        }
        let body: ServiceBody = serde_json::from_value(work.body.clone())
            .map_err(|e| error(ErrorKind::Invalid, "apply", format!("the service document is wrong: {e}")))?;
        if body.behaves == Behaviour::Refused {
            return Err(error(ErrorKind::Invalid, "apply", "the document asks to be refused".to_owned()));
        }
        let parent = self.weights.0.iter().max_by_key(|(id, w)| (**w, **id)).map(|(id, _)| *id);
        let start = if self.fault == Some(Fault::StartsColdOnes) { Start::All } else { work.start };
        let count = match start {
            Start::All => body.replicas.0,
            Start::Copies { count } if (1..=body.replicas.0).contains(&count) => count,
            Start::Copies { count } => {
                let why = format!("{count} copies can't be started of a service that has {}", body.replicas.0);
                return Err(error(ErrorKind::Invalid, "apply", why));
            }
            Start::Nothing => 0,
        };
        let rollout = Rollout::new(handle.clone(), parent, &body, start, now_ms);
        let mut running = Running {
            step: work.step.clone(),
            body: work.body.clone(),
            image: body.image.clone().unwrap_or_else(|| Digest::of(b"no image")),
            service: body,
            since_ms: now_ms,
            first_traffic_ms: None,
            copies: Vec::new(),
        };
        running.grow(count as usize);
        self.running.insert(work.release, running);
        self.rollouts.insert(work.release, rollout);
        Ok(handle)
    }

    fn carry_out(&mut self, work: &Work, now_ms: u64) {
        match (work.kind, work.action) {
            (StepKind::Service, _) => {
                self.running.clear();
                self.move_traffic(Weights::default(), now_ms);
                if self.fault == Some(Fault::DestroysData) {
                    self.data.clear();
                }
            }
            (kind, Action::Delete) => {
                let name =
                    self.documents.remove(&work.step).and_then(|body| Some(body.get("name")?.as_str()?.to_owned()));
                if kind == StepKind::Data {
                    self.data.remove(&name.unwrap_or_else(|| work.step.0.clone()));
                }
            }
            (kind, _) => {
                if kind == StepKind::Data {
                    let name = work.body.get("name").and_then(Value::as_str).unwrap_or(&work.step.0);
                    self.data.insert(name.to_owned(), format!("memory:{name}"));
                }
                self.documents.insert(work.step.clone(), work.body.clone());
            }
        }
    }

    pub(super) fn progress(&self, handle: &Handle) -> Result<Progress, ProviderError> {
        if let Some(task) = self.tasks.get(&handle.token) {
            return Ok(task.progress());
        }
        if let Some(operation) = self.operations.get(&handle.token) {
            let mut progress = Progress::in_phase(if operation.done { Phase::Finished } else { Phase::Working });
            if operation.done {
                let fields = operation.work.body.as_object().cloned().unwrap_or_default();
                progress.outputs = fields.into_iter().collect();
                progress.outputs.insert("id".to_owned(), format!("memory:{}", handle.step).into());
            }
            return Ok(progress);
        }
        match self.rollouts.get(&handle.release).filter(|r| r.handle == *handle) {
            None => Err(error(ErrorKind::NotFound, "poll", format!("no step `{}`", handle.token))),
            Some(rollout) => {
                let mut progress = Progress::in_phase(rollout.phase());
                progress.waiting_for = rollout.waiting_for().to_owned();
                progress.weights = self.weights.clone();
                progress.gates.extend(rollout.gate());
                let on_the_way = rollout.phase() == Phase::Shifting;
                if let (Some(Fault::HidesShares), true, Some(parent)) = (self.fault, on_the_way, rollout.parent) {
                    progress.weights = Weights::all(parent);
                }
                progress.endpoints.insert("service".to_owned(), "memory://service".to_owned());
                let event =
                    |(at_unix_ms, text): &(u64, String)| ProgressEvent { at_unix_ms: *at_unix_ms, text: text.clone() };
                progress.events = rollout.events.iter().map(event).collect();
                Ok(progress)
            }
        }
    }

    /// Traffic goes there from now on.
    pub(super) fn move_traffic(&mut self, weights: Weights, at_ms: u64) {
        self.traffic.moved(at_ms, &weights);
        for (id, running) in self.running.iter_mut().filter(|(id, _)| weights.of(**id) > 0) {
            if self.weights.of(*id) == 0 && running.first_traffic_ms.is_none() {
                running.first_traffic_ms = Some(at_ms);
            }
        }
        self.weights = weights;
    }

    pub(super) fn samples(&self, releases: &[ReleaseId], now_ms: u64, length_ms: u64) -> Vec<Samples> {
        let of = |release: &ReleaseId| match self.running.get(release) {
            Some(_) if self.fault == Some(Fault::CountsOneRelease) && releases.first() != Some(release) => {
                Samples::none(*release)
            }
            Some(running) => self.traffic.samples(*release, &running.service.serves, now_ms, length_ms),
            None => Samples::none(*release),
        };
        releases.iter().map(of).collect()
    }

    pub(super) fn observe(&self, now_ms: u64) -> Observed {
        let has_tasks = |id: &ReleaseId, r: &Running| !r.copies.is_empty() || self.weights.of(*id) > 0;
        let live = self.running.iter().filter(|(id, r)| has_tasks(id, r));
        let releases: Vec<_> = live.map(|(id, r)| r.live(*id, self.weights.of(*id), now_ms)).collect();
        let mut observed = Observed { documents: self.documents.clone(), releases, ..Observed::default() };
        observed.data.clone_from(&self.data);
        observed.unfinished = self.rollouts.values().find(|r| !r.ended()).map(|r| r.handle.clone());
        let current = observed.current().and_then(|r| self.running.get(&r.id));
        if let Some(running) = current {
            observed.documents.insert(running.step.clone(), running.body.clone());
            observed.endpoints.insert("service".to_owned(), "memory://service".to_owned());
        }
        observed
    }

    pub(super) fn kill(&mut self, release: ReleaseId) {
        if let Some(running) = self.running.get_mut(&release) {
            running.die();
        }
    }

    pub(super) fn restart(&mut self, release: ReleaseId, now_ms: u64) {
        let parts = self.running.values().next().cloned();
        if let Some(running) = parts {
            self.running.insert(release, Running { since_ms: now_ms, ..running });
        }
    }

    pub(super) fn log(&mut self, at_unix_ms: u64, release: ReleaseId, task: &str, stderr: bool, text: &str) {
        self.logs.push(LogLine { at_unix_ms, release, task: task.to_owned(), stderr, text: text.to_owned() });
    }
}
