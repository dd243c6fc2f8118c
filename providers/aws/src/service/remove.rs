//! Takes the service away: first what needs it, then the service, and once its tasks are gone what sent requests to it.

use dbird_core::{ProviderError, Target};

use super::apply::{controller, found, ours};
use super::document::{Controller, base};
use super::job::{Job, Way};
use super::observe::{Places, traffic};
use super::{group, rules, scaling};
use crate::AwsProvider;
use crate::error::{Answer, code};
use crate::stack::stack_of_cached;

pub(super) async fn begin(p: &AwsProvider, target: &Target) -> Result<Job, ProviderError> {
    let cluster = base(target);
    let stack = stack_of_cached(p, &cluster).await?;
    let traffic = stack.as_ref().map(|stack| traffic(&Places::of(&stack.outputs)));
    let live = found(p, &cluster, &target.service).await?;
    if let Some(live) = &live {
        ours(target, live)?;
        scaling::remove(p, target, &cluster, &target.service).await?;
        if controller(live) == Controller::Codedeploy {
            group::remove(p, &cluster, &cluster).await?;
        }
        delete(p, &cluster, &target.service).await?;
    }
    Ok(Job {
        cluster,
        service: target.service.clone(),
        task_definition: String::new(),
        previous: None,
        way: Way::Removing { traffic },
        document: None,
        suspended: false,
        began_unix_ms: p.clock.now_unix_ms(),
    })
}

/// Deletes the service with its tasks; done where there is none.
pub(crate) async fn delete(p: &AwsProvider, cluster: &str, service: &str) -> Result<(), ProviderError> {
    let deleted = p.clients.ecs().await.delete_service().cluster(cluster).service(service).force(true).send().await;
    match deleted {
        Err(error) if gone(code(&error)) => Ok(()),
        deleted => deleted.or_fault("take the service away", service).map(|_| ()),
    }
}

fn gone(code: &str) -> bool {
    matches!(code, "ServiceNotFoundException" | "ServiceNotActiveException" | "ClusterNotFoundException")
}

/// Takes the rest away once the tasks are gone. False while they are not.
pub(crate) async fn finish(p: &AwsProvider, job: &Job) -> Result<bool, ProviderError> {
    if found(p, &job.cluster, &job.service).await?.is_some() {
        return Ok(false);
    }
    let traffic = match &job.way {
        Way::Removing { traffic } => traffic.as_ref(),
        _ => job.document.as_ref().map(|document| &document.traffic),
    };
    if let Some(traffic) = traffic.filter(|traffic| !traffic.listener.is_empty()) {
        rules::remove(p, traffic).await?;
    }
    Ok(true)
}
