//! IAM's kinds of resources, and the policies of AWS itself that the simulator knows.

use serde_json::{Value, json};

use super::evaluate;
use crate::aws::{
    Fault, World,
    bag::{self, Bag, Bags},
    cloudformation::kinds::Kind,
    list, text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&ROLE, &POLICY, &MANAGED_POLICY, &OIDC_PROVIDER, &SERVICE_LINKED_ROLE];

fn home(world: &World) -> &Bags {
    &world.iam.bags
}

static ROLE: Bag = Bag {
    name: "AWS::IAM::Role",
    properties: &[
        "AssumeRolePolicyDocument",
        "Description",
        "ManagedPolicyArns",
        "MaxSessionDuration",
        "Path",
        "PermissionsBoundary",
        "Policies",
        "RoleName",
        "Tags",
    ],
    required: &["AssumeRolePolicyDocument"],
    renewed_by: &["Path", "RoleName"],
    takes_ms: 17_000,
    import_by: Some("RoleName"),
    home,
    check: |_, properties| {
        let trust = &properties["AssumeRolePolicyDocument"];
        let statements = evaluate::statements(trust);
        if statements.is_empty() || statements.iter().any(|s| s.get("Principal").is_none()) {
            return Err(Fault::new("MalformedPolicyDocument", "Missing required field Principal"));
        }
        let mut own = list(properties, "Policies").iter().filter_map(|policy| policy.get("PolicyDocument"));
        own.try_for_each(checked)
    },
    made: |world, place, properties| {
        let name = bag::name(place, properties, "RoleName", 64);
        let path = text(properties, "Path").unwrap_or("/");
        let arn = format!("arn:aws:iam::{}:role{path}{name}", world.settings.account);
        (name, vec![("Arn", json!(arn)), ("RoleId", json!("AROASIMULATEDROLE000"))])
    },
};

static POLICY: Bag = Bag {
    name: "AWS::IAM::Policy",
    properties: &["Groups", "PolicyDocument", "PolicyName", "Roles", "Users"],
    required: &["PolicyDocument", "PolicyName"],
    renewed_by: &[],
    takes_ms: 16_000,
    import_by: None,
    home,
    check: |_, properties| checked(&properties["PolicyDocument"]),
    made: |_, place, _| (bag::name(place, &json!({}), "Name", 64), Vec::new()),
};

static MANAGED_POLICY: Bag = Bag {
    name: "AWS::IAM::ManagedPolicy",
    properties: &["Description", "Groups", "ManagedPolicyName", "Path", "PolicyDocument", "Roles", "Users"],
    required: &["PolicyDocument"],
    renewed_by: &["Description", "ManagedPolicyName", "Path"],
    takes_ms: 16_000,
    import_by: Some("PolicyArn"),
    home,
    check: |_, properties| checked(&properties["PolicyDocument"]),
    made: |world, place, properties| {
        let name = bag::name(place, properties, "ManagedPolicyName", 128);
        let arn = format!("arn:aws:iam::{}:policy/{name}", world.settings.account);
        (arn.clone(), vec![("PolicyArn", json!(arn))])
    },
};

static OIDC_PROVIDER: Bag = Bag {
    name: "AWS::IAM::OIDCProvider",
    properties: &["ClientIdList", "Tags", "ThumbprintList", "Url"],
    required: &[],
    renewed_by: &["Url"],
    takes_ms: 5_000,
    import_by: Some("Arn"),
    home,
    check: bag::any,
    made: |world, _, properties| {
        let host = text(properties, "Url").unwrap_or_default().trim_start_matches("https://");
        let arn = format!("arn:aws:iam::{}:oidc-provider/{host}", world.settings.account);
        (arn.clone(), vec![("Arn", json!(arn))])
    },
};

static SERVICE_LINKED_ROLE: Bag = Bag {
    name: "AWS::IAM::ServiceLinkedRole",
    properties: &["AWSServiceName", "CustomSuffix", "Description"],
    required: &[],
    renewed_by: &["AWSServiceName", "CustomSuffix"],
    takes_ms: 5_000,
    import_by: Some("RoleName"),
    home,
    check: bag::any,
    made: |_, _, properties| {
        let service = text(properties, "AWSServiceName").unwrap_or_default();
        let name = format!("AWSServiceRoleFor{}", service.split('.').next().unwrap_or_default());
        (name.clone(), vec![("RoleName", json!(name))])
    },
};

fn checked(policy: &Value) -> Result<(), Fault> {
    let statements = evaluate::statements(policy);
    let whole = !statements.is_empty()
        && statements.iter().all(|s| {
            matches!(text(s, "Effect"), Some("Allow" | "Deny"))
                && (s.get("Action").is_some() || s.get("NotAction").is_some())
                && (s.get("Resource").is_some() || s.get("NotResource").is_some())
        });
    if whole { Ok(()) } else { Err(Fault::new("MalformedPolicyDocument", "Syntax errors in policy.")) }
}

/// A policy of AWS's own, as far as it matters here.
pub(crate) fn managed(arn: &str) -> Option<Value> {
    let actions: &[&str] = match arn.strip_prefix("arn:aws:iam::aws:policy/")? {
        "service-role/AmazonECSTaskExecutionRolePolicy" => &[
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
        "AWSCodeDeployRoleForECS" => &[
            "ecs:DescribeServices",
            "ecs:CreateTaskSet",
            "ecs:UpdateServicePrimaryTaskSet",
            "ecs:DeleteTaskSet",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:ModifyRule",
            "lambda:InvokeFunction",
            "cloudwatch:DescribeAlarms",
            "sns:Publish",
            "s3:GetObject",
            "s3:GetObjectVersion",
            "iam:PassRole",
        ],
        "AmazonECSInfrastructureRolePolicyForLoadBalancers" => &[
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth",
            "elasticloadbalancing:DeregisterTargets",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:RegisterTargets",
        ],
        _ => return None,
    };
    Some(json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }] }))
}
