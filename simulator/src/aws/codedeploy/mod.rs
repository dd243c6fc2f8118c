//! CodeDeploy for ECS: applications, groups, configurations and blue/green deployments that really move traffic. It runs no
//! Lambda functions and knows no instances.
//!
//! Faults: `codedeploy-fails` (a deployment fails once the first traffic has moved), `alarm-in-bake` (the first alarm of a
//! deployment rings while the old task set waits to be ended).

mod appspec;
mod config;
mod deployment;
mod ground;
mod group;
mod kinds;
mod requests;
mod rollback;
mod run;
#[cfg(test)]
mod tests;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{Answer, Call, Fault, World, stamp, text};
use config::Config;
use deployment::Deployment;
use ground::Ground;
use group::Application;
pub(crate) use kinds::KINDS;

/// CodeDeploy with all that it knows.
#[derive(Debug, Default)]
pub(crate) struct CodeDeploy {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    applications: BTreeMap<String, Application>,
    /// Without CodeDeploy's own.
    configs: BTreeMap<String, Config>,
    /// The oldest first.
    deployments: Vec<Deployment>,
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    answer(world, call).await
}

async fn answer<G: Ground>(ground: &Arc<G>, call: &Call) -> Answer {
    let input = &call.input;
    let now = ground.clock().now_ms();
    match call.operation.as_str() {
        "CreateDeployment" => requests::create(ground, input),
        "CreateDeploymentGroup" | "UpdateDeploymentGroup" => put_group(ground, call).await,
        operation => ground.own().with(|inner| match operation {
            "ContinueDeployment" => requests::go_on(inner, input),
            "StopDeployment" => requests::stop(inner, input),
            "GetDeployment" => requests::get(inner, input),
            "BatchGetDeployments" => requests::get_many(inner, input),
            "ListDeployments" => requests::list_all(inner, input),
            "ListDeploymentTargets" => requests::list_targets(inner, input),
            "GetDeploymentTarget" => requests::get_target(inner, input),
            "BatchGetDeploymentTargets" => requests::get_targets(inner, input),
            "CreateApplication" => inner.create_application(input, now),
            "GetApplication" => {
                let name = name(input)?;
                Ok(json!({ "application": inner.application(name)?.view(name) }))
            }
            "ListApplications" => Ok(json!({ "applications": inner.applications.keys().collect::<Vec<_>>() })),
            "DeleteApplication" => {
                inner.applications.remove(name(input)?);
                Ok(json!({}))
            }
            "CreateDeploymentConfig" => inner.create_config(input, now),
            "GetDeploymentConfig" => {
                let found = inner.config(text(input, "deploymentConfigName").unwrap_or_default())?;
                Ok(json!({ "deploymentConfigInfo": found.view() }))
            }
            "ListDeploymentConfigs" => {
                let own = Config::built_in(now).map(|c| c.name).chain(inner.configs.keys().cloned());
                Ok(json!({ "deploymentConfigsList": own.collect::<Vec<_>>() }))
            }
            "DeleteDeploymentConfig" => inner.delete_config(text(input, "deploymentConfigName").unwrap_or_default()),
            "GetDeploymentGroup" => {
                let (application, group) = (name(input)?, text(input, "deploymentGroupName").unwrap_or_default());
                Ok(json!({ "deploymentGroupInfo": inner.group(application, group)?.view(application, group) }))
            }
            "BatchGetDeploymentGroups" => {
                let (application, names) = (name(input)?, super::list(input, "deploymentGroupNames"));
                let groups = &inner.application(application)?.groups;
                let found =
                    names.iter().filter_map(Value::as_str).filter_map(|n| Some(groups.get(n)?.view(application, n)));
                Ok(json!({ "deploymentGroupsInfo": found.collect::<Vec<_>>() }))
            }
            "ListDeploymentGroups" => {
                let application = name(input)?;
                let groups: Vec<&String> = inner.application(application)?.groups.keys().collect();
                Ok(json!({ "applicationName": application, "deploymentGroups": groups }))
            }
            "DeleteDeploymentGroup" => inner.delete_group(input),
            other => Err(Fault::unknown("codedeploy", other)),
        }),
    }
}

fn name(input: &Value) -> Result<&str, Fault> {
    let missing = || Fault::new("ApplicationNameRequiredException", "The application name was not specified");
    text(input, "applicationName").filter(|n| !n.is_empty()).ok_or_else(missing)
}

/// `CreateDeploymentGroup` and `UpdateDeploymentGroup`, which look at what the group names.
async fn put_group<G: Ground>(ground: &Arc<G>, call: &Call) -> Answer {
    let input = &call.input;
    let application = name(input)?;
    let is_new = call.operation == "CreateDeploymentGroup";
    let member = if is_new { "deploymentGroupName" } else { "currentDeploymentGroupName" };
    let missing = || Fault::new("DeploymentGroupNameRequiredException", "The deployment group name was not specified");
    let group = text(input, member).filter(|n| !n.is_empty()).ok_or_else(missing)?;
    if text(input, "newDeploymentGroupName").is_some_and(|new| new != group) {
        return Err(Fault::new(
            "InvalidDeploymentGroupNameException",
            "the simulator does not rename deployment groups",
        ));
    }
    let given = ground.own().with(|inner| {
        let there = inner.application(application)?.groups.get(group).map(|g| g.given.clone());
        match (is_new, there) {
            (true, Some(_)) => {
                let message = format!("Deployment group name '{group}' already exists for the specified application");
                Err(Fault::new("DeploymentGroupAlreadyExistsException", message))
            }
            (true, None) => Ok(input.clone()),
            (false, Some(mut given)) => {
                // What an update does not name stays as it was.
                for (member, value) in input.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
                    given[member] = value.clone();
                }
                Ok(given)
            }
            (false, None) => Err(group::no_group(group)),
        }
    })?;
    let settings = group::Settings::read(&given)?;
    group::check_service(ground, &settings)?;
    for name in &settings.target_groups {
        if ground.target_group(name).await.is_none() {
            let message = format!("The target group {name} does not exist");
            return Err(Fault::new("InvalidTargetGroupPairException", message));
        }
    }
    let id = ground.own().with(|inner| inner.put_group(application, group, given))?;
    Ok(if is_new { json!({ "deploymentGroupId": id }) } else { json!({ "hooksNotCleanedUp": [] }) })
}

impl CodeDeploy {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers in its group that a deployment succeeded.
    fn note_success<G: Ground>(ground: &G, id: &str) {
        let now = ground.clock().now_ms();
        ground.own().with(|inner| {
            let Ok(found) = inner.deployment(id) else { return };
            let (application, name, created) = (found.application.clone(), found.group.clone(), found.created_ms);
            let note = json!({
                "deploymentId": id, "status": "Succeeded", "createTime": stamp(created), "endTime": stamp(now)
            });
            if let Some(group) = inner.group_mut(&application, &name) {
                group.last_successful = Some(note.clone());
                group.last_attempted = Some(note);
            }
        });
    }
}

impl Inner {
    fn create_application(&mut self, input: &Value, now_ms: u64) -> Answer {
        let name = name(input)?;
        if text(input, "computePlatform") != Some("ECS") {
            let message = "the simulator knows applications of the compute platform ECS only";
            return Err(Fault::new("InvalidComputePlatformException", message));
        }
        if name.len() > 100 {
            return Err(Fault::new(
                "InvalidApplicationNameException",
                "The application name is longer than 100 characters",
            ));
        }
        if self.applications.contains_key(name) {
            let message = format!("The application {name} already exists");
            return Err(Fault::new("ApplicationAlreadyExistsException", message));
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.applications
            .insert(name.to_owned(), Application { id: id.clone(), created_ms: now_ms, groups: BTreeMap::new() });
        Ok(json!({ "applicationId": id }))
    }

    fn create_config(&mut self, input: &Value, now_ms: u64) -> Answer {
        let config = Config::read(input, now_ms)?;
        if self.configs.contains_key(&config.name) {
            let message = format!("The deployment configuration {} already exists", config.name);
            return Err(Fault::new("DeploymentConfigAlreadyExistsException", message));
        }
        let id = config.id.clone();
        self.configs.insert(config.name.clone(), config);
        Ok(json!({ "deploymentConfigId": id }))
    }

    /// A configuration, CodeDeploy's own included.
    fn config(&self, name: &str) -> Result<Config, Fault> {
        let found = self.configs.get(name).cloned().or_else(|| Config::built_in(0).find(|c| c.name == name));
        let missing = || {
            let message = format!("No deployment configuration found for name: {name}");
            Fault::new("DeploymentConfigDoesNotExistException", message)
        };
        found.ok_or_else(missing)
    }

    fn delete_config(&mut self, name: &str) -> Answer {
        let used = self.applications.values().flat_map(|a| a.groups.values()).any(|g| g.settings.config == name);
        if used {
            let message = format!("The deployment configuration {name} is in use and cannot be deleted");
            return Err(Fault::new("DeploymentConfigInUseException", message));
        }
        if name.starts_with("CodeDeployDefault.") {
            return Err(Fault::new(
                "InvalidOperationException",
                "A predefined deployment configuration cannot be deleted",
            ));
        }
        self.configs.remove(name);
        Ok(json!({}))
    }

    fn delete_group(&mut self, input: &Value) -> Answer {
        let (application, group) = (name(input)?, text(input, "deploymentGroupName").unwrap_or_default());
        self.application(application)?;
        if let Some(application) = self.applications.get_mut(application) {
            application.groups.remove(group);
        }
        // Nobody is left to hear of it: a deployment of a group that is gone ends where it is.
        for deployment in &mut self.deployments {
            if (deployment.application.as_str(), deployment.group.as_str()) == (application, group)
                && !deployment.status.is_over()
            {
                deployment.wants.stop = Some(false);
            }
        }
        Ok(json!({ "hooksNotCleanedUp": [] }))
    }
}

/// `d-` and nine letters or digits.
fn new_id() -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let signs = (0..9).map(|_| char::from(SIGNS[fastrand::usize(..SIGNS.len())]));
    "d-".chars().chain(signs).collect()
}
