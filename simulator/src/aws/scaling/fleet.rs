//! What autoscaling stands on: ECS services and CloudWatch's alarms. It decides nothing; a test puts its own in their place.

use std::{future::Future, sync::Arc};

use serde_json::{Value, json};

use super::Scaling;
use crate::{
    Clock,
    aws::{Call, World, cloudwatch, ecs::Ecs, list, text},
};

/// The rest of the account. A resource is `service/CLUSTER/NAME`.
pub(super) trait Fleet: Send + Sync + 'static {
    fn clock(&self) -> Clock;
    fn own(&self) -> &Scaling;
    fn account(&self) -> String;
    fn arn(&self, resource: &str) -> String;
    /// How many tasks a service is to have; none where there is no such service.
    fn desired(self: &Arc<Self>, resource: &str) -> Option<u32>;
    fn set_desired(self: &Arc<Self>, resource: &str, desired: u32);
    fn cpu_percent(self: &Arc<Self>, resource: &str) -> Option<f64>;
    /// The alarm in alarm that has this policy as its action, with its threshold.
    fn ringing(self: &Arc<Self>, policy: &str) -> impl Future<Output = Option<(String, f64)>> + Send;
}

fn parts(resource: &str) -> (&str, &str) {
    resource.trim_start_matches("service/").split_once('/').unwrap_or_default()
}

impl Fleet for World {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn own(&self) -> &Scaling {
        &self.scaling
    }

    fn account(&self) -> String {
        self.settings.account.clone()
    }

    fn arn(&self, resource: &str) -> String {
        let service = if resource.starts_with("scalingPolicy") { "autoscaling" } else { "application-autoscaling" };
        World::arn(self, service, resource)
    }

    fn desired(self: &Arc<Self>, resource: &str) -> Option<u32> {
        let (cluster, service) = parts(resource);
        Ecs::service(self, cluster, service).map(|found| found.desired)
    }

    fn set_desired(self: &Arc<Self>, resource: &str, desired: u32) {
        let (cluster, service) = parts(resource);
        // A service that is gone has nothing to be changed.
        let _ = Ecs::set_desired(self, cluster, service, desired);
    }

    fn cpu_percent(self: &Arc<Self>, resource: &str) -> Option<f64> {
        let (cluster, service) = parts(resource);
        Ecs::cpu_percent(self, cluster, service)
    }

    async fn ringing(self: &Arc<Self>, policy: &str) -> Option<(String, f64)> {
        let input = json!({ "StateValue": "ALARM" });
        let call = Call { service: "monitoring".to_owned(), operation: "DescribeAlarms".to_owned(), input };
        let answer = cloudwatch::call(self, &call).await.ok()?;
        let rings = |alarm: &&Value| {
            text(alarm, "StateValue") == Some("ALARM")
                && list(alarm, "AlarmActions").iter().any(|action| action.as_str() == Some(policy))
        };
        let alarm = list(&answer, "MetricAlarms").iter().find(rings)?;
        Some((text(alarm, "AlarmName")?.to_owned(), alarm.get("Threshold").and_then(Value::as_f64).unwrap_or_default()))
    }
}
