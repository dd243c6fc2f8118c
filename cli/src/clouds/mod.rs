//! Where a command works: the provider of a cloud, and what only that cloud has beside it. It decides nothing that a provider
//! decides.

mod aws;
mod local;
mod simulated;

use std::{process::Command, sync::Arc};

use dbird_aws::AwsProvider;
use dbird_core::{Cloud, Provider, Spec, Target};
use dbird_driver::{Error, Store};
use dbird_local::AgentStatus;

pub(crate) use simulated::{Account, Simulated};

use crate::{
    failure::{Failure, FailureKind, Result},
    project::Project,
};

/// A cloud, as far as the command line reaches beyond its provider.
pub(crate) enum Reached {
    /// This machine.
    Local(local::Local),
    /// AWS.
    Aws(aws::Aws),
}

impl Reached {
    /// The cloud of an environment, or the simulated one that stands in for it. Nothing is called yet.
    pub(crate) fn open(project: &Project, spec: &Spec, simulated: Option<&Simulated>) -> Result<Reached> {
        match spec.cloud {
            Cloud::Local => Ok(Reached::Local(local::Local::open(project))),
            Cloud::Aws => Ok(Reached::Aws(aws::Aws::open(project, spec, simulated)?)),
            Cloud::Azure => Err(undeployable(spec.cloud)),
        }
    }

    /// What carries steps out.
    pub(crate) fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Reached::Local(local) => local.provider.clone(),
            Reached::Aws(aws) => aws.provider.clone(),
        }
    }

    /// The state of an environment there.
    pub(crate) fn store(&self, project: &Project, spec: &Spec, target: &Target) -> Result<Arc<dyn Store>> {
        let store = match self {
            Reached::Local(_) => dbird_driver::open_store(&spec.state_url, &project.folder, spec.cloud, target),
            Reached::Aws(aws) => aws.store(project, spec, target),
        };
        store.map_err(|e| Failure { kind: FailureKind::Usage, ..Failure::from(Error::Store(e)) })
    }

    /// How many times as fast as here time passes there: only a simulated cloud's differs.
    pub(crate) fn speed(&self) -> u32 {
        match self {
            Reached::Local(_) => 1,
            Reached::Aws(aws) => aws.speed,
        }
    }

    /// What only AWS can be asked; none elsewhere.
    pub(crate) fn aws(&self) -> Option<&AwsProvider> {
        match self {
            Reached::Local(_) => None,
            Reached::Aws(aws) => Some(&aws.provider),
        }
    }

    /// True where a simulated cloud stands in, which runs images as processes of this machine.
    pub(crate) fn is_simulated(&self) -> bool {
        match self {
            Reached::Local(_) => false,
            Reached::Aws(aws) => aws.is_simulated,
        }
    }

    /// True where the images that run are those that lie in the project.
    pub(crate) fn runs_from_project(&self) -> bool {
        matches!(self, Reached::Local(_))
    }

    /// What to start to get a program beside a running task, on this terminal.
    pub(crate) async fn exec(
        &self,
        target: &Target,
        task: Option<&str>,
        command: &[String],
        tty: bool,
    ) -> Result<Command> {
        match self {
            Reached::Local(local) => Ok(local.provider.exec_command(target, task, command, tty)?),
            Reached::Aws(aws) => aws.exec(target, task, command).await,
        }
    }

    /// Stops what runs for an environment beside its tasks, once they are gone.
    pub(crate) async fn shut_down(&self, target: &Target) -> Result<()> {
        match self {
            Reached::Local(local) => Ok(local.provider.shutdown_agent(target).await.map(drop)?),
            Reached::Aws(_) => Ok(()),
        }
    }

    /// This machine's agent for an environment; none elsewhere, and where none runs.
    pub(crate) async fn agent(&self, target: &Target) -> Result<Option<AgentStatus>> {
        match self {
            Reached::Local(local) => Ok(local.provider.agent_status(target).await?),
            Reached::Aws(_) => Ok(None),
        }
    }
}

/// A cloud that configurations can be checked for, and nothing more.
pub(crate) fn undeployable(cloud: Cloud) -> Failure {
    Failure::usage(format!("this version deploys to this machine and to AWS, not to {cloud}"))
        .hint(format!("`dbird validate -c {cloud}` checks the configuration for it"))
}
