//! What AWS itself remembers of releases: task definitions say which there were and what they ran, deployments how they
//! ended. It is for the day on which the state is lost; nothing is decided by it.

use std::collections::BTreeMap;

use aws_sdk_codedeploy::types::{DeploymentCreator, DeploymentStatus};
use aws_sdk_ecs::types::{ServiceDeploymentStatus, SortOrder};
use dbird_core::{Digest, Outcome, ProviderError, ReleaseId, Target};

use crate::AwsProvider;
use crate::error::{Answer, code};
use crate::rollout::unix_ms;
use crate::service::apply::definition;
use crate::service::document::base;
use crate::service::observe::{described_release, named};
use crate::service::update::deployments;

/// So many releases are looked at, newest first.
const RELEASES_MAX: i32 = 20;

/// A release that AWS remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its number.
    pub id: ReleaseId,
    /// The image that it ran.
    pub image: Option<Digest>,
    /// When its task definition was registered, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// How it ended; none where AWS does not say, or it has not ended.
    pub outcome: Option<Outcome>,
}

impl AwsProvider {
    /// The releases that AWS remembers, newest first.
    pub async fn remembered(&self, target: &Target) -> Result<Vec<Remembered>, ProviderError> {
        let mut found: BTreeMap<ReleaseId, Remembered> = BTreeMap::new();
        let mut of_definition = BTreeMap::new();
        for arn in definitions(self, &base(target)).await? {
            let Some((read, Some(marker))) = definition(self, &arn).await? else { continue };
            of_definition.insert(arn, marker.release);
            found.entry(marker.release).or_insert_with(|| Remembered {
                id: marker.release,
                image: marker.image.clone(),
                at_unix_ms: unix_ms(read.registered_at()),
                outcome: None,
            });
        }
        for (release, outcome) in outcomes(self, target, &of_definition).await? {
            if let Some(remembered) = found.get_mut(&release) {
                remembered.outcome = Some(outcome);
            }
        }
        Ok(found.into_values().rev().collect())
    }
}

/// The task definitions of a family, newest first.
pub(crate) async fn definitions(p: &AwsProvider, family: &str) -> Result<Vec<String>, ProviderError> {
    let client = p.clients.ecs().await;
    let listed = client
        .list_task_definitions()
        .family_prefix(family)
        .sort(SortOrder::Desc)
        .max_results(RELEASES_MAX)
        .send()
        .await
        .or_fault("list the task definitions", family)?;
    // The prefix fits other families, too.
    let own = listed.task_definition_arns().iter().filter(|arn| family_of(arn) == Some(family));
    Ok(own.cloned().collect())
}

fn family_of(arn: &str) -> Option<&str> {
    arn.rsplit('/').next()?.rsplit_once(':').map(|(family, _)| family)
}

/// How releases ended, as far as deployments say.
async fn outcomes(
    p: &AwsProvider,
    target: &Target,
    of_definition: &BTreeMap<String, ReleaseId>,
) -> Result<Vec<(ReleaseId, Outcome)>, ProviderError> {
    let base = base(target);
    let mut outcomes = Vec::new();
    for deployment in deployments(p, &named(&base), 0, None).await? {
        let own = deployment.creator() != Some(&DeploymentCreator::CodeDeployRollback);
        let release = described_release(deployment.description()).filter(|_| own);
        outcomes.extend(release.zip(deployment.status().and_then(codedeploy_outcome)));
    }
    let client = p.clients.ecs().await;
    let listed = client
        .list_service_deployments()
        .cluster(&base)
        .service(&target.service)
        .max_results(RELEASES_MAX)
        .send()
        .await;
    let listed = match listed {
        // No service, or one that CodeDeploy rolls out.
        Err(error)
            if matches!(
                code(&error),
                "ServiceNotFoundException"
                    | "ClusterNotFoundException"
                    | "UnsupportedFeatureException"
                    | "InvalidParameterException"
            ) =>
        {
            return Ok(outcomes);
        }
        listed => listed.or_fault("list the deployments", &target.service)?,
    };
    let ended: Vec<_> = listed
        .service_deployments()
        .iter()
        .filter_map(|brief| Some((brief.target_service_revision_arn()?.to_owned(), ecs_outcome(brief.status()?)?)))
        .collect();
    if ended.is_empty() {
        return Ok(outcomes);
    }
    let revisions = ended.iter().map(|(revision, _)| revision.clone()).collect();
    let read = client
        .describe_service_revisions()
        .set_service_revision_arns(Some(revisions))
        .send()
        .await
        .or_fault("read the service's revisions", &target.service)?;
    for (revision, outcome) in ended {
        let found = read.service_revisions().iter().find(|read| read.service_revision_arn() == Some(&revision));
        let release = found.and_then(|found| found.task_definition()).and_then(|arn| of_definition.get(arn));
        outcomes.extend(release.map(|release| (*release, outcome)));
    }
    Ok(outcomes)
}

fn codedeploy_outcome(status: &DeploymentStatus) -> Option<Outcome> {
    match status {
        DeploymentStatus::Succeeded => Some(Outcome::Succeeded),
        DeploymentStatus::Failed | DeploymentStatus::Stopped => Some(Outcome::RolledBack),
        _ => None,
    }
}

fn ecs_outcome(status: &ServiceDeploymentStatus) -> Option<Outcome> {
    match status {
        ServiceDeploymentStatus::Successful => Some(Outcome::Succeeded),
        ServiceDeploymentStatus::RollbackSuccessful => Some(Outcome::RolledBack),
        ServiceDeploymentStatus::RollbackFailed | ServiceDeploymentStatus::Stopped => Some(Outcome::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_not_its_neighbours() {
        let arn = |family: &str| format!("arn:aws:ecs:us-east-1:1:task-definition/{family}:7");
        assert_eq!(family_of(&arn("bird-dev")), Some("bird-dev"));
        assert_eq!(family_of(&arn("bird-dev-run")), Some("bird-dev-run"));
    }
}
