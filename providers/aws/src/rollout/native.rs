//! Where a deployment is that ECS moves by itself between two target groups, from what ECS says of it. It calls nothing.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookDetail, DeploymentLifecycleHookStatus, ServiceDeployment,
    ServiceDeploymentLifecycleStage as Stage, ServiceDeploymentStatus as Status, ServiceRevisionSummary,
};
use dbird_core::{Phase, ReleaseId, Weights};

use super::standing::{Standing, split};

/// Where a service deployment is.
pub(super) fn standing(candidate: ReleaseId, parent: Option<ReleaseId>, found: &ServiceDeployment) -> Standing {
    let moved = share(found);
    let weights = split(candidate, parent, moved);
    let why = why(found);
    match found.status() {
        None | Some(Status::Pending) => Standing::new(Phase::Working, "ECS to begin", weights),
        Some(Status::Successful) => Standing::new(Phase::Finished, "", Weights::all(candidate)),
        Some(Status::RollbackSuccessful) => Standing::new(Phase::RolledBack, why, split(candidate, parent, 0)),
        Some(Status::RollbackRequested | Status::RollbackInProgress | Status::StopRequested) => {
            Standing::new(Phase::RollingBack, why, weights)
        }
        Some(Status::Stopped) if moved == 0 => Standing::new(Phase::RolledBack, why, weights),
        Some(Status::Stopped) => Standing::failed(why, weights),
        Some(Status::RollbackFailed) => Standing::failed(format!("{why}; the way back failed too"), weights),
        Some(_) => under_way(found, moved, weights),
    }
}

fn under_way(found: &ServiceDeployment, moved: u8, weights: Weights) -> Standing {
    // It waits for somebody: at a weight, or before any traffic.
    if let Some(hook) = found.lifecycle_hook_details().iter().find_map(awaiting) {
        let what = if moved == 0 { "somebody to go on before traffic" } else { "somebody to go on at this weight" };
        return Standing::new(Phase::Ready, what, weights).at_gate(gate(found, hook));
    }
    match found.lifecycle_stage() {
        Some(Stage::BakeTime) => Standing::new(Phase::Ready, "the end of the bake", weights),
        Some(Stage::CleanUp) => Standing::new(Phase::Finishing, "the previous tasks to stop", weights),
        Some(Stage::ProductionTrafficShift) => Standing::new(Phase::Shifting, "traffic to move", weights),
        Some(Stage::PostProductionTrafficShift) => Standing::new(Phase::Shifting, "traffic to settle", weights),
        _ if moved > 0 => Standing::new(Phase::Shifting, "the next weight", weights),
        Some(Stage::TestTrafficShift | Stage::PostTestTrafficShift) => {
            Standing::new(Phase::Working, "test traffic to move", weights)
        }
        _ => {
            let target = found.target_service_revision();
            let running = target.map_or(0, ServiceRevisionSummary::running_task_count);
            let wanted = target.map_or(0, ServiceRevisionSummary::requested_task_count);
            Standing::new(Phase::Working, format!("the new tasks: {running} of {wanted} run"), weights)
        }
    }
}

/// The name of the gate at which it waits. The same hook may wait at every weight, so the name says at which.
pub(super) fn gate(found: &ServiceDeployment, hook: &str) -> String {
    let stage = found.lifecycle_stage().map(Stage::as_str).unwrap_or_default();
    format!("{hook}@{stage}-{}", share(found))
}

/// The hook that waits at this gate; none where it does not wait there any more.
pub(super) fn waiting_at<'a>(found: &'a ServiceDeployment, name: &str) -> Option<&'a str> {
    found.lifecycle_hook_details().iter().filter_map(awaiting).find(|hook| gate(found, hook) == name)
}

fn awaiting(hook: &DeploymentLifecycleHookDetail) -> Option<&str> {
    hook.hook_id().filter(|_| hook.status() == Some(&DeploymentLifecycleHookStatus::AwaitingAction))
}

/// Why ECS ends it, in its words, with the alarms that fired.
pub(super) fn why(found: &ServiceDeployment) -> String {
    let reason = found.rollback().and_then(|rollback| rollback.reason());
    let mut why =
        reason.or(found.status_reason()).unwrap_or("ECS stopped the deployment").trim_end_matches('.').to_owned();
    let fired = found.alarms().map(|alarms| alarms.triggered_alarm_names()).unwrap_or_default();
    if !fired.is_empty() && !fired.iter().all(|name| why.contains(name.as_str())) {
        why += &format!(" (alarm {} is on)", fired.join(", "));
    }
    why
}

/// The candidate's share of the traffic.
fn share(found: &ServiceDeployment) -> u8 {
    let target = found.target_service_revision();
    let weight = target.and_then(ServiceRevisionSummary::requested_production_traffic_weight).unwrap_or(0.0);
    // Clamped, so it fits.
    weight.clamp(0.0, 100.0).round() as u8
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Rollback, ServiceDeploymentAlarms};

    use super::*;

    const OLD: ReleaseId = ReleaseId(3);
    const NEW: ReleaseId = ReleaseId(4);

    fn deployment(status: Status, stage: Option<Stage>, weight: f64, hook: Option<&str>) -> ServiceDeployment {
        let hook = hook.map(|id| {
            vec![
                DeploymentLifecycleHookDetail::builder()
                    .hook_id("past")
                    .status(DeploymentLifecycleHookStatus::Succeeded)
                    .build(),
                DeploymentLifecycleHookDetail::builder()
                    .hook_id(id)
                    .status(DeploymentLifecycleHookStatus::AwaitingAction)
                    .build(),
            ]
        });
        ServiceDeployment::builder()
            .status(status)
            .set_lifecycle_stage(stage)
            .set_lifecycle_hook_details(hook)
            .target_service_revision(
                ServiceRevisionSummary::builder()
                    .requested_production_traffic_weight(weight)
                    .requested_task_count(2)
                    .running_task_count(1)
                    .build(),
            )
            .build()
    }

    #[test]
    fn a_deployment_stands_where_ecs_says() {
        use Phase::{Finished, Finishing, Ready, RolledBack, RollingBack, Shifting, Working};
        let cases = [
            (Status::Pending, None, 0.0, None, Working, 0),
            (Status::InProgress, Some(Stage::ScaleUp), 0.0, None, Working, 0),
            (Status::InProgress, Some(Stage::TestTrafficShift), 0.0, None, Working, 0),
            (Status::InProgress, Some(Stage::PostTestTrafficShift), 0.0, Some("h1"), Ready, 0),
            (Status::InProgress, Some(Stage::ProductionTrafficShift), 10.0, None, Shifting, 10),
            (Status::InProgress, Some(Stage::ReconcileService), 10.0, Some("h2"), Ready, 10),
            (Status::InProgress, Some(Stage::PostProductionTrafficShift), 100.0, None, Shifting, 100),
            (Status::InProgress, Some(Stage::BakeTime), 100.0, None, Ready, 100),
            (Status::InProgress, Some(Stage::CleanUp), 100.0, None, Finishing, 100),
            (Status::Successful, None, 100.0, None, Finished, 100),
            (Status::RollbackRequested, None, 10.0, None, RollingBack, 10),
            (Status::RollbackInProgress, None, 0.0, None, RollingBack, 0),
            (Status::RollbackSuccessful, None, 10.0, None, RolledBack, 0),
            (Status::Stopped, None, 0.0, None, RolledBack, 0),
        ];
        for (status, stage, weight, hook, phase, share) in cases {
            let name = format!("{status:?} {stage:?} {weight}");
            let stands = standing(NEW, Some(OLD), &deployment(status, stage, weight, hook));
            assert_eq!(
                (stands.phase, stands.weights.of(NEW), stands.weights.of(OLD)),
                (phase, share, 100 - share),
                "{name}"
            );
            assert_eq!(stands.gates.len(), usize::from(hook.is_some()), "{name}");
        }
        for status in [Status::Stopped, Status::RollbackFailed] {
            let stands = standing(NEW, Some(OLD), &deployment(status.clone(), None, 10.0, None));
            assert!(matches!(stands.phase, Phase::Failed { .. }), "{status:?}: {stands:?}");
        }
    }

    #[test]
    fn a_gate_is_passed_only_where_it_is() {
        let at = |stage, weight, hook| deployment(Status::InProgress, Some(stage), weight, Some(hook));
        let before = at(Stage::PostTestTrafficShift, 0.0, "h");
        let gate = standing(NEW, Some(OLD), &before).gates.remove(0);
        assert_eq!(waiting_at(&before, &gate), Some("h"));
        // The same hook waits again, later: a late call must not pass it there.
        for later in [at(Stage::PreScaleUp, 10.0, "h"), at(Stage::PostTestTrafficShift, 10.0, "h")] {
            assert_eq!(waiting_at(&later, &gate), None);
            assert!(!standing(NEW, Some(OLD), &later).gates.contains(&gate));
        }
    }

    #[test]
    fn the_reason_names_the_alarm() {
        let mut found = deployment(Status::RollbackInProgress, None, 10.0, None);
        found.rollback =
            Some(Rollback::builder().reason("Service deployment rolled back because of an alarm.").build());
        found.alarms = Some(ServiceDeploymentAlarms::builder().triggered_alarm_names("bird-dev-green-errors").build());
        assert_eq!(
            why(&found),
            "Service deployment rolled back because of an alarm (alarm bird-dev-green-errors is on)"
        );
    }
}
