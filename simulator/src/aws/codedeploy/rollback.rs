//! Undoes a deployment by another one: all traffic back to the old task set, which becomes the primary one again, and the
//! replacement goes. It waits for nothing and nobody can stop it.

use std::sync::Arc;

use super::{
    CodeDeploy,
    deployment::{Deployment, Status, Wants},
    ground::Ground,
    run::Driven,
};

/// Before the traffic moves back.
const BEGINNING_MS: u64 = 2000;

/// Makes the deployment that undoes this one, for [`run`] to drive; its id.
pub(super) fn prepare<G: Ground>(ground: &Arc<G>, undone: &Deployment) -> Option<String> {
    let now = ground.clock().now_ms();
    let id = super::new_id();
    let made = ground.own().with(|inner| {
        let group = inner.group(&undone.application, &undone.group).ok()?;
        let last = group.last_successful.as_ref().and_then(|last| last["deploymentId"].as_str()).map(str::to_owned);
        let last = last.and_then(|last| inner.deployments.iter().find(|d| d.id == last));
        let (revision, spec) = last.map_or((undone.revision.clone(), None), |d| (d.revision.clone(), d.spec.clone()));
        let deployment = Deployment {
            id: id.clone(),
            revision,
            spec,
            description: Some(format!("Automatic rollback of deployment {}.", undone.id)),
            status: Status::Created,
            target_status: "Pending",
            error: None,
            created_ms: now,
            started_ms: None,
            completed_ms: None,
            changed_ms: now,
            events: Deployment::stages(&undone.settings),
            wants: Wants::default(),
            rolls_back: Some(undone.id.clone()),
            rolled_back_by: None,
            given: serde_json::Value::Null,
            ..undone.clone()
        };
        inner.deployments.push(deployment);
        Some(())
    });
    made.map(|()| id)
}

/// Drives it to its end.
pub(super) async fn run<G: Ground>(ground: Arc<G>, id: String) {
    let busy = ground.begin(&format!("deployment {id}"));
    let driven = Driven { ground: ground.clone(), id: id.clone() };
    let clock = ground.clock();
    driven
        .with(|d| (d.status, d.target_status, d.started_ms) = (Status::InProgress, "InProgress", Some(clock.now_ms())));
    driven.begin("AllowTraffic");
    clock.sleep_ms(BEGINNING_MS).await;
    let Some(deployment) = driven.with(|d| d.clone()) else { return };
    let settings = &deployment.settings;
    let listeners: Vec<String> = settings.listeners.iter().chain(&settings.test_listeners).cloned().collect();
    // Before there was a replacement no traffic has moved.
    let moved = if deployment.green.set.is_empty() { Ok(()) } else { driven.route(&listeners, 0) };
    let status = match moved {
        Ok(()) => {
            if !deployment.green.set.is_empty() {
                ground.set_primary(&deployment.blue.set);
                ground.delete_set(&deployment.green.set);
            }
            driven.end("AllowTraffic", "Succeeded");
            Status::Succeeded
        }
        Err(end) => {
            driven.end("AllowTraffic", "Failed");
            driven.with(|d| d.error = Some((end.code, end.message)));
            Status::Failed
        }
    };
    let now = clock.now_ms();
    driven.with(|d| {
        for event in d.events.iter_mut().filter(|e| e.status == "Pending") {
            event.status = "Skipped";
        }
        d.weight = 0;
        d.green.is_gone = status == Status::Succeeded;
        (d.status, d.target_status, d.completed_ms) = (status, status.name(), Some(now));
    });
    if status == Status::Succeeded {
        CodeDeploy::note_success(&*ground, &id);
    }
    drop(busy);
}
