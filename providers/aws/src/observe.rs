//! What is live: the stack as documents in the shape that is wanted, what an earlier stack left behind, and the service. It
//! decides how AWS's answers look from outside, and changes nothing.

use std::collections::BTreeMap;

use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Observed, StepId, Target};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::AwsProvider;
use crate::clock::CloudClock;
use crate::config::{base, network_stack};
use crate::error::{Adding, Answer, fault};
use crate::service;
pub(crate) use crate::stack::{Stack, stack_of};
use crate::stack::{kept, stack_of_cached, template_of, template_of_cached};

/// The step that makes the environment's stack.
pub(crate) const INFRASTRUCTURE: &str = "infrastructure";
/// The step that makes a network for several environments.
pub(crate) const NETWORK: &str = "network";
/// The step of the file system.
pub(crate) const DATA: &str = "data";
/// The step of the image repository.
pub(crate) const IMAGES: &str = "images";
/// The step of the image.
const IMAGE: &str = "image";
/// The step of the service.
const SERVICE: &str = "service";

/// What is live. Whoever follows a rollout looks more often than AWS should be asked, and gets what was seen a moment ago.
pub(crate) async fn observe(aws: &AwsProvider, target: &Target) -> Result<Observed> {
    if !aws.rollouts.follows() {
        return look(aws, target, false).await;
    }
    let name = base(target);
    if let Some(known) = aws.rollouts.observed(&name) {
        return Ok(known);
    }
    let at = Instant::now();
    let observed = look(aws, target, true).await?;
    aws.rollouts.remember_observed(&name, at, &observed);
    Ok(observed)
}

/// The same, asked for. While a rollout is followed nobody else changes the stack.
async fn look(aws: &AwsProvider, target: &Target, follows: bool) -> Result<Observed> {
    let mut observed = Observed::default();
    if let Some(network) = &aws.config.network {
        let name = network_stack(network);
        if let Some(stack) = stack_of(aws, &name).await?.filter(Stack::serves) {
            let template = template_of(aws, &name).await?;
            let body = json!({ "stack": name, "shared": true, "tags": stack.tags, "template": template });
            observed.documents.insert(StepId::new(NETWORK), body);
            observed.notes.extend(stack.note());
        }
    }
    let name = base(target);
    let stack = if follows { stack_of_cached(aws, &name).await? } else { stack_of(aws, &name).await? };
    right_account(aws, stack.as_ref()).await?;
    observed.notes.extend(stack.as_ref().and_then(Stack::note));
    let mut held = Vec::new();
    if let Some(stack) = stack.as_ref().filter(|s| s.serves()) {
        let template = if follows { template_of_cached(aws, &name).await? } else { template_of(aws, &name).await? };
        held = documents(stack, &template, &mut observed);
        let live = service::observe(aws, target, stack).await?;
        if let Some(path) = live.service.as_ref().and_then(mounted_at) {
            let data = observed.documents.get_mut(&StepId::new(DATA)).and_then(Value::as_object_mut);
            data.map(|data| data.insert("path".to_owned(), path));
        }
        let documents = [(IMAGE, live.image), (SERVICE, live.service)];
        observed.documents.extend(documents.into_iter().filter_map(|(step, body)| Some((StepId::new(step), body?))));
        observed.releases = live.releases;
        observed.unfinished = live.unfinished;
        observed.last = live.last;
        observed.notes.extend(live.notes);
        observed.endpoints = endpoints(&aws.clock, &stack.outputs);
    }
    // What the stack does not hold may be there all the same: left by a stack before.
    if !held.contains(&DATA)
        && let Some(found) = kept::file_system(aws, target).await?
    {
        observed.data.insert(DATA.to_owned(), found.id);
    }
    if !held.contains(&IMAGES)
        && let Some(uri) = kept::repository(aws, target).await?
    {
        observed.data.insert(IMAGES.to_owned(), uri);
    }
    Ok(observed)
}

/// The documents that the stack was made from; which data it holds.
fn documents(stack: &Stack, template: &Value, observed: &mut Observed) -> Vec<&'static str> {
    let mut held = Vec::new();
    for (step, output) in [(DATA, "FileSystem"), (IMAGES, "Repository")] {
        let Some(part) = data_of(template, &stack.name, step) else { continue };
        held.push(step);
        let body = json!({ "name": step, "stack": stack.name, "tags": stack.tags, "template": part });
        observed.documents.insert(StepId::new(step), body);
        if let Some(place) = stack.outputs.get(output) {
            observed.data.insert(step.to_owned(), place.clone());
        }
    }
    let mut body = json!({ "stack": stack.name, "tags": stack.tags, "template": template });
    if stack.stuck() {
        // Whatever its template says, it is not what is wanted: the plan shows this, and the deploy gets it out of there.
        body["status"] = stack.status.clone().into();
    }
    observed.documents.insert(StepId::new(INFRASTRUCTURE), body);
    held
}

/// The part of a template that holds data of one step: nothing else of it.
pub(crate) fn data_of(template: &Value, stack: &str, step: &str) -> Option<Value> {
    let resources = template.get("Resources")?.as_object()?;
    let images = |resource: &Value| resource["Type"].as_str().is_some_and(|t| t.starts_with("AWS::ECR::"));
    let part: Map<String, Value> = resources
        .iter()
        .filter(|(id, resource)| id.starts_with("Data") && (images(resource) == (step == IMAGES)))
        .map(|(id, resource)| (id.clone(), resource.clone()))
        .collect();
    let description = format!("The {step} of {stack}");
    let version = &template["AWSTemplateFormatVersion"];
    let whole = || json!({ "AWSTemplateFormatVersion": version, "Description": description, "Resources": part });
    (!part.is_empty()).then(whole)
}

/// Where the service sees its data.
fn mounted_at(service: &Value) -> Option<Value> {
    let containers = service["task_definition"]["containerDefinitions"].as_array()?;
    containers.iter().find_map(|c| c["mountPoints"].as_array()?.first()?.get("containerPath").cloned())
}

/// Where the service answers, of what the stack says.
pub(crate) fn endpoints(clock: &CloudClock, outputs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    [("service", "Url"), ("test", "TestUrl")]
        .into_iter()
        .filter_map(|(name, output)| Some((name.to_owned(), reached(clock, outputs.get(output)?))))
        .collect()
}

/// The address at which a listener can be reached from here: a simulated cloud's ports are others.
fn reached(clock: &CloudClock, url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let usual = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host, port),
        None => (authority, usual),
    };
    match clock.port(port) {
        port if port == usual => format!("{scheme}://{host}{path}"),
        port => format!("{scheme}://{host}:{port}{path}"),
    }
}

/// Refuses credentials for another account than the one that the configuration names.
async fn right_account(aws: &AwsProvider, stack: Option<&Stack>) -> Result<()> {
    let Some(wanted) = &aws.config.account else { return Ok(()) };
    let account = match stack {
        Some(stack) => stack.account().to_owned(),
        None => account(aws).await?,
    };
    if account == *wanted {
        return Ok(());
    }
    let what = format!("the credentials are for account {account}, and [cloud.aws] says {wanted}");
    Err(fault(ErrorKind::Denied, "find the account", account, what).hint("check AWS_PROFILE, or correct `account`"))
}

/// The account that the credentials are for.
pub(crate) async fn account(aws: &AwsProvider) -> Result<String> {
    let identity = aws.clients.sts().await.get_caller_identity().send().await.or_fault("find the account", "")?;
    Ok(identity.account().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_port_that_answers() {
        let simulated = CloudClock::of(Some("speed=100;origin=1;ports=8000")).unwrap();
        let real = CloudClock::of(None).unwrap();
        let cases = [
            ("http://a.b", "http://a.b:8080", "http://a.b"),
            ("https://a.b/", "https://a.b:8443/", "https://a.b/"),
            ("http://a.b:9000", "http://a.b:9000", "http://a.b:9000"),
            ("http://a.b:81/x", "http://a.b:8081/x", "http://a.b:81/x"),
        ];
        for (url, there, here) in cases {
            assert_eq!((reached(&simulated, url), reached(&real, url)), (there.to_owned(), here.to_owned()));
        }
    }

    #[test]
    fn a_step_of_data_is_cut_from_the_template() {
        let template = json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": {
            "DataFileSystem": { "Type": "AWS::EFS::FileSystem" },
            "DataRepository": { "Type": "AWS::ECR::Repository" },
            "Vpc": { "Type": "AWS::EC2::VPC" },
        }, "Outputs": {} });
        let part = |step: &str| data_of(&template, "bird-dev", step).unwrap();
        assert_eq!(part(DATA)["Resources"], json!({ "DataFileSystem": { "Type": "AWS::EFS::FileSystem" } }));
        assert_eq!(part(IMAGES)["Resources"], json!({ "DataRepository": { "Type": "AWS::ECR::Repository" } }));
        assert_eq!(part(DATA)["Description"], "The data of bird-dev");
        assert_eq!(data_of(&json!({ "Resources": { "Vpc": {} } }), "bird-dev", DATA), None);
    }

    #[test]
    fn the_path_of_the_data_is_where_the_service_mounts_it() {
        let service = json!({ "task_definition": { "containerDefinitions": [
            { "name": "collector" },
            { "name": "bird", "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }] },
        ] } });
        assert_eq!(mounted_at(&service), Some(json!("/data")));
        assert_eq!(mounted_at(&json!({})), None);
    }
}
