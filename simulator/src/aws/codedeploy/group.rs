//! Applications and deployment groups: what is remembered of a service between deployments, checked as CodeDeploy checks it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Inner, ground::Ground};
use crate::aws::{Fault, flag, list, number, stamp, text};

const MINUTE_MS: u64 = 60_000;
/// Two days.
const WAIT_MINUTES_MAX: i64 = 2880;
const ALARMS_MAX: usize = 10;

/// An application.
#[derive(Debug, Clone)]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) created_ms: u64,
    pub(super) groups: BTreeMap<String, Group>,
}

/// A deployment group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) id: String,
    /// The members of `CreateDeploymentGroup`, as they were given.
    pub(super) given: Value,
    pub(super) settings: Settings,
    pub(super) last_attempted: Option<Value>,
    pub(super) last_successful: Option<Value>,
}

/// What of a group matters to a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) config: String,
    pub(super) cluster: String,
    pub(super) service: String,
    /// Two, by name.
    pub(super) target_groups: Vec<String>,
    pub(super) listeners: Vec<String>,
    pub(super) test_listeners: Vec<String>,
    /// How long a ready replacement waits for somebody; none where it does not wait.
    pub(super) ready_wait_ms: Option<u64>,
    pub(super) termination_wait_ms: u64,
    /// Events that roll back by themselves.
    pub(super) rolls_back: Vec<String>,
    pub(super) alarms: Vec<String>,
    pub(super) ignores_unknown_alarms: bool,
}

/// The events of `autoRollbackConfiguration`.
pub(super) fn rolls_back(input: &Value) -> Result<Vec<String>, Fault> {
    let Some(part) = input.get("autoRollbackConfiguration").filter(|v| !v.is_null()) else { return Ok(Vec::new()) };
    let events: Vec<String> = list(part, "events").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let known = ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"];
    if let Some(other) = events.iter().find(|event| !known.contains(&event.as_str())) {
        return Err(Fault::new("InvalidAutoRollbackConfigException", format!("{other} is not an auto-rollback event")));
    }
    Ok(if flag(part, "enabled") == Some(false) { Vec::new() } else { events })
}

/// The names and the leniency of an alarm configuration.
pub(super) fn alarms(input: &Value, member: &str) -> Result<Option<(Vec<String>, bool)>, Fault> {
    let Some(part) = input.get(member).filter(|v| !v.is_null()) else { return Ok(None) };
    let alarms = list(part, "alarms");
    if alarms.len() > ALARMS_MAX {
        return Err(Fault::new(
            "AlarmsLimitExceededException",
            "The maximum number of alarms for a deployment group is 10",
        ));
    }
    let name = |alarm: &Value| text(alarm, "name").filter(|n| !n.is_empty()).map(str::to_owned);
    let names: Option<Vec<String>> = alarms.iter().map(name).collect();
    let names = names.ok_or_else(|| Fault::new("InvalidAlarmConfigException", "An alarm has no name"))?;
    let enabled = flag(part, "enabled") == Some(true);
    Ok(Some((if enabled { names } else { Vec::new() }, flag(part, "ignorePollAlarmFailure") == Some(true))))
}

impl Settings {
    /// Reads and checks the members of `CreateDeploymentGroup`. Whether the service is there is asked by [`check_service`].
    pub(super) fn read(given: &Value) -> Result<Self, Fault> {
        let style = given.get("deploymentStyle").unwrap_or(&Value::Null);
        let is = (text(style, "deploymentType"), text(style, "deploymentOption"));
        if is != (Some("BLUE_GREEN"), Some("WITH_TRAFFIC_CONTROL")) {
            let message = "For ECS deployment group, the deployment style must be BLUE_GREEN WITH_TRAFFIC_CONTROL";
            return Err(Fault::new("InvalidDeploymentStyleException", message));
        }
        let role = text(given, "serviceRoleArn").unwrap_or_default();
        if role.is_empty() {
            return Err(Fault::new("RoleRequiredException", "The role ARN was not specified"));
        }
        if !role.starts_with("arn:aws:iam::") || !role.contains(":role/") {
            let message = format!("AWS CodeDeploy does not have the permissions required to assume the role {role}.");
            return Err(Fault::new("InvalidRoleException", message));
        }
        let [service] = list(given, "ecsServices") else {
            let message = "Deployment group for the ECS compute platform must name exactly one ECS service";
            return Err(Fault::new("InvalidECSServiceException", message));
        };
        let (ready_wait_ms, termination_wait_ms) = waits(given)?;
        let (alarms, ignores_unknown_alarms) = alarms(given, "alarmConfiguration")?.unwrap_or_default();
        let mut settings = Settings {
            config: text(given, "deploymentConfigName").unwrap_or("CodeDeployDefault.ECSAllAtOnce").to_owned(),
            cluster: text(service, "clusterName").unwrap_or("default").to_owned(),
            service: text(service, "serviceName").unwrap_or_default().to_owned(),
            ready_wait_ms,
            termination_wait_ms,
            rolls_back: rolls_back(given)?,
            alarms,
            ignores_unknown_alarms,
            ..Settings::default()
        };
        settings.read_balancer(given)?;
        Ok(settings)
    }

    fn read_balancer(&mut self, given: &Value) -> Result<(), Fault> {
        let balancer = given.get("loadBalancerInfo").unwrap_or(&Value::Null);
        let [pair] = list(balancer, "targetGroupPairInfoList") else {
            let message = "For ECS deployment group, exactly one target group pair must be specified";
            return Err(Fault::new("InvalidLoadBalancerInfoException", message));
        };
        let groups = list(pair, "targetGroups").iter().filter_map(|g| text(g, "name")).map(str::to_owned);
        self.target_groups = groups.collect();
        if self.target_groups.len() != 2 || self.target_groups[0] == self.target_groups[1] {
            let message = "A target group pair must contain two different target groups";
            return Err(Fault::new("InvalidTargetGroupPairException", message));
        }
        let listeners = |member: &str| -> Vec<String> {
            let route = pair.get(member).unwrap_or(&Value::Null);
            list(route, "listenerArns").iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        (self.listeners, self.test_listeners) = (listeners("prodTrafficRoute"), listeners("testTrafficRoute"));
        if self.listeners.len() != 1 || self.test_listeners.len() > 1 {
            let message = "A traffic route must name exactly one listener, and the production route is required";
            return Err(Fault::new("InvalidTargetGroupPairException", message));
        }
        let is_listener =
            |arn: &&String| arn.starts_with("arn:aws:elasticloadbalancing:") && arn.contains(":listener/");
        if let Some(other) = self.listeners.iter().chain(&self.test_listeners).find(|arn| !is_listener(arn)) {
            return Err(Fault::new("InvalidTargetGroupPairException", format!("{other} is not the ARN of a listener")));
        }
        Ok(())
    }
}

/// The wait before traffic, and the one before the old task set goes.
fn waits(given: &Value) -> Result<(Option<u64>, u64), Fault> {
    let wrong = |message: &str| Fault::new("InvalidBlueGreenDeploymentConfigurationException", message);
    let part = given.get("blueGreenDeploymentConfiguration").filter(|v| !v.is_null());
    let part =
        part.ok_or_else(|| wrong("Blue/green deployment configuration is required for the ECS compute platform"))?;
    let minutes = |value: &Value, member: &str| match number(value, member).unwrap_or(0) {
        n if (0..=WAIT_MINUTES_MAX).contains(&n) => Ok(n.unsigned_abs()),
        _ => Err(wrong("The wait time must be between 0 and 2880 minutes")),
    };
    let ready = part.get("deploymentReadyOption").unwrap_or(&Value::Null);
    let wait = minutes(ready, "waitTimeInMinutes")?;
    let ready_wait_ms = match text(ready, "actionOnTimeout").unwrap_or("CONTINUE_DEPLOYMENT") {
        "CONTINUE_DEPLOYMENT" if wait > 0 => {
            let message = "Deployment ready action cannot be set to 'CONTINUE_DEPLOYMENT' when timeout is specified";
            return Err(wrong(message));
        }
        "CONTINUE_DEPLOYMENT" => None,
        "STOP_DEPLOYMENT" if wait == 0 => return Err(wrong("STOP_DEPLOYMENT needs a wait time of a minute or more")),
        "STOP_DEPLOYMENT" => Some(wait * MINUTE_MS),
        other => return Err(wrong(&format!("{other} is not an action on timeout"))),
    };
    let ending = part.get("terminateBlueInstancesOnDeploymentSuccess").unwrap_or(&Value::Null);
    if text(ending, "action") == Some("KEEP_ALIVE") {
        return Err(wrong("KEEP_ALIVE is not supported for the ECS compute platform"));
    }
    Ok((ready_wait_ms, minutes(ending, "terminationWaitTimeInMinutes")? * MINUTE_MS))
}

/// CodeDeploy looks at the service when a group is made or changed.
pub(super) fn check_service<G: Ground>(ground: &Arc<G>, settings: &Settings) -> Result<(), Fault> {
    let Settings { cluster, service, .. } = settings;
    let wrong = |message: String| Err(Fault::new("InvalidECSServiceException", message));
    match ground.service(cluster, service) {
        None => wrong(format!("The ECS service cannot be found for the cluster {cluster} and service {service}")),
        Some(found) if !found.is_ours => wrong(
            "Deployment group's ECS service must be configured for a CODE_DEPLOY deployment controller.".to_owned(),
        ),
        Some(_) => Ok(()),
    }
}

impl Inner {
    pub(super) fn application(&self, name: &str) -> Result<&Application, Fault> {
        let missing =
            || Fault::new("ApplicationDoesNotExistException", format!("No application found for name: {name}"));
        self.applications.get(name).ok_or_else(missing)
    }

    pub(super) fn group(&self, application: &str, group: &str) -> Result<&Group, Fault> {
        self.application(application)?.groups.get(group).ok_or_else(|| no_group(group))
    }

    pub(super) fn group_mut(&mut self, application: &str, group: &str) -> Option<&mut Group> {
        self.applications.get_mut(application)?.groups.get_mut(group)
    }

    /// Adds a group, or changes the one of this name.
    pub(super) fn put_group(&mut self, application: &str, name: &str, given: Value) -> Result<String, Fault> {
        let settings = Settings::read(&given)?;
        self.config(&settings.config)?;
        let same = |g: &Settings| (&g.cluster, &g.service) == (&settings.cluster, &settings.service);
        for (other_application, other) in &self.applications {
            for (other_name, group) in &other.groups {
                if same(&group.settings) && (other_application.as_str(), other_name.as_str()) != (application, name) {
                    let message = format!(
                        "The ECS service {} is already used by the deployment group {other_name}",
                        settings.service
                    );
                    return Err(Fault::new("ECSServiceMappingLimitExceededException", message));
                }
            }
        }
        self.application(application)?;
        let Some(found) = self.applications.get_mut(application) else { return Err(no_group(name)) };
        let fresh = || Group {
            id: uuid::Uuid::new_v4().to_string(),
            given: Value::Null,
            settings: Settings::default(),
            last_attempted: None,
            last_successful: None,
        };
        let group = found.groups.entry(name.to_owned()).or_insert_with(fresh);
        (group.given, group.settings) = (given, settings);
        Ok(group.id.clone())
    }
}

pub(super) fn no_group(name: &str) -> Fault {
    Fault::new("DeploymentGroupDoesNotExistException", format!("No Deployment Group found for name: {name}"))
}

impl Group {
    pub(super) fn view(&self, application: &str, name: &str) -> Value {
        let mut view = json!({
            "applicationName": application, "deploymentGroupName": name, "deploymentGroupId": self.id,
            "deploymentConfigName": self.settings.config, "computePlatform": "ECS",
            "ec2TagFilters": [], "onPremisesInstanceTagFilters": [], "autoScalingGroups": [], "triggerConfigurations": []
        });
        for member in [
            "serviceRoleArn",
            "alarmConfiguration",
            "autoRollbackConfiguration",
            "deploymentStyle",
            "blueGreenDeploymentConfiguration",
            "loadBalancerInfo",
            "ecsServices",
            "outdatedInstancesStrategy",
        ] {
            if let Some(value) = self.given.get(member).filter(|v| !v.is_null()) {
                view[member] = value.clone();
            }
        }
        for (member, value) in
            [("lastAttemptedDeployment", &self.last_attempted), ("lastSuccessfulDeployment", &self.last_successful)]
        {
            if let Some(value) = value {
                view[member] = value.clone();
            }
        }
        view
    }
}

impl Application {
    pub(super) fn view(&self, name: &str) -> Value {
        json!({
            "applicationId": self.id, "applicationName": name, "createTime": stamp(self.created_ms), "linkedToGitHub": false,
            "computePlatform": "ECS"
        })
    }
}
