//! Every operation of AWS that this crate calls: the permission that it takes, on what, and whether it may be sent a second
//! time. The client refuses whatever is not listed here, so the printed policy can't lack one.

/// Whether a request that may have been carried out can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It only reads, or says the same thing twice, or carries a token by which AWS knows it again.
    Safe,
    /// Sent twice it may make a thing twice: whoever calls looks first.
    Never,
}

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum On {
    /// Anything, because AWS knows no narrower form.
    All,
    /// The environment's stack, a network's, and that of `bootstrap`.
    Stacks,
    /// The cluster.
    Cluster,
    /// The service.
    Service,
    /// The revisions of the task definition.
    TaskDefinitions,
    /// The tasks of the cluster.
    Tasks,
    /// The deployments of the service, as ECS makes them.
    ServiceDeployments,
    /// The application of CodeDeploy.
    Application,
    /// The deployment group.
    Group,
    /// The deployment configurations of the account.
    Configurations,
    /// Listeners that carry the environment's tags.
    Listeners,
    /// Rules that carry the environment's tags.
    Rules,
    /// What scales an ECS service.
    Scaling,
    /// The environment's alarms.
    Alarms,
    /// The environment's logs.
    Logs,
    /// The image repository.
    Repository,
    /// File systems; which, their tags say.
    FileSystems,
    /// File systems that carry the environment's tags.
    OwnFileSystems,
    /// Roles of the environment.
    Roles,
    /// Secrets, to see that they exist; never their values.
    Secrets,
    /// Certificates.
    Certificates,
    /// Nothing: anybody may ask.
    Nobody,
}

/// An operation that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The service, as its SDK calls it.
    pub(crate) service: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// The action that allows it.
    pub(crate) action: &'static str,
    /// On what.
    pub(crate) on: On,
    /// Whether it may be sent again.
    pub(crate) again: Again,
}

/// The operation of that name, if this crate may call it.
pub(crate) fn operation(service: &str, name: &str) -> Option<&'static Operation> {
    // SDKs write `Elastic Load Balancing v2`.
    let service = service.replace(' ', "");
    OPERATIONS.iter().find(|o| o.service == service && o.name == name)
}

macro_rules! operations {
    ($($service:literal as $prefix:literal { $($name:literal $on:ident $again:ident;)+ })+) => {
        /// All of them.
        pub(crate) const OPERATIONS: &[Operation] = &[
            $($(Operation {
                service: $service,
                name: $name,
                action: concat!($prefix, ":", $name),
                on: On::$on,
                again: Again::$again,
            },)+)+
        ];
    };
}

operations! {
    "ACM" as "acm" {
        "DescribeCertificate" Certificates Safe;
    }
    "ApplicationAutoScaling" as "application-autoscaling" {
        "DeleteScalingPolicy" Scaling Safe;
        "DeregisterScalableTarget" Scaling Safe;
        "DescribeScalableTargets" All Safe;
        "DescribeScalingPolicies" All Safe;
        "PutScalingPolicy" Scaling Safe;
        "RegisterScalableTarget" Scaling Safe;
    }
    "CloudFormation" as "cloudformation" {
        "ContinueUpdateRollback" Stacks Safe;
        "CreateChangeSet" Stacks Safe;
        "DeleteChangeSet" Stacks Safe;
        "DeleteStack" Stacks Safe;
        "DescribeChangeSet" Stacks Safe;
        "DescribeStackDriftDetectionStatus" All Safe;
        "DescribeStackEvents" Stacks Safe;
        "DescribeStackResourceDrifts" Stacks Safe;
        "DescribeStacks" Stacks Safe;
        "DetectStackDrift" Stacks Safe;
        "ExecuteChangeSet" Stacks Safe;
        "GetTemplate" Stacks Safe;
        "UpdateTerminationProtection" Stacks Safe;
    }
    "CloudWatch" as "cloudwatch" {
        "DeleteAlarms" Alarms Safe;
        "DescribeAlarms" All Safe;
        "GetMetricData" All Safe;
        "PutMetricAlarm" Alarms Safe;
    }
    "CloudWatchLogs" as "logs" {
        "FilterLogEvents" Logs Safe;
        "GetLogEvents" Logs Safe;
    }
    "CodeDeploy" as "codedeploy" {
        "BatchGetDeploymentTargets" Group Safe;
        "BatchGetDeployments" Group Safe;
        "ContinueDeployment" Group Safe;
        "CreateDeployment" Group Never;
        "CreateDeploymentGroup" Group Never;
        "DeleteDeploymentGroup" Group Safe;
        "GetDeployment" Group Safe;
        "GetDeploymentGroup" Group Safe;
        "ListDeployments" Group Safe;
        "StopDeployment" Group Safe;
        "UpdateDeploymentGroup" Group Safe;
    }
    "ECR" as "ecr" {
        "BatchDeleteImage" Repository Safe;
        "DeleteRepository" Repository Safe;
        "DescribeImages" Repository Safe;
        "DescribeRepositories" Repository Safe;
        "GetAuthorizationToken" All Safe;
        "ListTagsForResource" Repository Safe;
    }
    "ECS" as "ecs" {
        "ContinueServiceDeployment" ServiceDeployments Safe;
        "CreateService" Service Safe;
        "DeleteService" Service Safe;
        "DescribeServiceDeployments" ServiceDeployments Safe;
        "DescribeServiceRevisions" All Safe;
        "DescribeServices" Service Safe;
        "DescribeTaskDefinition" All Safe;
        "DescribeTasks" Tasks Safe;
        "ExecuteCommand" Tasks Never;
        "ListServiceDeployments" Service Safe;
        "ListTaskDefinitions" All Safe;
        "ListTasks" All Safe;
        "RegisterTaskDefinition" TaskDefinitions Never;
        "RunTask" TaskDefinitions Safe;
        "StopServiceDeployment" ServiceDeployments Safe;
        "StopTask" Tasks Safe;
        "UpdateService" Service Safe;
    }
    "EFS" as "elasticfilesystem" {
        "DeleteAccessPoint" OwnFileSystems Safe;
        "DeleteFileSystem" OwnFileSystems Safe;
        "DescribeAccessPoints" FileSystems Safe;
        "DescribeFileSystems" FileSystems Safe;
    }
    "ElasticLoadBalancingv2" as "elasticloadbalancing" {
        "CreateRule" Listeners Never;
        "DeleteRule" Rules Safe;
        "DescribeRules" All Safe;
    }
    "IAM" as "iam" {
        "GetRole" Roles Safe;
    }
    "SecretsManager" as "secretsmanager" {
        "DescribeSecret" Secrets Safe;
    }
    "ServiceQuotas" as "servicequotas" {
        "GetServiceQuota" All Safe;
    }
    "SSM" as "ssm" {
        "DescribeParameters" All Safe;
    }
    "STS" as "sts" {
        "GetCallerIdentity" Nobody Safe;
    }
}
