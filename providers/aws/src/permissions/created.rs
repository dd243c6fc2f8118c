//! What CloudFormation does in the caller's name to make, change, read and remove the resources of a stack, and what a
//! registry and a state store ask beside the API. Each row is one kind of resource.

use crate::permissions::operations::On;

/// Actions on one kind of thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The service's prefix.
    pub(crate) service: &'static str,
    /// The actions' names.
    pub(crate) actions: &'static [&'static str],
    /// On what.
    pub(crate) on: Where,
}

/// What a permission of the stack's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    /// As an operation of dbird's own.
    As(On),
    /// Networks of the region: what is not made yet has no name and no tag.
    Network,
    /// Load balancers, target groups and listeners of the region.
    LoadBalancers,
    /// The environment's file system, which has no name before it is made.
    FileSystem,
    /// The topic of the environment's alarms.
    Topic,
    /// The bucket of the state, being made by `bootstrap`: whoever only deploys can do without.
    Bootstrap,
    /// The bucket of the state.
    State,
    /// What is in the bucket of the state.
    StateObjects,
    /// Roles, handed to the services that use them.
    PassedRoles,
    /// The roles that AWS's own services make once in an account.
    LinkedRoles,
    /// The key that AWS manages for file systems.
    Key,
}

macro_rules! rows {
    ($($kind:literal $service:literal $on:expr => [$($action:literal),+ $(,)?];)+) => {
        /// All of them.
        pub(crate) const CREATED: &[Row] = &[
            $(Row { service: $service, actions: &[$($action),+], on: $on },)+
        ];

        /// What the rows are for.
        #[cfg(test)]
        pub(crate) const KINDS: &[&str] = &[$($kind),+];
    };
}

rows! {
    "AWS::EC2::VPC" "ec2" Where::Network => ["CreateVpc", "DeleteVpc", "DescribeVpcAttribute", "DescribeVpcs", "ModifyVpcAttribute"];
    "AWS::EC2::Subnet" "ec2" Where::Network => [
        "CreateSubnet", "DeleteSubnet", "DescribeAvailabilityZones", "DescribeSubnets", "ModifySubnetAttribute",
    ];
    "AWS::EC2::InternetGateway" "ec2" Where::Network => [
        "AttachInternetGateway", "CreateInternetGateway", "DeleteInternetGateway", "DescribeInternetGateways",
        "DetachInternetGateway",
    ];
    "AWS::EC2::RouteTable" "ec2" Where::Network => [
        "AssociateRouteTable", "CreateRoute", "CreateRouteTable", "DeleteRoute", "DeleteRouteTable", "DescribeRouteTables",
        "DisassociateRouteTable", "ReplaceRoute", "ReplaceRouteTableAssociation",
    ];
    "AWS::EC2::NatGateway" "ec2" Where::Network => [
        "AllocateAddress", "CreateNatGateway", "DeleteNatGateway", "DescribeAddresses", "DescribeNatGateways",
        "DisassociateAddress", "ReleaseAddress",
    ];
    "AWS::EC2::SecurityGroup" "ec2" Where::Network => [
        "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "CreateSecurityGroup", "DeleteSecurityGroup",
        "DescribeSecurityGroupRules", "DescribeSecurityGroups", "ModifySecurityGroupRules", "RevokeSecurityGroupEgress",
        "RevokeSecurityGroupIngress", "UpdateSecurityGroupRuleDescriptionsEgress", "UpdateSecurityGroupRuleDescriptionsIngress",
    ];
    "AWS::EC2::FlowLog" "ec2" Where::Network => ["CreateFlowLogs", "DeleteFlowLogs", "DescribeFlowLogs"];
    "AWS::EC2::VPCEndpoint" "ec2" Where::Network => [
        "CreateVpcEndpoint", "DeleteVpcEndpoints", "DescribePrefixLists", "DescribeVpcEndpointServices", "DescribeVpcEndpoints",
        "ModifyVpcEndpoint",
    ];
    "tags of the network" "ec2" Where::Network => [
        "CreateTags", "DeleteTags", "DescribeAccountAttributes", "DescribeNetworkInterfaces", "DescribeTags",
    ];
    "AWS::ElasticLoadBalancingV2::LoadBalancer" "elasticloadbalancing" Where::LoadBalancers => [
        "CreateLoadBalancer", "DeleteLoadBalancer", "ModifyLoadBalancerAttributes", "SetIpAddressType", "SetSecurityGroups",
        "SetSubnets",
    ];
    "AWS::ElasticLoadBalancingV2::TargetGroup" "elasticloadbalancing" Where::LoadBalancers => [
        "CreateTargetGroup", "DeleteTargetGroup", "ModifyTargetGroup", "ModifyTargetGroupAttributes",
    ];
    "AWS::ElasticLoadBalancingV2::Listener" "elasticloadbalancing" Where::LoadBalancers => [
        "AddTags", "CreateListener", "CreateRule", "DeleteListener", "DeleteRule", "ModifyListener",
        "ModifyListenerAttributes", "ModifyRule", "RemoveTags", "SetRulePriorities",
    ];
    "what a load balancer says of itself" "elasticloadbalancing" Where::As(On::All) => [
        "DescribeListenerAttributes", "DescribeListeners", "DescribeLoadBalancerAttributes", "DescribeLoadBalancers",
        "DescribeTags", "DescribeTargetGroupAttributes", "DescribeTargetGroups",
    ];
    "AWS::ECS::Cluster" "ecs" Where::As(On::Cluster) => [
        "CreateCluster", "DeleteCluster", "DescribeClusters", "ListTagsForResource", "PutClusterCapacityProviders",
        "TagResource", "UntagResource", "UpdateCluster", "UpdateClusterSettings",
    ];
    "tags of a release" "ecs" Where::As(On::TaskDefinitions) => ["TagResource", "UntagResource"];
    "tags of the service" "ecs" Where::As(On::Service) => ["TagResource"];
    "tags of a one-off task" "ecs" Where::As(On::Tasks) => ["TagResource"];
    "AWS::Logs::LogGroup" "logs" Where::As(On::Logs) => [
        "CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "ListTagsForResource", "PutRetentionPolicy", "TagResource",
        "UntagResource",
    ];
    "flow logs" "logs" Where::As(On::All) => ["CreateLogDelivery", "DeleteLogDelivery", "DescribeLogGroups"];
    "AWS::EFS::FileSystem" "elasticfilesystem" Where::FileSystem => [
        "CreateAccessPoint", "CreateFileSystem", "CreateMountTarget", "DeleteAccessPoint", "DeleteFileSystemPolicy",
        "DeleteMountTarget", "DescribeBackupPolicy", "DescribeFileSystemPolicy", "DescribeLifecycleConfiguration",
        "DescribeMountTargetSecurityGroups", "DescribeMountTargets", "DescribeReplicationConfigurations", "ListTagsForResource",
        "ModifyMountTargetSecurityGroups", "PutBackupPolicy", "PutFileSystemPolicy", "PutLifecycleConfiguration", "TagResource",
        "UntagResource", "UpdateFileSystem",
    ];
    "encryption of the file system" "kms" Where::Key => ["CreateGrant", "DescribeKey", "GenerateDataKeyWithoutPlaintext"];
    "AWS::ECR::Repository" "ecr" Where::As(On::Repository) => [
        "CreateRepository", "DeleteLifecyclePolicy", "DeleteRepositoryPolicy", "GetLifecyclePolicy", "GetRepositoryPolicy",
        "ListTagsForResource",
        "PutImageScanningConfiguration", "PutImageTagMutability", "PutLifecyclePolicy", "SetRepositoryPolicy", "TagResource",
        "UntagResource",
    ];
    "pushing an image" "ecr" Where::As(On::Repository) => [
        "BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "GetDownloadUrlForLayer", "InitiateLayerUpload",
        "PutImage", "UploadLayerPart",
    ];
    "AWS::IAM::Role" "iam" Where::As(On::Roles) => [
        "AttachRolePolicy", "CreateRole", "DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "GetRolePolicy",
        "ListAttachedRolePolicies", "ListRolePolicies", "ListRoleTags", "PutRolePolicy", "TagRole", "UntagRole",
        "UpdateAssumeRolePolicy", "UpdateRole",
    ];
    "roles for tasks and deployments" "iam" Where::PassedRoles => ["PassRole"];
    "roles of AWS's own services" "iam" Where::LinkedRoles => ["CreateServiceLinkedRole"];
    "AWS::CodeDeploy::Application" "codedeploy" Where::As(On::Application) => [
        "CreateApplication", "DeleteApplication", "GetApplication", "GetApplicationRevision", "ListTagsForResource",
        "RegisterApplicationRevision", "TagResource", "UntagResource", "UpdateApplication",
    ];
    "AWS::CodeDeploy::DeploymentConfig" "codedeploy" Where::As(On::Configurations) => [
        "CreateDeploymentConfig", "DeleteDeploymentConfig", "GetDeploymentConfig",
    ];
    "AWS::CloudWatch::Alarm" "cloudwatch" Where::As(On::Alarms) => ["ListTagsForResource", "TagResource", "UntagResource"];
    "AWS::SNS::Topic" "sns" Where::Topic => [
        "CreateTopic", "DeleteTopic", "GetTopicAttributes", "ListSubscriptionsByTopic", "ListTagsForResource",
        "SetTopicAttributes", "Subscribe", "TagResource", "Unsubscribe", "UntagResource",
    ];
    "AWS::S3::Bucket" "s3" Where::Bootstrap => [
        "CreateBucket", "DeleteBucketPolicy", "GetBucketPolicy", "GetBucketTagging", "GetBucketVersioning",
        "GetEncryptionConfiguration", "GetLifecycleConfiguration", "PutBucketOwnershipControls", "PutBucketPolicy",
        "PutBucketPublicAccessBlock", "PutBucketTagging", "PutBucketVersioning", "PutEncryptionConfiguration",
        "PutLifecycleConfiguration",
    ];
    "the folders of the state" "s3" Where::State => ["ListBucket"];
    "the state" "s3" Where::StateObjects => ["GetObject", "PutObject"];
}
