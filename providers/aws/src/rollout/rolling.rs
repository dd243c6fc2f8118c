//! Where a rolling deployment is, from what ECS says of the service. Deployments are told apart by their ids, never by their
//! task definitions: a deployment back to an old task definition is another one. It calls nothing.

use aws_sdk_ecs::types::{Deployment, DeploymentRolloutState as State, Service};
use dbird_core::{Phase, ReleaseId, Weights};

use super::standing::{Standing, split};

/// Where a rolling deployment is.
pub(super) fn standing(candidate: ReleaseId, parent: Option<ReleaseId>, service: &Service, id: &str) -> Standing {
    let deployments = service.deployments();
    let ours = deployments.iter().find(|d| d.id() == Some(id));
    let primary = deployments.iter().find(|d| d.status() == Some("PRIMARY"));
    let is_primary = primary.and_then(Deployment::id) == Some(id);
    let weights = weights(candidate, parent, service, ours);
    match (ours, primary) {
        (Some(ours), _) if is_primary => at_work(candidate, ours, deployments.len(), weights),
        (_, Some(other)) => {
            let why = ours.map_or_else(|| ended(service, id), reason);
            match other.rollout_state() {
                Some(State::Completed) if ours.is_none() => {
                    Standing::new(Phase::RolledBack, why, split(candidate, parent, 0))
                }
                Some(State::Failed) => {
                    Standing::failed(format!("{why}; the way back failed too: {}", reason(other)), weights)
                }
                _ => Standing::new(Phase::RollingBack, why, weights),
            }
        }
        (_, None) => Standing::failed("the service has no deployment any more", weights),
    }
}

fn at_work(candidate: ReleaseId, ours: &Deployment, deployments: usize, weights: Weights) -> Standing {
    match ours.rollout_state() {
        Some(State::Completed) if deployments > 1 => {
            Standing::new(Phase::Finishing, "the previous tasks to stop", Weights::all(candidate))
        }
        Some(State::Completed) => Standing::new(Phase::Finished, "", Weights::all(candidate)),
        Some(State::Failed) => Standing::failed(reason(ours), weights),
        _ => {
            let waiting = format!("the new tasks: {} of {} run", ours.running_count(), ours.desired_count());
            let phase = if ours.running_count() == 0 { Phase::Working } else { Phase::Shifting };
            Standing::new(phase, waiting, weights)
        }
    }
}

/// Running tasks as a share of the traffic.
fn weights(candidate: ReleaseId, parent: Option<ReleaseId>, service: &Service, ours: Option<&Deployment>) -> Weights {
    let count = |d: &Deployment| u64::try_from(d.running_count()).unwrap_or(0);
    let new = ours.map_or(0, count);
    let all: u64 = service.deployments().iter().map(count).sum();
    if all == 0 {
        // Nothing runs between the old and the new of a recreate.
        return Weights::default();
    }
    let share = match new {
        0 => 0,
        new if new == all => 100,
        new => (new * 100 / all).clamp(1, 99),
    };
    split(candidate, parent, u8::try_from(share).unwrap_or(100))
}

/// Why a deployment ended that ECS does not list any more, as its events tell.
fn ended(service: &Service, id: &str) -> String {
    let begins = format!("(deployment {id}) deployment failed: ");
    let told = service.events().iter().filter_map(|event| event.message()?.split_once(&begins));
    let why = told.map(|(_, why)| why.trim_end_matches('.').to_owned()).next();
    why.unwrap_or_else(|| "another deployment took its place".to_owned())
}

fn reason(deployment: &Deployment) -> String {
    let reason = deployment.rollout_state_reason().unwrap_or_default().trim_end_matches('.');
    if reason.is_empty() { "another deployment took its place".to_owned() } else { reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ReleaseId = ReleaseId(3);
    const NEW: ReleaseId = ReleaseId(4);

    fn deployment(id: &str, status: &str, state: State, running: i32) -> Deployment {
        Deployment::builder()
            .id(id)
            .status(status)
            .task_definition("the same for all")
            .rollout_state(state)
            .rollout_state_reason(format!("about {id}."))
            .desired_count(2)
            .running_count(running)
            .build()
    }

    #[test]
    fn the_reason_outlives_the_deployment() {
        let event = |text: &str| aws_sdk_ecs::types::ServiceEvent::builder().message(text).build();
        let service = Service::builder()
            .deployments(deployment("back", "PRIMARY", State::Completed, 2))
            .events(event("(service bird) (deployment back) deployment completed."))
            .events(event("(service bird) (deployment other) deployment failed: no."))
            .events(event("(service bird) (deployment new) deployment failed: tasks failed to start."));
        let stands = standing(NEW, Some(OLD), &service.build(), "new");
        assert_eq!((stands.phase, stands.waiting_for.as_str()), (Phase::RolledBack, "tasks failed to start"));
    }

    #[test]
    fn a_deployment_stands_where_ecs_says() {
        use State::{Completed, Failed, InProgress};
        let new = |state, running| deployment("new", "PRIMARY", state, running);
        let old = |running| deployment("old", "ACTIVE", Completed, running);
        let back = |state, running| deployment("back", "PRIMARY", state, running);
        let beaten = |running| deployment("new", "ACTIVE", Failed, running);
        let cases: Vec<(&str, Vec<Deployment>, &str, u8, u8)> = vec![
            ("begins", vec![new(InProgress, 0), old(2)], "working", 0, 100),
            ("half", vec![new(InProgress, 1), old(1)], "shifting", 50, 50),
            ("most", vec![new(InProgress, 2), old(1)], "shifting", 66, 34),
            ("recreate between", vec![new(InProgress, 0), old(0)], "working", 0, 0),
            ("old ones stop", vec![new(Completed, 2), old(0)], "finishing", 100, 0),
            ("done", vec![new(Completed, 2)], "finished", 100, 0),
            ("failed for good", vec![new(Failed, 0), old(2)], "failed", 0, 100),
            ("goes back", vec![back(InProgress, 1), beaten(1)], "rolling-back", 50, 50),
            ("went back, new ones stop", vec![back(Completed, 2), beaten(0)], "rolling-back", 0, 100),
            ("went back", vec![back(Completed, 2)], "rolled-back", 0, 100),
            ("the way back fails", vec![back(Failed, 0), beaten(1)], "failed", 100, 0),
        ];
        for (name, deployments, phase, share, rest) in cases {
            let service = Service::builder().set_deployments(Some(deployments)).build();
            let stands = standing(NEW, Some(OLD), &service, "new");
            assert_eq!(serde_json::to_value(&stands.phase).unwrap()["is"], phase, "{name}");
            assert_eq!((stands.weights.of(NEW), stands.weights.of(OLD)), (share, rest), "{name}");
        }
    }
}
