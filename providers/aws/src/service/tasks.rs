//! The tasks of each release, for whoever wants to see them: `status`, `exec`. It only reads.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{DesiredStatus, Task};
use dbird_core::{ProviderError, ReleaseId, Target, TaskState, TaskStatus};

use super::apply::release_of;
use super::document::base;
use crate::AwsProvider;
use crate::error::Answer;
use crate::rollout::task_id;

impl AwsProvider {
    /// The tasks that run now, by release, each with how it is.
    pub async fn tasks(&self, target: &Target) -> Result<BTreeMap<ReleaseId, Vec<TaskStatus>>, ProviderError> {
        let mut releases: BTreeMap<ReleaseId, Vec<TaskStatus>> = BTreeMap::new();
        for task in running(self, target).await? {
            let release = release_of(self, task.task_definition_arn().unwrap_or_default()).await?;
            releases.entry(release).or_default().push(described(&task));
        }
        Ok(releases)
    }
}

/// The service's tasks that run or are to run.
pub(crate) async fn running(p: &AwsProvider, target: &Target) -> Result<Vec<Task>, ProviderError> {
    let cluster = base(target);
    let client = p.clients.ecs().await;
    let listed = client
        .list_tasks()
        .cluster(&cluster)
        .service_name(&target.service)
        .desired_status(DesiredStatus::Running)
        .max_results(100)
        .send()
        .await;
    let listed = match listed {
        Err(error) if matches!(crate::error::code(&error), "ServiceNotFoundException" | "ClusterNotFoundException") => {
            return Ok(Vec::new());
        }
        listed => listed.or_fault("list the tasks", &target.service)?,
    };
    if listed.task_arns().is_empty() {
        return Ok(Vec::new());
    }
    let read = client
        .describe_tasks()
        .cluster(&cluster)
        .set_tasks(Some(listed.task_arns().to_vec()))
        .send()
        .await
        .or_fault("read the tasks", &target.service)?;
    Ok(read.tasks().to_vec())
}

fn described(task: &Task) -> TaskStatus {
    let address = task.attachments().iter().flat_map(|attachment| attachment.details());
    let address =
        address.filter(|detail| detail.name() == Some("privateIPv4Address")).find_map(|detail| detail.value());
    TaskStatus {
        id: task_id(task.task_arn().unwrap_or_default()).to_owned(),
        state: state(task),
        detail: task.stopped_reason().unwrap_or_default().to_owned(),
        // Fargate starts another task instead.
        restarts: 0,
        address: address.map(str::to_owned),
        pid: None,
        reported: BTreeMap::new(),
    }
}

fn state(task: &Task) -> TaskState {
    let unhealthy = task.health_status().is_some_and(|health| health.as_str() == "UNHEALTHY");
    match task.last_status().unwrap_or_default() {
        "RUNNING" if task.desired_status() == Some("STOPPED") => TaskState::Draining,
        "RUNNING" if unhealthy => TaskState::Unready,
        "RUNNING" => TaskState::Ready,
        "DEACTIVATING" | "STOPPING" | "DEPROVISIONING" => TaskState::Draining,
        "STOPPED" | "DELETED" => TaskState::Stopped,
        _ => TaskState::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_where_ecs_says() {
        let cases = [
            ("PROVISIONING", "RUNNING", TaskState::Starting),
            ("PENDING", "RUNNING", TaskState::Starting),
            ("RUNNING", "RUNNING", TaskState::Ready),
            ("RUNNING", "STOPPED", TaskState::Draining),
            ("DEACTIVATING", "STOPPED", TaskState::Draining),
            ("STOPPED", "STOPPED", TaskState::Stopped),
        ];
        for (last, desired, wanted) in cases {
            let task = Task::builder().last_status(last).desired_status(desired).build();
            assert_eq!(state(&task), wanted, "{last} {desired}");
        }
    }
}
