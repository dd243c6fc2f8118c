//! What each role may do: no more than its work needs, on named resources. Where AWS knows no resource for an action, the
//! statement stands alone and says so.

use dbird_core::{Spec, spec::SecretRef, spec::Statement};
use serde_json::{Value, json};

use super::{has_collector, keeps_files};

fn allow(actions: &[&str], resources: Value) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn arn(rest: &str) -> Value {
    json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:{rest}") })
}

fn here(service: &str, rest: &str) -> Value {
    arn(&format!("{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}"))
}

fn attribute(id: &str, name: &str) -> Value {
    json!({ "Fn::GetAtt": [id, name] })
}

fn own(statements: &[Statement]) -> Vec<Value> {
    let one = |s: &Statement| json!({ "Effect": "Allow", "Action": s.actions, "Resource": s.resources });
    statements.iter().map(one).collect()
}

/// The roles of tasks: the platform's, unless another is named, and the service's.
pub(super) fn task_roles(spec: &Spec) -> Value {
    let mut roles = Vec::new();
    if spec.aws.execution_role.is_none() {
        roles.push(json!({
            "id": "ExecutionRole", "policy": "start-tasks",
            "description": "Starts tasks: pulls the image, reads the secrets, writes the logs",
            "statements": execution(spec),
        }));
    }
    roles.push(json!({
        "id": "TaskRole", "policy": "serve", "description": "What the service itself may do",
        "statements": task(spec),
    }));
    Value::Array(roles)
}

fn execution(spec: &Spec) -> Vec<Value> {
    if !spec.aws.execution_policy.is_empty() {
        return own(&spec.aws.execution_policy);
    }
    let mut statements = Vec::new();
    let repository = match &spec.aws.repository {
        None => Some(attribute("DataRepository", "Arn")),
        Some(given) => registry(given),
    };
    if let Some(repository) = repository {
        // It says who asks, and gives nothing of a repository.
        statements.push(allow(&["ecr:GetAuthorizationToken"], json!("*")));
        let pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
        statements.push(allow(&pull, repository));
    }
    statements.push(allow(&["logs:CreateLogStream", "logs:PutLogEvents"], attribute("LogGroup", "Arn")));
    let (parameters, secrets): (Vec<_>, Vec<_>) =
        spec.secrets.values().map(Place::of).partition(|place| matches!(place, Place::Parameter(_)));
    let resources = |places: Vec<Place>| -> Vec<Value> {
        let mut all: Vec<Value> = places.iter().flat_map(Place::resources).collect();
        all.sort_by_key(Value::to_string);
        all.dedup();
        all
    };
    for (action, places) in [("secretsmanager:GetSecretValue", secrets), ("ssm:GetParameters", parameters)] {
        if !places.is_empty() {
            statements.push(allow(&[action], Value::Array(resources(places))));
        }
    }
    statements
}

/// A repository of ECR by its ARN; another registry asks for no role.
fn registry(repository: &str) -> Option<Value> {
    let (host, name) = repository.split_once('/')?;
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let region = rest.split('.').next()?;
    Some(arn(&format!("ecr:{region}:{account}:repository/{name}")))
}

fn task(spec: &Spec) -> Vec<Value> {
    let mut statements = Vec::new();
    if keeps_files(spec) {
        let actions = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"];
        let mut mount = allow(&actions, attribute("DataFileSystem", "Arn"));
        mount["Condition"] =
            json!({ "StringEquals": { "elasticfilesystem:AccessPointArn": attribute("AccessPoint", "Arn") } });
        statements.push(mount);
    }
    if spec.aws.exec {
        // The channels of a session have no names that could be known before.
        let actions = ["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"];
        let actions = actions.map(|action| format!("ssmmessages:{action}"));
        statements.push(allow(&actions.each_ref().map(String::as_str), json!("*")));
    }
    if has_collector(spec) {
        let actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"];
        statements.push(allow(&actions, attribute("MetricsLogGroup", "Arn")));
        if spec.telemetry.otlp.is_none() {
            // A trace is no resource.
            let actions = [
                "xray:GetSamplingRules",
                "xray:GetSamplingTargets",
                "xray:PutTelemetryRecords",
                "xray:PutTraceSegments",
            ];
            statements.push(allow(&actions, json!("*")));
        }
    }
    statements.extend(own(&spec.aws.task_policy));
    statements
}

/// Reading a load balancer can't be narrowed to one.
const DESCRIBE: [&str; 5] = [
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
];

fn shift_traffic() -> Value {
    let of = |kind: &str| here("elasticloadbalancing", &format!("{kind}/${{LoadBalancer.LoadBalancerFullName}}/*"));
    let actions = ["elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyRule"];
    allow(&actions, json!([of("listener"), of("listener-rule")]))
}

/// CodeDeploy's role.
pub(super) fn deployment_role(spec: &Spec, base: &str) -> Value {
    let service = &spec.service.name;
    let service_arns = json!([
        here("ecs", &format!("service/{base}/{service}")),
        here("ecs", &format!("task-set/{base}/{service}/*")),
    ]);
    let task_sets =
        ["ecs:CreateTaskSet", "ecs:DeleteTaskSet", "ecs:DescribeServices", "ecs:UpdateServicePrimaryTaskSet"];
    let execution = spec.aws.execution_role.as_ref().map_or_else(|| attribute("ExecutionRole", "Arn"), |r| json!(r));
    let mut pass = allow(&["iam:PassRole"], json!([attribute("TaskRole", "Arn"), execution]));
    pass["Condition"] = json!({ "StringEquals": { "iam:PassedToService": "ecs-tasks.amazonaws.com" } });
    json!({
        "id": "DeploymentRole", "policy": "deploy", "principal": "codedeploy.amazonaws.com",
        "source_account": true,
        "description": "Lets CodeDeploy move the traffic of one service",
        "statements": [
            allow(&task_sets, service_arns),
            allow(&DESCRIBE, json!("*")),
            shift_traffic(),
            // It asks for alarms by name, which is not an ARN.
            allow(&["cloudwatch:DescribeAlarms"], json!("*")),
            pass,
        ],
    })
}

/// ECS's own role, for what it does to the load balancer.
pub(super) fn ecs_role() -> Value {
    let targets = ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"];
    json!({
        "id": "EcsRole", "policy": "deploy", "principal": "ecs.amazonaws.com",
        // AWS documents no account in what ECS says when it takes this role.
        "source_account": false,
        "description": "Lets ECS move the traffic of one service",
        "statements": [
            allow(&DESCRIBE, json!("*")),
            allow(&targets, json!([{ "Ref": "BlueTargetGroup" }, { "Ref": "GreenTargetGroup" }])),
            shift_traffic(),
        ],
    })
}

/// Where AWS keeps a secret.
pub(super) enum Place {
    /// Secrets Manager, by name.
    Named(String),
    /// Secrets Manager, by ARN, perhaps with the key of a value.
    Arn(String),
    /// The parameter store, by name or ARN.
    Parameter(String),
}

impl Place {
    pub(super) fn of(secret: &SecretRef) -> Place {
        let name = &secret.name;
        match name.strip_prefix("ssm:") {
            Some(parameter) => Place::Parameter(parameter.to_owned()),
            None if !name.starts_with("arn:") => Place::Named(name.clone()),
            None if name.split(':').nth(2) == Some("ssm") => Place::Parameter(name.clone()),
            None => Place::Arn(name.clone()),
        }
    }

    /// What the execution role reads.
    fn resources(&self) -> Vec<Value> {
        match self {
            // Secrets Manager ends each name with six characters of its own.
            Place::Named(name) => vec![here("secretsmanager", &format!("secret:{name}-??????"))],
            Place::Arn(full) => {
                let secret = full.split(':').take(7).collect::<Vec<_>>().join(":");
                vec![json!(secret), json!(format!("{secret}-??????"))]
            }
            Place::Parameter(full) if full.starts_with("arn:") => vec![json!(full)],
            Place::Parameter(name) => vec![here("ssm", &format!("parameter/{}", name.trim_start_matches('/')))],
        }
    }

    /// The whole ARN of a secret that is known by name: the account is the stack's to know.
    pub(super) fn output(&self) -> Option<Value> {
        match self {
            Place::Named(name) => Some(here("secretsmanager", &format!("secret:{name}"))),
            Place::Arn(_) | Place::Parameter(_) => None,
        }
    }
}
