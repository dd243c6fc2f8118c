//! Service quotas: what the account may have of a few things. An increase is granted at once; the fault `quota:CODE=VALUE`
//! changes one from the beginning.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{Answer, Call, Fault, World, cloudformation::kinds::Kind, text};

/// The quotas are those of a new account, but for what was raised.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    raised: Mutex<BTreeMap<String, f64>>,
}

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[];

/// Service, code, name and value.
const QUOTAS: [(&str, &str, &str, f64); 12] = [
    ("fargate", "L-3032A538", "Fargate On-Demand vCPU resource count", 6.0),
    ("fargate", "L-36FBB829", "Fargate Spot vCPU resource count", 6.0),
    ("ecs", "L-21C621EB", "Clusters per account", 10_000.0),
    ("ecs", "L-9EF96962", "Services per cluster", 5_000.0),
    ("elasticloadbalancing", "L-53DA6B97", "Application Load Balancers per Region", 50.0),
    ("elasticloadbalancing", "L-B22855CB", "Target Groups per Region", 3_000.0),
    ("elasticloadbalancing", "L-B6DF7632", "Listeners per Application Load Balancer", 50.0),
    ("vpc", "L-F678F1CE", "VPCs per Region", 5.0),
    ("vpc", "L-FE5A380F", "NAT gateways per Availability Zone", 5.0),
    ("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5.0),
    ("elasticfilesystem", "L-848C634D", "File systems per account", 1_000.0),
    ("cloudformation", "L-0485CB21", "Stack count", 2_000.0),
];

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let service = text(&call.input, "ServiceCode").unwrap_or_default();
    let code = text(&call.input, "QuotaCode");
    match call.operation.as_str() {
        "GetServiceQuota" | "GetAWSDefaultServiceQuota" => {
            let quota = QUOTAS.iter().find(|quota| quota.0 == service && Some(quota.1) == code);
            let missing = || {
                Fault::new(
                    "NoSuchResourceException",
                    "The request failed because the specified service quota does not exist.",
                )
            };
            Ok(json!({ "Quota": describe(world, quota.ok_or_else(missing)?) }))
        }
        "RequestServiceQuotaIncrease" => {
            let wanted = call.input.get("DesiredValue").and_then(Value::as_f64).unwrap_or_default();
            let quota = QUOTAS.iter().find(|quota| quota.0 == service && Some(quota.1) == code && wanted > quota.3);
            let Some(quota) = quota else {
                let said = "The quota does not exist, or the desired value is not more than its present one.";
                return Err(Fault::new("IllegalArgumentException", said));
            };
            world.quotas.raised.lock().unwrap_or_else(PoisonError::into_inner).insert(quota.1.to_owned(), wanted);
            Ok(json!({ "RequestedQuota": {
                "Id": uuid::Uuid::new_v4().simple().to_string(), "ServiceCode": quota.0, "QuotaCode": quota.1,
                "QuotaName": quota.2, "DesiredValue": wanted, "Status": "APPROVED",
            } }))
        }
        "ListServiceQuotas" | "ListAWSDefaultServiceQuotas" => {
            let quotas = QUOTAS.iter().filter(|quota| quota.0 == service && code.is_none_or(|code| code == quota.1));
            Ok(json!({ "Quotas": quotas.map(|quota| describe(world, quota)).collect::<Vec<_>>() }))
        }
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}

fn describe(world: &World, (service, code, name, usual): &(&str, &str, &str, f64)) -> Value {
    let asked = world.faults.argument("quota");
    let given = asked.as_deref().and_then(|asked| asked.split_once('=')).filter(|(asked, _)| asked == code);
    let raised = world.quotas.raised.lock().unwrap_or_else(PoisonError::into_inner).get(*code).copied();
    let value = raised.or_else(|| given.and_then(|(_, value)| value.parse().ok())).unwrap_or(*usual);
    json!({
        "ServiceCode": service, "ServiceName": service, "QuotaCode": code, "QuotaName": name, "Value": value,
        "QuotaArn": world.arn("servicequotas", &format!("{service}/{code}")), "Unit": "None", "Adjustable": true,
        "GlobalQuota": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::elb::tests::world;

    #[tokio::test]
    async fn quotas_are_told_and_raised() {
        let world = world(1.0);
        let api = async |operation: &str, input: Value| {
            call(&world, &Call { service: "servicequotas".into(), operation: operation.into(), input }).await
        };
        let fargate =
            |value: Value| json!({ "ServiceCode": "fargate", "QuotaCode": "L-3032A538", "DesiredValue": value });
        let told = api("GetServiceQuota", fargate(Value::Null)).await.unwrap();
        assert_eq!(told["Quota"]["Value"], 6.0);
        world.faults.set(vec!["quota:L-3032A538=0.5".to_owned()]);
        assert_eq!(api("GetServiceQuota", fargate(Value::Null)).await.unwrap()["Quota"]["Value"], 0.5);
        api("RequestServiceQuotaIncrease", fargate(json!(100.0))).await.unwrap();
        assert_eq!(api("GetServiceQuota", fargate(Value::Null)).await.unwrap()["Quota"]["Value"], 100.0);
        let unknown = api("GetServiceQuota", json!({ "ServiceCode": "fargate", "QuotaCode": "L-0" })).await;
        assert_eq!(unknown.unwrap_err().code, "NoSuchResourceException");
        let listed = api("ListServiceQuotas", json!({ "ServiceCode": "vpc" })).await.unwrap();
        assert_eq!(listed["Quotas"].as_array().unwrap().len(), 2);
    }
}
