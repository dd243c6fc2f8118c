//! What is asked of the agent, step by step: apply, poll, steer. It decides whether a call is allowed now, writes down what
//! it means and answers; the work itself goes on in the background, also after a crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use dataplane::{files, image};
use dbird_core::provider::ErrorKind;
use dbird_core::{Action, Handle, Phase, Progress, ProviderError, ReleaseId, Start, StepKind, Weights, Work};
use serde_json::Value;

use super::doors::{Side, url};
use super::keeper::Keeper;
use super::releases::{Secrets, store};
use super::state::{ReleaseRecord, Rollout, Stage, State, StepRecord};
use super::{course, now_ms};
use crate::document::{self, DataDocument, ImageDocument, ServiceDocument};
use crate::fault::{self, Adding, fault};

/// What a step's handle says of it, so that polling it works whatever the agent forgot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Token {
    Image { repository: String, digest: dbird_core::Digest },
    Data { name: String },
    Service,
    NoImage,
    NoData { name: String },
    NoService,
}

impl Token {
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn handle(work: &Work, token: &Token) -> Handle {
    Handle { step: work.step.clone(), release: work.release, token: token.text() }
}

/// How many copies are started at once.
fn copies_at_first(start: Start, body: &ServiceDocument) -> Result<u32, String> {
    match start {
        Start::All => Ok(body.replicas),
        Start::Nothing => Ok(0),
        Start::Copies { count } if (1..=body.replicas).contains(&count) => Ok(count),
        Start::Copies { count } => {
            Err(format!("{count} copies can't be started of a service that has {}", body.replicas))
        }
    }
}

fn invalid(operation: &str, work: &Work, why: String) -> ProviderError {
    fault(ErrorKind::Invalid, operation, work.step.to_string(), why).hint("`dbird render` shows the document")
}

impl Keeper {
    /// Starts a step; repeated, it does nothing more.
    pub(super) async fn apply(
        self: &Arc<Self>,
        service: &str,
        work: Work,
        secrets: Secrets,
    ) -> Result<Handle, ProviderError> {
        let operation = format!("apply {}", work.step);
        let _one_at_a_time = self.begins.lock().await;
        match (work.kind, work.action) {
            (_, Action::None | Action::Keep) => {
                Err(invalid(&operation, &work, format!("action {:?} is nothing to apply", work.action)))
            }
            (StepKind::Image, Action::Delete) => self.begin_step(work, Token::NoImage),
            (StepKind::Image, _) => {
                let document: ImageDocument =
                    document::read(&work.body).map_err(|why| invalid(&operation, &work, why))?;
                store(&self.options.project, &document.repository, &document.digest, &operation)?;
                let token = Token::Image { repository: document.repository, digest: document.digest };
                self.begin_step(work, token)
            }
            (StepKind::Data, Action::Delete) => {
                let known = self.read(|state| state.documents.get(&work.step).map(|step| step.body.clone()));
                let name =
                    known.as_ref().and_then(|body| body.get("name")?.as_str()).unwrap_or(&work.step.0).to_owned();
                self.begin_step(work, Token::NoData { name })
            }
            (StepKind::Data, _) => {
                let document: DataDocument =
                    document::read(&work.body).map_err(|why| invalid(&operation, &work, why))?;
                document.check().map_err(|why| invalid(&operation, &work, why))?;
                self.begin_step(work, Token::Data { name: document.name })
            }
            (StepKind::Service, Action::Delete) => self.remove_service(&operation, work).await,
            (StepKind::Service, _) => self.apply_service(&operation, service, work, secrets).await,
            (StepKind::Infrastructure, _) => Err(fault(
                ErrorKind::Unsupported,
                &operation,
                work.step.to_string(),
                "this machine has no infrastructure to make",
            )),
        }
    }

    fn begin_step(self: &Arc<Self>, work: Work, token: Token) -> Result<Handle, ProviderError> {
        let answer = handle(&work, &token);
        let remember = !matches!(token, Token::NoImage | Token::NoData { .. });
        self.intend(|state| {
            if remember {
                state.documents.insert(work.step.clone(), StepRecord { kind: work.kind, body: work.body.clone() });
            } else {
                state.documents.remove(&work.step);
            }
        })
        .map_err(|error| self.unwritten("apply", &error))?;
        self.work_on(token);
        Ok(answer)
    }

    /// Carries out a step that is no service, unless that is being done.
    pub(super) fn work_on(self: &Arc<Self>, token: Token) {
        let name = token.text();
        let mut inner = self.lock();
        if inner.jobs.get(&name).is_some_and(|job| job.phase == Phase::Working) {
            return;
        }
        let mut progress = Progress::in_phase(Phase::Working);
        progress.waiting_for = match &token {
            Token::Image { digest, .. } => format!("image {} to be unpacked", digest.short()),
            _ => "the disk".to_owned(),
        };
        inner.jobs.insert(name.clone(), progress);
        drop(inner);
        let keeper = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let done = keeper.carry_out(&token);
            let progress = match done {
                Ok(outputs) => Progress { outputs, ..Progress::in_phase(Phase::Finished) },
                Err(error) => {
                    let why = error.causes.join(": ") + &error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                    Progress::in_phase(Phase::Failed { why, logs: Vec::new() })
                }
            };
            keeper.lock().jobs.insert(name, progress);
            keeper.hold_true(|_| ());
        });
    }

    fn carry_out(&self, token: &Token) -> Result<BTreeMap<String, Value>, ProviderError> {
        match token {
            Token::Image { repository, digest } => {
                const OPERATION: &str = "apply image";
                let store = store(&self.options.project, repository, digest, OPERATION)?;
                let unpacked = image::unpack(&store, digest.as_str(), &self.paths.images())
                    .map_err(|error| fault::image(OPERATION, &error))?;
                let rootfs = unpacked.rootfs.display().to_string();
                Ok(BTreeMap::from([
                    ("digest".to_owned(), unpacked.digest.into()),
                    ("rootfs".to_owned(), rootfs.into()),
                ]))
            }
            Token::Data { name } => {
                let folder = self.paths.data().join(name);
                files::make_folder(&folder).map_err(|error| {
                    fault::disk("apply data", folder.display().to_string(), "can't make the data folder", &error)
                })?;
                Ok(BTreeMap::from([("folder".to_owned(), Value::from(folder.display().to_string()))]))
            }
            Token::NoData { name } => {
                let folder = self.paths.data().join(name);
                files::remove_folder(&folder).map_err(|error| {
                    fault::disk("delete data", folder.display().to_string(), "can't remove the data folder", &error)
                })?;
                Ok(BTreeMap::new())
            }
            Token::NoImage => {
                self.tidy();
                Ok(BTreeMap::new())
            }
            Token::Service | Token::NoService => Ok(BTreeMap::new()),
        }
    }

    /// The disk did not take what was to be done, so it is not done.
    pub(super) fn unwritten(&self, operation: &str, error: &io::Error) -> ProviderError {
        if error.kind() == io::ErrorKind::Interrupted {
            return fault(ErrorKind::Unavailable, operation, "", error.to_string()).retry();
        }
        let path = self.paths.state().display().to_string();
        fault::disk(operation, path, "can't write down what is to be done, so nothing was changed", error)
    }

    async fn apply_service(
        self: &Arc<Self>,
        operation: &str,
        service: &str,
        work: Work,
        secrets: Secrets,
    ) -> Result<Handle, ProviderError> {
        let body: ServiceDocument = document::read(&work.body).map_err(|why| invalid(operation, &work, why))?;
        body.check().map_err(|why| invalid(operation, &work, why))?;
        if body.name != service {
            return Err(invalid(
                operation,
                &work,
                format!("field `name`: `{}` is not the service {service}", body.name),
            ));
        }
        let copies = copies_at_first(work.start, &body).map_err(|why| invalid(operation, &work, why))?;
        let answer = handle(&work, &Token::Service);
        if self.is_begun(operation, &work, &body)? {
            return Ok(answer);
        }
        let recipe = self.recipe_soon(body.clone(), secrets.clone(), "apply service").await?;
        // What is certain to fail is said now, while nothing has changed.
        recipe.launch("check", Some(1)).map_err(|error| fault::runtime(operation, &error))?;
        self.open_doors(&body, operation).await?;
        let written = self.keep_secrets(work.release, &secrets).and_then(|()| {
            self.intend(|state| {
                state.service = Some(service.to_owned());
                state.rollout = Some(Rollout {
                    step: work.step.clone(),
                    release: work.release,
                    document: work.document.clone(),
                    before: state.weights.clone(),
                    stage: if copies == 0 { Stage::Ready } else { Stage::Starting },
                    start: work.start,
                    copies: BTreeMap::new(),
                    weights: Weights::default(),
                    events: Vec::new(),
                    endpoints: BTreeMap::new(),
                });
                let mut record = ReleaseRecord {
                    step: work.step.clone(),
                    document: work.document.clone(),
                    body: body.clone(),
                    since_unix_ms: now_ms(),
                    up: copies > 0,
                    copies: None,
                };
                if copies > 0 {
                    record.want(copies);
                }
                state.releases.insert(work.release, record);
            })
        });
        if let Err(error) = written {
            self.align_doors().await;
            return Err(self.unwritten(operation, &error));
        }
        self.lock().notes.clear();
        match (copies, self.read(State::current)) {
            (0, Some(current)) => {
                self.say(format!(
                    "{} is prepared; nothing of it is started before {current} has stopped",
                    work.release
                ));
            }
            (0, None) => self.say(format!("{} is prepared; it is started when it gets the traffic", work.release)),
            (copies, _) if copies < body.replicas => {
                self.say(format!("starting {copies} of {} copies of {}", body.replicas, work.release));
            }
            _ => self.say(format!("starting {}", work.release)),
        }
        self.start(work.release, &body, recipe, BTreeMap::new(), false);
        self.background(course::run(Arc::clone(self), work.release));
        Ok(answer)
    }

    /// True where the very same release was begun before; an error where it can't begin now.
    fn is_begun(&self, operation: &str, work: &Work, body: &ServiceDocument) -> Result<bool, ProviderError> {
        let conflict = |what: String, hint: &str| {
            Err(fault(ErrorKind::Conflict, operation, work.release.to_string(), what).hint(hint))
        };
        self.read(|state| {
            if state.removing {
                return conflict(
                    "the service is being taken away".to_owned(),
                    "wait for that to end, then deploy again",
                );
            }
            if let Some(owner) =
                state.service.as_ref().filter(|owner| **owner != body.name && !state.releases.is_empty())
            {
                return conflict(
                    format!("this environment runs the service {owner}"),
                    "a project's environment has one service: destroy the other one first, or use another environment",
                );
            }
            if let Some(known) = state.rollout_of(work.release) {
                if known.document == work.document {
                    return Ok(true);
                }
                return conflict(
                    format!("{} was begun with another document", work.release),
                    "a new release gets a new number",
                );
            }
            if state.releases.contains_key(&work.release) {
                return Ok(true);
            }
            match &state.rollout {
                Some(other) => conflict(
                    format!("the rollout of {} has not ended", other.release),
                    "finish it or undo it first: the next `dbird deploy` does",
                ),
                None => Ok(false),
            }
        })
    }

    async fn remove_service(self: &Arc<Self>, operation: &str, work: Work) -> Result<Handle, ProviderError> {
        let answer = handle(&work, &Token::NoService);
        self.intend(|state| {
            state.removing = !state.releases.is_empty();
            state.end_rollout(Stage::RolledBack);
        })
        .map_err(|error| self.unwritten(operation, &error))?;
        self.background(remove(Arc::clone(self)));
        Ok(answer)
    }

    /// Opens the doors that a release names, beside those that are open.
    async fn open_doors(&self, body: &ServiceDocument, operation: &str) -> Result<(), ProviderError> {
        let mut doors = self.doors.lock().await;
        let opened = doors
            .open(Side::Front, &body.listen, &self.front, operation)
            .and_then(|()| doors.open(Side::Test, &body.test_listen, &self.test, operation));
        drop(doors);
        if opened.is_err() {
            self.align_doors().await;
        }
        opened
    }

    /// Opens what the releases name and closes what none names.
    pub(super) async fn align_doors(&self) {
        let wanted: Vec<(Side, String)> = self.read(|state| {
            let of = |record: &ReleaseRecord| {
                [(Side::Front, record.body.listen.clone()), (Side::Test, record.body.test_listen.clone())]
            };
            state.releases.values().flat_map(of).collect()
        });
        let mut doors = self.doors.lock().await;
        for (side, text) in &wanted {
            let route = if *side == Side::Front { &self.front } else { &self.test };
            if let Err(error) = doors.open(*side, text, route, "serve") {
                self.note(format!("{text} could not be opened: {}", error.causes.join(": ")));
            }
        }
        doors.close_others(&wanted);
        self.hold_true(|_| ());
    }

    /// Where a release is reached.
    pub(super) async fn endpoints(&self, release: Option<ReleaseId>) -> BTreeMap<String, String> {
        let Some(release) = release else { return BTreeMap::new() };
        let body = self.read(|state| {
            state.releases.get(&release).map(|record| (record.body.listen.clone(), record.body.test_listen.clone()))
        });
        let Some((listen, test)) = body else { return BTreeMap::new() };
        let doors = self.doors.lock().await;
        [("service", Side::Front, listen), ("test", Side::Test, test)]
            .into_iter()
            .filter_map(|(name, side, text)| Some((name.to_owned(), url(doors.address(side, &text)?))))
            .collect()
    }
}

/// Takes every release away; the data stays.
pub(super) async fn remove(keeper: Arc<Keeper>) {
    keeper.settle(|state| state.weights = Weights::default());
    keeper.publish();
    let releases = keeper.read(|state| state.releases.keys().copied().collect::<Vec<_>>());
    for release in releases {
        course::retire(&keeper, release).await;
    }
    keeper.settle(|state| {
        state.releases.clear();
        // What is kept is adopted by the next deploy, which says so.
        state.documents.clear();
        state.removing = false;
    });
    keeper.align_doors().await;
    let tidying = Arc::clone(&keeper);
    tokio::task::spawn_blocking(move || tidying.tidy());
}
