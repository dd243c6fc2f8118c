//! Drives a deployment from stage to stage in simulated time: the replacement is made, gets its traffic, and the old task set
//! goes. Whoever stops it, and every alarm, is heard at each step.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    CodeDeploy,
    deployment::{Deployment, Side, Status},
    ground::{Ground, Service},
    rollback,
};

/// How often a deployment looks around, in simulated time.
const LOOK_MS: u64 = 1000;
/// What each stage takes that does nothing.
const STAGE_MS: u64 = 2000;
const MINUTE_MS: u64 = 60_000;
/// CodeDeploy's own limit for a replacement to become healthy.
const INSTALL_LIMIT_MS: u64 = 60 * MINUTE_MS;

/// Why a deployment did not succeed.
#[derive(Debug)]
pub(super) struct End {
    pub(super) status: Status,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) rolls_back: bool,
}

/// A deployment as its driver sees it.
pub(super) struct Driven<G> {
    pub(super) ground: Arc<G>,
    pub(super) id: String,
}

/// Runs a deployment to its end.
pub(super) async fn run<G: Ground>(ground: Arc<G>, id: String) {
    let busy = ground.begin(&format!("deployment {id}"));
    let driven = Driven { ground, id };
    let ended = driven.go().await;
    driven.finish(ended);
    drop(busy);
}

impl<G: Ground> Driven<G> {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Deployment) -> T) -> Option<T> {
        let now = self.ground.clock().now_ms();
        self.ground.own().with(|inner| {
            let found = inner.deployments.iter_mut().find(|d| d.id == self.id)?;
            found.changed_ms = now;
            Some(act(found))
        })
    }

    /// A copy as it is now.
    fn copy(&self) -> Result<Deployment, End> {
        self.with(|d| d.clone())
            .ok_or_else(|| self.failure("INTERNAL_ERROR", "the deployment is not remembered any more"))
    }

    async fn go(&self) -> Result<(), End> {
        let now = self.ground.clock().now_ms();
        self.with(|d| {
            (d.status, d.target_status, d.started_ms) = (Status::InProgress, "InProgress", Some(now));
        });
        self.look().await?;
        self.stage("BeforeInstall").await?;
        self.install().await?;
        self.stage("AfterInstall").await?;
        let settings = self.copy()?.settings;
        if !settings.test_listeners.is_empty() {
            self.begin("AllowTestTraffic");
            self.pause(STAGE_MS).await?;
            self.route(&settings.test_listeners, 100)?;
            self.end("AllowTestTraffic", "Succeeded");
            self.stage("AfterAllowTestTraffic").await?;
        }
        if let Some(wait_ms) = settings.ready_wait_ms {
            self.wait_for_go(wait_ms).await?;
        }
        self.stage("BeforeAllowTraffic").await?;
        self.allow_traffic().await?;
        self.stage("AfterAllowTraffic").await?;
        self.end_old(settings.termination_wait_ms).await
    }

    async fn install(&self) -> Result<(), End> {
        self.begin("Install");
        let deployment = self.copy()?;
        let settings = &deployment.settings;
        let service = self.ground.service(&settings.cluster, &settings.service);
        let missing =
            || self.failure("INVALID_ECS_SERVICE", "The ECS service of the deployment group cannot be found.");
        let Service { sets, .. } = service.ok_or_else(missing)?;
        let mut pair = Vec::new();
        for name in &settings.target_groups {
            let found = self.ground.target_group(name).await;
            let missing =
                || self.failure("ELASTIC_LOAD_BALANCING_INVALID", format!("The target group {name} cannot be found."));
            pair.push(found.ok_or_else(missing)?);
        }
        let primary = sets.iter().find(|set| set.is_primary).ok_or_else(missing)?;
        let green_group = pair.iter().find(|arn| **arn != primary.target_group);
        let listener = settings.listeners.first().map(String::as_str).unwrap_or_default();
        let behind = |group: &str| !self.ground.forwarding(listener, group).is_empty();
        let (true, Some(green_group)) =
            (pair.contains(&primary.target_group) && behind(&primary.target_group), green_group)
        else {
            let message = format!(
                "The ELB could not be updated due to the following error: Primary taskset target group must be behind listener {listener}"
            );
            return Err(self.failure("ELASTIC_LOAD_BALANCING_INVALID", message));
        };
        for left in sets.iter().filter(|set| !set.is_primary) {
            self.ground.delete_set(&left.id);
        }
        self.with(|d| d.blue = Side::of(primary));
        let definition = deployment.spec.as_ref().map(|s| s.task_definition.clone()).unwrap_or_default();
        let place = (settings.cluster.as_str(), settings.service.as_str());
        let made = self.ground.create_set(place, &definition, green_group, &self.id);
        let refused = |fault: crate::aws::Fault| {
            let message = format!("The ECS service could not be updated due to the following error: {}", fault.message);
            self.failure("ECS_UPDATE_ERROR", message)
        };
        let green = Side { set: made.map_err(refused)?, target_group: green_group.clone(), ..Side::default() };
        self.with(|d| d.green = green.clone());
        // Traffic that an earlier deployment left elsewhere comes back to who serves.
        self.route(&settings.listeners, 0)?;
        let until = self.ground.clock().now_ms() + INSTALL_LIMIT_MS;
        while !self.ground.tasks(&green.set).is_steady {
            if self.ground.clock().now_ms() >= until {
                let message = "The deployment timed out while waiting for the replacement task set to become healthy. This time out \
                               period is 60 minutes.";
                return Err(self.failure("TIMEOUT", message));
            }
            self.pause(LOOK_MS).await?;
        }
        self.end("Install", "Succeeded");
        Ok(())
    }

    /// Waits, ready, until somebody lets the traffic come.
    async fn wait_for_go(&self, wait_ms: u64) -> Result<(), End> {
        self.with(|d| (d.status, d.target_status) = (Status::Ready, "Ready"));
        let until = self.ground.clock().now_ms() + wait_ms;
        while self.with(|d| d.wants.traffic) == Some(false) {
            if self.ground.clock().now_ms() >= until {
                let message =
                    "The deployment was stopped because traffic rerouting was not started before the wait time ended.";
                let rolls_back = self.rolls_back_on("DEPLOYMENT_FAILURE");
                return Err(End { status: Status::Stopped, code: "TIMEOUT", message: message.to_owned(), rolls_back });
            }
            self.pause(LOOK_MS).await?;
        }
        self.with(|d| (d.status, d.target_status) = (Status::InProgress, "InProgress"));
        Ok(())
    }

    async fn allow_traffic(&self) -> Result<(), End> {
        self.begin("AllowTraffic");
        let Deployment { routing, settings, green, .. } = self.copy()?;
        for (weight, minutes) in routing.steps() {
            self.route(&settings.listeners, weight)?;
            self.with(|d| d.weight = weight);
            if self.ground.has_fault("codedeploy-fails") {
                self.pause(STAGE_MS).await?;
                return Err(self.failure("INTERNAL_ERROR", "AWS CodeDeploy encountered an internal error."));
            }
            self.pause(minutes * MINUTE_MS).await?;
        }
        self.ground.set_primary(&green.set);
        self.end("AllowTraffic", "Succeeded");
        Ok(())
    }

    /// Keeps the old task set for a while, then lets it go.
    async fn end_old(&self, wait_ms: u64) -> Result<(), End> {
        self.with(|d| (d.target_status, d.is_waiting_to_end) = ("Succeeded", true));
        let until = self.ground.clock().now_ms() + wait_ms;
        let faulty = self.ground.has_fault("alarm-in-bake");
        while self.with(|d| d.wants.ending) == Some(false) && self.ground.clock().now_ms() < until {
            self.pause(LOOK_MS).await?;
            if faulty && let Some(alarm) = self.copy()?.settings.alarms.first() {
                return Err(self.alarmed(&BTreeSet::from([alarm.clone()])));
            }
        }
        // From here on there is no way back.
        let blue = self.with(|d| {
            d.is_waiting_to_end = false;
            d.blue.is_gone = true;
            d.blue.set.clone()
        });
        self.ground.delete_set(&blue.unwrap_or_default());
        Ok(())
    }

    /// A stage in which nothing is done.
    async fn stage(&self, name: &str) -> Result<(), End> {
        self.begin(name);
        self.pause(STAGE_MS).await?;
        self.end(name, "Succeeded");
        Ok(())
    }

    pub(super) fn begin(&self, name: &str) {
        let now = self.ground.clock().now_ms();
        self.with(|d| {
            for event in d.events.iter_mut().filter(|e| e.name == name) {
                (event.status, event.started_ms) = ("InProgress", Some(now));
            }
        });
    }

    pub(super) fn end(&self, name: &str, status: &'static str) {
        let now = self.ground.clock().now_ms();
        self.with(|d| {
            for event in d.events.iter_mut().filter(|e| e.name == name) {
                (event.status, event.ended_ms) = (status, Some(now));
            }
        });
    }

    /// Waits for so much simulated time and looks around meanwhile.
    async fn pause(&self, ms: u64) -> Result<(), End> {
        let clock = self.ground.clock();
        let until = clock.now_ms() + ms;
        loop {
            self.look().await?;
            let left = until.saturating_sub(clock.now_ms());
            if left == 0 {
                return Ok(());
            }
            clock.sleep_ms(left.min(LOOK_MS)).await;
        }
    }

    /// Hears whoever wants it stopped, and the alarms.
    async fn look(&self) -> Result<(), End> {
        let deployment = self.copy()?;
        for (is_blue, side) in [(true, &deployment.blue), (false, &deployment.green)] {
            if !side.set.is_empty() && !side.is_gone {
                let tasks = self.ground.tasks(&side.set);
                self.with(|d| if is_blue { d.blue.tasks = tasks } else { d.green.tasks = tasks });
            }
        }
        if let Some(rolls_back) = deployment.wants.stop {
            let message = "The deployment was stopped by a user.".to_owned();
            return Err(End { status: Status::Stopped, code: "MANUAL_STOP", message, rolls_back });
        }
        let settings = &deployment.settings;
        let mut ringing = BTreeSet::new();
        for name in &settings.alarms {
            let rings = match self.ground.alarm(name).await {
                Some(state) => state == "ALARM",
                None => !settings.ignores_unknown_alarms,
            };
            if rings {
                ringing.insert(name.clone());
            }
        }
        if ringing.is_empty() { Ok(()) } else { Err(self.alarmed(&ringing)) }
    }

    fn alarmed(&self, names: &BTreeSet<String>) -> End {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message = format!(
            "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the affected \
             deployments have been stopped. Activated alarms: <{}>",
            names.join(", ")
        );
        let rolls_back = self.rolls_back_on("DEPLOYMENT_STOP_ON_ALARM");
        End { status: Status::Stopped, code: "ALARM_ACTIVE", message, rolls_back }
    }

    fn failure(&self, code: &'static str, message: impl Into<String>) -> End {
        let rolls_back = self.rolls_back_on("DEPLOYMENT_FAILURE");
        End { status: Status::Failed, code, message: message.into(), rolls_back }
    }

    fn rolls_back_on(&self, event: &str) -> bool {
        self.with(|d| d.settings.rolls_back.iter().any(|e| e == event)) == Some(true)
    }

    /// Gives the replacement so much of what comes to these listeners.
    pub(super) fn route(&self, listeners: &[String], weight: u32) -> Result<(), End> {
        let Deployment { blue, green, .. } = self.copy()?;
        let (blue, green) = (blue.target_group, green.target_group);
        for listener in listeners {
            let rules: BTreeSet<String> =
                [&blue, &green].into_iter().flat_map(|group| self.ground.forwarding(listener, group)).collect();
            for rule in rules {
                let weights = vec![(blue.clone(), 100 - weight), (green.clone(), weight)];
                let refused = |fault: crate::aws::Fault| {
                    let message = format!("The ELB could not be updated due to the following error: {}", fault.message);
                    self.failure("ELASTIC_LOAD_BALANCING_INVALID", message)
                };
                self.ground.forward(&rule, weights).map_err(refused)?;
            }
        }
        Ok(())
    }

    fn finish(self, ended: Result<(), End>) {
        let now = self.ground.clock().now_ms();
        let Err(end) = ended else {
            self.with(|d| (d.status, d.target_status, d.completed_ms) = (Status::Succeeded, "Succeeded", Some(now)));
            CodeDeploy::note_success(&*self.ground, &self.id);
            return;
        };
        // It is there before anybody can read of it.
        let undone = self.with(|d| d.clone()).filter(|_| end.rolls_back);
        let undoing = undone.and_then(|undone| rollback::prepare(&self.ground, &undone));
        self.with(|d| {
            d.rolled_back_by.clone_from(&undoing);
            for event in &mut d.events {
                match event.status {
                    "InProgress" => {
                        (event.status, event.ended_ms, event.told) = ("Failed", Some(now), Some(end.message.clone()));
                    }
                    "Pending" => event.status = "Skipped",
                    _ => {}
                }
            }
            d.is_waiting_to_end = false;
            d.target_status = if end.status == Status::Failed { "Failed" } else { "Skipped" };
            (d.status, d.error, d.completed_ms) = (end.status, Some((end.code, end.message.clone())), Some(now));
        });
        if let Some(id) = undoing {
            tokio::spawn(rollback::run(self.ground, id));
        }
    }
}
