//! One environment in its cloud: the provider, the store, and what carries plans out, put together once for each command.
//! It translates the driver's words into the command line's and decides nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dbird_core::{
    Documents, ImageRef, Observed, Plan, Provider, Reason, Release, ReleaseId, Spec, Target,
    planning::{self, Input},
    rollout::{Course, Request},
};
use dbird_driver::{Asked, Ended, Error, Interrupt, Operator, Order, Who};

use crate::{
    clouds::Reached,
    commands::{Context, Done},
    failure::{Failure, FailureKind, Result},
    git,
    interrupt::Interrupts,
    output::{
        Event, Output,
        events::{Live, ReleaseView},
    },
    project::Project,
    teller::Teller,
    typing::Typing,
};

/// After a failure, what is live is worth waiting for so long.
const LIVE_WAIT: Duration = Duration::from_secs(3);

/// An environment in its cloud, open.
pub(crate) struct Session {
    pub(crate) spec: Spec,
    pub(crate) target: Target,
    pub(crate) provider: Arc<dyn Provider>,
    /// What only this cloud has.
    pub(crate) cloud: Reached,
    pub(crate) operator: Operator,
    pub(crate) typing: Typing,
    out: Output,
    project: Project,
}

/// A plan with what it was made from.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) documents: Documents,
    pub(crate) observed: Observed,
    /// What stands in the way, each a sentence.
    pub(crate) obstacles: Vec<String>,
    /// At a gate, the command leaves.
    pub(crate) no_wait: bool,
}

impl Session {
    /// Opens an environment. Nothing is started and nothing is written.
    pub(crate) fn open(cx: &Context, spec: &Spec, command: &str, interrupts: Option<&Interrupts>) -> Result<Self> {
        let project = cx.project()?.clone();
        let target = Target { service: spec.service.name.clone(), environment: spec.environment.clone() };
        let cloud = Reached::open(&project, spec, cx.simulated())?;
        let provider = cloud.provider();
        let store = cloud.store(&project, spec, &target)?;
        let who = Who {
            actor: git::actor(),
            host: git::host(),
            command: command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let out = cx.out.clone();
        let typing = Typing::of(&cx.global, &spec.environment);
        let teller = Teller::new(out.clone(), typing.clone());
        let mut operator = Operator::new(provider.clone(), store, target.clone(), who)
            .reporting_to(Arc::new(move |event: &dbird_driver::Event| teller.tell(event)));
        if let Some(interrupts) = interrupts {
            let (interrupt, interrupts) = (Interrupt::new(), interrupts.clone());
            operator = operator.interrupted_by(interrupt.clone());
            tokio::spawn(async move {
                interrupts.first().await;
                interrupt.raise();
            });
        }
        Ok(Session { spec: spec.clone(), target, provider, cloud, operator, typing, out, project })
    }

    /// Has somebody else listen, instead of the one who tells the terminal.
    pub(crate) fn heard_by(mut self, listener: impl Fn(&dbird_driver::Event) + Send + Sync + 'static) -> Self {
        self.operator = self.operator.reporting_to(Arc::new(listener));
        self
    }

    /// What is live.
    pub(crate) async fn observe(&self) -> Result<Observed> {
        Ok(self.operator.observe().await?)
    }

    /// Finishes or undoes what an interrupted command left; the driver tells what it finds.
    pub(crate) async fn recover(&self) -> Result<()> {
        match self.operator.recover().await {
            Ok(_) => Ok(()),
            Err(e @ Error::AtGate { .. }) => Err(Failure::from(e).hint(self.typing.hint())),
            Err(e) => Err(e.into()),
        }
    }

    /// How a release takes over here.
    pub(crate) fn course(&self) -> Result<Course> {
        let course =
            Course::of(&self.spec, &self.provider.capabilities()).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(course.at_speed(self.cloud.speed()))
    }

    /// A plan for these documents.
    pub(crate) async fn plan(
        &self,
        documents: Documents,
        image: Option<ImageRef>,
        reason: Reason,
        delete_data: &[String],
    ) -> Result<Planned> {
        let observed = self.observe().await?;
        let preview = self.provider.preview(&self.target, &documents).await?;
        let course = match reason {
            Reason::Destroy => None,
            _ => Some(self.course()?),
        };
        let input = Input {
            documents: &documents,
            observed: &observed,
            preview: &preview,
            image,
            reason,
            course: course.as_ref(),
            copies: self.spec.scale.min,
            delete_data,
        };
        let plan = planning::plan(&input).map_err(|e| Failure::usage("no plan can be made").because(&e))?;
        Ok(Planned { plan, documents, observed, obstacles: preview.obstacles, no_wait: false })
    }

    /// Carries a plan out, and says how it ended.
    pub(crate) async fn carry_out(&self, planned: Planned) -> Result<Done> {
        if let [first, rest @ ..] = planned.obstacles.as_slice() {
            let mut failure = Failure::failed(format!("something stands in the way: {first}"));
            failure.causes = rest.to_vec();
            return Err(failure.hint("put it right and run the same command again; `dbird doctor` checks the rest"));
        }
        let git_revision = git::revision(&self.project.folder);
        let doors = planned.observed.endpoints;
        let order = Order { plan: planned.plan, documents: planned.documents, git_revision, no_wait: planned.no_wait };
        let mut ended = match self.operator.carry_out(order).await {
            Err(Error::Parked { release, weight }) => return self.parked(release, weight).await,
            Err(Error::Left { release }) => return Ok(self.left(release).await),
            other => other?,
        };
        // A release that never came to traffic has no endpoints; what serves still has those that it had.
        if ended.endpoints.is_empty() && ended.live.is_some() {
            ended.endpoints = doors;
        }
        self.ended(ended).await
    }

    /// Asks for something of a rollout that is under way: whoever drives it does it, or this command where nobody does.
    pub(crate) async fn ask(&self, request: Request, no_wait: bool) -> Result<Done> {
        match self.operator.ask(request.clone(), no_wait).await {
            Ok(Asked::Taken { release, by }) => {
                let ((request, _), by) = (told(&request), by.to_string());
                self.out.event(Event::Taken { release: release.to_string(), request, by, pending: false });
                Ok(Done::success())
            }
            Ok(Asked::Noted { release, by }) => {
                let ((request, _), by) = (told(&request), by.to_string());
                self.out.event(Event::Taken { release: release.to_string(), request, by, pending: true });
                Ok(Done::success())
            }
            Ok(Asked::Ended(ended)) => {
                let mut ended = *ended;
                if ended.endpoints.is_empty() && ended.live.is_some() {
                    ended.endpoints = self.observe().await.map(|o| o.endpoints).unwrap_or_default();
                }
                self.ended(ended).await
            }
            Err(Error::Parked { release, weight }) => self.parked(release, weight).await,
            Err(Error::Left { release }) => Ok(self.left(release).await),
            Err(e) => Err(e.into()),
        }
    }

    /// Says that a release is left at a gate.
    pub(crate) async fn parked(&self, release: ReleaseId, weight: u8) -> Result<Done> {
        self.out.event(Event::Parked { release: release.to_string(), weight, choices: self.typing.choices(false) });
        Ok(Done { exit_code: 6, outcome: "parked", live: self.live_quickly().await })
    }

    /// Says that a release is left to its cloud.
    pub(crate) async fn left(&self, release: ReleaseId) -> Done {
        let (wait, abort) = (self.typing.command("wait"), self.typing.command("abort"));
        self.out.note(format!(
            "{release} is left to the cloud, which goes on with it. `{wait}` follows it to its end, `{abort}` undoes it."
        ));
        Done { exit_code: 6, outcome: "left", live: self.live_quickly().await }
    }

    async fn live_quickly(&self) -> Option<Live> {
        let observed = tokio::time::timeout(LIVE_WAIT, self.provider.observe(&self.target)).await;
        observed.ok().and_then(std::result::Result::ok).map(|o| live(&o))
    }

    /// Adds to a failure what is live all the same, if that can be found out quickly.
    pub(crate) async fn with_live(&self, done: Result<Done>) -> Result<Done> {
        match done {
            Err(failure) if failure.live.is_none() && failure.kind != FailureKind::Usage => {
                let observed = tokio::time::timeout(LIVE_WAIT, self.provider.observe(&self.target)).await;
                Err(match observed {
                    Ok(Ok(observed)) => failure.live(live(&observed)),
                    _ => failure,
                })
            }
            other => other,
        }
    }

    async fn ended(&self, ended: Ended) -> Result<Done> {
        let exit_code = ended.exit_code();
        let Ended { release, logs, live, endpoints, interrupted, error } = ended;
        let live = self.live_release(live, &release, &endpoints).await;
        let view = ReleaseView::of(&release, exit_code == 0);
        let (id, why) = (view.id.clone(), view.why.clone());
        if exit_code == 0 {
            self.out.event(Event::Released { release: view, endpoints });
            return Ok(Done { exit_code, outcome: "done", live: Some(live) });
        }
        let kind = match exit_code {
            3 => FailureKind::RolledBack,
            130 => FailureKind::Interrupted,
            _ => FailureKind::Failed,
        };
        let message = match (kind, interrupted) {
            (FailureKind::Interrupted, _) | (_, true) => format!("{id} was interrupted: {why}"),
            (FailureKind::RolledBack, _) => format!("{id} was rolled back: {why}"),
            _ => format!("{id} failed: {why}"),
        };
        let mut failure = Failure::new(kind, message).live(live);
        if !logs.is_empty() {
            failure = failure.hint(format!("`dbird logs --release {}` has everything it wrote", release.id.0));
        }
        if let Some(error) = error {
            failure.causes = error.causes;
            failure.hint = error.hint.or(failure.hint);
            failure.retry = error.retry;
        }
        Err(Failure { logs, ..failure })
    }

    async fn live_release(
        &self,
        live: Option<ReleaseId>,
        ended: &Release,
        endpoints: &BTreeMap<String, String>,
    ) -> Live {
        let image = match live {
            Some(id) if id == ended.id => ended.image.clone(),
            Some(id) => self.operator.release(id).await.ok().flatten().and_then(|r| r.image),
            None => None,
        };
        Live {
            release: live.map(|id| id.to_string()),
            image: image.map(|i| i.digest.to_string()),
            url: live.and(endpoints.get("service").cloned()),
        }
    }

    /// The record of the release that serves.
    pub(crate) async fn serving(&self, observed: &Observed) -> Result<Release> {
        let id = observed.current().map(|r| r.id).ok_or_else(|| {
            Failure::failed(format!("nothing is deployed in {}", self.target.environment))
                .hint("`dbird deploy` makes the first release")
        })?;
        let record = self.operator.release(id).await?;
        record.ok_or_else(|| {
            Failure::failed(format!("{id} serves, but there is no record of it in {}", self.spec.state_url))
                .hint("`dbird deploy` makes a new release from the configuration")
        })
    }
}

/// A request in a word, and why it was made.
pub(crate) fn told(request: &Request) -> (String, String) {
    let (word, why) = match request {
        Request::Promote => ("promote", ""),
        Request::Abort { why } => ("abort", why.as_str()),
        Request::Pause => ("pause", ""),
        Request::Resume => ("resume", ""),
        Request::Interrupt => ("interrupt", ""),
    };
    (word.to_owned(), why.to_owned())
}

/// What an observation says of what serves.
pub(crate) fn live(observed: &Observed) -> Live {
    let current = observed.current();
    Live {
        release: current.map(|r| r.id.to_string()),
        image: current.map(|r| r.image.to_string()),
        url: current.and(observed.endpoints.get("service").cloned()),
    }
}
