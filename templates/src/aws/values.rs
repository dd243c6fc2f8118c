//! What the templates of AWS may refer to: the specification as it is, and what is put together from several of its parts. It
//! changes units where AWS counts otherwise, and never drops what the specification says.

use dbird_core::{ImageRef, Spec, StepId, document};
use serde_json::{Value, json};

use super::{access, base, has_collector, keeps_files, network, service};
use crate::LOCAL_IMAGES;

/// The user that dbird's images run as; the service's folder belongs to it.
const USER: &str = "65532";
/// Answers to the slowest requests are waited for this long at least.
const DEREGISTRATION_S_MIN: u64 = 15;
/// Ports of the test listener, with TLS and without: neither can be mistaken for production's.
const TEST_PORT_TLS: u16 = 8443;
const TEST_PORT: u16 = 9000;

/// An output of the stack.
pub(super) fn output(name: &str) -> Value {
    document::reference(&StepId::new("infrastructure"), name)
}

/// Tags as CloudFormation lists them.
pub(super) fn tag_list(tags: &Value) -> Value {
    tags.as_object().into_iter().flatten().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// Seconds, rounded up, within bounds.
pub(super) fn seconds(ms: u64, min: u64, max: u64) -> u64 {
    ms.div_ceil(1000).clamp(min, max)
}

/// Everything that a template may ask for.
pub(super) fn of(spec: &Spec, image: Option<&ImageRef>) -> Value {
    let base = base(spec);
    let tags = json!({ "Name": base, "dbird:service": spec.service.name, "dbird:environment": spec.environment });
    let mut values = json!({
        "spec": spec,
        "base": base,
        "tags": tag_list(&tags),
        "log_group": format!("/dbird/{base}"),
        "metrics_log_group": format!("/dbird/{base}/metrics"),
        "user": USER,
        "image": {
            "repository": image.map_or(LOCAL_IMAGES, |i| i.repository.as_str()),
            "digest": image.map(|i| i.digest.as_str()),
        },
        "own_repository": spec.aws.repository.is_none(),
        "repository_reference": spec.aws.repository.as_ref().map_or_else(|| output("Repository"), |r| json!(r)),
        "lifecycle": lifecycle(),
        "backup_status": if spec.aws.backup { "ENABLED" } else { "DISABLED" },
        "container_insights": if spec.aws.container_insights { "enabled" } else { "disabled" },
        "task_roles": access::task_roles(spec),
        "execution_role": spec.aws.execution_role.as_ref().map_or_else(
            || json!({ "Fn::GetAtt": ["ExecutionRole", "Arn"] }),
            |role| json!(role),
        ),
        "collector": has_collector(spec),
        "alarm": alarm(spec),
    });
    network::add(spec, &mut values);
    edge(spec, &mut values);
    notify(spec, &mut values);
    service::add(spec, image, &mut values);
    values
}

/// The first rule takes the images of releases out of the reach of the second: an image is expired by the first rule that
/// matches it, and this one expires none.
fn lifecycle() -> String {
    json!({ "rules": [
        {
            "rulePriority": 1, "description": "images of releases stay",
            "selection": {
                "tagStatus": "tagged", "tagPrefixList": ["release-"],
                "countType": "imageCountMoreThan", "countNumber": 9999,
            },
            "action": { "type": "expire" },
        },
        {
            "rulePriority": 2, "description": "everything else goes after two weeks",
            "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14 },
            "action": { "type": "expire" },
        },
    ] })
    .to_string()
}

fn edge(spec: &Spec, values: &mut Value) {
    let tls = spec.aws.certificate.is_some();
    let (port, test_port) = if tls { (443, TEST_PORT_TLS) } else { (80, TEST_PORT) };
    let listener = |name: &str, port: u16| json!({ "id": format!("{name}Listener"), "port": port, "metrics_rule": format!("{name}MetricsRule") });
    values["listeners"] = json!([listener("Production", port), listener("Test", test_port)]);
    let rule = |port: u16, source: Value, why: &str| {
        let key = match source.as_str() {
            Some(network) if network.contains(':') => "CidrIpv6",
            _ => "CidrIp",
        };
        json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, key: source, "Description": why })
    };
    let mut ingress = vec![rule(80, json!("0.0.0.0/0"), "Users")];
    if tls {
        ingress.push(rule(443, json!("0.0.0.0/0"), "Users"));
    }
    ingress.push(rule(test_port, json!(spec.aws.cidr), "Tests from the network"));
    // A task that asks for the load balancer by name is answered with public addresses, and comes from the NAT gateway's.
    ingress.extend(network::nat_addresses(spec).into_iter().map(|a| rule(test_port, a, "Tests by tasks, through NAT")));
    ingress.extend(spec.aws.test_cidrs.iter().map(|network| rule(test_port, json!(network), "Tests")));
    values["ingress"] = Value::Array(ingress);
    let scheme = if tls { "https" } else { "http" };
    let at = |port: String| match spec.aws.domain.as_ref().filter(|_| tls) {
        Some(domain) => json!(format!("{scheme}://{domain}{port}")),
        None => json!({ "Fn::Sub": format!("{scheme}://${{LoadBalancer.DNSName}}{port}") }),
    };
    values["url"] = at(String::new());
    values["test_url"] = at(format!(":{test_port}"));
    let health = &spec.health;
    let interval_s = seconds(health.interval_ms, 5, 300);
    values["health"] = json!({
        "interval_s": interval_s,
        "timeout_s": seconds(health.timeout_ms, 2, 120.min(interval_s - 1)),
        "healthy_after": health.healthy_after.clamp(2, 10),
        "unhealthy_after": health.unhealthy_after.clamp(2, 10),
    });
    // Ten times what nearly all requests are promised to take, and no less than a browser's slow request.
    let slowest_s = seconds(spec.slo.p99_ms.saturating_mul(10), DEREGISTRATION_S_MIN, 3600);
    values["deregistration_s"] = slowest_s.to_string().into();
}

fn alarm(spec: &Spec) -> Value {
    // Binary fractions would show otherwise: 0.07 is 7.000000000000001 %.
    let error_percent = (spec.analysis.error_rate_max * 1e8).round() / 1e6;
    let p99_ms = spec.slo.p99_ms;
    json!({
        "requests_min": spec.analysis.min_samples.max(1),
        "error_percent": error_percent,
        "p99_s": p99_ms as f64 / 1000.0,
        "errors": format!("More than {error_percent} % of the requests of a minute failed"),
        "slow": format!("The slowest hundredth of the requests took more than {p99_ms} ms, two minutes long"),
    })
}

/// Alarms tell a topic of their own, and topics that are named.
fn notify(spec: &Spec, values: &mut Value) {
    let is_topic = |to: &&String| to.starts_with("arn:") && to.split(':').nth(2) == Some("sns");
    let (topics, others): (Vec<&String>, Vec<&String>) = spec.alerts.notify.iter().partition(is_topic);
    let subscription = |to: &&String| {
        let protocol = match to.split(':').nth(2) {
            Some(service) if to.starts_with("arn:") => service,
            _ if to.starts_with("https://") => "https",
            _ => "email",
        };
        json!({ "protocol": protocol, "endpoint": to })
    };
    values["topic"] = (!others.is_empty()).into();
    values["subscriptions"] = others.iter().map(subscription).collect();
    let own = (!others.is_empty()).then(|| json!({ "Ref": "AlarmTopic" }));
    values["alarm_actions"] = own.into_iter().chain(topics.into_iter().map(|topic| json!(topic))).collect();
}

/// The volume of the file system, and where the service has it.
pub(super) fn volume(spec: &Spec) -> (Value, Value) {
    let Some(storage) = spec.storage.as_ref().filter(|_| keeps_files(spec)) else { return (json!([]), json!([])) };
    let volume = json!({ "name": "data", "efsVolumeConfiguration": {
        "fileSystemId": output("FileSystem"),
        "transitEncryption": "ENABLED",
        "authorizationConfig": { "accessPointId": output("AccessPoint"), "iam": "ENABLED" },
    } });
    (json!([volume]), json!([{ "sourceVolume": "data", "containerPath": storage.mount }]))
}
