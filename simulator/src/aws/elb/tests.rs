//! The door with real targets: what callers get, and what targets see.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use super::{Elb, call};
use crate::aws::{Answer, Call, Settings, World, cloudformation::kinds::Place, dispatch};

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn world(speed: f64) -> Arc<World> {
    let folder = std::env::temp_dir().join(format!("elb-{}", super::hex16()));
    World::new(Settings {
        speed,
        account: "123456789012".into(),
        region: "us-east-1".into(),
        shim: folder.join("shim"),
        folder,
        port_offset: 8000,
        podman: false,
        record: None,
        faults: Vec::new(),
        upstream: None,
    })
    .unwrap()
}

/// Makes a resource as a stack does; its physical id.
pub(crate) fn made(world: &Arc<World>, kind: &str, properties: Value) -> String {
    let place = Place {
        stack: "bird".into(),
        logical_id: "Thing".into(),
        tags: [("dbird:service".to_owned(), "bird".to_owned())].into(),
    };
    let kind = dispatch::kinds().find(|known| known.name() == kind).unwrap();
    kind.create(world, &place, &properties).unwrap().physical_id
}

pub(crate) async fn api(world: &Arc<World>, operation: &str, input: Value) -> Answer {
    call(world, &Call { service: "elasticloadbalancing".into(), operation: operation.into(), input }).await
}

/// A target that answers with its name and what it was asked.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    well: Arc<AtomicBool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start(name: &'static str, slow: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, well) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let shared = (Arc::clone(&asked), Arc::clone(&well));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let answer = service_fn(move |request: Request<Incoming>| answer(name, slow, shared.clone(), request));
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(server.serve_connection(TokioIo::new(stream), answer));
            }
        });
        Backend { address, asked, well, serving }
    }

    fn taken(&self) -> usize {
        self.asked.swap(0, SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    name: &str,
    slow: Duration,
    (asked, well): (Arc<AtomicUsize>, Arc<AtomicBool>),
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.uri().path() == "/readyz" {
        let status = if well.load(SeqCst) { 200 } else { 503 };
        return Ok(Response::builder().status(status).body(Full::default()).unwrap());
    }
    asked.fetch_add(1, SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    tokio::time::sleep(slow).await;
    let seen = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let told = json!({
        "name": name, "path": head.uri.to_string(), "bytes": body.len(), "for": seen("x-forwarded-for"),
        "proto": seen("x-forwarded-proto"), "port": seen("x-forwarded-port"), "host": seen("host"),
        "connection": seen("connection"),
    });
    let status = if head.uri.path() == "/fails" { 500 } else { 200 };
    Ok(Response::builder().status(status).body(Full::from(told.to_string())).unwrap())
}

/// A load balancer with two groups, a production and a test listener with a rule each, and `/metrics` closed on both.
pub(crate) struct Setup {
    pub(crate) world: Arc<World>,
    pub(crate) balancer: String,
    pub(crate) blue: String,
    pub(crate) green: String,
    pub(crate) listener: String,
    pub(crate) rule: String,
    test_listener: String,
}

impl Setup {
    pub(crate) fn new(speed: f64) -> Self {
        let world = world(speed);
        let vpc = made(&world, "AWS::EC2::VPC", json!({ "CidrBlock": "10.0.0.0/16" }));
        let subnet = |zone: &str, block: &str| {
            let properties = json!({ "VpcId": vpc, "CidrBlock": block, "AvailabilityZone": zone });
            made(&world, "AWS::EC2::Subnet", properties)
        };
        let subnets = [subnet("us-east-1a", "10.0.0.0/24"), subnet("us-east-1b", "10.0.1.0/24")];
        let open =
            |port: u16, from: &str| json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "CidrIp": from });
        let security_group = made(
            &world,
            "AWS::EC2::SecurityGroup",
            json!({
                "GroupDescription": "edge", "VpcId": vpc,
                "SecurityGroupIngress": [open(80, "0.0.0.0/0"), open(81, "0.0.0.0/0"), open(9001, "127.0.0.2/32")],
            }),
        );
        let balancer = made(
            &world,
            "AWS::ElasticLoadBalancingV2::LoadBalancer",
            json!({
                "Subnets": subnets, "SecurityGroups": [security_group], "Type": "application",
            }),
        );
        let group = |name: &str| {
            made(
                &world,
                "AWS::ElasticLoadBalancingV2::TargetGroup",
                json!({
                    "Name": name, "Port": 8080, "Protocol": "HTTP", "VpcId": vpc, "TargetType": "ip",
                    "HealthCheckPath": "/readyz", "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2,
                    "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2,
                    "TargetGroupAttributes": [{ "Key": "deregistration_delay.timeout_seconds", "Value": "20" }],
                }),
            )
        };
        let (blue, green) = (group("blue"), group("green"));
        let closed = json!([{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "503", "MessageBody": "no release serves" } }]);
        let listener = |port: u16| {
            let arn = made(
                &world,
                "AWS::ElasticLoadBalancingV2::Listener",
                json!({
                    "LoadBalancerArn": balancer, "Port": port, "Protocol": "HTTP", "DefaultActions": closed,
                }),
            );
            made(
                &world,
                "AWS::ElasticLoadBalancingV2::ListenerRule",
                json!({
                    "ListenerArn": arn, "Priority": 1,
                    "Conditions": [{ "Field": "path-pattern", "Values": ["/metrics"] }],
                    "Actions": [{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "404" } }],
                }),
            );
            arn
        };
        let (listener, test_listener) = (listener(80), listener(9001));
        let rule = |listener: &str, groups: Value| {
            made(
                &world,
                "AWS::ElasticLoadBalancingV2::ListenerRule",
                json!({
                    "ListenerArn": listener, "Priority": 100,
                    "Conditions": [{ "Field": "path-pattern", "Values": ["/*"] }],
                    "Actions": [{ "Type": "forward", "ForwardConfig": { "TargetGroups": groups } }],
                }),
            )
        };
        let both = json!([{ "TargetGroupArn": blue, "Weight": 100 }, { "TargetGroupArn": green, "Weight": 0 }]);
        let production = rule(&listener, both);
        rule(&test_listener, json!([{ "TargetGroupArn": green }]));
        Setup { world, balancer, blue, green, listener, rule: production, test_listener }
    }

    fn door(&self, listener: &str) -> SocketAddr {
        self.world.elb.lock().listeners[listener].door.address
    }

    /// Takes a target in and waits until it is well.
    pub(crate) async fn with(&self, group: &str, id: &str, backend: &Backend) {
        Elb::register(&self.world, group, id, backend.address).unwrap();
        self.until(group, id, "healthy").await;
    }

    /// Waits for a target's state; `gone` for none.
    async fn until(&self, group: &str, id: &str, state: &str) {
        let begun = Instant::now();
        loop {
            let all = Elb::health(&self.world, group);
            let found = all.iter().find(|(known, _)| known == id).map_or("gone", |(_, state)| state.as_str());
            if found == state {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{id} is {found}, not {state}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&self.listener, Ipv4Addr::LOCALHOST, &format!("GET {path} HTTP/1.1"), b"").await
    }

    /// A request on a connection of its own: the status and the rest of the answer; status 0 where the door is shut.
    async fn ask(&self, listener: &str, source: Ipv4Addr, line: &str, body: &[u8]) -> (u16, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let mut stream = socket.connect(self.door(listener)).await.unwrap();
        let head = format!("{line}\r\nHost: bird\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let sent = stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(body).await.is_ok();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
        if !sent || read.is_err() || answer.is_empty() {
            return (0, String::new());
        }
        let answer = String::from_utf8(answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    fn forward(&self, blue: u32, green: u32) {
        let groups = vec![(self.blue.clone(), blue), (self.green.clone(), green)];
        Elb::set_forward(&self.world, &self.rule, groups).unwrap();
    }
}

#[tokio::test]
async fn weights_are_exact_and_none_is_none() {
    let setup = Setup::new(200.0);
    let (blue, green) = (Backend::start("blue", Duration::ZERO).await, Backend::start("green", Duration::ZERO).await);
    setup.with(&setup.blue, "10.0.0.1", &blue).await;
    setup.with(&setup.green, "10.0.0.2", &green).await;
    for (weights, requests) in
        [((100, 0), 60), ((90, 10), 100), ((1, 1), 20), ((0, 100), 60), ((0, 0), 5), ((100, 0), 60)]
    {
        setup.forward(weights.0, weights.1);
        assert_eq!(Elb::forward(&setup.world, &setup.rule).unwrap()[1], (setup.green.clone(), weights.1));
        for _ in 0..requests {
            let expected = if weights == (0, 0) { 503 } else { 200 };
            assert_eq!(setup.get("/").await.0, expected);
        }
        let total = u32::max(weights.0 + weights.1, 1) as usize;
        let share = |weight: u32| requests * weight as usize / total;
        assert_eq!((blue.taken(), green.taken()), (share(weights.0), share(weights.1)), "{weights:?}");
    }
    let told = setup.world.elb.report();
    let blue = told["groups"].as_array().unwrap().iter().find(|group| group["name"] == "blue").unwrap();
    assert_eq!((&blue["requests"], &blue["classes"]), (&json!(60 + 90 + 10 + 60), &json!([0, 220, 0, 0, 0])));
}

#[tokio::test]
async fn rules_decide_before_targets() {
    let setup = Setup::new(200.0);
    let (status, body) = setup.get("/").await;
    assert!(status == 503 && body.contains("awselb"), "nobody is there yet: {body}");
    let blue = Backend::start("blue", Duration::ZERO).await;
    setup.with(&setup.blue, "10.0.0.1", &blue).await;
    assert_eq!(setup.get("/metrics").await.0, 404);
    assert_eq!(blue.taken(), 0, "a closed path reaches no target");
    let (status, body) = setup.get("/a?b=c").await;
    assert_eq!(status, 200);
    for part in [
        r#""path":"/a?b=c""#,
        r#""for":"127.0.0.1""#,
        r#""proto":"http""#,
        r#""port":"80""#,
        r#""host":"bird""#,
        r#""connection":"""#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    let large = vec![7; 1 << 20];
    let (status, body) = setup.ask(&setup.listener, Ipv4Addr::LOCALHOST, "POST /up HTTP/1.1", &large).await;
    assert!(status == 200 && body.contains(r#""bytes":1048576"#), "{body}");
    let redirects = json!([{ "Type": "redirect", "RedirectConfig": { "Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301" } }]);
    let made = api(
        &setup.world,
        "CreateListener",
        json!({
            "LoadBalancerArn": setup.balancer, "Port": 81, "Protocol": "HTTP", "DefaultActions": redirects,
        }),
    );
    let arn = made.await.unwrap()["Listeners"][0]["ListenerArn"].as_str().unwrap().to_owned();
    let (status, body) = setup.ask(&arn, Ipv4Addr::LOCALHOST, "GET /x?y=1 HTTP/1.1", b"").await;
    assert!(status == 301 && body.contains("location: https://bird:443/x?y=1"), "{body}");
}

#[tokio::test]
async fn the_test_listener_is_shut_to_others() {
    let setup = Setup::new(200.0);
    let green = Backend::start("green", Duration::ZERO).await;
    setup.with(&setup.green, "10.0.0.2", &green).await;
    let from = |last| Ipv4Addr::new(127, 0, 0, last);
    assert_eq!(setup.ask(&setup.test_listener, from(1), "GET / HTTP/1.1", b"").await.0, 0);
    assert_eq!(green.taken(), 0);
    assert_eq!(setup.ask(&setup.test_listener, from(2), "GET / HTTP/1.1", b"").await.0, 200);
    assert_eq!(green.taken(), 1);
}

#[tokio::test]
async fn draining_loses_no_request() {
    let setup = Arc::new(Setup::new(200.0));
    let (old, new) =
        (Backend::start("old", Duration::from_millis(400)).await, Backend::start("new", Duration::ZERO).await);
    setup.with(&setup.blue, "10.0.0.1", &old).await;
    let under_way: Vec<_> = (0..8)
        .map(|_| {
            let setup = Arc::clone(&setup);
            tokio::spawn(async move { setup.get("/").await })
        })
        .collect();
    let begun = Instant::now();
    while old.asked.load(SeqCst) < 8 {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    setup.with(&setup.blue, "10.0.0.3", &new).await;
    Elb::deregister(&setup.world, &setup.blue, "10.0.0.1").unwrap();
    let told = api(&setup.world, "DescribeTargetHealth", json!({ "TargetGroupArn": setup.blue })).await.unwrap();
    assert_eq!(told["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"], "Target.DeregistrationInProgress");
    for _ in 0..20 {
        assert_eq!(setup.get("/").await.0, 200);
    }
    assert_eq!((old.taken(), new.taken()), (8, 20), "none that was new went to the one that drains");
    for request in under_way {
        assert_eq!(request.await.unwrap().0, 200);
    }
    setup.until(&setup.blue, "10.0.0.1", "gone").await;
}

#[tokio::test]
async fn unhealthy_targets_get_requests_only_where_all_are() {
    let setup = Setup::new(500.0);
    let (a, b) = (Backend::start("a", Duration::ZERO).await, Backend::start("b", Duration::ZERO).await);
    setup.with(&setup.blue, "10.0.0.1", &a).await;
    setup.with(&setup.blue, "10.0.0.2", &b).await;
    b.well.store(false, SeqCst);
    setup.until(&setup.blue, "10.0.0.2", "unhealthy").await;
    for _ in 0..10 {
        assert_eq!(setup.get("/").await.0, 200);
    }
    assert_eq!((a.taken(), b.taken()), (10, 0));
    a.well.store(false, SeqCst);
    setup.until(&setup.blue, "10.0.0.1", "unhealthy").await;
    for _ in 0..10 {
        assert_eq!(setup.get("/").await.0, 200);
    }
    assert_eq!((a.taken(), b.taken()), (5, 5));
    b.well.store(true, SeqCst);
    setup.until(&setup.blue, "10.0.0.2", "healthy").await;
    drop(b);
    // Until its next check a target that died is asked, and the caller is told so.
    assert!([502, 200].contains(&setup.get("/").await.0));
}

#[tokio::test]
async fn what_the_api_refuses() {
    let setup = Setup::new(200.0);
    let forward = |group: &str| json!([{ "Type": "forward", "TargetGroupArn": group }]);
    let path = json!([{ "Field": "path-pattern", "Values": ["/x"] }]);
    let closed = json!([{ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "503" } }]);
    let unknown = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/none/0";
    let (balancer, listener) = (&setup.balancer, &setup.listener);
    let table = [
        (
            "CreateRule",
            json!({ "ListenerArn": listener, "Priority": 100, "Conditions": path, "Actions": closed }),
            "PriorityInUse",
        ),
        (
            "CreateRule",
            json!({ "ListenerArn": listener, "Priority": 0, "Conditions": path, "Actions": closed }),
            "ValidationError",
        ),
        (
            "CreateRule",
            json!({ "ListenerArn": listener, "Priority": 7, "Conditions": path, "Actions": forward(unknown) }),
            "TargetGroupNotFound",
        ),
        (
            "CreateRule",
            json!({ "ListenerArn": "arn:none", "Priority": 7, "Conditions": path, "Actions": closed }),
            "ListenerNotFound",
        ),
        ("DeleteTargetGroup", json!({ "TargetGroupArn": setup.green }), "ResourceInUse"),
        ("DescribeTargetHealth", json!({ "TargetGroupArn": unknown }), "TargetGroupNotFound"),
        ("DescribeLoadBalancers", json!({ "Names": ["nobody"] }), "LoadBalancerNotFound"),
        ("DescribeRules", json!({ "RuleArns": ["arn:none"] }), "RuleNotFound"),
        (
            "CreateListener",
            json!({ "LoadBalancerArn": balancer, "Port": 80, "Protocol": "HTTP", "DefaultActions": closed }),
            "DuplicateListener",
        ),
        (
            "CreateListener",
            json!({ "LoadBalancerArn": balancer, "Port": 443, "Protocol": "HTTPS", "DefaultActions": closed }),
            "CertificateNotFound",
        ),
        (
            "CreateListener",
            json!({ "LoadBalancerArn": balancer, "Port": 443, "Protocol": "TCP", "DefaultActions": closed }),
            "UnsupportedProtocol",
        ),
        (
            "CreateTargetGroup",
            json!({ "Name": "blue", "Port": 9, "Protocol": "HTTP", "VpcId": "vpc-1", "TargetType": "ip" }),
            "DuplicateTargetGroupName",
        ),
        (
            "CreateTargetGroup",
            json!({ "Name": "x-", "Port": 9, "Protocol": "HTTP", "VpcId": "vpc-1", "TargetType": "ip" }),
            "ValidationError",
        ),
        (
            "ModifyTargetGroupAttributes",
            json!({ "TargetGroupArn": setup.blue, "Attributes": [{ "Key": "deregistration_delay.timeout_seconds", "Value": "3601" }] }),
            "ValidationError",
        ),
        (
            "ModifyTargetGroupAttributes",
            json!({ "TargetGroupArn": setup.blue, "Attributes": [{ "Key": "colour", "Value": "1" }] }),
            "ValidationError",
        ),
        ("CreateGlobalPeace", json!({}), "UnknownOperationException"),
    ];
    for (operation, input, code) in table {
        let got = api(&setup.world, operation, input.clone()).await;
        assert_eq!(got.map_err(|fault| fault.code), Err(code.to_owned()), "{operation} {input}");
    }
    let certificate = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef";
    let wanted = json!({
        "LoadBalancerArn": balancer, "Port": 443, "Protocol": "HTTPS", "DefaultActions": closed,
        "Certificates": [{ "CertificateArn": certificate }], "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
    });
    let mut weak = wanted.clone();
    weak["SslPolicy"] = json!("NoPolicy");
    assert_eq!(api(&setup.world, "CreateListener", weak).await.unwrap_err().code, "SSLPolicyNotFound");
    assert_eq!(api(&setup.world, "CreateListener", wanted).await.unwrap()["Listeners"][0]["Protocol"], "HTTPS");
    let tags = api(&setup.world, "DescribeTags", json!({ "ResourceArns": [balancer] })).await.unwrap();
    assert_eq!(tags["TagDescriptions"][0]["Tags"], json!([{ "Key": "dbird:service", "Value": "bird" }]));
    let protect = json!({ "LoadBalancerArn": balancer, "Attributes": [{ "Key": "deletion_protection.enabled", "Value": "true" }] });
    api(&setup.world, "ModifyLoadBalancerAttributes", protect).await.unwrap();
    let kept = api(&setup.world, "DeleteLoadBalancer", json!({ "LoadBalancerArn": balancer })).await;
    assert_eq!(kept.unwrap_err().code, "OperationNotPermitted");
}
