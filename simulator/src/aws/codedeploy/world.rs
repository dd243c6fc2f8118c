//! The account as CodeDeploy's ground: every question goes to the service that has the answer.

use std::{any::Any, sync::Arc};

use serde_json::{Value, json};

use super::{
    CodeDeploy,
    ground::{Ground, Service, Set, Tasks},
};
use crate::{
    Clock,
    aws::{
        Call, Fault, World, cloudwatch,
        ecs::Ecs,
        elb::{self, Elb},
        spans::Spans,
        text,
    },
};

impl Ground for World {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn own(&self) -> &CodeDeploy {
        &self.codedeploy
    }

    fn has_fault(&self, name: &str) -> bool {
        self.faults.has(name)
    }

    fn begin(self: &Arc<Self>, what: &str) -> Box<dyn Any + Send> {
        Box::new(Spans::begin(self, what))
    }

    fn service(self: &Arc<Self>, cluster: &str, service: &str) -> Option<Service> {
        let found = Ecs::service(self, cluster, service)?;
        let sets = found.task_sets.into_iter().map(|set| Set {
            id: set.id,
            target_group: set.target_group.unwrap_or_default(),
            is_primary: set.is_primary,
        });
        Some(Service { arn: found.arn, is_ours: found.controller.name() == "CODE_DEPLOY", sets: sets.collect() })
    }

    fn tasks(self: &Arc<Self>, set: &str) -> Tasks {
        let state = Ecs::task_set_state(self, set);
        Tasks { desired: state.desired, pending: state.pending, running: state.running, is_steady: state.steady }
    }

    fn create_set(
        self: &Arc<Self>,
        (cluster, service): (&str, &str),
        definition: &str,
        target_group: &str,
        deployment: &str,
    ) -> Result<String, Fault> {
        Ecs::create_task_set(self, cluster, service, definition, target_group, Some(deployment))
    }

    fn set_primary(self: &Arc<Self>, set: &str) {
        Ecs::set_primary(self, set);
    }

    fn delete_set(self: &Arc<Self>, set: &str) {
        Ecs::delete_task_set(self, set);
    }

    async fn target_group(self: &Arc<Self>, name: &str) -> Option<String> {
        let input = json!({ "Names": [name] });
        let call =
            Call { service: "elasticloadbalancing".to_owned(), operation: "DescribeTargetGroups".to_owned(), input };
        let answer = elb::call(self, &call).await.ok()?;
        answer["TargetGroups"].get(0).and_then(|group| text(group, "TargetGroupArn")).map(str::to_owned)
    }

    fn forwarding(self: &Arc<Self>, listener: &str, target_group: &str) -> Vec<String> {
        Elb::rules_forwarding_to(self, listener, target_group)
    }

    fn forward(self: &Arc<Self>, rule: &str, weights: Vec<(String, u32)>) -> Result<(), Fault> {
        Elb::set_forward(self, rule, weights)
    }

    async fn alarm(self: &Arc<Self>, name: &str) -> Option<String> {
        let input = json!({ "AlarmNames": [name] });
        let call = Call { service: "monitoring".to_owned(), operation: "DescribeAlarms".to_owned(), input };
        let answer = cloudwatch::call(self, &call).await.ok()?;
        let state = |alarm: &Value| text(alarm, "StateValue").map(str::to_owned);
        ["MetricAlarms", "CompositeAlarms"].into_iter().find_map(|kind| answer[kind].get(0).and_then(state))
    }
}
