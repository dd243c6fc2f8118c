//! The permissions that dbird needs in an account, as policies made from tables. It decides how narrow each is; it asks
//! for nothing itself.

mod created;
mod operations;

use std::collections::{BTreeMap, BTreeSet};

use dbird_core::Target;
use serde_json::{Value, json};

use crate::config::{base, network_stack};
use created::{CREATED, Where};
pub(crate) use operations::{Again, operation};
use operations::{OPERATIONS, On};

/// IAM takes no longer policy, white space not counted.
const POLICY_CHARS_MAX: usize = 6_144;

/// A policy that one can attach.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// A name for it: `dbird-bird-dev-1`.
    pub name: String,
    /// The document.
    pub document: Value,
}

/// What the permissions are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The service and environment.
    pub target: Target,
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The network that it shares with other environments; none where it has its own.
    pub network: Option<String>,
    /// Where the state is, `s3://bucket/prefix`; none where it is not in S3.
    pub state: Option<String>,
}

/// What dbird needs for an environment: all of these together, each small enough for IAM.
pub fn policies(scope: &Scope) -> Vec<Policy> {
    let base = base(&scope.target);
    let place = Place::of(scope, &base);
    let mut documents: Vec<Vec<Value>> = Vec::new();
    for statement in statements(&place) {
        let fits = documents.last().is_some_and(|last| {
            let mut tried = last.clone();
            tried.push(statement.clone());
            written(&tried).to_string().len() <= POLICY_CHARS_MAX
        });
        match documents.last_mut().filter(|_| fits) {
            Some(last) => last.push(statement),
            None => documents.push(vec![statement]),
        }
    }
    let named = |(index, statements): (usize, Vec<Value>)| Policy {
        name: format!("dbird-{base}-{}", index + 1),
        document: written(&statements),
    };
    documents.into_iter().enumerate().map(named).collect()
}

/// The same in one document, for reading, and for whoever has no limit on its length.
pub fn print_policy(scope: &Scope) -> Value {
    written(&statements(&Place::of(scope, &base(&scope.target))))
}

fn written(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Where the permissions are for.
struct Place<'a> {
    target: &'a Target,
    base: &'a str,
    account: &'a str,
    region: &'a str,
    /// The stack of a shared network.
    network: Option<String>,
    /// Its logs.
    network_logs: Option<String>,
    /// The bucket of the state.
    bucket: Option<&'a str>,
    /// Where in it the environments' folders are; mostly empty.
    prefix: &'a str,
}

/// One statement for everything on the same things.
fn statements(place: &Place<'_>) -> Vec<Value> {
    let mut actions: BTreeMap<Where, BTreeSet<String>> = BTreeMap::new();
    for operation in OPERATIONS.iter().filter(|o| o.on != On::Nobody) {
        actions.entry(Where::As(operation.on)).or_default().insert(operation.action.to_owned());
    }
    for row in CREATED.iter().filter(|row| {
        place.bucket.is_some() || !matches!(row.on, Where::Bootstrap | Where::State | Where::StateObjects)
    }) {
        let names = row.actions.iter().map(|name| format!("{}:{name}", row.service));
        actions.entry(row.on).or_default().extend(names);
    }
    // What lists tags takes them from the request, so those that make a thing can be held to its own.
    let mut statements: Vec<Value> = Vec::new();
    for (on, actions) in actions {
        let (resources, condition) = place.scope(on);
        let sid: String = format!("{on:?}").chars().filter(char::is_ascii_alphanumeric).collect();
        let mut statement = json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources });
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statements.push(statement);
    }
    statements
}

impl<'a> Place<'a> {
    fn of(scope: &'a Scope, base: &'a str) -> Self {
        let Scope { target, account, region, network, state } = scope;
        let state = state.as_deref().and_then(|url| url.strip_prefix("s3://"));
        let (bucket, prefix) = state.map_or((None, ""), |at| {
            at.split_once('/').map_or((Some(at), ""), |(bucket, prefix)| (Some(bucket), prefix.trim_matches('/')))
        });
        Place {
            target,
            base,
            account,
            region,
            network: network.as_deref().map(network_stack),
            network_logs: network.as_ref().map(|name| format!("/dbird/network/{name}")),
            bucket,
            prefix,
        }
    }

    /// The ARNs of something in this account and region.
    fn arn(&self, service: &str, rest: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{rest}", self.region, self.account)
    }

    /// The roles of the stacks, whose names CloudFormation begins with the stack's.
    fn roles(&self) -> Vec<String> {
        let stacks = [self.base].into_iter().chain(self.network.as_deref());
        stacks.map(|stack| format!("arn:aws:iam::{}:role/{stack}-*", self.account)).collect()
    }

    fn tagged(&self) -> Value {
        json!({ "StringEquals": {
            "aws:ResourceTag/dbird:service": self.target.service,
            "aws:ResourceTag/dbird:environment": self.target.environment,
        } })
    }

    fn here(&self) -> Option<Value> {
        Some(json!({ "StringEquals": { "aws:RequestedRegion": self.region } }))
    }

    fn scope(&self, on: Where) -> (Vec<String>, Option<Value>) {
        let base = self.base;
        let any = || vec!["*".to_owned()];
        match on {
            Where::As(On::All | On::Nobody) => (any(), None),
            Where::As(On::Stacks) => {
                let own = [base.to_owned(), format!("dbird-bootstrap-{}", self.target.service)];
                let stacks = own.iter().chain(&self.network);
                (stacks.map(|name| self.arn("cloudformation", &format!("stack/{name}/*"))).collect(), None)
            }
            Where::As(On::Cluster) => (vec![self.arn("ecs", &format!("cluster/{base}"))], None),
            Where::As(On::Service) => (vec![self.arn("ecs", &format!("service/{base}/{}", self.target.service))], None),
            Where::As(On::TaskDefinitions) => {
                // One-off tasks have a family of their own.
                let families = [base.to_owned(), format!("{base}-run")];
                (families.map(|family| self.arn("ecs", &format!("task-definition/{family}:*"))).to_vec(), None)
            }
            Where::As(On::Tasks) => {
                (vec![self.arn("ecs", &format!("task/{base}/*")), self.arn("ecs", &format!("cluster/{base}"))], None)
            }
            Where::As(On::ServiceDeployments) => {
                (vec![self.arn("ecs", &format!("service-deployment/{base}/{}/*", self.target.service))], None)
            }
            Where::As(On::Application) => (vec![self.arn("codedeploy", &format!("application:{base}"))], None),
            Where::As(On::Group) => (vec![self.arn("codedeploy", &format!("deploymentgroup:{base}/{base}"))], None),
            Where::As(On::Configurations) => (vec![self.arn("codedeploy", "deploymentconfig:*")], None),
            Where::As(On::Listeners) => (vec![self.arn("elasticloadbalancing", "listener/app/*")], Some(self.tagged())),
            Where::As(On::Rules) => {
                (vec![self.arn("elasticloadbalancing", "listener-rule/app/*")], Some(self.tagged()))
            }
            Where::As(On::Scaling) => (
                vec![self.arn("application-autoscaling", "scalable-target/*")],
                Some(json!({ "StringEqualsIfExists": { "application-autoscaling:service-namespace": "ecs" } })),
            ),
            Where::As(On::Alarms) => (vec![self.arn("cloudwatch", &format!("alarm:{base}-*"))], None),
            Where::As(On::Logs) => {
                // The group, its streams, and the groups below it: of the collector and of the network.
                let own = format!("/dbird/{base}");
                let names = [own.clone(), format!("{own}:*"), format!("{own}/*")];
                let shared = self.network_logs.iter().flat_map(|name| [name.clone(), format!("{name}:*")]);
                (
                    names
                        .into_iter()
                        .chain(shared)
                        .map(|name| self.arn("logs", &format!("log-group:{name}")))
                        .collect(),
                    None,
                )
            }
            Where::As(On::Repository) => (vec![self.arn("ecr", &format!("repository/{base}"))], None),
            Where::As(On::FileSystems) => (
                vec![self.arn("elasticfilesystem", "file-system/*"), self.arn("elasticfilesystem", "access-point/*")],
                None,
            ),
            Where::As(On::OwnFileSystems) => (
                vec![self.arn("elasticfilesystem", "file-system/*"), self.arn("elasticfilesystem", "access-point/*")],
                Some(self.tagged()),
            ),
            Where::As(On::Roles) => (self.roles(), None),
            Where::As(On::Secrets) => (vec![self.arn("secretsmanager", "secret:*")], None),
            Where::As(On::Certificates) => (vec![self.arn("acm", "certificate/*")], None),
            Where::Network | Where::FileSystem => (any(), self.here()),
            Where::LoadBalancers => {
                let kinds = ["loadbalancer/app/*", "targetgroup/*", "listener/app/*", "listener-rule/app/*"];
                (kinds.iter().map(|kind| self.arn("elasticloadbalancing", kind)).collect(), None)
            }
            Where::Topic => (vec![self.arn("sns", &format!("{base}-*"))], None),
            // No condition on what is listed: without it an object that is not there could not be told from a closed one.
            Where::Bootstrap | Where::State => {
                (self.bucket.iter().map(|name| format!("arn:aws:s3:::{name}")).collect(), None)
            }
            // Its own environment's only: whoever deploys one can't touch the lease of another.
            Where::StateObjects => {
                let slash = if self.prefix.is_empty() { "" } else { "/" };
                let own = format!("aws/{}/{}", self.target.service, self.target.environment);
                let of = |name: &&str| format!("arn:aws:s3:::{name}/{}{slash}{own}/*", self.prefix);
                (self.bucket.iter().map(of).collect(), None)
            }
            Where::PassedRoles => {
                let services = [
                    "ecs-tasks.amazonaws.com",
                    "ecs.amazonaws.com",
                    "codedeploy.amazonaws.com",
                    "vpc-flow-logs.amazonaws.com",
                ];
                (self.roles(), Some(json!({ "StringEquals": { "iam:PassedToService": services } })))
            }
            Where::LinkedRoles => {
                let services = [
                    "ecs.amazonaws.com",
                    "elasticloadbalancing.amazonaws.com",
                    "elasticfilesystem.amazonaws.com",
                    "ecs.application-autoscaling.amazonaws.com",
                ];
                (
                    vec![format!("arn:aws:iam::{}:role/aws-service-role/*", self.account)],
                    Some(json!({ "StringEquals": { "iam:AWSServiceName": services } })),
                )
            }
            Where::Key => (
                any(),
                Some(json!({ "StringEquals": {
                    "kms:ViaService": format!("elasticfilesystem.{}.amazonaws.com", self.region),
                } })),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            target: Target { service: "bird".to_owned(), environment: "dev".to_owned() },
            account: "123456789012".to_owned(),
            region: "ap-southeast-2".to_owned(),
            network: None,
            state: Some("s3://bird-state/prod".to_owned()),
        }
    }

    fn texts(value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
            Value::String(text) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_operation_is_allowed_by_the_printed_policy() {
        let policy = print_policy(&scope());
        let allowed: BTreeSet<String> =
            policy["Statement"].as_array().unwrap().iter().flat_map(|s| texts(&s["Action"])).collect();
        for operation in OPERATIONS.iter().filter(|o| o.on != On::Nobody) {
            assert!(allowed.contains(operation.action), "{} is not allowed", operation.action);
        }
        assert!(operation("ECS", "CreateService").is_some() && operation("ECS", "DeleteAccountSetting").is_none());
    }

    /// On anything: what only reads, what AWS knows no narrower form of, and what has no name before it is made, which then
    /// holds in one region.
    #[test]
    fn nothing_may_be_done_to_everything_without_a_reason() {
        let known = [
            "ecr:GetAuthorizationToken",
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "cloudwatch:GetMetricData",
            "servicequotas:GetServiceQuota",
        ];
        let policy = print_policy(&scope());
        for statement in policy["Statement"].as_array().unwrap() {
            for action in texts(&statement["Action"]) {
                assert!(!action.contains('*'), "{action}");
                let (_, name) = action.split_once(':').unwrap();
                let reads =
                    name.starts_with("Describe") || name.starts_with("List") || known.contains(&action.as_str());
                let anything = texts(&statement["Resource"]).contains(&"*".to_owned());
                assert!(!anything || reads || statement.get("Condition").is_some(), "{action} on anything");
            }
        }
    }

    /// What a resource may be called, as IAM compares it.
    fn fits(pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((start, rest)) => name
                .strip_prefix(start)
                .is_some_and(|left| (0..=left.len()).any(|at| left.is_char_boundary(at) && fits(rest, &left[at..]))),
        }
    }

    #[test]
    fn everything_that_has_a_name_is_in_reach_and_nothing_of_others() {
        let logs = |name: &str| format!("arn:aws:logs:ap-southeast-2:123456789012:log-group:{name}");
        let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
        let stack = |name: &str| format!("arn:aws:cloudformation:ap-southeast-2:123456789012:stack/{name}/0a1b");
        // Of the environment itself, and of a network that it shares.
        let cases = [
            ("logs:CreateLogGroup", logs("/dbird/bird-dev"), true, true),
            ("logs:FilterLogEvents", logs("/dbird/bird-dev:log-stream:task/bird/1"), true, true),
            ("logs:CreateLogGroup", logs("/dbird/bird-dev/network"), true, true),
            ("logs:CreateLogGroup", logs("/dbird/bird-dev/metrics"), true, true),
            ("logs:CreateLogGroup", logs("/dbird/network/shared"), false, true),
            ("logs:CreateLogGroup", logs("/dbird/bird-prod"), false, false),
            ("iam:CreateRole", role("bird-dev-TaskRole-0A1B"), true, true),
            ("iam:PassRole", role("dbird-network-shared-FlowLogRole-0A1B"), false, true),
            ("iam:PassRole", role("bird-prod-TaskRole-0A1B"), false, false),
            ("cloudformation:CreateChangeSet", stack("bird-dev"), true, true),
            ("cloudformation:CreateChangeSet", stack("dbird-bootstrap-bird"), true, true),
            ("cloudformation:CreateChangeSet", stack("dbird-network-shared"), false, true),
            ("cloudformation:CreateChangeSet", stack("dbird-network-other"), false, false),
            ("cloudformation:CreateChangeSet", stack("bird-prod"), false, false),
        ];
        for (network, shares) in [(None, false), (Some("shared".to_owned()), true)] {
            let policy = print_policy(&Scope { network, ..scope() });
            for (action, arn, own, shared) in &cases {
                let allowed = policy["Statement"].as_array().unwrap().iter().any(|statement| {
                    texts(&statement["Action"]).contains(&(*action).to_owned())
                        && texts(&statement["Resource"]).iter().any(|pattern| fits(pattern, arn))
                });
                assert_eq!(allowed, if shares { *shared } else { *own }, "{action} on {arn}, network shared: {shares}");
            }
        }
    }

    #[test]
    fn only_the_environments_own_state_is_touched() {
        let own = "aws/bird/dev/*";
        let cases = [
            (Some("s3://b"), Some(format!("arn:aws:s3:::b/{own}"))),
            (Some("s3://b/"), Some(format!("arn:aws:s3:::b/{own}"))),
            (Some("s3://b/team/prod"), Some(format!("arn:aws:s3:::b/team/prod/{own}"))),
            (Some("file:.dbird/state"), None),
            (None, None),
        ];
        for (state, wanted) in cases {
            let policy = print_policy(&Scope { state: state.map(str::to_owned), ..scope() });
            let objects: Vec<String> = policy["Statement"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|statement| texts(&statement["Action"]).contains(&"s3:PutObject".to_owned()))
                .flat_map(|statement| texts(&statement["Resource"]))
                .collect();
            assert_eq!(objects, Vec::from_iter(wanted), "{state:?}");
            assert_eq!(policy.to_string().contains("s3:"), state.is_some_and(|s| s.starts_with("s3:")), "{state:?}");
        }
    }

    #[test]
    fn each_policy_is_one_that_iam_takes() {
        let policies = policies(&scope());
        assert!((2..=10).contains(&policies.len()), "{}: no principal can have more than ten", policies.len());
        let mut sids = BTreeSet::new();
        for policy in &policies {
            assert!(policy.document.to_string().len() <= POLICY_CHARS_MAX, "{} is too long", policy.name);
            for statement in policy.document["Statement"].as_array().unwrap() {
                assert!(sids.insert(statement["Sid"].to_string()), "{} twice", statement["Sid"]);
            }
        }
        let all: usize = policies.iter().map(|p| p.document["Statement"].as_array().unwrap().len()).sum();
        let one = print_policy(&scope());
        assert_eq!(all, one["Statement"].as_array().unwrap().len());
    }

    #[test]
    fn every_kind_of_resource_in_the_templates_has_its_permissions() {
        let together: BTreeMap<&str, &str> = BTreeMap::from([
            ("AWS::EC2::EIP", "AWS::EC2::NatGateway"),
            ("AWS::EC2::Route", "AWS::EC2::RouteTable"),
            ("AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroup"),
            ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroup"),
            ("AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::RouteTable"),
            ("AWS::EC2::VPCGatewayAttachment", "AWS::EC2::InternetGateway"),
            ("AWS::EFS::AccessPoint", "AWS::EFS::FileSystem"),
            ("AWS::EFS::MountTarget", "AWS::EFS::FileSystem"),
            ("AWS::ElasticLoadBalancingV2::ListenerRule", "AWS::ElasticLoadBalancingV2::Listener"),
            ("AWS::S3::BucketPolicy", "AWS::S3::Bucket"),
            ("AWS::SNS::Subscription", "AWS::SNS::Topic"),
        ]);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates/aws");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let kinds = text.split("\"Type\": \"").skip(1).filter_map(|rest| rest.split('"').next());
            for kind in kinds.filter(|kind| kind.starts_with("AWS::")) {
                let row = together.get(kind).copied().unwrap_or(kind);
                assert!(created::KINDS.contains(&row), "{kind} has no permissions");
                seen += 1;
            }
        }
        assert!(seen > 20, "the templates are somewhere else");
    }

    /// A permission that nothing uses is one too many.
    #[test]
    fn every_operation_is_called() {
        fn read(folder: &std::path::Path, all: &mut String) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, all);
                } else {
                    *all += &std::fs::read_to_string(path).unwrap();
                }
            }
        }
        let mut source = String::new();
        read(concat!(env!("CARGO_MANIFEST_DIR"), "/src").as_ref(), &mut source);
        for operation in OPERATIONS {
            let mut called = String::new();
            for letter in operation.name.chars() {
                if letter.is_ascii_uppercase() && !called.is_empty() {
                    called.push('_');
                }
                called.push(letter.to_ascii_lowercase());
            }
            let built = format!("{}InputBuilder", operation.name);
            assert!(source.contains(&format!(".{called}()")) || source.contains(&built), "nothing calls {called}");
        }
    }

    #[test]
    fn no_operation_is_listed_twice() {
        let mut seen = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(seen.insert((operation.service, operation.name)), "{} {}", operation.service, operation.name);
        }
    }
}
