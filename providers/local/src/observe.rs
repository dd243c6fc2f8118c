//! What is live on this machine, and what stands in the way of more. It decides how the agent's knowledge looks from
//! outside; without an agent, what was written is all there is.

use std::collections::BTreeMap;
use std::net::TcpListener;

use dataplane::supervise::{self, Status};
use dataplane::{files, image, task};
use dbird_core::{
    Documents, Handle, LiveRelease, Observed, Preview, ProviderError, ReleaseId, StepKind, Target, TaskState,
    TaskStatus,
};

use crate::agent::doors;
use crate::agent::state::{self, State};
use crate::agent::steps::Token;
use crate::config::Paths;
use crate::document::{self, ServiceDocument};
use crate::provider::LocalProvider;
use crate::wire::{Answer, Call};

impl LocalProvider {
    pub(crate) async fn do_observe(&self, target: &Target) -> Result<Observed, ProviderError> {
        let paths = self.paths(target)?;
        let start = state::has_releases(&paths.state());
        match self.call(target, Call::Observe, start).await? {
            Some(Answer::Observed { observed }) => Ok(*observed),
            Some(other) => Err(self.odd("observe", &other)),
            None => Ok(State::load(&paths.state()).map(|state| written(&state, &paths)).unwrap_or_default()),
        }
    }

    pub(crate) async fn do_preview(&self, target: &Target, documents: &Documents) -> Result<Preview, ProviderError> {
        let service = documents.steps.iter().find(|step| step.kind == StepKind::Service);
        let Some(body) = service.and_then(|step| document::read::<ServiceDocument>(&step.body).ok()) else {
            return Ok(Preview::default());
        };
        let call = Call::Preview { listen: body.listen.clone(), test_listen: body.test_listen.clone() };
        match self.call(target, call, false).await? {
            Some(Answer::Preview { preview }) => Ok(preview),
            Some(other) => Err(self.odd("preview", &other)),
            None => {
                let wanted = [("listen", body.listen.as_str()), ("test_listen", body.test_listen.as_str())];
                Ok(Preview { obstacles: obstacles(&wanted, |_| false), ..Preview::default() })
            }
        }
    }
}

/// What the state and the disk say.
pub(crate) fn written(state: &State, paths: &Paths) -> Observed {
    let mut observed = Observed::default();
    let current = state.current().and_then(|release| state.releases.get(&release));
    for (step, record) in &state.documents {
        match record.kind {
            StepKind::Data => {
                let name = record.body.get("name").and_then(|name| name.as_str()).unwrap_or_default();
                if paths.data().join(name).is_dir() {
                    observed.documents.insert(step.clone(), record.body.clone());
                }
            }
            StepKind::Image => {
                // The image that is live is the one that serves, not the one that a failed release brought.
                let served = current.and_then(|record| record.body.image.as_ref());
                let mut body = record.body.clone();
                if let (Some(image), Some(fields)) = (served, body.as_object_mut()) {
                    fields.insert("repository".to_owned(), image.repository.clone().into());
                    fields.insert("digest".to_owned(), image.digest.as_str().into());
                }
                let digest = body.get("digest").and_then(|digest| digest.as_str()).unwrap_or_default();
                if image::find(&paths.images(), digest).is_some() {
                    observed.documents.insert(step.clone(), body);
                }
            }
            StepKind::Infrastructure | StepKind::Service => {}
        }
    }
    if let Some(record) = current
        && let Ok(body) = serde_json::to_value(&record.body)
    {
        observed.documents.insert(record.step.clone(), body);
    }
    observed.unfinished = state.rollout.as_ref().filter(|rollout| !rollout.stage.is_over()).and_then(|rollout| {
        let step = state.releases.get(&rollout.release)?.step.clone();
        Some(Handle { step, release: rollout.release, token: Token::Service.text() })
    });
    let remembered = state.rollout.iter().chain(&state.ended).map(|rollout| rollout.release);
    observed.last = remembered.chain(state.releases.keys().copied()).max();
    let folders = files::names(&paths.data()).unwrap_or_default().into_iter();
    observed.data = folders.map(|name| (name.clone(), paths.data().join(&name).display().to_string())).collect();
    observed
}

/// The releases that have tasks.
pub(crate) fn releases(state: &State, statuses: impl Fn(ReleaseId) -> Vec<Status>, paths: &Paths) -> Vec<LiveRelease> {
    let live = state.releases.iter().filter_map(|(id, record)| {
        let statuses = statuses(*id);
        let image = record.body.image.as_ref()?.digest.clone();
        let weight = state.weights.of(*id);
        if statuses.is_empty() && weight == 0 {
            return None;
        }
        Some(LiveRelease {
            id: *id,
            weight,
            image,
            ready: !statuses.is_empty() && statuses.iter().all(|status| status.state == supervise::State::Ready),
            since_unix_ms: record.since_unix_ms,
            tasks: statuses.into_iter().map(|status| described(status, paths)).collect(),
        })
    });
    live.collect()
}

fn described(status: Status, paths: &Paths) -> TaskStatus {
    let state = match status.state {
        supervise::State::Starting => TaskState::Starting,
        supervise::State::Waiting => TaskState::Waiting,
        supervise::State::Ready => TaskState::Ready,
        supervise::State::Unready => TaskState::Unready,
        supervise::State::Stopping => TaskState::Draining,
        supervise::State::BackingOff => TaskState::BackingOff,
        supervise::State::Stopped => TaskState::Stopped,
    };
    let id = status.task.unwrap_or_default();
    TaskStatus {
        pid: if id.is_empty() { None } else { task::pid(&paths.tasks().join(&id)) },
        id,
        state,
        detail: status.detail,
        restarts: status.restarts,
        address: status.address.map(|address| address.to_string()),
        reported: status.reported,
    }
}

/// What keeps addresses from being listened on, those apart that are ours already.
pub(crate) fn obstacles(wanted: &[(&str, &str)], ours: impl Fn(&str) -> bool) -> Vec<String> {
    let mut obstacles = BTreeMap::new();
    for (setting, text) in wanted.iter().filter(|(_, text)| !ours(text)) {
        let found = match document::address(setting, text) {
            Err(why) => Some(why),
            Ok(address) => TcpListener::bind(address).err().map(|error| {
                let error = doors::obstacle(setting, address, "preview", &error);
                let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                format!("{}{hint}", error.causes.join(": "))
            }),
        };
        if let Some(found) = found {
            obstacles.insert(*setting, found);
        }
    }
    obstacles.into_values().collect()
}
