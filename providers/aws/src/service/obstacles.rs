//! What stands in the way of a release, as far as that can be seen before anything is changed. It only reads, and asks AWS
//! only where a release would be made.

use aws_sdk_cloudwatch::types::StateValue;
use dbird_core::{Documents, ProviderError, StepKind, Target};
use serde_json::Value;

use super::document::base;
use crate::AwsProvider;
use crate::error::Answer;
use crate::stack::Stack;

/// What stands in the way, each a sentence.
pub(crate) async fn obstacles(
    p: &AwsProvider,
    target: &Target,
    documents: &Documents,
    stack: Option<&Stack>,
) -> Result<Vec<String>, ProviderError> {
    let wanted = documents.steps.iter().find(|step| step.kind == StepKind::Service).map(|step| &step.body);
    let (Some(wanted), Some(_)) = (wanted, stack) else { return Ok(Vec::new()) };
    let Some(live) = p.rollouts.live(&base(target)) else { return Ok(Vec::new()) };
    let mut obstacles: Vec<_> = other_controller(wanted, &live).into_iter().collect();
    if differs(wanted, &live) {
        obstacles.extend(alarms(p, wanted).await?);
    }
    Ok(obstacles)
}

/// AWS can't change who moves the traffic of a service that is there.
fn other_controller(wanted: &Value, live: &Value) -> Option<String> {
    let (wanted, live) = (wanted["controller"].as_str()?, live["controller"].as_str()?);
    (wanted != live).then(|| {
        format!(
            "the service is rolled out by `{live}`, and AWS can't change that to `{wanted}`: set `[rollout] controller` back, or \
             run `dbird destroy`, then `dbird deploy`; the data stays"
        )
    })
}

/// The alarms that would undo a release as soon as it began.
async fn alarms(p: &AwsProvider, wanted: &Value) -> Result<Vec<String>, ProviderError> {
    let names = |part: &Value| -> Vec<String> {
        let names = part["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    };
    let names = [names(&wanted["codedeploy"]), names(&wanted["ecs"])].concat();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let all = names.join(", ");
    let read = p
        .clients
        .cloudwatch()
        .await
        .describe_alarms()
        .set_alarm_names(Some(names))
        .state_value(StateValue::Alarm)
        .send()
        .await
        .or_fault("read the alarms", all)?;
    let on = read.metric_alarms().iter().filter_map(|alarm| {
        let reason =
            alarm.state_reason().map(|reason| format!(" ({})", reason.trim_end_matches('.'))).unwrap_or_default();
        Some(format!(
            "the alarm {} is on{reason}: a release would be undone at once; find out why, or wait until it is off",
            alarm.alarm_name()?
        ))
    });
    Ok(on.collect())
}

/// True where the two differ in what is known of both: what an earlier step will give is not.
fn differs(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(map), _) if map.contains_key(dbird_core::document::REFERENCE_KEY) => false,
        (Value::Object(wanted), Value::Object(live)) => {
            let keys = wanted.keys().chain(live.keys());
            keys.into_iter()
                .any(|key| differs(wanted.get(key).unwrap_or(&Value::Null), live.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() != live.len() || wanted.iter().zip(live).any(|(wanted, live)| differs(wanted, live))
        }
        (wanted, live) => wanted != live,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_no_difference() {
        let reference = json!({ "$output": { "step": "infrastructure", "name": "Cluster" } });
        let cases = [
            (json!({ "cluster": reference, "n": 1 }), json!({ "cluster": "bird-dev", "n": 1 }), false),
            (json!({ "subnets": [reference, reference] }), json!({ "subnets": ["a", "b"] }), false),
            (json!({ "n": 1, "scaling": null }), json!({ "n": 1 }), false),
            (json!({ "n": 1 }), json!({ "n": 2 }), true),
            (json!({ "n": 1 }), json!({ "n": 1, "more": 1 }), true),
            (json!({ "list": [1] }), json!({ "list": [1, 2] }), true),
        ];
        for (wanted, live, differ) in cases {
            assert_eq!(differs(&wanted, &live), differ, "{wanted} {live}");
        }
    }

    #[test]
    fn another_controller_is_refused_before_anything_is_changed() {
        let of = |name: &str| json!({ "controller": name });
        assert!(other_controller(&of("ecs"), &of("codedeploy")).unwrap().contains("dbird destroy"));
        assert_eq!(other_controller(&of("ecs"), &of("ecs")), None);
        assert_eq!(other_controller(&of("ecs"), &json!({})), None);
    }
}
