//! What was seen of releases so far: what happened, what task definitions say, and how each rollout stood when it was last
//! asked for. Forgetting it costs requests, never more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use aws_sdk_codedeploy::types::{DeploymentInfo, EcsTarget};
use aws_sdk_ecs::types::{Service, ServiceDeployment};
use dbird_core::provider::ProgressEvent;
use dbird_core::{Observed, Phase, Progress, ReleaseId};
use serde_json::Value;
use tokio::time::Instant;

use super::standing::Told;
use crate::service::apply::Definition;

/// A rollout tells so many events at most; later ones are more of the same.
const EVENTS_MAX: usize = 1_000;
/// Task definitions that are remembered at most.
const DEFINITIONS_MAX: usize = 64;
/// Whoever follows a rollout asks AWS for the same thing no more often than this.
const FOLLOWED_EVERY: Duration = Duration::from_secs(1);

/// What was seen of releases.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    definitions: HashMap<String, Definition>,
    releases: HashMap<String, ReleaseId>,
    live: HashMap<String, Value>,
    rollouts: HashMap<String, Rollout>,
    services: HashMap<(String, String), Service>,
    moves: HashMap<String, DeploymentInfo>,
    targets: HashMap<String, EcsTarget>,
    deployments: HashMap<String, ServiceDeployment>,
    observed: HashMap<String, (Instant, Observed)>,
}

/// What was seen of one rollout.
#[derive(Debug)]
pub(super) struct Rollout {
    /// When it was first and last asked for, by this process.
    pub(super) first: Instant,
    pub(super) last: Option<Instant>,
    /// How it stood then.
    pub(super) progress: Option<Progress>,
    /// It failed for good, with the reason.
    pub(super) given_up: Option<(String, Vec<String>)>,
    /// It was stopped by this process.
    pub(super) stopped: bool,
    /// Why its tasks failed, once that was asked for; empty where none did.
    pub(super) cause: Option<String>,
    /// What follows its end was done.
    pub(super) settled: bool,
    /// How often failed tasks were looked for.
    pub(super) looks: u32,
    keys: BTreeSet<String>,
    events: Vec<ProgressEvent>,
}

impl Default for Rollout {
    fn default() -> Self {
        Rollout {
            first: Instant::now(),
            last: None,
            progress: None,
            given_up: None,
            stopped: false,
            cause: None,
            settled: false,
            looks: 0,
            keys: BTreeSet::new(),
            events: Vec::new(),
        }
    }
}

impl Rollout {
    /// Adds what was not told yet. What is told late comes after what was told before: a list that was shown only grows.
    pub(super) fn tell(&mut self, mut told: Vec<Told>) {
        told.sort_by_key(|told| told.at_unix_ms);
        for told in told {
            if self.events.len() < EVENTS_MAX && self.keys.insert(told.key) {
                self.events.push(ProgressEvent { at_unix_ms: told.at_unix_ms, text: told.text });
            }
        }
    }

    /// True where this was told already.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn events(&self) -> Vec<ProgressEvent> {
        self.events.clone()
    }
}

impl Seen {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a task definition says, by its ARN.
    pub(crate) fn definition(&self, arn: &str) -> Option<Definition> {
        self.memory().definitions.get(arn).cloned()
    }

    pub(crate) fn remember_definition(&self, arn: &str, found: &Option<Definition>) {
        let mut memory = self.memory();
        if memory.definitions.len() >= DEFINITIONS_MAX {
            memory.definitions.clear();
        }
        if let Some(found) = found {
            memory.definitions.insert(arn.to_owned(), found.clone());
        }
    }

    /// The release of a task definition.
    pub(crate) fn release(&self, arn: &str) -> Option<ReleaseId> {
        let memory = self.memory();
        memory.releases.get(arn).copied().or_else(|| {
            memory.definitions.get(arn).and_then(|(_, marker)| marker.as_ref()).map(|marker| marker.release)
        })
    }

    pub(crate) fn remember_release(&self, arn: &str, release: ReleaseId) {
        self.memory().releases.insert(arn.to_owned(), release);
    }

    /// The service's document as it was last seen, by the environment's name.
    pub(crate) fn live(&self, base: &str) -> Option<Value> {
        self.memory().live.get(base).cloned()
    }

    pub(crate) fn remember_live(&self, base: &str, document: &Value) {
        self.memory().live.insert(base.to_owned(), document.clone());
    }

    /// The service as it was last told, by its cluster and name; of use while that is a second ago at most.
    pub(crate) fn service(&self, cluster: &str, name: &str) -> Option<Service> {
        self.memory().services.get(&(cluster.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn remember_service(&self, cluster: &str, name: &str, service: Option<&Service>) {
        let key = (cluster.to_owned(), name.to_owned());
        match service {
            Some(service) => self.memory().services.insert(key, service.clone()),
            None => self.memory().services.remove(&key),
        };
    }

    /// A rollout has moved: what was seen of the service and of the environment before that is of no use.
    pub(super) fn moved(&self, base: &str, cluster: &str, name: &str) {
        self.remember_service(cluster, name, None);
        self.memory().observed.remove(base);
    }

    /// A deployment of CodeDeploy that is followed, as it was last told, by its id.
    pub(crate) fn codedeploy(&self, id: &str) -> Option<DeploymentInfo> {
        self.memory().moves.get(id).cloned()
    }

    pub(super) fn remember_codedeploy(&self, id: &str, deployment: &DeploymentInfo) {
        self.memory().moves.insert(id.to_owned(), deployment.clone());
    }

    /// A deployment's target as it was last told.
    pub(super) fn target(&self, deployment: &str) -> Option<EcsTarget> {
        self.memory().targets.get(deployment).cloned()
    }

    pub(super) fn remember_target(&self, deployment: &str, target: &EcsTarget) {
        self.memory().targets.insert(deployment.to_owned(), target.clone());
    }

    /// A deployment of ECS as it was last told, by its ARN; of use while that is a second ago at most.
    pub(super) fn deployment(&self, arn: &str) -> Option<ServiceDeployment> {
        self.memory().deployments.get(arn).cloned()
    }

    pub(super) fn remember_deployment(&self, arn: &str, deployment: &ServiceDeployment) {
        self.memory().deployments.insert(arn.to_owned(), deployment.clone());
    }

    /// True while a rollout is followed by this process.
    pub(crate) fn follows(&self) -> bool {
        let ended = |phase: &Phase| matches!(phase, Phase::Finished | Phase::RolledBack | Phase::Failed { .. });
        self.memory().rollouts.values().any(|r| r.progress.as_ref().is_some_and(|p| !ended(&p.phase)))
    }

    /// What was live a moment ago, for whoever follows a rollout; by the environment's name.
    pub(crate) fn observed(&self, base: &str) -> Option<Observed> {
        let memory = self.memory();
        memory.observed.get(base).filter(|(at, _)| at.elapsed() < FOLLOWED_EVERY).map(|(_, observed)| observed.clone())
    }

    pub(crate) fn remember_observed(&self, base: &str, at: Instant, observed: &Observed) {
        self.memory().observed.insert(base.to_owned(), (at, observed.clone()));
    }

    /// Does something with what was seen of a rollout, named by its handle's token.
    pub(super) fn with<T>(&self, token: &str, f: impl FnOnce(&mut Rollout) -> T) -> T {
        f(self.memory().rollouts.entry(token.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_stays_where_it_is() {
        let mut rollout = Rollout::default();
        rollout.tell(vec![Told::new(20, "b", "second"), Told::new(10, "a", "first")]);
        rollout.tell(vec![Told::new(10, "a", "first"), Told::new(5, "c", "late")]);
        let texts: Vec<_> = rollout.events().into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["first", "second", "late"]);
        rollout.tell((0..2_000).map(|n| Told::new(n, format!("k{n}"), "more")).collect());
        assert_eq!(rollout.events().len(), EVENTS_MAX);
    }
}
