//! The service's document of what is live: AWS's answers in the shape of what is wanted, so that the two can be compared
//! field by field. It calls nothing.

use aws_sdk_codedeploy::types::DeploymentGroupInfo;
use aws_sdk_ecs::types::{self, Service};
use serde_json::{Value, json};

use super::document::{Controller, Scaling, ServiceDocument, TaskDefinition, Traffic};
use super::task_definition::Marker;
use super::{apply, deployment, group, task_definition};

/// What AWS answered of a service.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    pub(crate) environment: &'a str,
    pub(crate) service: &'a Service,
    pub(crate) task_definition: &'a types::TaskDefinition,
    pub(crate) marker: Option<&'a Marker>,
    pub(crate) group: Option<&'a DeploymentGroupInfo>,
    pub(crate) scaling: Option<Scaling>,
    /// The stack's listeners and target groups.
    pub(crate) traffic: Traffic,
}

/// The document of what is live.
pub(crate) fn document(answers: &Answers<'_>) -> Value {
    let service = answers.service;
    let name = service.service_name().unwrap_or_default().to_owned();
    let definition = task_definition::live(answers.task_definition);
    let set = service.task_sets().iter().find(|set| set.status() == Some("PRIMARY"));
    let controller = apply::controller(service);
    let found = ServiceDocument {
        environment: answers.environment.to_owned(),
        storage_protocol: answers.marker.map_or(0, |marker| marker.storage_protocol),
        cluster: service.cluster_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default().to_owned(),
        controller,
        image_digest: image_digest(&name, &definition),
        desired_count: desired(service, answers.scaling.as_ref()),
        network: deployment::read_network(
            set.and_then(|set| set.network_configuration()).or(service.network_configuration()),
        ),
        platform_version: set
            .and_then(|set| set.platform_version())
            .or(service.platform_version())
            .unwrap_or_default()
            .to_owned(),
        grace_s: u32::try_from(service.health_check_grace_period_seconds().unwrap_or(0)).unwrap_or(0),
        exec: service.enable_execute_command(),
        traffic: moved_on(answers),
        codedeploy: answers.group.filter(|_| controller == Controller::Codedeploy).and_then(group::read),
        ecs: (controller == Controller::Ecs).then(|| deployment::read(service)).flatten(),
        scaling: answers.scaling.clone(),
        task_definition: definition,
        name: name.clone(),
    };
    with_empty_lists(serde_json::to_value(found).unwrap_or(Value::Null), &name)
}

/// How many tasks are wanted: while something scales the service, between its bounds, that is not anybody else's to say.
fn desired(service: &Service, scaling: Option<&Scaling>) -> u32 {
    let live = u32::try_from(service.desired_count()).unwrap_or(0);
    match scaling {
        Some(scaling) if (scaling.min..=scaling.max).contains(&live) => scaling.min,
        _ => live,
    }
}

/// The listener that is really used, where that can be seen.
fn moved_on(answers: &Answers<'_>) -> Traffic {
    let mut traffic = answers.traffic.clone();
    if let Some(live) = answers.group
        && !group::listens(live, &traffic)
    {
        let pair = live.load_balancer_info().and_then(|info| info.target_group_pair_info_list().first());
        let route = pair.and_then(|pair| pair.prod_traffic_route());
        traffic.listener = route.and_then(|route| route.listener_arns().first()).cloned().unwrap_or_default();
        let test = pair.and_then(|pair| pair.test_traffic_route());
        traffic.test_listener = test.and_then(|route| route.listener_arns().first()).cloned();
    }
    traffic
}

/// The digest that the service's own container runs.
pub(crate) fn image_digest(name: &str, definition: &TaskDefinition) -> Option<String> {
    let image = definition.container_definitions.iter().find(|container| container.name == name)?;
    image.image.rsplit_once('@').map(|(_, digest)| digest.to_owned())
}

/// The repository that the service's own container runs from.
pub(crate) fn image_repository(name: &str, definition: &TaskDefinition) -> Option<String> {
    let image = definition.container_definitions.iter().find(|container| container.name == name)?;
    Some(image.image.split('@').next()?.to_owned())
}

/// AWS forgets the difference between an empty list and none; the document always has these.
fn with_empty_lists(mut body: Value, name: &str) -> Value {
    let definition = &mut body["task_definition"];
    let fill = |object: &mut Value, keys: &[&str]| {
        for key in keys {
            if let Some(map) = object.as_object_mut() {
                map.entry((*key).to_owned()).or_insert_with(|| json!([]));
            }
        }
    };
    fill(definition, &["volumes"]);
    let containers = definition.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter(|container| container["name"] == name) {
        fill(container, &["environment", "secrets", "mountPoints"]);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::document::tests::{example, example_json, example_native};
    use crate::service::job::Moved;

    fn service(document: &ServiceDocument) -> Service {
        let kind = match document.controller {
            Controller::Codedeploy => types::DeploymentControllerType::CodeDeploy,
            Controller::Ecs => types::DeploymentControllerType::Ecs,
        };
        let moved = Moved { blue: "b".into(), green: "g".into(), rule: "r".into(), test_rule: None };
        let config = document.ecs.as_ref().map(|ecs| deployment::configuration(ecs, false).unwrap());
        Service::builder()
            .service_name(&document.name)
            .cluster_arn(format!("arn:aws:ecs:us-east-1:123456789012:cluster/{}", document.cluster))
            .deployment_controller(types::DeploymentController::builder().r#type(kind).build().unwrap())
            .set_deployment_configuration(config)
            .load_balancers(deployment::load_balancer(document, "b", Some(&moved)))
            .network_configuration(deployment::network(&document.network).unwrap())
            .platform_version(&document.platform_version)
            .health_check_grace_period_seconds(30)
            .desired_count(2)
            .enable_execute_command(document.exec)
            .build()
    }

    fn answers<'a>(
        document: &ServiceDocument,
        service: &'a Service,
        definition: &'a types::TaskDefinition,
        marker: &'a Marker,
    ) -> Answers<'a> {
        Answers {
            environment: "dev",
            service,
            task_definition: definition,
            marker: Some(marker),
            group: None,
            scaling: document.scaling.clone(),
            traffic: document.traffic.clone(),
        }
    }

    fn marker() -> Marker {
        Marker { release: dbird_core::ReleaseId(4), document: None, image: None, storage_protocol: 1 }
    }

    fn registered(document: &ServiceDocument) -> types::TaskDefinition {
        let input = task_definition::registration(&document.task_definition).unwrap().build().unwrap();
        types::TaskDefinition::builder()
            .set_family(input.family)
            .set_cpu(input.cpu)
            .set_memory(input.memory)
            .set_network_mode(input.network_mode)
            .set_requires_compatibilities(input.requires_compatibilities)
            .set_container_definitions(input.container_definitions)
            .build()
    }

    #[test]
    fn what_is_live_reads_as_what_is_wanted() {
        for document in [example_native("ROLLING"), example_native("CANARY"), example_native("BLUE_GREEN")] {
            let wanted = with_empty_lists(serde_json::to_value(&document).unwrap(), "bird");
            let (service, definition, marker) = (service(&document), registered(&document), marker());
            let live = super::document(&answers(&document, &service, &definition, &marker));
            assert_eq!(live, wanted);
        }
    }

    #[test]
    fn a_change_by_hand_is_a_difference() {
        let document = example_native("ROLLING");
        let (mut service, definition, marker) = (service(&document), registered(&document), marker());
        service.desired_count = 5;
        let live = super::document(&answers(&document, &service, &definition, &marker));
        assert_eq!(live["desired_count"], 5);
    }

    #[test]
    fn what_scales_the_service_owns_its_count() {
        let scaling = Scaling { min: 2, max: 6, target_cpu_percent: Some(60), steps: Vec::new() };
        for (live, shown) in [(2, 2), (5, 2), (6, 2), (1, 1), (9, 9)] {
            let service = Service::builder().desired_count(live).build();
            assert_eq!(desired(&service, Some(&scaling)), shown, "{live}");
        }
    }

    #[test]
    fn an_image_is_named_by_its_digest() {
        let document = example();
        assert_eq!(image_digest("bird", &document.task_definition), document.image_digest);
        assert_eq!(image_repository("bird", &document.task_definition).as_deref(), Some("r/bird-dev"));
        let mut tagged = document.task_definition;
        tagged.container_definitions[0].image = "r/bird-dev:latest".to_owned();
        assert_eq!(image_digest("bird", &tagged), None);
        assert!(example_json()["image_digest"].is_string());
    }
}
