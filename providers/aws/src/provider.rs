//! The provider: every call of the boundary, handed to the part that carries it out.

use async_trait::async_trait;
use dbird_core::provider::{Driver, Result};
use dbird_core::{
    Capabilities, Cloud, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Phase, Preview, Progress,
    Provider, ReleaseId, Samples, Steer, StepKind, Target, Window, Work,
};

use crate::client::{Clients, Counted};
use crate::clock::CloudClock;
use crate::config::{Config, Credentials};
use crate::shapes::Shapes;
use crate::token::Token;
use crate::{apply, image, logs, observe, poll, preview, rollout, run, sample, service, stack};

/// AWS as a cloud.
#[derive(Debug)]
pub struct AwsProvider {
    pub(crate) config: Config,
    pub(crate) clients: Clients,
    pub(crate) clock: CloudClock,
    /// What was seen of stacks; forgetting it costs requests, never more.
    pub(crate) stacks: stack::Seen,
    /// What was seen of images on their way.
    pub(crate) images: image::Seen,
    /// What was seen of releases.
    pub(crate) rollouts: rollout::Seen,
    /// What was seen of one-off tasks.
    pub(crate) runs: run::Seen,
}

impl AwsProvider {
    /// A provider for one project. Nothing is called yet.
    pub fn new(config: Config) -> Result<Self> {
        let clock = CloudClock::of(config.simulator.as_deref())?;
        Ok(AwsProvider {
            clients: Clients::new(&config.region, config.endpoint.clone(), Shapes::to(config.shapes.as_deref())?),
            config,
            clock,
            stacks: stack::Seen::default(),
            images: image::Seen::default(),
            rollouts: rollout::Seen::default(),
            runs: run::Seen::default(),
        })
    }

    /// The requests that were made so far, by service and operation.
    pub fn requests(&self) -> Vec<Counted> {
        self.clients.counted()
    }

    /// The account that the credentials are for.
    pub async fn account(&self) -> Result<String> {
        observe::account(self).await
    }

    /// The credentials that requests are signed with, for whoever else must sign: state in S3.
    pub async fn credentials(&self) -> Result<Credentials> {
        self.clients.credentials().await
    }
}

#[async_trait]
impl Provider for AwsProvider {
    fn capabilities(&self) -> Capabilities {
        let strategies = ["all-at-once", "blue-green", "canary", "linear", "rolling", "recreate"];
        Capabilities {
            cloud: Cloud::Aws,
            strategies: strategies.map(|name| (name.to_owned(), Driver::Cloud)).into_iter().collect(),
            any_weights: false,
            gates: true,
            test_traffic: true,
            swap: false,
            samples: true,
            one_off_tasks: true,
        }
    }

    async fn observe(&self, target: &Target) -> Result<Observed> {
        observe::observe(self, target).await
    }

    async fn preview(&self, target: &Target, documents: &Documents) -> Result<Preview> {
        preview::preview(self, target, documents).await
    }

    async fn apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        let token = match work.kind {
            StepKind::Infrastructure | StepKind::Data => apply::apply(self, target, work).await?,
            StepKind::Image => image::apply(target, work)?,
            StepKind::Service => Token::Service(service::apply(self, target, work).await?),
        };
        Ok(token.handle(&work.step, work.release))
    }

    async fn poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        match Token::of(handle)? {
            Token::Done { outputs, said } => Ok(poll::done(self, outputs, &said)),
            Token::Stack(job) => stack::poll(self, target, handle, &job).await,
            Token::Image(job) => image::poll(self, target, handle, &job).await,
            Token::Service(job) => {
                let progress = rollout::poll(self, target, handle, &job).await?;
                if progress.phase == Phase::Finished {
                    image::forget_old(self, target, handle).await;
                }
                Ok(progress)
            }
            Token::Task(job) => run::poll(self, target, handle, &job).await,
        }
    }

    async fn steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        match Token::of(handle)? {
            Token::Service(job) => rollout::steer(self, target, handle, &job, steer).await,
            Token::Task(job) => run::steer(self, target, handle, &job, steer).await,
            // A stack goes on by itself, and undoes by itself what failed.
            Token::Done { .. } | Token::Stack(_) | Token::Image(_) => Ok(()),
        }
    }

    async fn sample(&self, target: &Target, releases: &[ReleaseId], window: Window) -> Result<Vec<Samples>> {
        sample::sample(self, target, releases, window).await
    }

    async fn run(&self, target: &Target, command: &Command) -> Result<Handle> {
        let job = run::run(self, target, command).await?;
        Ok(Token::Task(job).handle(&dbird_core::StepId::new("run"), command.release))
    }

    async fn logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        logs::logs(self, target, query, cursor).await
    }
}
