//! What is live of the service: its document, its releases with their traffic, and a rollout that has not ended. It costs few
//! requests where nothing moves, and changes nothing.

use std::collections::BTreeMap;

use aws_sdk_codedeploy::types::{DeploymentGroupInfo, DeploymentInfo, DeploymentStatus};
use aws_sdk_ecs::types::{Deployment, DeploymentRolloutState, Service, ServiceRevisionSummary, TaskSet};
use dbird_core::{Digest, Handle, LiveRelease, ProviderError, ReleaseId, StepId, Target};
use serde_json::{Value, json};

use super::apply::{controller, definition, described, found, found_lately, ours, release_of};
use super::document::{CodeDeploy, Controller, Traffic, base};
use super::job::{Job, Previous, Way};
use super::task_definition::{Marker, live as live_definition};
use super::{group, live, rules, scaling, update};
use crate::AwsProvider;
use crate::error::Answer;
use crate::rollout::{deployment_lately, unix_ms};
use crate::stack::Stack;
use crate::token::Token;

/// The step that a release of the service is.
const STEP: &str = "service";
/// Where images lie before they are pushed.
const SOURCE: &str = "oci:.dbird/images";

/// What is live of the service.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) service: Option<Value>,
    pub(crate) image: Option<Value>,
    pub(crate) releases: Vec<LiveRelease>,
    pub(crate) unfinished: Option<Handle>,
    pub(crate) last: Option<ReleaseId>,
    pub(crate) notes: Vec<String>,
}

/// The stack's outputs by their names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a>(&'a BTreeMap<String, String>);

impl<'a> Places<'a> {
    pub(crate) fn of(outputs: &'a BTreeMap<String, String>) -> Self {
        Places(outputs)
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The listeners and target groups that the stack made.
pub(crate) fn traffic(places: &Places<'_>) -> Traffic {
    let text = |name: &str| places.get(name).unwrap_or_default().to_owned();
    Traffic {
        blue: text("BlueTargetGroup"),
        green: text("GreenTargetGroup"),
        listener: text("ProductionListener"),
        test_listener: places.get("TestListener").map(str::to_owned),
    }
}

pub(crate) async fn observe(p: &AwsProvider, target: &Target, stack: &Stack) -> Result<Live, ProviderError> {
    let mut seen = Live::default();
    let base = base(target);
    let newest = definition(p, &base).await?;
    seen.last = newest.as_ref().and_then(|(_, marker)| marker.as_ref()).map(|marker| marker.release);
    let service = if p.rollouts.follows() {
        found_lately(p, &base, &target.service).await?
    } else {
        found(p, &base, &target.service).await?
    };
    let Some(service) = service else { return Ok(seen) };
    if service.status() == Some("DRAINING") {
        seen.notes.push("the service is going away".to_owned());
        return Ok(seen);
    }
    if let Err(error) = ours(target, &service) {
        seen.notes.push(error.causes.into_iter().next().unwrap_or_default());
        return Ok(seen);
    }
    let Some(arn) = update::serving(&service).map(str::to_owned) else {
        seen.notes.push("the service has no tasks and no task definition that dbird knows".to_owned());
        return Ok(seen);
    };
    let (serves, marker) = match newest {
        Some((found, marker)) if found.task_definition_arn() == Some(&arn) => (found, marker),
        _ => match definition(p, &arn).await? {
            Some(found) => found,
            None => return Ok(seen),
        },
    };
    let traffic = traffic(&Places::of(&stack.outputs));
    let scaled = scaling::find(p, &base, &target.service).await?;
    let group = match controller(&service) {
        Controller::Codedeploy => group::find(p, &named(&base)).await?,
        Controller::Ecs => None,
    };
    if let Some(marker) = &marker {
        p.rollouts.remember_release(&arn, marker.release);
    } else {
        seen.notes.push(format!(
            "the service runs {}, which was not registered by dbird: somebody changed it by hand",
            arn.rsplit('/').next().unwrap_or_default()
        ));
    }
    releases(p, &service, &traffic, &mut seen).await?;
    unfinished(p, &base, &service, group.as_ref(), &mut seen).await?;
    if seen.unfinished.is_some() {
        // Whoever follows a rollout judges it by its tasks as well; at rest nobody pays for them.
        let mut tasks = p.tasks(target).await?;
        for release in &mut seen.releases {
            release.tasks = tasks.remove(&release.id).unwrap_or_default();
        }
    }
    if scaled.as_ref().is_some_and(|scaled| scaled.suspended) && seen.unfinished.is_none() {
        seen.notes
            .push("scaling is suspended although no deployment is under way: the next release resumes it".to_owned());
    }
    let typed = live_definition(&serves);
    seen.image = live::image_repository(&target.service, &typed).map(|repository| {
        json!({ "repository": repository, "source": SOURCE, "digest": live::image_digest(&target.service, &typed) })
    });
    let document = live::document(&live::Answers {
        environment: &target.environment,
        service: &service,
        task_definition: &serves,
        marker: marker.as_ref(),
        group: group.as_ref(),
        scaling: scaled.map(|scaled| scaled.scaling),
        traffic,
    });
    p.rollouts.remember_live(&base, &document);
    seen.service = Some(document);
    Ok(seen)
}

/// The deployment group's names; the rest is what is looked for.
pub(crate) fn named(base: &str) -> CodeDeploy {
    CodeDeploy {
        application: base.to_owned(),
        group: base.to_owned(),
        config: String::new(),
        role: String::new(),
        ready_wait_minutes: 0,
        termination_wait_minutes: 0,
        alarms: Vec::new(),
    }
}

/// A set of tasks of one release.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) task_definition: String,
    pub(crate) weight: u8,
    pub(crate) ready: bool,
    pub(crate) since_unix_ms: u64,
}

/// The sets of tasks of a service, with their share of the traffic.
pub(crate) async fn parts(p: &AwsProvider, service: &Service, traffic: &Traffic) -> Result<Vec<Part>, ProviderError> {
    let sets = service.task_sets();
    if sets.len() == 1 {
        return Ok(sets.iter().map(|set| of_set(set, 100)).collect());
    }
    if !sets.is_empty() {
        let shares = rules::shares(p, &traffic.listener).await?;
        let share = |set: &TaskSet| {
            let group = set.load_balancers().first().and_then(|balancer| balancer.target_group_arn());
            group.map_or(0, |group| rules::percent(&shares, group))
        };
        let shared = sets.iter().map(|set| (set, share(set)));
        // What lost its traffic and is being deleted is no release any more.
        let stays = shared.filter(|(set, weight)| *weight > 0 || set.status() != Some("DRAINING"));
        return Ok(stays.map(|(set, weight)| of_set(set, weight)).collect());
    }
    let deployments = service.deployments();
    let moved = match service.current_service_deployment().filter(|_| deployments.len() > 1) {
        Some(arn) => production_share(p, arn).await?,
        None => None,
    };
    let running = |d: &Deployment| u64::try_from(d.running_count()).unwrap_or(0);
    let all: u64 = deployments.iter().map(running).sum();
    Ok(deployments
        .iter()
        .map(|deployment| {
            let primary = deployment.status() == Some("PRIMARY");
            let weight = match moved {
                _ if deployments.len() == 1 => 100,
                Some(moved) if primary => moved,
                Some(moved) => 100 - moved,
                None => u8::try_from((running(deployment) * 100).checked_div(all).unwrap_or(0)).unwrap_or(0),
            };
            Part {
                task_definition: deployment.task_definition().unwrap_or_default().to_owned(),
                weight,
                ready: deployment.rollout_state() == Some(&DeploymentRolloutState::Completed)
                    && deployment.running_count() >= deployment.desired_count(),
                since_unix_ms: unix_ms(deployment.created_at()),
            }
        })
        .collect())
}

fn of_set(set: &TaskSet, weight: u8) -> Part {
    let steady = set.stability_status().is_some_and(|status| status.as_str() == "STEADY_STATE");
    Part {
        task_definition: set.task_definition().unwrap_or_default().to_owned(),
        weight,
        ready: steady && set.running_count() >= set.computed_desired_count(),
        since_unix_ms: unix_ms(set.created_at()),
    }
}

/// The candidate's share of the traffic, where ECS moves it.
async fn production_share(p: &AwsProvider, arn: &str) -> Result<Option<u8>, ProviderError> {
    let found = deployment_lately(p, arn).await?;
    let target = found.target_service_revision();
    let weight = target.and_then(ServiceRevisionSummary::requested_production_traffic_weight);
    // Clamped, so it fits.
    Ok(weight.map(|weight| weight.clamp(0.0, 100.0).round() as u8))
}

async fn releases(p: &AwsProvider, service: &Service, traffic: &Traffic, seen: &mut Live) -> Result<(), ProviderError> {
    let mut releases: BTreeMap<ReleaseId, LiveRelease> = BTreeMap::new();
    for part in parts(p, service, traffic).await? {
        let read = definition(p, &part.task_definition).await?;
        let (marker, image) = match &read {
            Some((found, marker)) => (marker.as_ref(), image(service, found, marker.as_ref())),
            None => (None, None),
        };
        let id = marker.map_or(ReleaseId(0), |marker| marker.release);
        let release = releases.entry(id).or_insert_with(|| LiveRelease {
            id,
            weight: 0,
            // An image that is named by a tag has no digest; its name stands for it.
            image: image.unwrap_or_else(|| Digest::of(part.task_definition.as_bytes())),
            ready: true,
            since_unix_ms: part.since_unix_ms,
            tasks: Vec::new(),
        });
        release.weight = release.weight.saturating_add(part.weight).min(100);
        release.ready &= part.ready;
        release.since_unix_ms = release.since_unix_ms.min(part.since_unix_ms);
        seen.last = seen.last.max(Some(id).filter(|id| id.0 > 0));
    }
    seen.releases = releases.into_values().collect();
    Ok(())
}

fn image(service: &Service, found: &aws_sdk_ecs::types::TaskDefinition, marker: Option<&Marker>) -> Option<Digest> {
    let runs = live::image_digest(service.service_name().unwrap_or_default(), &live_definition(found));
    runs.and_then(|digest| digest.parse().ok()).or_else(|| marker?.image.clone())
}

/// A rollout that has not ended, whoever began it.
async fn unfinished(
    p: &AwsProvider,
    base: &str,
    service: &Service,
    group: Option<&DeploymentGroupInfo>,
    seen: &mut Live,
) -> Result<(), ProviderError> {
    let name = service.service_name().unwrap_or_default();
    let job = |task_definition: &str, previous: Option<Previous>, way: Way, began: u64, suspended: bool| Job {
        cluster: base.to_owned(),
        service: name.to_owned(),
        task_definition: task_definition.to_owned(),
        previous,
        way,
        document: None,
        suspended,
        began_unix_ms: began,
    };
    if controller(service) == Controller::Codedeploy {
        let running = |status: Option<&DeploymentStatus>| {
            status.is_some_and(|status| update::UNDER_WAY.contains(status) || *status == DeploymentStatus::Baking)
        };
        let last = group.and_then(|group| group.last_attempted_deployment()).filter(|last| running(last.status()));
        let Some(id) = last.and_then(|last| last.deployment_id()) else { return Ok(()) };
        let Some(found) = deployment(p, id).await? else { return Ok(()) };
        let told = update::told(&found, p.clock.now_unix_ms());
        match described_release(found.description()) {
            None => seen.notes.push(format!("the deployment {id} is under way, {told}: not a release of dbird")),
            Some(release) => {
                let sets = service.task_sets();
                let candidate =
                    sets.iter().find(|set| set.status() != Some("PRIMARY")).and_then(TaskSet::task_definition);
                let serves = update::serving(service);
                let previous = previous(p, serves).await?.filter(|previous| previous.release != release);
                let way = Way::Codedeploy { deployment: id.to_owned() };
                let began = unix_ms(found.create_time());
                let job = job(candidate.unwrap_or_default(), previous, way, began, true);
                seen.unfinished = Some(Token::Service(job).handle(&StepId::new(STEP), release));
            }
        }
        return Ok(());
    }
    let primary = service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
    let Some(primary) = primary.filter(|d| d.rollout_state() == Some(&DeploymentRolloutState::InProgress)) else {
        return Ok(());
    };
    let arn = primary.task_definition().unwrap_or_default();
    let release = release_of(p, arn).await?;
    if release.0 == 0 {
        seen.notes.push(format!(
            "a deployment of {} is under way, begun by {}: not a release of dbird",
            arn.rsplit('/').next().unwrap_or_default(),
            service.created_by().unwrap_or("somebody")
        ));
        return Ok(());
    }
    let previous = previous(p, update::serving(service).filter(|serves| *serves != arn)).await?;
    let rolling = service
        .deployment_configuration()
        .and_then(|config| config.strategy())
        .is_none_or(|strategy| strategy.as_str() == "ROLLING");
    let way = match (service.current_service_deployment(), primary.id()) {
        _ if previous.is_none() => Way::First,
        (Some(deployment), _) if !rolling => Way::Native { deployment: deployment.to_owned() },
        (_, Some(id)) => Way::Rolling { deployment: id.to_owned() },
        _ => return Ok(()),
    };
    let job = job(arn, previous, way, unix_ms(primary.created_at()), false);
    seen.unfinished = Some(Token::Service(job).handle(&StepId::new(STEP), release));
    Ok(())
}

/// A deployment as it is now; one that is followed, as it was when it was last asked for.
async fn deployment(p: &AwsProvider, id: &str) -> Result<Option<DeploymentInfo>, ProviderError> {
    if let Some(known) = p.rollouts.codedeploy(id).filter(|_| p.rollouts.follows()) {
        return Ok(Some(known));
    }
    let client = p.clients.codedeploy().await;
    let answer = client.get_deployment().deployment_id(id).send().await.or_fault("read the deployment", id)?;
    Ok(answer.deployment_info().cloned())
}

async fn previous(p: &AwsProvider, arn: Option<&str>) -> Result<Option<Previous>, ProviderError> {
    let Some(arn) = arn else { return Ok(None) };
    let release = match p.rollouts.release(arn) {
        Some(release) => release,
        None => described(p, arn).await?.and_then(|found| found.marker).map_or(ReleaseId(0), |marker| marker.release),
    };
    Ok(Some(Previous { task_definition: arn.to_owned(), release }))
}

/// The release that a deployment's description names.
pub(crate) fn described_release(description: Option<&str>) -> Option<ReleaseId> {
    description?.strip_prefix("dbird ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_its_release() {
        let cases = [
            (Some("dbird r4 001122334455"), Some(ReleaseId(4))),
            (Some("dbird x"), None),
            (Some("made by hand"), None),
            (None, None),
        ];
        for (text, release) in cases {
            assert_eq!(described_release(text), release, "{text:?}");
        }
    }
}
