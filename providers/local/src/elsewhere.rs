//! The provider where there is no Linux: every call says so. It decides nothing.

use std::process::Command as Process;

use async_trait::async_trait;
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{
    Capabilities, Cloud, Command, Cursor, Documents, Handle, LogPage, LogQuery, Observed, Preview, Progress, Provider,
    ProviderError, ReleaseId, Samples, Steer, Target, Window, Work,
};

use crate::config::Config;
use crate::status::AgentStatus;

/// This machine as a cloud, which it can only be with Linux.
#[derive(Debug)]
pub struct LocalProvider;

fn refused<T>(operation: &str) -> Result<T> {
    Err(ProviderError {
        kind: ErrorKind::Unsupported,
        retry: false,
        cloud: Cloud::Local,
        operation: operation.to_owned(),
        object: String::new(),
        causes: vec!["the local cloud needs Linux".to_owned()],
        hint: Some("run dbird in a Linux virtual machine or container, or deploy to a cloud".to_owned()),
    })
}

impl LocalProvider {
    /// A provider for one project.
    pub fn new(_: Config) -> Self {
        LocalProvider
    }

    /// How the environment's agent is; there is none.
    pub async fn agent_status(&self, _: &Target) -> Result<Option<AgentStatus>> {
        Ok(None)
    }

    /// Ends the environment's agent; there is none.
    pub async fn shutdown_agent(&self, _: &Target) -> Result<()> {
        Ok(())
    }

    /// A command in a running task's surroundings; there is none.
    pub fn exec_command(&self, _: &Target, _: Option<&str>, _: &[String], _: bool) -> Result<Process> {
        refused("exec")
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cloud: Cloud::Local,
            strategies: Default::default(),
            any_weights: false,
            gates: false,
            test_traffic: false,
            swap: false,
            samples: false,
            one_off_tasks: false,
        }
    }

    async fn observe(&self, _: &Target) -> Result<Observed> {
        refused("observe")
    }

    async fn preview(&self, _: &Target, _: &Documents) -> Result<Preview> {
        refused("preview")
    }

    async fn apply(&self, _: &Target, _: &Work) -> Result<Handle> {
        refused("apply")
    }

    async fn poll(&self, _: &Target, _: &Handle) -> Result<Progress> {
        refused("poll")
    }

    async fn steer(&self, _: &Target, _: &Handle, _: &Steer) -> Result<()> {
        refused("steer")
    }

    async fn sample(&self, _: &Target, _: &[ReleaseId], _: Window) -> Result<Vec<Samples>> {
        refused("sample")
    }

    async fn run(&self, _: &Target, _: &Command) -> Result<Handle> {
        refused("run")
    }

    async fn logs(&self, _: &Target, _: &LogQuery, _: Option<&Cursor>) -> Result<LogPage> {
        refused("logs")
    }
}
