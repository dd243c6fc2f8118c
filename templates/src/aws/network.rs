//! The values of the network's template, and how the rest refers to a network: one of its own by logical name, a shared one
//! by the outputs of its step.

use std::net::Ipv4Addr;

use dbird_core::{Spec, StepId, document};
use serde_json::{Value, json};

use super::{base, shared_network, values};

/// What tasks need that is not in the network: registry, logs, secrets, parameters, metrics, traces and shells.
const ENDPOINTS: [(&str, &str); 8] = [
    ("EndpointEcrApi", "ecr.api"),
    ("EndpointEcrDkr", "ecr.dkr"),
    ("EndpointLogs", "logs"),
    ("EndpointMonitoring", "monitoring"),
    ("EndpointSecrets", "secretsmanager"),
    ("EndpointSsm", "ssm"),
    ("EndpointSsmMessages", "ssmmessages"),
    ("EndpointXray", "xray"),
];

/// How tasks get out.
fn is_private(spec: &Spec) -> bool {
    spec.aws.egress != "public-ip"
}

/// Adds what the network's template and those that stand on it refer to.
pub(super) fn add(spec: &Spec, values: &mut Value) {
    let shared = shared_network(spec);
    let task_subnet = if is_private(spec) { "PrivateSubnet" } else { "PublicSubnet" };
    values["subnets"] = json!(subnets(&spec.aws.cidr));
    values["task_subnet"] = task_subnet.into();
    values["flow_log_group"] = format!("/dbird/{}/network", base(spec)).into();
    values["shared_network"] = false.into();
    values["needs_gateway"] = shared.is_none().into();
    values["public_ip"] = (!is_private(spec)).into();
    let endpoint = |(id, name): &(&str, &str)| {
        let service = format!("com.amazonaws.${{AWS::Region}}.{name}");
        json!({ "id": id, "service": { "Fn::Sub": service } })
    };
    values["endpoints"] = ENDPOINTS.iter().map(endpoint).collect();
    let own = |name: &str| json!({ "Ref": name });
    let of_step = |name: &str| document::reference(&StepId::new("network"), name);
    values["net"] = match shared {
        None => json!({
            "vpc": own("Vpc"),
            "public": [own("PublicSubnetA"), own("PublicSubnetB")],
            "tasks": [own(&format!("{task_subnet}A")), own(&format!("{task_subnet}B"))],
        }),
        Some(_) => json!({
            "vpc": of_step("Vpc"),
            "public": [of_step("PublicSubnetA"), of_step("PublicSubnetB")],
            "tasks": [of_step("SubnetA"), of_step("SubnetB")],
        }),
    };
}

/// The same values for the stack of a network that several environments share: it is none of theirs.
pub(super) fn shared_values(values: &Value, name: &str) -> Value {
    let mut values = values.clone();
    values["shared_network"] = true.into();
    values["flow_log_group"] = format!("/dbird/network/{name}").into();
    values["tags"] = values::tag_list(&json!({ "Name": format!("dbird-network-{name}"), "dbird:network": name }));
    values
}

/// Addresses from which the network's own tasks reach a load balancer that has public ones.
pub(super) fn nat_addresses(spec: &Spec) -> Vec<Value> {
    let zones: &[&str] = match spec.aws.egress.as_str() {
        "nat" => &["A"],
        "nat-per-zone" => &["A", "B"],
        _ => &[],
    };
    let address = |zone: &&str| match shared_network(spec) {
        None => json!({ "Fn::Sub": format!("${{NatAddress{zone}}}/32") }),
        Some(_) => document::reference(&StepId::new("network"), &format!("NatAddress{zone}")),
    };
    zones.iter().map(address).collect()
}

/// Four of eight equal parts: two public, two private. The other half is left for what comes later.
fn subnets(cidr: &str) -> Vec<String> {
    let (address, bits) = cidr.split_once('/').unwrap_or((cidr, "16"));
    let first = u32::from(address.parse::<Ipv4Addr>().unwrap_or(Ipv4Addr::new(10, 0, 0, 0)));
    let bits = bits.parse::<u32>().unwrap_or(16).clamp(8, 24) + 3;
    (0..4).map(|part| format!("{}/{bits}", Ipv4Addr::from(first + (part << (32 - bits))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_parts_of_the_network() {
        let cases = [
            ("10.0.0.0/16", ["10.0.0.0/19", "10.0.32.0/19", "10.0.64.0/19", "10.0.96.0/19"]),
            ("192.168.7.0/24", ["192.168.7.0/27", "192.168.7.32/27", "192.168.7.64/27", "192.168.7.96/27"]),
        ];
        for (cidr, parts) in cases {
            assert_eq!(subnets(cidr), parts, "{cidr}");
        }
    }
}
