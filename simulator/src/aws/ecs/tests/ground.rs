//! An account with a network, a load balancer, a registry with an image in it, and what the tests ask of it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aws::{Call, Fault, Settings, World, cloudformation::kinds::Place, dispatch, elb::Elb};

const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Ground {
    pub(super) world: Arc<World>,
    pub(super) subnet: String,
    pub(super) group: String,
    pub(super) role: String,
    pub(super) blue: String,
    pub(super) green: String,
    pub(super) listener: String,
    pub(super) rule: String,
    pub(super) image: String,
    _folder: tempfile::TempDir,
}

/// The program that the tests' tasks run, and under: an example of this crate.
fn guest() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let guest = own.parent().unwrap().parent().unwrap().join("examples/guest");
    assert!(guest.is_file(), "{} is missing: cargo build -p dbird-simulator --example guest", guest.display());
    guest
}

impl Ground {
    pub(super) async fn new(faults: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(Settings {
            speed: 300.0,
            account: "123456789012".into(),
            region: "us-east-1".into(),
            folder: folder.path().to_owned(),
            shim: guest(),
            port_offset: 8000,
            podman: false,
            record: None,
            faults: faults.iter().map(|f| (*f).to_owned()).collect(),
            upstream: None,
        })
        .unwrap();
        let make = |kind: &str, properties: Value| make(&world, kind, &properties);
        let vpc = make("AWS::EC2::VPC", json!({ "CidrBlock": "10.0.0.0/16" }));
        let subnet = |n: u8, zone: &str| {
            let block = format!("10.0.{n}.0/24");
            make(
                "AWS::EC2::Subnet",
                json!({ "VpcId": vpc, "CidrBlock": block, "AvailabilityZone": format!("us-east-1{zone}") }),
            )
        };
        let (subnet, other) = (subnet(1, "a"), subnet(2, "b"));
        let open = json!([{ "IpProtocol": "tcp", "FromPort": 1, "ToPort": 65535, "CidrIp": "0.0.0.0/0" }]);
        let group = make(
            "AWS::EC2::SecurityGroup",
            json!({ "GroupDescription": "all", "VpcId": vpc, "SecurityGroupIngress": open }),
        );
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "Service": "ecs-tasks.amazonaws.com" }, "Action": "sts:AssumeRole" } ] });
        let all = json!([{ "PolicyName": "all", "PolicyDocument": { "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": ["ecr:*", "logs:*"], "Resource": "*" } ] } }]);
        make("AWS::IAM::Role", json!({ "RoleName": "execution", "AssumeRolePolicyDocument": trust, "Policies": all }));
        make("AWS::Logs::LogGroup", json!({ "LogGroupName": "/dbird/bird" }));
        make("AWS::ECS::Cluster", json!({ "ClusterName": "bird" }));
        make("AWS::ECR::Repository", json!({ "RepositoryName": "bird", "ImageTagMutability": "IMMUTABLE" }));
        let balancer = make(
            "AWS::ElasticLoadBalancingV2::LoadBalancer",
            json!({ "Subnets": [subnet, other], "SecurityGroups": [group] }),
        );
        let target = || {
            make(
                "AWS::ElasticLoadBalancingV2::TargetGroup",
                json!({
                    "Port": 8080, "Protocol": "HTTP", "TargetType": "ip", "VpcId": vpc, "HealthCheckPath": "/readyz",
                    "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 4, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2,
                    "TargetGroupAttributes": [{ "Key": "deregistration_delay.timeout_seconds", "Value": "5" }],
                }),
            )
        };
        let (blue, green) = (target(), target());
        let closed = json!([{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "503" } }]);
        let listener = make(
            "AWS::ElasticLoadBalancingV2::Listener",
            json!({ "LoadBalancerArn": balancer, "Port": 80, "Protocol": "HTTP", "DefaultActions": closed }),
        );
        let weights = json!([{ "TargetGroupArn": blue, "Weight": 100 }, { "TargetGroupArn": green, "Weight": 0 }]);
        let rule = make(
            "AWS::ElasticLoadBalancingV2::ListenerRule",
            json!({
                "ListenerArn": listener, "Priority": 10, "Conditions": [{ "Field": "path-pattern", "Values": ["/*"] }],
                "Actions": [{ "Type": "forward", "ForwardConfig": { "TargetGroups": weights } }],
            }),
        );
        let image = push(&world).await;
        let role = "arn:aws:iam::123456789012:role/execution".to_owned();
        Ground { world, subnet, group, role, blue, green, listener, rule, image, _folder: folder }
    }

    pub(super) async fn call(&self, operation: &str, input: Value) -> Result<Value, Fault> {
        call(&self.world, "ecs", operation, input).await
    }

    pub(super) async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(operation, input)
            .await
            .unwrap_or_else(|fault| panic!("{operation}: {} {}", fault.code, fault.message))
    }

    /// Registers a task definition of the image with these variables; its ARN.
    pub(super) async fn define(&self, env: &[(&str, &str)]) -> String {
        self.ok("RegisterTaskDefinition", self.definition(env)).await["taskDefinition"]["taskDefinitionArn"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn definition(&self, env: &[(&str, &str)]) -> Value {
        let mut environment = vec![json!({ "name": "PORT", "value": "8080" })];
        environment.extend(env.iter().map(|(name, value)| json!({ "name": name, "value": value })));
        json!({
            "family": "bird", "cpu": "256", "memory": "512", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "executionRoleArn": self.role,
            "containerDefinitions": [{
                "name": "bird", "image": self.image, "essential": true, "stopTimeout": 5,
                "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }], "environment": environment,
                "logConfiguration": { "logDriver": "awslogs", "options": {
                    "awslogs-group": "/dbird/bird", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "task" } },
            }],
        })
    }

    pub(super) fn network(&self) -> Value {
        json!({ "awsvpcConfiguration": { "subnets": [self.subnet], "securityGroups": [self.group], "assignPublicIp": "DISABLED" } })
    }

    /// A service of this definition behind the load balancer, with more said by the caller.
    pub(super) async fn serve(&self, definition: &str, more: Value) -> Value {
        let mut input = json!({
            "cluster": "bird", "serviceName": "bird", "taskDefinition": definition, "desiredCount": 2, "launchType": "FARGATE",
            "networkConfiguration": self.network(),
            "loadBalancers": [{ "targetGroupArn": self.blue, "containerName": "bird", "containerPort": 8080 }],
        });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ok("CreateService", input).await["service"].clone()
    }

    pub(super) async fn service(&self) -> Value {
        let input = json!({ "cluster": "bird", "services": ["bird"], "include": ["TAGS"] });
        self.ok("DescribeServices", input).await["services"][0].clone()
    }

    /// The service deployment that was begun last.
    pub(super) async fn deployment(&self) -> Value {
        let all = self.ok("ListServiceDeployments", json!({ "cluster": "bird", "service": "bird" })).await;
        let arn = all["serviceDeployments"][0]["serviceDeploymentArn"].clone();
        self.ok("DescribeServiceDeployments", json!({ "serviceDeploymentArns": [arn] })).await["serviceDeployments"][0]
            .clone()
    }

    /// Waits until the last deployment has this status.
    pub(super) async fn until_deployed(&self, status: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let deployment = self.deployment().await;
            if deployment["status"] == status {
                return deployment;
            }
            if Instant::now() > deadline {
                panic!("not {status} in time: {deployment:#}\n{:#}", self.service().await["events"]);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many targets of a group are healthy.
    pub(super) fn healthy(&self, group: &str) -> usize {
        Elb::health(&self.world, group).iter().filter(|(_, state)| state == "healthy").count()
    }

    pub(super) fn weights(&self) -> Vec<(String, u32)> {
        let name = |arn: &str| if arn == self.blue { "blue".to_owned() } else { "green".to_owned() };
        let mut weights = Elb::forward(&self.world, &self.rule).unwrap();
        weights.sort_by_key(|(arn, _)| *arn != self.blue);
        weights.iter().map(|(arn, weight)| (name(arn), *weight)).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // The shims end with their tasks, and those are killed here, also after a failed assertion.
        let tasks = self.world.settings.folder.join("tasks");
        for folder in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            if let Some(id) = dataplane::task::pid(&folder.path()).and_then(dataplane::process::ProcessId::of) {
                id.kill_group();
            }
        }
    }
}

pub(super) async fn call(world: &Arc<World>, service: &str, operation: &str, input: Value) -> Result<Value, Fault> {
    dispatch::call(world, &Call { service: service.into(), operation: operation.into(), input }).await
}

pub(super) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub(super) fn make(world: &Arc<World>, kind: &str, properties: &Value) -> String {
    let place = Place { stack: "s".into(), logical_id: format!("L{}", fastrand::u32(..)), tags: Default::default() };
    let kind = dispatch::kinds().find(|k| k.name() == kind).unwrap_or_else(|| panic!("no kind {kind}"));
    let made = kind.create(world, &place, properties);
    made.unwrap_or_else(|fault| panic!("{}: {} {}", kind.name(), fault.code, fault.message)).physical_id
}

/// An image with the guest in it, as a client of the registry would leave it; its reference.
async fn push(world: &Arc<World>) -> String {
    let blobs = world.settings.folder.join("ecr/bird/blobs/sha256");
    let put = |bytes: &[u8]| {
        let hex = hex::encode(Sha256::digest(bytes));
        std::fs::write(blobs.join(&hex), bytes).unwrap();
        json!({ "digest": format!("sha256:{hex}"), "size": bytes.len(), "mediaType": "application/vnd.oci.image.layer.v1.tar" })
    };
    let program = std::fs::read(guest()).unwrap();
    let layer = put(&tar(&program));
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "config": { "Entrypoint": ["/guest"], "WorkingDir": "/" },
    });
    let mut config = put(config.to_string().as_bytes());
    config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer],
    });
    let input = json!({ "repositoryName": "bird", "imageManifest": manifest.to_string(), "imageTag": "one" });
    let made = call(world, "ecr", "PutImage", input).await.unwrap();
    let uri = call(world, "ecr", "DescribeRepositories", json!({ "repositoryNames": ["bird"] })).await.unwrap();
    let digest = made["image"]["imageId"]["imageDigest"].as_str().unwrap();
    format!("{}@{digest}", uri["repositories"][0]["repositoryUri"].as_str().unwrap())
}

/// One executable file as a tar.
fn tar(program: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, "guest");
    field(100, "0000755\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", program.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut whole = header.to_vec();
    whole.extend_from_slice(program);
    whole.resize(whole.len().next_multiple_of(512) + 1024, 0);
    whole
}
