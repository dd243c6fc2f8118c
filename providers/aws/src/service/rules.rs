//! The rules on the listeners that send requests to a release. dbird makes them beside the stack, so that no change of the
//! stack ever moves traffic; afterwards only what drives a rollout rewrites where they forward to.

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, PathPatternConditionConfig, Rule, RuleCondition, Tag, TargetGroupTuple,
};
use dbird_core::{ProviderError, Target};

use super::document::Traffic;
use super::job::Moved;
use super::task_definition::{ENVIRONMENT_TAG, SERVICE_TAG};
use crate::AwsProvider;
use crate::error::Answer;

/// Rules with a lower number come first; the stack's own, which close paths, have those.
const PRIORITY: i32 = 100;

/// The rules, made where they are not there yet: production forwards to blue, test to green.
pub(crate) async fn make(p: &AwsProvider, target: &Target, traffic: &Traffic) -> Result<Moved, ProviderError> {
    let production = [(traffic.blue.as_str(), 100), (traffic.green.as_str(), 0)];
    let rule = one(p, target, &traffic.listener, &production).await?;
    let test_rule = match &traffic.test_listener {
        Some(listener) => {
            let test = [(traffic.blue.as_str(), 0), (traffic.green.as_str(), 100)];
            Some(one(p, target, listener, &test).await?)
        }
        None => None,
    };
    Ok(Moved { blue: traffic.blue.clone(), green: traffic.green.clone(), rule, test_rule })
}

/// The rules as they are; none where production has none yet.
pub(crate) async fn find(p: &AwsProvider, traffic: &Traffic) -> Result<Option<Moved>, ProviderError> {
    let Some(rule) = found(p, &traffic.listener).await?.as_ref().and_then(Rule::rule_arn).map(str::to_owned) else {
        return Ok(None);
    };
    let test_rule = match &traffic.test_listener {
        Some(listener) => found(p, listener).await?.as_ref().and_then(Rule::rule_arn).map(str::to_owned),
        None => None,
    };
    Ok(Some(Moved { blue: traffic.blue.clone(), green: traffic.green.clone(), rule, test_rule }))
}

async fn one(
    p: &AwsProvider,
    target: &Target,
    listener: &str,
    groups: &[(&str, i32)],
) -> Result<String, ProviderError> {
    // Read before it is written: a rule whose answer was lost is not made twice.
    if let Some(arn) = found(p, listener).await?.as_ref().and_then(Rule::rule_arn) {
        return Ok(arn.to_owned());
    }
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let tags = vec![tag(SERVICE_TAG, &target.service), tag(ENVIRONMENT_TAG, &target.environment)];
    let made = p
        .clients
        .elb()
        .await
        .create_rule()
        .listener_arn(listener)
        .priority(PRIORITY)
        .conditions(
            RuleCondition::builder()
                .field("path-pattern")
                .path_pattern_config(PathPatternConditionConfig::builder().values("/*").build())
                .build(),
        )
        .actions(forward(groups))
        .set_tags(Some(tags))
        .send()
        .await
        .or_fault("make the rule that sends requests to the service", listener)?;
    Ok(made.rules().first().and_then(Rule::rule_arn).unwrap_or_default().to_owned())
}

/// The action that shares requests between target groups.
fn forward(groups: &[(&str, i32)]) -> Action {
    let groups =
        groups.iter().map(|(arn, weight)| TargetGroupTuple::builder().target_group_arn(*arn).weight(*weight).build());
    Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .order(1)
        .forward_config(ForwardActionConfig::builder().set_target_groups(Some(groups.collect())).build())
        .build()
}

/// dbird's rule on a listener.
async fn found(p: &AwsProvider, listener: &str) -> Result<Option<Rule>, ProviderError> {
    let mut marker = None;
    // A listener has at most some hundred rules; one page holds 400.
    for _ in 0..4 {
        let page = p
            .clients
            .elb()
            .await
            .describe_rules()
            .listener_arn(listener)
            .set_marker(marker)
            .send()
            .await
            .or_fault("read the listener's rules", listener)?;
        let wanted = PRIORITY.to_string();
        if let Some(rule) = page.rules().iter().find(|rule| rule.priority() == Some(wanted.as_str())) {
            return Ok(Some(rule.clone()));
        }
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    Ok(None)
}

/// How production requests are shared: target group and weight. Empty where no rule is there.
pub(crate) async fn shares(p: &AwsProvider, listener: &str) -> Result<Vec<(String, u32)>, ProviderError> {
    Ok(found(p, listener).await?.as_ref().map(forwards_to).unwrap_or_default())
}

/// Where a rule forwards to: target group and weight.
pub(crate) fn forwards_to(rule: &Rule) -> Vec<(String, u32)> {
    let mut shares = Vec::new();
    for action in rule.actions() {
        match (action.forward_config().map(ForwardActionConfig::target_groups), action.target_group_arn()) {
            (Some(groups), _) if !groups.is_empty() => shares.extend(groups.iter().filter_map(|group| {
                // A weight that is not said is 1, as the only one.
                let weight = u32::try_from(group.weight().unwrap_or(1)).unwrap_or(0);
                Some((group.target_group_arn()?.to_owned(), weight))
            })),
            (_, Some(arn)) => shares.push((arn.to_owned(), 1)),
            _ => {}
        }
    }
    shares
}

/// A target group's share in percent.
pub(crate) fn percent(shares: &[(String, u32)], group: &str) -> u8 {
    let all: u64 = shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let own: u64 = shares.iter().filter(|(arn, _)| arn == group).map(|(_, weight)| u64::from(*weight)).sum();
    (own * 100 + all / 2).checked_div(all).map_or(0, |percent| u8::try_from(percent).unwrap_or(100))
}

/// Takes the rules away; done where there are none.
pub(crate) async fn remove(p: &AwsProvider, traffic: &Traffic) -> Result<(), ProviderError> {
    for listener in [Some(&traffic.listener), traffic.test_listener.as_ref()].into_iter().flatten() {
        let rule = match found(p, listener).await {
            Ok(rule) => rule,
            // Where there is no listener, there is no rule.
            Err(error) if error.kind == dbird_core::provider::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(arn) = rule.as_ref().and_then(Rule::rule_arn) {
            let deleted = p.clients.elb().await.delete_rule().rule_arn(arn).send().await;
            if deleted.as_ref().err().is_none_or(|error| crate::error::code(error) != "RuleNotFound") {
                deleted.or_fault("take the listener's rule away", arn)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_who_gets_how_much() {
        let plain = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn("b").build();
        let cases = [
            (forward(&[("b", 100), ("g", 0)]), 100, 0),
            (forward(&[("b", 90), ("g", 10)]), 90, 10),
            (forward(&[("b", 1), ("g", 2)]), 33, 67),
            (plain, 100, 0),
        ];
        for (action, blue, green) in cases {
            let shares = forwards_to(&Rule::builder().actions(action.clone()).build());
            assert_eq!((percent(&shares, "b"), percent(&shares, "g")), (blue, green), "{action:?}");
        }
        assert_eq!(percent(&[], "b"), 0);
    }
}
