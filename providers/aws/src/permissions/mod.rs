//! The permissions that dbird needs in an account, as policies made from tables. It decides how narrow each is; it asks
//! for nothing itself.

mod created;
mod operations;

use std::collections::{BTreeMap, BTreeSet};

use dbird_core::Target;
use serde_json::{Value, json};

use crate::config::base;
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
    /// The bucket that holds the state; none where it is not in S3.
    pub bucket: Option<String>,
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
    bucket: Option<&'a str>,
}

/// One statement for everything on the same things.
fn statements(place: &Place<'_>) -> Vec<Value> {
    let mut actions: BTreeMap<Where, BTreeSet<String>> = BTreeMap::new();
    for operation in OPERATIONS.iter().filter(|o| o.on != On::Nobody) {
        actions.entry(Where::As(operation.on)).or_default().insert(operation.action.to_owned());
    }
    for row in
        CREATED.iter().filter(|row| place.bucket.is_some() || !matches!(row.on, Where::State | Where::StateObjects))
    {
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
        let Scope { target, account, region, bucket } = scope;
        Place { target, base, account, region, bucket: bucket.as_deref() }
    }

    /// The ARNs of something in this account and region.
    fn arn(&self, service: &str, rest: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{rest}", self.region, self.account)
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
                let stacks = [
                    format!("stack/{base}/*"),
                    "stack/dbird-network-*/*".to_owned(),
                    "stack/dbird-bootstrap*/*".to_owned(),
                ];
                (stacks.iter().map(|s| self.arn("cloudformation", s)).collect(), None)
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
                let group = format!("log-group:/dbird/{base}");
                (vec![self.arn("logs", &group), self.arn("logs", &format!("{group}:*"))], None)
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
            Where::As(On::Roles) => (vec![format!("arn:aws:iam::{}:role/{base}-*", self.account)], None),
            Where::As(On::Secrets) => (vec![self.arn("secretsmanager", "secret:*")], None),
            Where::As(On::Certificates) => (vec![self.arn("acm", "certificate/*")], None),
            Where::Network | Where::FileSystem => (any(), self.here()),
            Where::LoadBalancers => {
                let kinds = ["loadbalancer/app/*", "targetgroup/*", "listener/app/*", "listener-rule/app/*"];
                (kinds.iter().map(|kind| self.arn("elasticloadbalancing", kind)).collect(), None)
            }
            Where::Topic => (vec![self.arn("sns", &format!("{base}-*"))], None),
            Where::State => (self.bucket.iter().map(|name| format!("arn:aws:s3:::{name}")).collect(), None),
            Where::StateObjects => (self.bucket.iter().map(|name| format!("arn:aws:s3:::{name}/*")).collect(), None),
            Where::PassedRoles => {
                let services = [
                    "ecs-tasks.amazonaws.com",
                    "ecs.amazonaws.com",
                    "codedeploy.amazonaws.com",
                    "vpc-flow-logs.amazonaws.com",
                ];
                (
                    vec![format!("arn:aws:iam::{}:role/{base}-*", self.account)],
                    Some(json!({ "StringEquals": { "iam:PassedToService": services } })),
                )
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
            bucket: Some("bird-state".to_owned()),
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
            "ecs:DeregisterTaskDefinition",
            "iam:SimulatePrincipalPolicy",
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

    #[test]
    fn no_operation_is_listed_twice() {
        let mut seen = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(seen.insert((operation.service, operation.name)), "{} {}", operation.service, operation.name);
        }
    }
}
