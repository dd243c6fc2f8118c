//! Policies about what roles may do.

use super::{AWS, Policy};
use crate::{
    environment::{Finding, Severity},
    spec::Statement,
};

/// Actions that AWS knows no narrower resource for.
const WITHOUT_RESOURCE: [&str; 13] = [
    "cloudwatch:PutMetricData",
    "ec2:DescribeNetworkInterfaces",
    "ecr:GetAuthorizationToken",
    "logs:DescribeLogGroups",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "sts:GetCallerIdentity",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
];

pub(super) const WILDCARD: Policy = Policy {
    code: "DB005",
    title: "a wildcard in what a role may do",
    severity: Severity::Error,
    waivable: true,
    clouds: AWS,
    what: "A statement of `task_policy` or `execution_policy` has `*` in an action, or a resource that is everything \
           (`*`) or everything of a service or an account. The end of a path within one resource may be `*`, and so may \
           the resource of actions that AWS knows no narrower one for.",
    why: "Whoever takes over one task then has all of it: other services' buckets, tables and secrets. And nobody can \
          read from the policy what the service really needs.",
    fix: "Name the actions and the ARNs.",
    wrong: "[[cloud.aws.task_policy]]\nactions = [\"s3:*\"]\nresources = [\"*\"]",
    right: "[[cloud.aws.task_policy]]\nactions = [\"s3:GetObject\"]\nresources = [\"arn:aws:s3:::bird-assets/*\"]",
    check: |spec, found| {
        let both = [("task_policy", &spec.aws.task_policy), ("execution_policy", &spec.aws.execution_policy)];
        for (table, statements) in both {
            for (i, statement) in statements.iter().enumerate() {
                let key = |key: &str| format!("cloud.aws.{table}.{i}.{key}");
                if let Some(action) = statement.actions.iter().find(|action| action.contains(['*', '?'])) {
                    let finding = Finding::at(key("actions"), format!("`{action}` allows more than one action"));
                    found.push(finding.help("name the actions that the service calls"));
                }
                let free = statement.actions.iter().all(|action| WITHOUT_RESOURCE.contains(&action.as_str()));
                if let Some(resource) = statement.resources.iter().find(|r| !free && is_everything(r)) {
                    let finding = Finding::at(key("resources"), format!("`{resource}` is not one resource"));
                    found.push(finding.help("name it by its ARN; only the end of a path within it may be `*`"));
                }
            }
        }
    },
};

/// A wildcard that stands for whole resources, not for what is within one.
fn is_everything(resource: &str) -> bool {
    let parts: Vec<&str> = resource.splitn(6, ':').collect();
    let [_, _, _, _, _, what] = parts[..] else { return resource.contains('*') };
    let (place, named) = (&parts[1..5], what.trim_end_matches('*').trim_end_matches(['/', ':']));
    // A kind alone names none of it: `table/*`, `secret:*`, `log-group:*`.
    let kind_only = ["table", "secret", "log-group", "function", "repository", "role", "key", "parameter", "queue"];
    place.iter().any(|part| part.contains('*'))
        || named.is_empty()
        || named.contains('*')
        || (what.ends_with('*') && kind_only.contains(&named))
}

pub(super) const ROLE_CANNOT_PULL: Policy = Policy {
    code: "DB009",
    title: "an execution role that can't pull the image",
    severity: Severity::Error,
    waivable: true,
    clouds: AWS,
    what: "`execution_policy` lacks one of the actions that pull an image from ECR, or `execution_role` belongs to \
           another account than the `repository`.",
    why: "Tasks are started by the execution role. If it can't pull, no task ever starts: each stops with \
          `CannotPullContainerError`, and the release fails after its deadline.",
    fix: "Allow ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer, or leave \
          `execution_policy` out. A role of another account needs a repository policy that lets it in: then waive this.",
    wrong: "[cloud.aws]\nexecution_role = \"arn:aws:iam::222222222222:role/bird\"\n\
            repository = \"111111111111.dkr.ecr.us-east-1.amazonaws.com/bird\"",
    right: "[cloud.aws]\nexecution_role = \"arn:aws:iam::111111111111:role/bird\"\n\
            repository = \"111111111111.dkr.ecr.us-east-1.amazonaws.com/bird\"",
    check: |spec, found| {
        let aws = &spec.aws;
        let account = aws.repository.as_deref().map(ecr_account);
        // Another registry than ECR asks for no role.
        if account == Some(None) {
            return;
        }
        if let Some(action) =
            PULL.iter().find(|action| !aws.execution_policy.is_empty() && !allows(&aws.execution_policy, action))
        {
            let message = format!("the execution role could not pull the image: nothing allows {action}");
            found.push(Finding::at("cloud.aws.execution_policy", message));
        }
        if let (Some(role), Some(Some(registry))) = (&aws.execution_role, account) {
            let own = role.split(':').nth(4).unwrap_or_default();
            if own != registry {
                let message = format!("a role of account {own} can't pull from a repository of account {registry}");
                found.push(Finding::at("cloud.aws.execution_role", message).reads(&["cloud.aws.repository"]));
            }
        }
    },
};

const PULL: [&str; 3] = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The account of a repository in ECR.
fn ecr_account(repository: &str) -> Option<&str> {
    repository.split_once(".dkr.ecr.").map(|(account, _)| account)
}

fn allows(statements: &[Statement], action: &str) -> bool {
    let covers = |allowed: &String| match allowed.split_once('*') {
        Some((start, _)) => action.starts_with(start),
        None => allowed.eq_ignore_ascii_case(action),
    };
    statements.iter().any(|statement| statement.actions.iter().any(covers))
}
