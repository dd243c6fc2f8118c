//! What the stack on AWS is like, part by part: its edge, its alarms, its network, its collector, its size.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod variants;

use dbird_core::{Spec, StepId};
use dbird_templates::render;
use serde_json::{Value, json};

/// The longest template that CloudFormation takes without a bucket.
const TEMPLATE_BYTES_MAX: usize = 51_200;

fn spec(name: &str) -> Spec {
    variants::all().into_iter().find(|v| v.name.ends_with(name)).unwrap_or_else(|| panic!("no variant {name}")).spec
}

fn document(spec: &Spec, step: &str) -> Value {
    let documents = render(spec, None, None).unwrap();
    documents.get(&StepId::new(step)).unwrap_or_else(|| panic!("no step {step}")).body.clone()
}

fn stack(name: &str) -> Value {
    document(&spec(name), "infrastructure")["template"].clone()
}

#[test]
fn every_template_fits_into_a_call() {
    for variant in variants::all() {
        for step in render(&variant.spec, None, None).unwrap().steps {
            let Some(template) = step.body.get("template") else { continue };
            let bytes = template.to_string().len();
            assert!(bytes < TEMPLATE_BYTES_MAX * 3 / 4, "{} {}: {bytes} bytes", variant.name, step.step);
        }
    }
}

#[test]
fn with_a_certificate_everything_is_tls() {
    let prod = stack("environments/prod ");
    let listener = |id: &str| prod["Resources"][id]["Properties"].clone();
    for (id, port) in [("ProductionListener", 443), ("TestListener", 8443)] {
        let listener = listener(id);
        assert_eq!((&listener["Port"], &listener["Protocol"]), (&json!(port), &json!("HTTPS")), "{id}");
        assert_eq!(listener["SslPolicy"], "ELBSecurityPolicy-TLS13-1-2-2021-06", "{id}");
        assert_eq!(listener["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"], "503", "{id}");
    }
    assert_eq!(listener("RedirectListener")["DefaultActions"][0]["RedirectConfig"]["StatusCode"], "HTTP_301");
    let outputs = &stack("/./environments/prod ")["Outputs"];
    assert_eq!(outputs["Url"]["Value"], "https://bird.example.com");
    assert_eq!(outputs["TestUrl"]["Value"], "https://bird.example.com:8443");
}

#[test]
fn without_a_certificate_there_is_plain_http_only() {
    let dev = stack("/./environments/dev ");
    let ports: Vec<(String, Value)> = dev["Resources"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, r)| r["Type"] == "AWS::ElasticLoadBalancingV2::Listener")
        .map(|(id, r)| (id.clone(), r["Properties"]["Port"].clone()))
        .collect();
    assert_eq!(ports, [("ProductionListener".to_owned(), json!(80)), ("TestListener".to_owned(), json!(9000))]);
    assert_eq!(dev["Outputs"]["TestUrl"]["Value"], json!({ "Fn::Sub": "http://${LoadBalancer.DNSName}:9000" }));
}

#[test]
fn probes_are_as_often_as_a_load_balancer_can() {
    // Milliseconds and counts as they are asked for, seconds and counts as they are done.
    let cases = [
        ((1000, 1000, 1, 1), (5, 2, 2, 2)),
        ((5000, 2000, 2, 3), (5, 2, 2, 3)),
        ((5000, 9000, 2, 3), (5, 4, 2, 3)),
        ((30_500, 5001, 10, 10), (31, 6, 10, 10)),
        ((3_600_000, 600_000, 2, 2), (300, 120, 2, 2)),
    ];
    for ((interval_ms, timeout_ms, healthy_after, unhealthy_after), wanted) in cases {
        let mut spec = spec("/./environments/dev ");
        spec.health.interval_ms = interval_ms;
        spec.health.timeout_ms = timeout_ms;
        spec.health.healthy_after = healthy_after;
        spec.health.unhealthy_after = unhealthy_after;
        let template = document(&spec, "infrastructure")["template"].clone();
        for colour in ["BlueTargetGroup", "GreenTargetGroup"] {
            let group = &template["Resources"][colour]["Properties"];
            let number = |key: &str| group[key].as_u64().unwrap();
            let done = (
                number("HealthCheckIntervalSeconds"),
                number("HealthCheckTimeoutSeconds"),
                number("HealthyThresholdCount"),
                number("UnhealthyThresholdCount"),
            );
            assert_eq!(done, wanted, "{colour}");
            assert_eq!((&group["TargetType"], &group["HealthCheckPath"]), (&json!("ip"), &json!("/readyz")));
            let delay = json!({ "Key": "deregistration_delay.timeout_seconds", "Value": "15" });
            assert!(group["TargetGroupAttributes"].as_array().unwrap().contains(&delay));
        }
    }
}

#[test]
fn alarms_need_enough_requests_and_silence_of_both_colours_is_one() {
    let mut spec = spec("/./environments/prod ");
    spec.analysis.error_rate_max = 0.07;
    let template = document(&spec, "infrastructure")["template"].clone();
    let alarm = |id: &str| template["Resources"][id]["Properties"].clone();
    for colour in ["Blue", "Green"] {
        let errors = alarm(&format!("{colour}Errors"));
        assert_eq!(errors["Metrics"][0]["Expression"], "IF(requests >= 50, 100 * FILL(errors, 0) / requests, 0)");
        assert_eq!((&errors["Threshold"], &errors["TreatMissingData"]), (&json!(7.0), &json!("notBreaching")));
        let slow = alarm(&format!("{colour}Slow"));
        assert_eq!(slow["Metrics"][0]["Expression"], "IF(requests >= 50, seconds, 0)");
        assert_eq!(slow["Threshold"], 0.5);
        let group = json!({ "Fn::GetAtt": [format!("{colour}TargetGroup"), "TargetGroupFullName"] });
        for metric in errors["Metrics"].as_array().unwrap().iter().skip(1) {
            assert_eq!(metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"], group);
        }
    }
    let nobody = alarm("NoHealthyHost");
    assert_eq!(nobody["Metrics"][0]["Expression"], "MAX([blue, green])");
    assert_eq!((&nobody["Threshold"], &nobody["TreatMissingData"]), (&json!(1), &json!("breaching")));
    assert_eq!(nobody["ComparisonOperator"], "LessThanThreshold");
}

#[test]
fn only_who_is_named_is_told() {
    let quiet = stack("/./environments/prod ");
    assert!(quiet["Resources"].get("AlarmTopic").is_none());
    assert_eq!(quiet["Resources"]["NoHealthyHost"]["Properties"]["AlarmActions"], json!([]));
    let told = variants::all().into_iter().find(|v| v.name.contains("alerts.notify")).unwrap().spec;
    let told = document(&told, "infrastructure")["template"].clone();
    let actions = &told["Resources"]["NoHealthyHost"]["Properties"]["AlarmActions"];
    assert_eq!(*actions, json!([{ "Ref": "AlarmTopic" }, "arn:aws:sns:us-east-1:123456789012:t"]));
    let protocol = |n: u8| told["Resources"][format!("AlarmSubscription{n}")]["Properties"]["Protocol"].clone();
    assert_eq!((protocol(1), protocol(2), protocol(3)), (json!("email"), json!("https"), Value::Null));
}

#[test]
fn a_shared_network_is_a_stack_of_its_own() {
    let own = stack("/./environments/dev ");
    assert!(own["Resources"].get("Vpc").is_some());
    let shared = spec("dev cloud.aws.network=shared");
    let network = document(&shared, "network");
    assert_eq!((&network["stack"], &network["shared"]), (&json!("dbird-network-shared"), &json!(true)));
    assert_eq!(network["tags"], json!({ "dbird:network": "shared" }));
    assert!(network["template"]["Resources"].get("Vpc").is_some());
    let standing_on = document(&shared, "infrastructure")["template"].clone();
    let kinds = ["AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::NatGateway", "AWS::EC2::FlowLog"];
    let has = |r: &Value| kinds.iter().any(|kind| r["Type"] == *kind);
    assert!(!standing_on["Resources"].as_object().unwrap().values().any(has));
    // Two environments that name the same network ask for the same one.
    let mut other = shared.clone();
    other.environment = "staging".to_owned();
    assert_eq!(document(&other, "network"), network);
}

#[test]
fn gateways_are_as_many_as_were_asked_for() {
    let count = |name: &str, kind: &str| {
        let template = stack(name);
        template["Resources"].as_object().unwrap().values().filter(|r| r["Type"] == kind).count()
    };
    for (name, gateways, subnets) in [
        ("/./environments/dev ", 1, 4),
        ("dev cloud.aws.egress=nat-per-zone", 2, 4),
        ("dev cloud.aws.egress=public-ip cloud.aws.vpc_endpoints=true", 0, 2),
    ] {
        assert_eq!(count(name, "AWS::EC2::NatGateway"), gateways, "{name}");
        assert_eq!(count(name, "AWS::EC2::Subnet"), subnets, "{name}");
        let public = gateways == 0;
        assert_eq!(document(&spec(name), "service")["network"]["assign_public_ip"], public, "{name}");
    }
}

#[test]
fn the_collector_takes_traces_and_reads_metrics() {
    for (name, exporter) in [
        ("dev telemetry.collector=sidecar", "awsxray"),
        ("dev telemetry.collector=sidecar telemetry.otlp=https://traces.example.com", "otlphttp"),
    ] {
        let task = document(&spec(name), "service")["task_definition"].clone();
        let [service, collector] = &task["containerDefinitions"].as_array().unwrap()[..] else { panic!("{task}") };
        assert_eq!((&service["essential"], &collector["essential"]), (&json!(true), &json!(false)));
        let address = json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://127.0.0.1:4318" });
        assert!(service["environment"].as_array().unwrap().contains(&address), "{name}");
        let text = collector["environment"][0]["value"].as_str().unwrap();
        let config: Value = serde_json::from_str(text).unwrap();
        assert_eq!(config["service"]["pipelines"]["traces"]["exporters"], json!([exporter]));
        let scrape = &config["receivers"]["prometheus"]["config"]["scrape_configs"][0];
        assert_eq!(
            (&scrape["metrics_path"], &scrape["static_configs"][0]["targets"]),
            (&json!("/metrics"), &json!(["127.0.0.1:8080"]))
        );
        assert!(config["exporters"].get(exporter).is_some(), "{config}");
    }
    let without = document(&spec("/./environments/dev "), "service")["task_definition"].clone();
    assert_eq!(without["containerDefinitions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_file_system_is_mounted_by_its_own_service_only() {
    let template = stack("/./environments/prod ");
    let of = |id: &str| template["Resources"][id]["Properties"].clone();
    assert_eq!(of("DataFileSystem")["Encrypted"], true);
    assert_eq!(of("DataFileSystem")["BackupPolicy"]["Status"], "ENABLED");
    let access = of("AccessPoint");
    assert_eq!(access["PosixUser"], json!({ "Uid": "65532", "Gid": "65532" }));
    assert_eq!(access["RootDirectory"]["CreationInfo"]["OwnerUid"], "65532");
    let statement = &of("TaskRole")["Policies"][0]["PolicyDocument"]["Statement"][0];
    assert_eq!(
        statement["Condition"],
        json!({ "StringEquals": {
            "elasticfilesystem:AccessPointArn": { "Fn::GetAtt": ["AccessPoint", "Arn"] }
        } })
    );
    let from = of("FileSystemSecurityGroup")["SecurityGroupIngress"].clone();
    assert_eq!(from[0]["SourceSecurityGroupId"], json!({ "Fn::GetAtt": ["TaskSecurityGroup", "GroupId"] }));
    assert_eq!(from.as_array().unwrap().len(), 1);
}

#[test]
fn images_of_releases_never_expire() {
    let policy = stack("/./environments/prod ")["Resources"]["DataRepository"]["Properties"].clone();
    assert_eq!(policy["ImageTagMutability"], "IMMUTABLE");
    assert_eq!(policy["ImageScanningConfiguration"]["ScanOnPush"], true);
    let rules: Value =
        serde_json::from_str(policy["LifecyclePolicy"]["LifecyclePolicyText"].as_str().unwrap()).unwrap();
    let [releases, others] = &rules["rules"].as_array().unwrap()[..] else { panic!("{rules}") };
    assert_eq!(releases["selection"]["tagPrefixList"], json!(["release-"]));
    assert_eq!(releases["selection"]["countNumber"], 9999);
    assert!(releases["rulePriority"].as_u64() < others["rulePriority"].as_u64());
    assert_eq!((&others["selection"]["tagStatus"], &others["selection"]["countNumber"]), (&json!("any"), &json!(14)));
}
