//! What is asked of deployments: begin one, look, let it go on, stop it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Inner,
    appspec::AppSpec,
    deployment::{Deployment, Side, Status, Wants},
    ground::Ground,
    group::{alarms, rolls_back},
    new_id, run,
};
use crate::aws::{Answer, Fault, flag, list, stamp, text, time_ms};

/// Deployments that are remembered.
const KEPT: usize = 1000;
/// Ids that one call may name.
const BATCH_MAX: usize = 25;
const DESCRIPTION_CHARS_MAX: usize = 1000;

fn required<'a>(input: &'a Value, member: &str, code: &str) -> Result<&'a str, Fault> {
    let given = text(input, member).filter(|t| !t.is_empty());
    given.ok_or_else(|| Fault::new(code, format!("The {member} was not specified")))
}

/// `CreateDeployment`.
pub(super) fn create<G: Ground>(ground: &Arc<G>, input: &Value) -> Answer {
    let application = required(input, "applicationName", "ApplicationNameRequiredException")?;
    let group = required(input, "deploymentGroupName", "DeploymentGroupNameRequiredException")?;
    if text(input, "description").is_some_and(|d| d.chars().count() > DESCRIPTION_CHARS_MAX) {
        return Err(Fault::new("DescriptionTooLongException", "The description is too long"));
    }
    let now = ground.clock().now_ms();
    let id = ground.own().with(|inner| {
        let found = inner.group(application, group)?;
        let revision = input.get("revision").filter(|v| !v.is_null());
        let revision =
            revision.ok_or_else(|| Fault::new("RevisionRequiredException", "The revision was not specified"))?;
        let spec = AppSpec::of_revision(revision)?;
        let mut settings = found.settings.clone();
        if input.get("autoRollbackConfiguration").is_some_and(|v| !v.is_null()) {
            settings.rolls_back = rolls_back(input)?;
        }
        if let Some((names, lenient)) = alarms(input, "overrideAlarmConfiguration")? {
            (settings.alarms, settings.ignores_unknown_alarms) = (names, lenient);
        }
        let config = inner.config(text(input, "deploymentConfigName").unwrap_or(&settings.config))?;
        let (config, routing) = (config.name.clone(), config.routing);
        let is_active = |d: &&Deployment| d.application == application && d.group == group && !d.status.is_over();
        if let Some(active) = inner.deployments.iter().find(is_active) {
            let message = format!("The Deployment Group '{group}' already has an active Deployment '{}'", active.id);
            return Err(Fault::new("DeploymentLimitExceededException", message));
        }
        let id = new_id();
        let service_arn = ground.service(&settings.cluster, &settings.service).map(|s| s.arn).unwrap_or_default();
        inner.deployments.push(Deployment {
            id: id.clone(),
            application: application.to_owned(),
            group: group.to_owned(),
            config,
            routing,
            events: Deployment::stages(&settings),
            settings,
            revision: revision.clone(),
            spec: Some(spec),
            description: text(input, "description").map(str::to_owned),
            status: Status::Created,
            target_status: "Pending",
            error: None,
            created_ms: now,
            started_ms: None,
            completed_ms: None,
            changed_ms: now,
            service_arn,
            blue: Side::default(),
            green: Side::default(),
            weight: 0,
            is_waiting_to_end: false,
            wants: Wants::default(),
            rolls_back: None,
            rolled_back_by: None,
            given: input.clone(),
        });
        if inner.deployments.len() > KEPT {
            let over = inner.deployments.iter().position(|d| d.status.is_over());
            over.map(|at| inner.deployments.remove(at));
        }
        if let Some(group) = inner.group_mut(application, group) {
            group.last_attempted =
                Some(json!({ "deploymentId": id, "status": "InProgress", "createTime": stamp(now) }));
        }
        Ok(id)
    })?;
    tokio::spawn(run::run(ground.clone(), id.clone()));
    Ok(json!({ "deploymentId": id }))
}

/// `ContinueDeployment`.
pub(super) fn go_on(inner: &mut Inner, input: &Value) -> Answer {
    let deployment = inner.deployment_mut(input)?;
    if deployment.status.is_over() {
        return Err(completed(&deployment.id));
    }
    let not_ready = |id: &str| {
        Err(Fault::new(
            "DeploymentIsNotInReadyStateException",
            format!("The deployment {id} is not in a ready state and can't continue yet."),
        ))
    };
    match text(input, "deploymentWaitType").unwrap_or("READY_WAIT") {
        "READY_WAIT" if deployment.status == Status::Ready => deployment.wants.traffic = true,
        "TERMINATION_WAIT" if deployment.is_waiting_to_end => deployment.wants.ending = true,
        "READY_WAIT" | "TERMINATION_WAIT" => return not_ready(&deployment.id),
        other => {
            let message = format!("The specified wait type is not valid: {other}");
            return Err(Fault::new("InvalidDeploymentWaitTypeException", message));
        }
    }
    Ok(json!({}))
}

/// `StopDeployment`.
pub(super) fn stop(inner: &mut Inner, input: &Value) -> Answer {
    let deployment = inner.deployment_mut(input)?;
    if deployment.status.is_over() {
        return Err(completed(&deployment.id));
    }
    if deployment.rolls_back.is_some() {
        let message = "A rollback to an original task set can't be stopped.";
        return Err(Fault::new("UnsupportedActionForDeploymentTypeException", message));
    }
    let by_itself = deployment.settings.rolls_back.iter().any(|event| event == "DEPLOYMENT_STOP_ON_REQUEST");
    deployment.wants.stop = Some(flag(input, "autoRollbackEnabled").unwrap_or(by_itself));
    let message = "No more ECS task sets will be changed by this deployment.";
    Ok(json!({ "status": "Pending", "statusMessage": message }))
}

/// `ListDeployments`: the newest first.
pub(super) fn list_all(inner: &Inner, input: &Value) -> Answer {
    if let (Some(application), Some(group)) = (text(input, "applicationName"), text(input, "deploymentGroupName")) {
        inner.group(application, group)?;
    }
    let states: Vec<&str> = list(input, "includeOnlyStatuses").iter().filter_map(Value::as_str).collect();
    let range = input.get("createTimeRange").unwrap_or(&Value::Null);
    let (from, to) = (time_ms(range, "start").unwrap_or(0), time_ms(range, "end").unwrap_or(u64::MAX));
    let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
    let fits = |d: &&Deployment| {
        is(text(input, "applicationName"), &d.application)
            && is(text(input, "deploymentGroupName"), &d.group)
            && (states.is_empty() || states.contains(&d.status.name()))
            && (from..=to).contains(&d.created_ms)
    };
    let ids: Vec<&str> = inner.deployments.iter().rev().filter(fits).map(|d| d.id.as_str()).collect();
    Ok(json!({ "deployments": ids }))
}

/// `GetDeployment`.
pub(super) fn get(inner: &Inner, input: &Value) -> Answer {
    let id = required(input, "deploymentId", "DeploymentIdRequiredException")?;
    Ok(json!({ "deploymentInfo": inner.view(inner.deployment(id)?) }))
}

/// `BatchGetDeployments`: those that are there.
pub(super) fn get_many(inner: &Inner, input: &Value) -> Answer {
    let ids = batch(input, "deploymentIds")?;
    let found = ids.iter().filter_map(|id| inner.deployment(id).ok());
    Ok(json!({ "deploymentsInfo": found.map(|d| inner.view(d)).collect::<Vec<_>>() }))
}

/// `ListDeploymentTargets`.
pub(super) fn list_targets(inner: &Inner, input: &Value) -> Answer {
    let id = required(input, "deploymentId", "DeploymentIdRequiredException")?;
    Ok(json!({ "targetIds": [inner.deployment(id)?.target_id()] }))
}

/// `GetDeploymentTarget`.
pub(super) fn get_target(inner: &Inner, input: &Value) -> Answer {
    let id = required(input, "deploymentId", "DeploymentIdRequiredException")?;
    let target = required(input, "targetId", "DeploymentTargetIdRequiredException")?;
    Ok(json!({ "deploymentTarget": the_target(inner, id, target)? }))
}

/// `BatchGetDeploymentTargets`.
pub(super) fn get_targets(inner: &Inner, input: &Value) -> Answer {
    let id = required(input, "deploymentId", "DeploymentIdRequiredException")?;
    let targets: Result<Vec<_>, _> = batch(input, "targetIds")?.iter().map(|t| the_target(inner, id, t)).collect();
    Ok(json!({ "deploymentTargets": targets? }))
}

fn the_target(inner: &Inner, id: &str, target: &str) -> Answer {
    let deployment = inner.deployment(id)?;
    if deployment.target_id() != target {
        let message = format!("The deployment {id} has no target {target}");
        return Err(Fault::new("DeploymentTargetDoesNotExistException", message));
    }
    Ok(deployment.target())
}

fn batch<'a>(input: &'a Value, member: &str) -> Result<Vec<&'a str>, Fault> {
    let ids: Vec<&str> = list(input, member).iter().filter_map(Value::as_str).collect();
    if ids.len() > BATCH_MAX {
        return Err(Fault::new("BatchLimitExceededException", format!("{member} names more than {BATCH_MAX}")));
    }
    Ok(ids)
}

fn completed(id: &str) -> Fault {
    Fault::new("DeploymentAlreadyCompletedException", format!("The deployment {id} is already completed."))
}

impl Inner {
    pub(super) fn deployment(&self, id: &str) -> Result<&Deployment, Fault> {
        let missing =
            || Fault::new("DeploymentDoesNotExistException", format!("The deployment {id} could not be found"));
        self.deployments.iter().find(|d| d.id == id).ok_or_else(missing)
    }

    fn deployment_mut(&mut self, input: &Value) -> Result<&mut Deployment, Fault> {
        let id = required(input, "deploymentId", "DeploymentIdRequiredException")?;
        self.deployment(id)?;
        let missing =
            || Fault::new("DeploymentDoesNotExistException", format!("The deployment {id} could not be found"));
        self.deployments.iter_mut().find(|d| d.id == id).ok_or_else(missing)
    }

    fn view(&self, deployment: &Deployment) -> Value {
        let group = self.group(&deployment.application, &deployment.group).ok();
        deployment.view(group.map(|g| &g.given))
    }
}
