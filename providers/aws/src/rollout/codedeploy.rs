//! Where a CodeDeploy deployment is, from what CodeDeploy says of it. It calls nothing and decides nothing.

use aws_sdk_codedeploy::types::{
    DeploymentInfo, DeploymentStatus, EcsTarget, EcsTaskSet, LifecycleEvent, LifecycleEventStatus, TargetLabel,
};
use dbird_core::{Phase, ReleaseId, Weights};

use super::standing::{Standing, Told, split, unix_ms};

/// The gate before any traffic.
pub(crate) const READY: &str = "ready";
/// The gate at which the previous release is still kept.
pub(crate) const TERMINATION: &str = "termination";
/// CodeDeploy starts a rollback within this long of a failure, if it does at all; cloud's milliseconds.
const ROLLBACK_STARTS_WITHIN_MS: u64 = 60_000;

/// Where a deployment is. `rollback` is the deployment that undoes it, where there is one.
pub(super) fn standing(
    candidate: ReleaseId,
    parent: Option<ReleaseId>,
    found: &DeploymentInfo,
    target: Option<&EcsTarget>,
    rollback: Option<&DeploymentInfo>,
    now_unix_ms: u64,
) -> Standing {
    let moved = target.map_or(0, share);
    let weights = split(candidate, parent, moved);
    let stand = |phase, waiting_for: &str| Standing::new(phase, waiting_for, weights.clone());
    match found.status() {
        None | Some(DeploymentStatus::Created | DeploymentStatus::Queued) => {
            stand(Phase::Working, "CodeDeploy to begin")
        }
        Some(DeploymentStatus::Ready) => stand(Phase::Ready, "somebody to go on before traffic").at_gate(READY),
        Some(DeploymentStatus::Succeeded) => Standing::new(Phase::Finished, "", Weights::all(candidate)),
        Some(DeploymentStatus::Failed | DeploymentStatus::Stopped) => {
            undone(candidate, parent, found, moved, rollback, now_unix_ms)
        }
        _ => under_way(found, target, moved, weights),
    }
}

fn under_way(found: &DeploymentInfo, target: Option<&EcsTarget>, moved: u8, weights: Weights) -> Standing {
    let events = target.map(EcsTarget::lifecycle_events).unwrap_or_default();
    let state = |name: &str| {
        events.iter().find(|event| event.lifecycle_event_name() == Some(name)).and_then(LifecycleEvent::status)
    };
    let running = events.iter().find(|event| event.status() == Some(&LifecycleEventStatus::InProgress));
    let at = running.and_then(LifecycleEvent::lifecycle_event_name).unwrap_or_default();
    let traffic_moved = moved == 100
        && matches!(state("AllowTraffic"), Some(LifecycleEventStatus::Succeeded | LifecycleEventStatus::Skipped));
    if traffic_moved || found.instance_termination_wait_time_started() && moved == 100 {
        if target.is_some_and(previous_goes) {
            return Standing::new(Phase::Finishing, "the previous tasks to stop", weights);
        }
        return Standing::new(Phase::Ready, "the end of the bake", weights).at_gate(TERMINATION);
    }
    match at {
        "AllowTraffic" => Standing::new(Phase::Shifting, "traffic to move", weights),
        _ if moved > 0 => Standing::new(Phase::Shifting, "the next weight", weights),
        "Install" => {
            let waiting = target.and_then(green).map_or_else(
                || "the new tasks to start".to_owned(),
                |set| format!("the new tasks: {} of {} run", set.running_count(), set.desired_count()),
            );
            Standing::new(Phase::Working, waiting, weights)
        }
        "" => Standing::new(Phase::Working, "CodeDeploy to begin", weights),
        other => Standing::new(Phase::Working, format!("CodeDeploy ({other})"), weights),
    }
}

fn undone(
    candidate: ReleaseId,
    parent: Option<ReleaseId>,
    found: &DeploymentInfo,
    moved: u8,
    rollback: Option<&DeploymentInfo>,
    now_unix_ms: u64,
) -> Standing {
    let why = why(found);
    let back = split(candidate, parent, 0);
    match rollback.and_then(DeploymentInfo::status) {
        Some(DeploymentStatus::Succeeded) => Standing::new(Phase::RolledBack, why, back),
        Some(DeploymentStatus::Failed | DeploymentStatus::Stopped) => {
            let undoing = rollback.map(self::why).unwrap_or_default();
            let why = format!("{why}; the way back failed too: {undoing}");
            Standing::failed(why, split(candidate, parent, moved))
        }
        Some(_) => Standing::new(Phase::RollingBack, why, split(candidate, parent, moved)),
        None => {
            let named = found.rollback_info().and_then(|info| info.rollback_deployment_id()).is_some();
            let ended_ms = unix_ms(found.complete_time());
            let over = ended_ms > 0 && now_unix_ms.saturating_sub(ended_ms) >= ROLLBACK_STARTS_WITHIN_MS;
            let expected = found.auto_rollback_configuration().is_some_and(|auto| auto.enabled());
            if named || expected && !over {
                Standing::new(Phase::RollingBack, why, split(candidate, parent, moved))
            } else if moved == 0 {
                Standing::new(Phase::RolledBack, why, back)
            } else {
                Standing::failed(why, split(candidate, parent, moved))
            }
        }
    }
}

/// Why a deployment ended, in CodeDeploy's words.
pub(super) fn why(found: &DeploymentInfo) -> String {
    let error = found.error_information();
    let code = error.and_then(|e| e.code()).map(|code| code.as_str()).unwrap_or_default();
    let message = error.and_then(|e| e.message()).unwrap_or_default();
    match (code, message) {
        ("", "") => "CodeDeploy stopped the deployment".to_owned(),
        ("", message) => message.to_owned(),
        (code, "") => format!("CodeDeploy ended the deployment: {code}"),
        (code, message) => format!("{} ({code})", message.trim_end_matches('.')),
    }
}

/// The candidate's share of the traffic.
fn share(target: &EcsTarget) -> u8 {
    let weight = green(target).map_or(0.0, EcsTaskSet::traffic_weight).clamp(0.0, 100.0);
    // Clamped above, so it fits.
    weight.round() as u8
}

fn green(target: &EcsTarget) -> Option<&EcsTaskSet> {
    target.task_sets_info().iter().find(|set| set.task_set_label() == Some(&TargetLabel::Green))
}

fn previous_goes(target: &EcsTarget) -> bool {
    let blue = target.task_sets_info().iter().find(|set| set.task_set_label() == Some(&TargetLabel::Blue));
    blue.is_none_or(|set| set.status() == Some("DRAINING") || set.desired_count() == 0)
}

/// What happened to a target, oldest first.
pub(super) fn told(target: &EcsTarget) -> Vec<Told> {
    let mut told = Vec::new();
    for event in target.lifecycle_events() {
        let name = event.lifecycle_event_name().unwrap_or_default();
        let (began, ended) = (unix_ms(event.start_time()), unix_ms(event.end_time()));
        if began > 0 {
            told.push(Told::new(began, format!("{name} begins"), format!("{} begins", spoken(name))));
        }
        match event.status() {
            Some(LifecycleEventStatus::Succeeded) if ended > 0 => {
                told.push(Told::new(ended, format!("{name} ends"), format!("{} is done", spoken(name))));
            }
            Some(LifecycleEventStatus::Failed) => {
                let why = event.diagnostics().and_then(|d| d.message()).unwrap_or("no reason given");
                let text = format!("{} failed: {why}", spoken(name));
                told.push(Told::new(ended.max(began), format!("{name} failed"), text));
            }
            _ => {}
        }
    }
    told.sort_by_key(|told| told.at_unix_ms);
    told
}

/// A lifecycle event in plain words, with CodeDeploy's own name where there is no better.
fn spoken(name: &str) -> String {
    match name {
        "Install" => "starting the new tasks".to_owned(),
        "AllowTestTraffic" => "moving test traffic".to_owned(),
        "AllowTraffic" => "moving traffic".to_owned(),
        "BeforeInstall" | "AfterInstall" | "AfterAllowTestTraffic" | "BeforeAllowTraffic" | "AfterAllowTraffic" => {
            format!("CodeDeploy's {name}")
        }
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_codedeploy::primitives::DateTime;
    use aws_sdk_codedeploy::types::{AutoRollbackConfiguration, ErrorCode, ErrorInformation, RollbackInfo};

    use super::*;

    const OLD: ReleaseId = ReleaseId(3);
    const NEW: ReleaseId = ReleaseId(4);

    fn deployment(status: DeploymentStatus) -> DeploymentInfo {
        DeploymentInfo::builder()
            .status(status)
            .auto_rollback_configuration(AutoRollbackConfiguration::builder().enabled(true).build())
            .build()
    }

    fn target(events: &[(&str, LifecycleEventStatus)], weight: f64, blue: &str) -> EcsTarget {
        let events = events.iter().map(|(name, status)| {
            LifecycleEvent::builder()
                .lifecycle_event_name(*name)
                .status(status.clone())
                .start_time(DateTime::from_secs(100))
                .set_end_time((*status == LifecycleEventStatus::Succeeded).then(|| DateTime::from_secs(110)))
                .build()
        });
        let set = |label: TargetLabel, weight: f64, status: &str| {
            EcsTaskSet::builder()
                .task_set_label(label)
                .traffic_weight(weight)
                .status(status)
                .desired_count(2)
                .running_count(1)
                .build()
        };
        EcsTarget::builder()
            .set_lifecycle_events(Some(events.collect()))
            .task_sets_info(set(TargetLabel::Blue, 100.0 - weight, blue))
            .task_sets_info(set(TargetLabel::Green, weight, "ACTIVE"))
            .build()
    }

    #[test]
    fn a_deployment_stands_where_codedeploy_says() {
        use DeploymentStatus as D;
        use LifecycleEventStatus::{InProgress, Succeeded};
        let allowed = [("AllowTraffic", Succeeded)];
        type Case<'a> = (&'a str, DeploymentStatus, Option<EcsTarget>, Phase, u8, &'a [&'a str]);
        let cases: Vec<Case<'_>> = vec![
            ("created", D::Created, None, Phase::Working, 0, &[]),
            (
                "installs",
                D::InProgress,
                Some(target(&[("Install", InProgress)], 0.0, "PRIMARY")),
                Phase::Working,
                0,
                &[],
            ),
            ("waits", D::Ready, Some(target(&[("Install", Succeeded)], 0.0, "PRIMARY")), Phase::Ready, 0, &[READY]),
            (
                "shifts",
                D::InProgress,
                Some(target(&[("AllowTraffic", InProgress)], 10.0, "PRIMARY")),
                Phase::Shifting,
                10,
                &[],
            ),
            (
                "at the last weight",
                D::InProgress,
                Some(target(&[("AllowTraffic", InProgress)], 100.0, "PRIMARY")),
                Phase::Shifting,
                100,
                &[],
            ),
            ("bakes", D::InProgress, Some(target(&allowed, 100.0, "ACTIVE")), Phase::Ready, 100, &[TERMINATION]),
            ("drains", D::InProgress, Some(target(&allowed, 100.0, "DRAINING")), Phase::Finishing, 100, &[]),
            ("succeeded", D::Succeeded, None, Phase::Finished, 100, &[]),
        ];
        for (name, status, target, phase, weight, gates) in cases {
            let stands = standing(NEW, Some(OLD), &deployment(status), target.as_ref(), None, 0);
            assert_eq!((stands.phase, stands.weights.of(NEW)), (phase, weight), "{name}");
            assert_eq!(stands.weights.of(OLD), 100 - weight, "{name}");
            assert_eq!(stands.gates, gates, "{name}");
        }
    }

    #[test]
    fn a_deployment_that_ended_badly_is_followed_to_its_rollback() {
        let mut failed = deployment(DeploymentStatus::Stopped);
        failed.complete_time = Some(DateTime::from_secs(1_000));
        failed.error_information = Some(
            ErrorInformation::builder().code(ErrorCode::AlarmActive).message("alarm bird-dev-errors is on").build(),
        );
        let mut named = failed.clone();
        named.rollback_info = Some(RollbackInfo::builder().rollback_deployment_id("d-2").build());
        let mut without = failed.clone();
        without.auto_rollback_configuration = None;
        let moved = target(&[("AllowTraffic", LifecycleEventStatus::Failed)], 10.0, "PRIMARY");
        let cases = [
            ("has not begun yet", &failed, None, 1_010_000, "rolling-back"),
            ("named", &named, None, 9_000_000, "rolling-back"),
            ("under way", &named, Some(DeploymentStatus::InProgress), 1_010_000, "rolling-back"),
            ("done", &named, Some(DeploymentStatus::Succeeded), 1_010_000, "rolled-back"),
            ("failed too", &named, Some(DeploymentStatus::Failed), 1_010_000, "failed"),
            ("never began", &failed, None, 9_000_000, "failed"),
            ("nobody asked for it", &without, None, 1_010_000, "failed"),
        ];
        for (name, found, rollback, now, phase) in cases {
            let rollback = rollback.map(deployment);
            let stands = standing(NEW, Some(OLD), found, Some(&moved), rollback.as_ref(), now);
            assert_eq!(serde_json::to_value(&stands.phase).unwrap()["is"], phase, "{name}");
            assert!(
                stands.waiting_for.contains("bird-dev-errors"),
                "{name}: the reason is lost: {}",
                stands.waiting_for
            );
        }
        let untouched = target(&[], 0.0, "PRIMARY");
        let stands = standing(NEW, Some(OLD), &without, Some(&untouched), None, 1_010_000);
        assert_eq!(stands.phase, Phase::RolledBack, "nothing had moved, so nothing has to go back");
    }

    #[test]
    fn what_happened_is_told_once_and_in_order() {
        let target = target(
            &[("Install", LifecycleEventStatus::Succeeded), ("AllowTraffic", LifecycleEventStatus::Failed)],
            0.0,
            "PRIMARY",
        );
        let texts: Vec<_> = told(&target).into_iter().map(|told| told.text).collect();
        assert_eq!(
            texts,
            [
                "starting the new tasks begins",
                "moving traffic begins",
                "moving traffic failed: no reason given",
                "starting the new tasks is done"
            ]
        );
    }
}
