//! A service deployment: from a new revision of a service to its success, or back. It decides when a deployment has failed and
//! what is done then; how traffic moves is `native`'s.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    State, balance, native,
    service::{Revision, Service},
};
use crate::aws::{
    World, flag, list as members, number,
    spans::{Busy, Spans},
    stamp, text,
};

/// How often a deployment is looked at, in simulated time, and at least and at most in ours.
const LOOK_MS: u64 = 1_000;
const LOOK_LEAST: Duration = Duration::from_millis(15);
const LOOK_MOST: Duration = Duration::from_millis(200);
/// Failed tasks that make a deployment fail: half of those wanted, within these.
const FAILED_LEAST: u32 = 3;
const FAILED_MOST: u32 = 200;

/// Why a deployment does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// Back to what was.
    Undo(String),
    /// No further, and everything stays as it is.
    Abort(String),
    /// Its service or it is gone, or another deployment took its place.
    Gone,
}

/// A pause that somebody must end.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) expires_ms: u64,
    pub(super) action: String,
}

/// A service deployment.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) arn: String,
    pub(super) service: String,
    pub(super) cluster_arn: String,
    /// What ran before, and where a rollback goes.
    pub(super) sources: Vec<Revision>,
    pub(super) target: Revision,
    /// The target's tasks.
    pub(super) set: String,
    pub(super) status: &'static str,
    pub(super) reason: Option<String>,
    pub(super) stage: Option<&'static str>,
    pub(super) hooks: Vec<Hook>,
    pub(super) config: Value,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
    pub(super) finished_ms: Option<u64>,
    pub(super) stopped_ms: Option<u64>,
    pub(super) rollback: Option<(String, u64)>,
    pub(super) production_weight: u32,
    pub(super) test_weight: u32,
    pub(super) failed: u32,
    pub(super) has_tripped: bool,
    pub(super) alarms: Vec<String>,
    pub(super) halt: Option<Halt>,
    busy: Option<Busy>,
}

impl Deployment {
    pub(super) fn is_over(&self) -> bool {
        self.finished_ms.is_some() || self.stopped_ms.is_some()
    }

    pub(super) fn brief(&self) -> Value {
        let mut brief = json!({
            "serviceDeploymentArn": self.arn, "serviceArn": self.service, "clusterArn": self.cluster_arn,
            "createdAt": stamp(self.created_ms), "startedAt": stamp(self.created_ms), "status": self.status,
            "targetServiceRevisionArn": self.target.arn,
        });
        if let Some(at) = self.finished_ms {
            brief["finishedAt"] = stamp(at);
        }
        if let Some(reason) = &self.reason {
            brief["statusReason"] = json!(reason);
        }
        brief
    }

    pub(super) fn view(&self, state: &State) -> Value {
        let mut view = self.brief();
        if let Some(fields) = view.as_object_mut() {
            fields.remove("targetServiceRevisionArn");
        }
        let service = state.services.get(&self.service);
        let sets = service.map(|s| s.sets.as_slice()).unwrap_or_default();
        let of = |revision: &Revision, production: u32, test: u32| {
            let set = sets.iter().find(|s| s.revision.arn == revision.arn);
            let (running, pending) = set.map_or((0, 0), |s| state.counts(&self.service, &s.id));
            let asked = set.filter(|s| s.is_wanted).and(service).map_or(0, |s| s.desired);
            json!({
                "arn": revision.arn, "requestedTaskCount": asked, "runningTaskCount": running, "pendingTaskCount": pending,
                "requestedProductionTrafficWeight": f64::from(production), "requestedTestTrafficWeight": f64::from(test),
            })
        };
        let (production, test) = (self.production_weight, self.test_weight);
        view["updatedAt"] = stamp(self.updated_ms);
        view["targetServiceRevision"] = of(&self.target, production, test);
        let sources = self.sources.iter().map(|r| of(r, 100 - production.min(100), 100 - test.min(100)));
        view["sourceServiceRevisions"] = sources.collect();
        view["deploymentConfiguration"] = self.config.clone();
        let breaker = self.config.get("deploymentCircuitBreaker").cloned().unwrap_or_default();
        let watching = if self.is_over() { "MONITORING_COMPLETE" } else { "MONITORING" };
        let status = match (flag(&breaker, "enable").unwrap_or(false), self.has_tripped) {
            (false, _) => "DISABLED",
            (true, true) => "TRIGGERED",
            (true, false) => watching,
        };
        let limit = service.map_or(FAILED_LEAST, |s| limit(&self.config, s.desired));
        view["deploymentCircuitBreaker"] = json!({ "status": status, "failureCount": self.failed, "threshold": limit });
        let names = alarm_names(&self.config);
        let status = match (names.is_empty(), self.alarms.is_empty()) {
            (true, _) => "DISABLED",
            (false, false) => "TRIGGERED",
            (false, true) => watching,
        };
        view["alarms"] = json!({ "status": status, "alarmNames": names, "triggeredAlarmNames": self.alarms });
        if let Some(stage) = self.stage.filter(|_| !self.is_over()) {
            view["lifecycleStage"] = json!(stage);
        }
        let hooks = self.hooks.iter().map(|h| {
            json!({
                "hookId": h.id, "targetType": "PAUSE", "status": h.status, "expiresAt": stamp(h.expires_ms),
                "timeoutAction": h.action,
            })
        });
        view["lifecycleHookDetails"] = hooks.collect();
        if let Some(at) = self.stopped_ms {
            view["stoppedAt"] = stamp(at);
        }
        if let (Some((reason, at)), Some(to)) = (&self.rollback, self.sources.first()) {
            view["rollback"] = json!({ "reason": reason, "startedAt": stamp(*at), "serviceRevisionArn": to.arn });
        }
        view
    }
}

/// The alarms that stop a deployment.
fn alarm_names(config: &Value) -> Vec<String> {
    let alarms = config.get("alarms").cloned().unwrap_or_default();
    if !flag(&alarms, "enable").unwrap_or(false) {
        return Vec::new();
    }
    members(&alarms, "alarmNames").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// So many failed tasks are too many.
pub(super) fn limit(config: &Value, desired: u32) -> u32 {
    let given = config.pointer("/deploymentCircuitBreaker/thresholdConfiguration").cloned().unwrap_or_default();
    let value = number(&given, "value").and_then(|n| u32::try_from(n).ok()).unwrap_or(50);
    let part = (desired * value).div_ceil(100);
    match text(&given, "type") {
        Some("COUNT") => value.max(1),
        Some("UNBOUNDED_PERCENT") => part.max(1),
        _ => part.clamp(FAILED_LEAST, FAILED_MOST),
    }
}

/// Begins a deployment of a new revision; whatever was under way is given up. The caller drives it when the state is free.
pub(super) fn begin(
    world: &Arc<World>,
    state: &mut State,
    service: &mut Service,
    revision: Revision,
    now: u64,
) -> String {
    let id = super::names::id();
    let arn = format!("{}/{}", service.arn.replace(":service/", ":service-deployment/"), id.get(..20).unwrap_or(&id));
    let mut sources: Vec<Revision> =
        service.sets.iter().filter(|s| s.rollout == "COMPLETED" && s.is_wanted).map(|s| s.revision.clone()).collect();
    if let Some(before) = give_up(state, service, now, "Service deployment was superseded by a new one.") {
        sources = before;
    }
    let is_rolling = service.strategy() == "ROLLING";
    for set in &mut service.sets {
        // A rolling deployment takes from the old what the new makes up for; natively the old stays until the end.
        let is_source = sources.iter().any(|r| r.arn == set.revision.arn);
        set.want(set.is_wanted && is_source && !is_rolling);
        set.updated_ms = now;
    }
    service.revisions.push(revision.clone());
    let set = service.new_set(revision.clone(), Some(arn.clone()), now);
    service.promote(&set);
    service.deployment = Some(arn.clone());
    let deployment = Deployment {
        arn: arn.clone(),
        service: service.arn.clone(),
        cluster_arn: service.cluster_arn.clone(),
        sources,
        target: revision,
        set,
        status: "IN_PROGRESS",
        reason: None,
        stage: None,
        hooks: Vec::new(),
        config: service.config.clone(),
        created_ms: now,
        updated_ms: now,
        finished_ms: None,
        stopped_ms: None,
        rollback: None,
        production_weight: 0,
        test_weight: 0,
        failed: 0,
        has_tripped: false,
        alarms: Vec::new(),
        halt: None,
        busy: Some(Spans::begin(world, &format!("service {}", service.name))),
    };
    state.deployments.insert(arn.clone(), deployment);
    arn
}

/// Ends the deployment that is under way where it is; what it had come from.
pub(super) fn give_up(state: &mut State, service: &mut Service, now: u64, why: &str) -> Option<Vec<Revision>> {
    let before = service.deployment.take().and_then(|arn| state.deployments.get_mut(&arn))?;
    before.halt = Some(Halt::Gone);
    before.status = "STOPPED";
    before.reason = Some(why.to_owned());
    before.stopped_ms = Some(now);
    before.busy = None;
    Some(before.sources.clone())
}

/// Drives a deployment to its end, in the background.
pub(super) fn drive(world: &Arc<World>, arn: String) {
    let world = world.clone();
    tokio::spawn(async move {
        let strategy = with(&world, &arn, |d| text(&d.config, "strategy").unwrap_or("ROLLING").to_owned());
        let Some(strategy) = strategy else { return };
        let is_rolling = strategy == "ROLLING";
        let gone = if is_rolling { forth(&world, &arn).await } else { native::forth(&world, &arn).await };
        match gone {
            Ok(()) => finish(&world, &arn, "SUCCESSFUL", None),
            Err(Halt::Gone) => {}
            Err(Halt::Abort(why)) => finish(&world, &arn, "STOPPED", Some(why)),
            Err(Halt::Undo(why)) => {
                let back = undo(&world, &arn, &why, is_rolling).await;
                let status = if back.is_ok() { "ROLLBACK_SUCCESSFUL" } else { "ROLLBACK_FAILED" };
                match back {
                    Err(Halt::Gone) => {}
                    Err(Halt::Undo(more) | Halt::Abort(more)) => finish(&world, &arn, status, Some(more)),
                    Ok(()) => finish(&world, &arn, status, Some(why)),
                }
            }
        }
    });
}

/// Changes a deployment, if it is known.
pub(super) fn with<T>(world: &World, arn: &str, change: impl FnOnce(&mut Deployment) -> T) -> Option<T> {
    let now = world.clock.now_ms();
    world.ecs.state().deployments.get_mut(arn).map(|d| {
        d.updated_ms = now;
        change(d)
    })
}

/// The service of a deployment and the deployment, as they are now.
pub(super) fn both<T>(
    world: &World,
    arn: &str,
    act: impl FnOnce(&mut Service, &mut Deployment) -> T,
) -> Result<T, Halt> {
    let mut state = world.ecs.state();
    let state = &mut *state;
    let deployment = state.deployments.get_mut(arn).ok_or(Halt::Gone)?;
    let service = state.services.get_mut(&deployment.service).ok_or(Halt::Gone)?;
    if service.deployment.as_deref() != Some(arn) || service.status != "ACTIVE" {
        return Err(Halt::Gone);
    }
    Ok(act(service, deployment))
}

/// Waits until something is so, as long as nothing stops the deployment.
pub(super) async fn until(
    world: &Arc<World>,
    arn: &str,
    mut is: impl FnMut(&Service, &Deployment) -> bool,
) -> Result<(), Halt> {
    loop {
        judge(world, arn)?;
        if both(world, arn, |service, deployment| is(service, deployment))? {
            return Ok(());
        }
        tokio::time::sleep(world.clock.real(LOOK_MS).clamp(LOOK_LEAST, LOOK_MOST)).await;
    }
}

/// Lets so many simulated minutes pass, as long as nothing stops the deployment.
pub(super) async fn minutes(world: &Arc<World>, arn: &str, minutes: f64) -> Result<(), Halt> {
    let end = world.clock.now_ms() + (minutes * 60_000.0) as u64;
    let world_too = world.clone();
    until(world, arn, move |_, _| world_too.clock.now_ms() >= end).await
}

/// Whether something stops the deployment: somebody's wish, too many failed tasks, an alarm.
fn judge(world: &Arc<World>, arn: &str) -> Result<(), Halt> {
    let (halt, names, failed, desired, config) = both(world, arn, |service, d| {
        let failed = service.sets.iter().find(|s| s.id == d.set).map_or(0, |s| s.failed);
        d.failed = failed;
        (d.halt.clone(), alarm_names(&d.config), failed, service.desired, d.config.clone())
    })?;
    if let Some(halt) = halt {
        return Err(halt);
    }
    let breaker = config.get("deploymentCircuitBreaker").cloned().unwrap_or_default();
    let says = |given: &Value, why: String| {
        if flag(given, "rollback").unwrap_or(false) { Halt::Undo(why) } else { Halt::Abort(why) }
    };
    if flag(&breaker, "enable").unwrap_or(false) && failed >= limit(&config, desired) {
        let why = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        both(world, arn, |service, d| {
            d.has_tripped = true;
            let id = d.set.clone();
            if let Some(set) = service.set_mut(&id) {
                set.rollout = "FAILED";
                set.rollout_reason.clone_from(&why);
                set.want(false);
            }
        })?;
        return Err(says(&breaker, why));
    }
    let fired: Vec<String> =
        names.into_iter().filter(|n| balance::alarm_state(world, n).as_deref() == Some("ALARM")).collect();
    if fired.is_empty() {
        return Ok(());
    }
    let why = format!("alarm detected: {}", fired.join(", "));
    with(world, arn, |d| d.alarms = fired);
    Err(says(&config.get("alarms").cloned().unwrap_or_default(), why))
}

/// A rolling deployment: done when all of the new runs and nothing of the old is left, and the bake has passed.
async fn forth(world: &Arc<World>, arn: &str) -> Result<(), Halt> {
    with(world, arn, |d| d.stage = Some("SCALE_UP"));
    until(world, arn, is_settled).await?;
    let bake = both(world, arn, |_, d| {
        d.stage = Some("BAKE_TIME");
        number(&d.config, "bakeTimeInMinutes").unwrap_or(0)
    })?;
    minutes(world, arn, bake as f64).await?;
    // What died meanwhile is there again.
    until(world, arn, is_settled).await
}

fn is_settled(service: &Service, deployment: &Deployment) -> bool {
    service.sets.iter().all(|set| if set.id == deployment.set { set.is_steady && set.is_wanted } else { set.is_steady })
}

/// Back to what ran before, by tasks of it that are left, or by new ones.
async fn undo(world: &Arc<World>, arn: &str, why: &str, is_rolling: bool) -> Result<(), Halt> {
    let now = world.clock.now_ms();
    let is_possible = both(world, arn, |service, d| {
        d.halt = None;
        d.status = "ROLLBACK_IN_PROGRESS";
        d.rollback = Some((why.to_owned(), now));
        d.hooks.clear();
        let failed = d.set.clone();
        if let Some(set) = service.set_mut(&failed) {
            set.rollout = "FAILED";
            set.rollout_reason = why.to_owned();
            set.want(false);
            set.updated_ms = now;
        }
        let Some(back) = d.sources.first().cloned() else { return false };
        service.tell(now, &format!("(deployment {failed}) deployment failed: {why}"));
        let there = service.sets.iter().find(|s| s.revision.arn == back.arn).map(|s| s.id.clone());
        let id = there.unwrap_or_else(|| service.new_set(back, Some(arn.to_owned()), now));
        service.promote(&id);
        if let Some(set) = service.set_mut(&id) {
            set.want(true);
            set.failed = 0;
            set.rollout_reason = format!("ECS deployment circuit breaker: rolling back to deploymentId {id}.");
        }
        service.wake.notify_one();
        d.set = id;
        true
    })?;
    if !is_possible {
        return Err(Halt::Undo("No rollback candidate was found to run the rollback.".to_owned()));
    }
    if !is_rolling {
        native::back(world, arn)?;
    }
    // Alarms are still there; only what can't start stops the way back.
    loop {
        let (done, failed) = both(world, arn, |service, d| {
            let failed = service.sets.iter().find(|s| s.id == d.set).map_or(0, |s| s.failed);
            (is_settled(service, d), failed >= limit(&d.config, service.desired))
        })?;
        if done {
            return Ok(());
        }
        if failed {
            return Err(Halt::Undo(
                "The service revision that was rolled back to could not be started either.".to_owned(),
            ));
        }
        tokio::time::sleep(world.clock.real(LOOK_MS).clamp(LOOK_LEAST, LOOK_MOST)).await;
    }
}

fn finish(world: &Arc<World>, arn: &str, status: &'static str, reason: Option<String>) {
    let now = world.clock.now_ms();
    // Gone is as good as finished.
    let _ = both(world, arn, |service, d| {
        d.status = status;
        d.reason = reason;
        d.stage = None;
        if status == "STOPPED" {
            d.stopped_ms = Some(now);
        }
        d.finished_ms = Some(now);
        d.busy = None;
        let (set, is_fine) = (d.set.clone(), matches!(status, "SUCCESSFUL" | "ROLLBACK_SUCCESSFUL"));
        service.deployment = None;
        if let Some(set) = service.set_mut(&set).filter(|_| is_fine) {
            set.rollout = "COMPLETED";
            set.rollout_reason = format!("ECS deployment {} completed.", set.id);
            set.updated_ms = now;
        }
        // What is empty is not told of any more.
        service.sets.retain(|s| s.is_primary || s.is_wanted || !s.is_steady);
        if is_fine {
            service.tell(now, &format!("(deployment {set}) deployment completed."));
        }
        service.wake.notify_one();
    });
}
