//! What of a stack's resources somebody changed by hand, found by CloudFormation's own detection. It changes nothing, and
//! what of the service differs is not for it to say.

use std::time::Duration;

use aws_sdk_cloudformation::types::{StackDriftDetectionStatus, StackResourceDrift, StackResourceDriftStatus};
use dbird_core::Target;
use dbird_core::provider::{ErrorKind, Result};
use tokio::time::Instant;

use crate::AwsProvider;
use crate::config::base;
use crate::error::{Adding, Answer, fault};
use crate::observe::Stack;
use crate::service::group::group_name;
use crate::service::observe::{Places, traffic};
use crate::service::rules;
use crate::stack::stack_of;

/// Detection takes some seconds for each resource; longer than this it has failed.
const WITHIN: Duration = Duration::from_secs(300);
/// A page of differing resources.
const PAGE: i32 = 100;
/// So many pages: a stack holds at most 500 resources.
const PAGES_MAX: usize = 10;

/// A resource that is not as its stack made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    /// Its name in the template.
    pub resource: String,
    /// Its type, as `AWS::EC2::SecurityGroup`.
    pub kind: String,
    /// What it is called in the account.
    pub id: String,
    /// Somebody deleted it.
    pub is_deleted: bool,
    /// What differs, by property.
    pub differences: Vec<Difference>,
}

/// A property that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, as `/SecurityGroupIngress/0`.
    pub path: String,
    /// What the template says.
    pub expected: String,
    /// What it is.
    pub actual: String,
}

impl AwsProvider {
    /// Has CloudFormation compare an environment's stack with what is there; the resources that differ. None where there is no
    /// stack that could be compared.
    pub async fn drift(&self, target: &Target) -> Result<Option<Vec<Drifted>>> {
        let name = base(target);
        let stack = stack_of(self, &name).await?.filter(|stack| stack.serves() && !stack.busy());
        let Some(stack) = stack else { return Ok(None) };
        let client = self.clients.cloudformation().await;
        let begun = client.detect_stack_drift().stack_name(&name).send().await.or_fault("detect drift", &name)?;
        let id = begun.stack_drift_detection_id.unwrap_or_default();
        let since = Instant::now();
        loop {
            self.clients.turn("CloudFormation:DescribeStackDriftDetectionStatus").await;
            let asked = client.describe_stack_drift_detection_status().stack_drift_detection_id(&id).send().await;
            let stands = asked.or_fault("detect drift", &name)?;
            match stands.detection_status() {
                Some(StackDriftDetectionStatus::DetectionComplete) => break,
                // What could be compared has been; resources that could not are not told of.
                Some(StackDriftDetectionStatus::DetectionFailed) => {
                    let why = stands.detection_status_reason().unwrap_or("CloudFormation does not say why").to_owned();
                    return Err(fault(ErrorKind::Unavailable, "detect drift", name, why)
                        .hint("may these credentials read everything in the stack? `dbird doctor --print-policy`"));
                }
                _ if since.elapsed() > WITHIN => {
                    return Err(fault(ErrorKind::Unavailable, "detect drift", name, "it has not ended yet").retry());
                }
                _ => {}
            }
        }
        let mut found = self.drifted(&name).await?;
        found.extend(self.shared(&stack).await?);
        Ok(Some(found))
    }

    /// The rule that sends requests to the service, where somebody shares them while no rollout does. It is not in the stack.
    async fn shared(&self, stack: &Stack) -> Result<Option<Drifted>> {
        let traffic = traffic(&Places::of(&stack.outputs));
        let mut shares = rules::shares(self, &traffic.listener).await?;
        shares.retain(|(_, weight)| *weight > 0);
        if shares.len() < 2 {
            return Ok(None);
        }
        let shares: Vec<_> = shares.iter().map(|(arn, weight)| format!("{} {weight}", group_name(arn))).collect();
        Ok(Some(Drifted {
            resource: "the listener's rule".to_owned(),
            kind: "AWS::ElasticLoadBalancingV2::ListenerRule".to_owned(),
            id: traffic.listener,
            is_deleted: false,
            differences: vec![Difference {
                path: "/Weights".to_owned(),
                expected: "all to one target group".to_owned(),
                actual: shares.join(", "),
            }],
        }))
    }

    async fn drifted(&self, name: &str) -> Result<Vec<Drifted>> {
        let client = self.clients.cloudformation().await;
        let (mut found, mut next) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let answer = client
                .describe_stack_resource_drifts()
                .stack_name(name)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted)
                .max_results(PAGE)
                .set_next_token(next)
                .send()
                .await
                .or_fault("read the drift of the stack", name)?;
            found.extend(answer.stack_resource_drifts().iter().map(told));
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        found.sort_by(|a: &Drifted, b| a.resource.cmp(&b.resource));
        Ok(found)
    }
}

fn told(drift: &StackResourceDrift) -> Drifted {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Drifted {
        resource: text(drift.logical_resource_id()),
        kind: text(drift.resource_type()),
        id: text(drift.physical_resource_id()),
        is_deleted: drift.stack_resource_drift_status() == Some(&StackResourceDriftStatus::Deleted),
        differences: drift
            .property_differences()
            .iter()
            .map(|d| Difference {
                path: text(d.property_path()),
                expected: text(d.expected_value()),
                actual: text(d.actual_value()),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{DifferenceType, PropertyDifference};

    use super::*;

    #[test]
    fn a_difference_says_what_was_wanted_and_what_is() {
        let difference = PropertyDifference::builder()
            .property_path("/Port")
            .expected_value("80")
            .actual_value("81")
            .difference_type(DifferenceType::NotEqual)
            .build();
        for (status, deleted) in
            [(StackResourceDriftStatus::Modified, false), (StackResourceDriftStatus::Deleted, true)]
        {
            let drift = StackResourceDrift::builder()
                .stack_id("s")
                .logical_resource_id("Listener")
                .physical_resource_id("arn")
                .resource_type("AWS::X")
                .stack_resource_drift_status(status)
                .property_differences(difference.clone())
                .timestamp(aws_smithy_types::DateTime::from_secs(1))
                .build();
            let told = told(&drift);
            assert_eq!((told.resource.as_str(), told.id.as_str(), told.is_deleted), ("Listener", "arn", deleted));
            assert_eq!((told.differences[0].expected.as_str(), told.differences[0].actual.as_str()), ("80", "81"));
        }
    }
}
