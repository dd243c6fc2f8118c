//! One-off tasks: a command in a release's image, with its environment and mounts, once. It decides nothing about when;
//! nothing keeps such a task from a store that takes one process, since only its caller knows whether it opens it.

use std::sync::Arc;

use dataplane::port;
use dataplane::runtime::{Recipe, Runtime};
use dataplane::task::{self, Found, Record, Task};
use dbird_core::provider::ErrorKind;
use dbird_core::{Command, Digest, Handle, Phase, Progress, ProviderError, StepId};

use super::course::last_lines;
use super::keeper::Keeper;
use super::now_ms;
use crate::fault::{self, Adding, fault};

const OPERATION: &str = "run";

/// The task's name for a run's key; the same key is the same task.
fn task_id(key: &str) -> String {
    let plain = !key.is_empty()
        && key.len() <= 40
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if plain { format!("run-{key}") } else { format!("run-{}", &Digest::of(key.as_bytes()).hex()[..16]) }
}

impl Keeper {
    /// Starts a one-off task, unless it was started before.
    pub(super) async fn run(self: &Arc<Self>, command: Command) -> Result<Handle, ProviderError> {
        let _one_at_a_time = self.begins.lock().await;
        let id = task_id(&command.key);
        let handle = Handle { step: StepId::new("run"), release: command.release, token: id.clone() };
        if task::record(&self.paths.tasks().join(&id)).is_some() {
            return Ok(handle);
        }
        let release = command.release;
        let body =
            self.read(|state| state.releases.get(&release).map(|record| record.body.clone())).ok_or_else(|| {
                fault(ErrorKind::NotFound, OPERATION, release.to_string(), format!("{release} is not on this machine"))
                    .hint("`dbird status` lists the releases that are")
            })?;
        if command.argv.is_empty() {
            return Err(fault(ErrorKind::Invalid, OPERATION, release.to_string(), "no command is given"));
        }
        let secrets = self.secrets_of(release, OPERATION)?;
        let recipe = self.recipe_soon(body, secrets, OPERATION).await?;
        // It has a port like every task, for programs that insist on one; nobody is sent there.
        let port = recipe.port.as_ref().filter(|port| port.env.is_some()).and_then(|_| port::free());
        let recipe = Recipe { argv: Some(command.argv), timeout_ms: command.timeout_ms, ..recipe };
        let container =
            matches!(recipe.runtime, Runtime::Podman { .. }).then(|| format!("{}{id}", self.container_prefix()));
        let launch = recipe
            .launch(container.as_deref().unwrap_or(&id), port)
            .map_err(|error| fault::runtime(OPERATION, &error))?;
        let record = Record {
            id: id.clone(),
            group: release.to_string(),
            slot: None,
            attempt: 1,
            address: None,
            made_unix_ms: now_ms(),
            container,
        };
        let task = Task::start(&self.paths.tasks(), record, &launch, &self.program())
            .map_err(|error| fault::disk(OPERATION, error.path.display().to_string(), error.what, &error.source))?;
        self.follow(task);
        Ok(handle)
    }

    /// Waits for a one-off task's end, so that whoever polls is told at once.
    pub(super) fn follow(self: &Arc<Self>, mut task: Task) {
        let id = task.record().id.clone();
        let keeper = Arc::downgrade(self);
        let key = id.clone();
        let waiting = tokio::spawn(async move {
            task.ended().await;
            if let Some(keeper) = keeper.upgrade() {
                keeper.lock().runs.remove(&key);
                keeper.hold_true(|_| ());
            }
        });
        self.lock().runs.insert(id, waiting.abort_handle());
    }

    /// Asks a one-off task to stop; it is killed after its grace. One that has ended stays as it is.
    pub(super) async fn stop_run(&self, handle: &Handle) -> Result<(), ProviderError> {
        const STOP: &str = "stop a task";
        let folder = self.paths.tasks().join(&handle.token);
        let named = !handle.token.contains('/') && handle.token.starts_with("run-");
        if !named || task::record(&folder).is_none() {
            return Err(fault(ErrorKind::NotFound, STOP, handle.token.clone(), "there is no such task (any more)"));
        }
        match Task::adopt(&folder).await {
            Ok(Found::Running(task)) => task.stop(),
            Ok(Found::Ended(..)) => {}
            Err(error) => {
                let why = "the task can't be found out about";
                return Err(fault(ErrorKind::Internal, STOP, handle.token.clone(), why).because(&error));
            }
        }
        Ok(())
    }

    pub(super) async fn poll_run(self: &Arc<Self>, handle: &Handle) -> Result<Progress, ProviderError> {
        let folder = self.paths.tasks().join(&handle.token);
        let named = !handle.token.contains('/') && handle.token.starts_with("run-");
        if !named || task::record(&folder).is_none() {
            return Err(fault(ErrorKind::NotFound, "poll", handle.token.clone(), "there is no such task (any more)"));
        }
        let exit = match task::exit_of(&folder) {
            Some(exit) => Some(exit),
            None if self.lock().runs.contains_key(&handle.token) => None,
            None => match Task::adopt(&folder).await {
                Ok(Found::Ended(_, exit)) => Some(exit),
                Ok(Found::Running(task)) => {
                    self.follow(task);
                    None
                }
                Err(error) => {
                    return Err(fault(
                        ErrorKind::Internal,
                        "poll",
                        handle.token.clone(),
                        "the task can't be found out about",
                    )
                    .because(&error));
                }
            },
        };
        let Some(exit) = exit else {
            let mut progress = Progress::in_phase(Phase::Working);
            progress.waiting_for = format!("task {}", handle.token);
            return Ok(progress);
        };
        let failed = exit.error.is_some() || exit.timed_out || exit.lost;
        let phase = if failed {
            Phase::Failed { why: format!("the task {}", exit.describe()), logs: last_lines(self, &handle.token) }
        } else {
            Phase::Finished
        };
        Ok(Progress { exit_code: Some(exit.status()), ..Progress::in_phase(phase) })
    }
}

#[cfg(test)]
mod tests {
    use super::task_id;

    #[test]
    fn a_key_is_always_the_same_plain_name() {
        assert_eq!(task_id("r4-before-traffic-0"), "run-r4-before-traffic-0");
        for odd in ["", "../x", "A", "a b", "ü", &"x".repeat(41)] {
            let id = task_id(odd);
            assert!(id.len() == 20 && id == task_id(odd) && !id.contains('/'), "{id}");
        }
    }
}
