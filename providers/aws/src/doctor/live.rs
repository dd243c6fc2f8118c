//! What an environment has that is there already: its stack, the image that runs, its roles, its alarms.

use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_ecr::types::ImageIdentifier;
use dbird_core::ProviderError;
use serde_json::Value;

use crate::AwsProvider;
use crate::config::base;
use crate::doctor::{Check, Questions};
use crate::error::{Answer, code};
use crate::observe::{Stack, stack_of};
use crate::service;

/// The roles among a stack's outputs, and who has to be able to take each on.
const ROLES: [(&str, &str); 4] = [
    ("TaskRole", "ecs-tasks.amazonaws.com"),
    ("ExecutionRole", "ecs-tasks.amazonaws.com"),
    ("DeploymentRole", "codedeploy.amazonaws.com"),
    ("EcsRole", "ecs.amazonaws.com"),
];
/// An alarm's page.
const ALARMS_MAX: i32 = 100;

pub(super) async fn checks(aws: &AwsProvider, questions: &Questions) -> Vec<Check> {
    let name = base(&questions.target);
    let found = stack_of(aws, &name).await;
    let (stack, check) = match found {
        Err(error) => (None, Check::unasked("stack", &error)),
        Ok(None) => (None, Check::skip("stack", format!("{name} is not there yet: the first deploy makes it"))),
        Ok(Some(stack)) => {
            let check = match stack.note() {
                Some(note) if stack.busy() => Check::ng("stack", note, "wait until it has ended"),
                Some(note) => Check::ng("stack", note, "`dbird deploy`"),
                None => Check::ok("stack", format!("{name}: {}", stack.status)),
            };
            (Some(stack).filter(Stack::serves), check)
        }
    };
    let mut checks = vec![check];
    match &stack {
        None => {
            let none = |name| Check::skip(name, "nothing is deployed");
            checks.push(none("image"));
            checks.push(given_role(aws, questions, &[]).await.unwrap_or_else(|| none("roles")));
            checks.push(none("alarms"));
        }
        Some(stack) => {
            checks.push(image(aws, questions, stack).await);
            let roles: Vec<(&str, &str)> =
                ROLES.iter().filter_map(|(output, who)| Some((stack.outputs.get(*output)?.as_str(), *who))).collect();
            checks.push(
                given_role(aws, questions, &roles).await.unwrap_or_else(|| Check::skip("roles", "there are none")),
            );
            checks.push(alarms(aws, &name).await);
        }
    }
    checks
}

/// Whether the image that runs is still in its repository: without it no task can be started again.
async fn image(aws: &AwsProvider, questions: &Questions, stack: &Stack) -> Check {
    let live = match service::observe(aws, &questions.target, stack).await {
        Err(error) => return Check::unasked("image", &error),
        Ok(live) => live.image,
    };
    let text = |key: &str| live.as_ref().and_then(|i| i[key].as_str()).unwrap_or_default();
    let (repository, digest) = (text("repository"), text("digest"));
    let Some((registry, name)) = repository.split_once('/') else { return Check::skip("image", "nothing runs") };
    if !registry.contains(".dkr.ecr.") && !dbird_registry::is_loopback(registry) {
        return Check::skip("image", format!("{registry} is not ECR"));
    }
    let id = ImageIdentifier::builder().image_digest(digest).build();
    let answer = aws.clients.ecr().await.describe_images().repository_name(name).image_ids(id).send().await;
    match answer {
        Ok(_) => Check::ok("image", format!("{digest} is in {name}")),
        Err(error) if code(&error).ends_with("NotFoundException") => Check::ng(
            "image",
            format!("{digest} runs, but is not in {name} any more: no task can be started again"),
            "push it again: `dbird deploy`",
        ),
        Err(error) => match Err::<(), _>(error).or_fault("look for the image", digest) {
            Err(error) => Check::unasked("image", &error),
            Ok(()) => Check::ok("image", digest),
        },
    }
}

/// Whether the roles exist, and the services that need them may take them on.
async fn given_role(aws: &AwsProvider, questions: &Questions, made: &[(&str, &str)]) -> Option<Check> {
    let given = questions.role.as_deref().map(|role| (role, "ecs-tasks.amazonaws.com"));
    let all: Vec<(&str, &str)> = made.iter().copied().chain(given).collect();
    if all.is_empty() {
        return None;
    }
    let mut wrong = Vec::new();
    for (arn, who) in &all {
        match trusted(aws, arn).await {
            Err(error) => return Some(Check::unasked("roles", &error)),
            Ok(None) => wrong.push(format!("{arn} does not exist")),
            Ok(Some(trust)) if !trusts(&trust, who) => wrong.push(format!("{arn} can't be taken on by {who}")),
            Ok(Some(_)) => {}
        }
    }
    Some(match wrong.is_empty() {
        true => Check::ok("roles", format!("all {} exist and can be taken on", all.len())),
        false => Check::ng(
            "roles",
            wrong.join("; "),
            "`dbird deploy` makes its own again; correct the trust policy of one that was given",
        ),
    })
}

/// Who may take a role on; none where there is no such role.
async fn trusted(aws: &AwsProvider, arn: &str) -> Result<Option<Value>, ProviderError> {
    let name = arn.rsplit('/').next().unwrap_or(arn);
    match aws.clients.iam().await.get_role().role_name(name).send().await {
        Err(error) if code(&error).starts_with("NoSuchEntity") => Ok(None),
        answer => {
            let role = answer.or_fault("read the role", arn)?.role;
            let document = role.and_then(|r| r.assume_role_policy_document).unwrap_or_default();
            Ok(Some(serde_json::from_str(&unquoted(&document)).unwrap_or_default()))
        }
    }
}

/// A policy as IAM answers it: with per cent signs.
fn unquoted(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits =
            more.get(..2).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (first, digits) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn trusts(policy: &Value, who: &str) -> bool {
    let list = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    list(&policy["Statement"]).iter().any(|statement| {
        statement["Effect"] == "Allow" && list(&statement["Principal"]["Service"]).iter().any(|service| service == who)
    })
}

/// Whether one of the environment's alarms stands: no release begins then.
async fn alarms(aws: &AwsProvider, base: &str) -> Check {
    let call = aws.clients.cloudwatch().await.describe_alarms();
    let call = call.alarm_name_prefix(format!("{base}-")).state_value(StateValue::Alarm).max_records(ALARMS_MAX);
    match call.send().await.or_fault("read the alarms", base) {
        Err(error) => Check::unasked("alarms", &error),
        Ok(answer) => {
            let names: Vec<String> =
                answer.metric_alarms.unwrap_or_default().into_iter().filter_map(|a| a.alarm_name).collect();
            match names.is_empty() {
                true => Check::ok("alarms", "none stands"),
                false => Check::ng(
                    "alarms",
                    format!("in ALARM: {}", names.join(", ")),
                    "find out why (`dbird status`, `dbird logs`): no release begins before they are quiet",
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_can_be_taken_on_by_whom_its_policy_names() {
        let policy =
            |service: Value| json!({ "Statement": [{ "Effect": "Allow", "Principal": { "Service": service } }] });
        let ecs = "ecs-tasks.amazonaws.com";
        assert!(trusts(&policy(json!(ecs)), ecs));
        assert!(trusts(&policy(json!(["x", ecs])), ecs));
        assert!(!trusts(&policy(json!("ec2.amazonaws.com")), ecs));
        assert!(!trusts(&Value::Null, ecs));
    }

    #[test]
    fn a_policy_comes_with_per_cent_signs() {
        assert_eq!(unquoted("%7B%22a%22%3A1%7D 100%"), "{\"a\":1} 100%");
    }
}
