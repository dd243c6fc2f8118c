//! Reads and checks an AppSpec for ECS: which task definition, behind which container and port. It never asks whether they
//! exist.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::aws::{Fault, number, text};

/// What a deployment is to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppSpec {
    pub(crate) task_definition: String,
    pub(crate) container: String,
    pub(crate) port: u16,
}

/// Why a revision can't be deployed, with the code that CodeDeploy gives.
fn wrong(message: impl Into<String>) -> Fault {
    Fault::new("InvalidRevisionException", message)
}

impl AppSpec {
    /// From the `revision` of `CreateDeployment`.
    pub(crate) fn of_revision(revision: &Value) -> Result<Self, Fault> {
        let (content, sha256) = match text(revision, "revisionType") {
            Some("AppSpecContent") => {
                let part = revision.get("appSpecContent").unwrap_or(&Value::Null);
                (text(part, "content"), text(part, "sha256"))
            }
            Some("String") => {
                let part = revision.get("string").unwrap_or(&Value::Null);
                (text(part, "content"), text(part, "sha256"))
            }
            Some("S3") | Some("GitHub") => {
                return Err(wrong(
                    "the simulator takes an AppSpec in the call itself (AppSpecContent), not from S3 or GitHub",
                ));
            }
            _ => return Err(wrong("The revision type is missing or unknown")),
        };
        let content = content.filter(|c| !c.trim().is_empty()).ok_or_else(|| wrong("The AppSpec content is empty"))?;
        let found = hex::encode(Sha256::digest(content.as_bytes()));
        if sha256.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&found)) {
            return Err(wrong("The SHA256 hash value of the revision content does not match the given one"));
        }
        Self::parse(content)
    }

    fn parse(content: &str) -> Result<Self, Fault> {
        let Ok(document) = serde_json::from_str::<Value>(content) else {
            let message = "the simulator reads an AppSpec as JSON, not as YAML; this one is not JSON";
            return Err(wrong(message));
        };
        let version = document.get("version").ok_or_else(|| wrong("The AppSpec file has no version"))?;
        if version.as_f64() != Some(0.0) && version.as_str() != Some("0.0") {
            return Err(wrong("The version of the AppSpec file must be 0.0"));
        }
        if let Some(hooks) = document.get("Hooks").or_else(|| document.get("hooks")).and_then(Value::as_array)
            && !hooks.is_empty()
        {
            return Err(wrong(
                "the simulator runs no Lambda functions, so an AppSpec with Hooks can't be deployed to it",
            ));
        }
        let resources = document.get("Resources").or_else(|| document.get("resources")).and_then(Value::as_array);
        let [resource] = resources.map(Vec::as_slice).unwrap_or_default() else {
            return Err(wrong("The AppSpec file must contain exactly one resource for the ECS compute platform"));
        };
        let mut services = resource.as_object().into_iter().flatten();
        let (Some((_, service)), None) = (services.next(), services.next()) else {
            return Err(wrong("The AppSpec file must contain exactly one target service"));
        };
        if text(service, "Type") != Some("AWS::ECS::Service") {
            return Err(wrong("The resource's Type must be AWS::ECS::Service"));
        }
        let properties = service.get("Properties").unwrap_or(&Value::Null);
        let task_definition = text(properties, "TaskDefinition").unwrap_or_default();
        if !task_definition.contains(":task-definition/") {
            return Err(wrong("TaskDefinition must be the ARN of a task definition"));
        }
        let balancer = properties.get("LoadBalancerInfo").unwrap_or(&Value::Null);
        let container = text(balancer, "ContainerName").filter(|name| !name.is_empty());
        let container = container.ok_or_else(|| wrong("LoadBalancerInfo has no ContainerName"))?;
        let port = number(balancer, "ContainerPort").and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
        let port = port.ok_or_else(|| wrong("LoadBalancerInfo has no ContainerPort between 1 and 65535"))?;
        Ok(AppSpec { task_definition: task_definition.to_owned(), container: container.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({ "version": 0.0, "Resources": [{ "TargetService": { "Type": "AWS::ECS::Service", "Properties": {
            "TaskDefinition": "arn:aws:ecs:us-east-1:123456789012:task-definition/bird:3",
            "LoadBalancerInfo": { "ContainerName": "bird", "ContainerPort": 8080 } } } }] })
    }

    fn revision(document: &Value) -> Value {
        json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": document.to_string() } })
    }

    #[test]
    fn a_whole_one_is_read() {
        let spec = AppSpec::of_revision(&revision(&good())).unwrap();
        assert_eq!((spec.container.as_str(), spec.port), ("bird", 8080));
        assert!(spec.task_definition.ends_with("bird:3"));
        let mut signed = revision(&good());
        signed["appSpecContent"]["sha256"] = json!(hex::encode(Sha256::digest(good().to_string())));
        assert!(AppSpec::of_revision(&signed).is_ok());
    }

    #[test]
    fn what_is_wrong_is_told() {
        let changed = |pointer: &str, value: Value| {
            let mut document = good();
            *document.pointer_mut(pointer).unwrap() = value;
            revision(&document)
        };
        let properties = "/Resources/0/TargetService/Properties";
        let at = |rest: &str| format!("{properties}{rest}");
        let hooked = {
            let mut document = good();
            document["Hooks"] = json!([{ "BeforeAllowTraffic": "arn:aws:lambda:..." }]);
            revision(&document)
        };
        let cases = [
            (changed("/version", json!("1.0")), "version"),
            (changed("/Resources", json!([])), "exactly one resource"),
            (changed("/Resources/0", json!({})), "exactly one target service"),
            (changed("/Resources/0/TargetService/Type", json!("AWS::Lambda::Function")), "AWS::ECS::Service"),
            (changed(&at("/TaskDefinition"), json!("bird:3")), "ARN of a task definition"),
            (changed(&at("/LoadBalancerInfo/ContainerName"), json!("")), "ContainerName"),
            (changed(&at("/LoadBalancerInfo/ContainerPort"), json!(0)), "ContainerPort"),
            (changed(&at("/LoadBalancerInfo"), json!(null)), "ContainerName"),
            (hooked, "no Lambda functions"),
            (json!({ "revisionType": "S3" }), "not from S3"),
            (json!({}), "revision type"),
            (json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": " " } }), "empty"),
            (json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": "version: 0.0" } }), "not JSON"),
            (
                json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": good().to_string(), "sha256": "00" } }),
                "does not match",
            ),
        ];
        for (revision, wanted) in cases {
            let fault = AppSpec::of_revision(&revision).unwrap_err();
            assert_eq!(fault.code, "InvalidRevisionException");
            assert!(fault.message.contains(wanted), "{wanted}: {}", fault.message);
        }
    }
}
