//! Following and steering a rollout, from the command's side. It decides nothing; the agent does.

use dbird_core::provider::Result;
use dbird_core::{Handle, Progress, ReleaseId, Samples, Steer, Target, Window};

use crate::provider::LocalProvider;
use crate::status::AgentStatus;
use crate::wire::{Answer, Call};

/// A poll returns after this long without news.
const WAIT_MS: u64 = 900;

impl LocalProvider {
    pub(crate) async fn do_poll(&self, target: &Target, handle: &Handle) -> Result<Progress> {
        let call = Call::Poll { handle: handle.clone(), seen: self.seen(handle), wait_ms: WAIT_MS };
        match self.call(target, call, true).await? {
            Some(Answer::Progress { seen, progress }) => {
                self.have_seen(handle, seen);
                Ok(*progress)
            }
            other => Err(self.unexpected("poll", other)),
        }
    }

    pub(crate) async fn do_steer(&self, target: &Target, handle: &Handle, steer: &Steer) -> Result<()> {
        match self.call(target, Call::Steer { handle: handle.clone(), steer: steer.clone() }, true).await? {
            Some(Answer::Done) => Ok(()),
            other => Err(self.unexpected("steer", other)),
        }
    }

    pub(crate) async fn do_sample(
        &self,
        target: &Target,
        releases: &[ReleaseId],
        window: Window,
    ) -> Result<Vec<Samples>> {
        let call = Call::Sample { releases: releases.to_vec(), length_ms: window.length_ms };
        match self.call(target, call, true).await? {
            Some(Answer::Samples { samples }) => Ok(samples),
            other => Err(self.unexpected("sample", other)),
        }
    }

    /// How the environment's agent is; none where none runs. Starts nothing.
    pub async fn agent_status(&self, target: &Target) -> Result<Option<AgentStatus>> {
        match self.call(target, Call::Status, false).await? {
            None => Ok(None),
            Some(Answer::Status { status }) => Ok(Some(*status)),
            other => Err(self.unexpected("agent status", other)),
        }
    }

    /// Ends the environment's agent once no release runs any more; data stays. Without an agent there is nothing to do.
    pub async fn shutdown_agent(&self, target: &Target) -> Result<()> {
        match self.call(target, Call::Shutdown, false).await? {
            None | Some(Answer::Done) => Ok(()),
            other => Err(self.unexpected("stop the agent", other)),
        }
    }

    pub(crate) fn unexpected(&self, operation: &str, answer: Option<Answer>) -> dbird_core::ProviderError {
        self.odd(operation, &answer.unwrap_or(Answer::Done))
    }
}
