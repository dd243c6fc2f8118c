//! Renders a specification for AWS: one stack made of modules, and a service's document that refers to what the stack gives.
//! It decides which modules there are and how they fit together; what a resource looks like stands in its template.

mod access;
mod network;
mod service;
mod values;

use dbird_core::{
    Document, Documents, ImageRef, Spec, StepId, StepKind,
    spec::{Collector, StorageKind},
};
use serde_json::{Map, Value, json};

use crate::{TemplateError, engine::Engine};

/// What a module of a stack adds to.
const SECTIONS: [&str; 2] = ["Resources", "Outputs"];

/// The name of everything that one environment of a service has.
pub(crate) fn base(spec: &Spec) -> String {
    format!("{}-{}", spec.service.name, spec.environment)
}

/// Files that outlive the tasks; a database server would be something else.
pub(crate) fn keeps_files(spec: &Spec) -> bool {
    spec.storage.as_ref().is_some_and(|storage| matches!(storage.kind, StorageKind::Sqlite | StorageKind::Files))
}

pub(crate) fn has_collector(spec: &Spec) -> bool {
    spec.telemetry.collector == Collector::Sidecar
}

/// The network that several environments share, where it is not this one's own.
fn shared_network(spec: &Spec) -> Option<&str> {
    Some(spec.aws.network.as_str()).filter(|name| *name != "own")
}

/// The documents in the order in which they are applied.
pub(crate) fn render(spec: &Spec, image: Option<&ImageRef>, engine: &Engine) -> Result<Documents, TemplateError> {
    let base = base(spec);
    let mut values = values::of(spec, image);
    if has_collector(spec) {
        values["collector"] = engine.render("aws/collector.json.tera", &context(&values)?)?.to_string().into();
    }
    let context = context(&values)?;
    let module = |name: &'static str| engine.render(name, &context);
    let tags = json!({ "dbird:service": spec.service.name, "dbird:environment": spec.environment });
    let mut steps = Vec::new();
    let mut add = |step: &str, kind, title: String, body| {
        steps.push(Document { step: StepId::new(step), kind, title, body });
    };

    let mut modules = Vec::new();
    match shared_network(spec) {
        None => modules.push(module("aws/network.json.tera")?),
        Some(name) => {
            let description = format!("The network {name}, shared by the environments that name it");
            let network_context = self::context(&network::shared_values(&values, name))?;
            let template = stack(&description, vec![engine.render("aws/network.json.tera", &network_context)?])?;
            let stack = format!("dbird-network-{name}");
            let body =
                json!({ "stack": stack, "shared": true, "tags": { "dbird:network": name }, "template": template });
            add("network", StepKind::Infrastructure, format!("network {name}"), body);
        }
    }
    if let Some(storage) = spec.storage.as_ref().filter(|_| keeps_files(spec)) {
        let data = module("aws/data.json.tera")?;
        modules.push(data.clone());
        modules.push(module("aws/storage.json.tera")?);
        let template = stack(&format!("The data of {base}"), vec![data])?;
        let body = json!({ "name": "data", "stack": base, "tags": tags, "template": template, "path": storage.mount });
        add("data", StepKind::Data, format!("file system {}", storage.mount), body);
    }
    if spec.aws.repository.is_none() {
        let images = module("aws/images.json.tera")?;
        modules.push(images.clone());
        let template = stack(&format!("The images of {base}"), vec![images])?;
        let body = json!({ "name": "images", "stack": base, "tags": tags, "template": template });
        add("images", StepKind::Data, format!("image repository {base}"), body);
    }
    for name in ["aws/edge.json.tera", "aws/compute.json.tera", "aws/delivery.json.tera", "aws/observability.json.tera"]
    {
        modules.push(module(name)?);
    }
    let template = stack(&format!("Everything that {} runs on in {}", spec.service.name, spec.environment), modules)?;
    let body = json!({ "stack": base, "tags": tags, "template": template });
    add("infrastructure", StepKind::Infrastructure, format!("stack {base}"), body);
    let name = &spec.service.name;
    add("image", StepKind::Image, format!("image {name}"), module("aws/image.json.tera")?);
    add("service", StepKind::Service, format!("service {name}"), module("aws/service.json.tera")?);
    Ok(Documents { service: name.clone(), environment: spec.environment.clone(), cloud: spec.cloud, steps })
}

/// The template of the bucket that holds the state.
pub(crate) fn bootstrap(bucket: &str, service: &str, engine: &Engine) -> Result<Value, TemplateError> {
    let tags = values::tag_list(&json!({ "dbird:service": service }));
    engine.render("aws/bootstrap.json.tera", &context(&json!({ "bucket": bucket, "tags": tags }))?)
}

fn context(values: &Value) -> Result<tera::Context, TemplateError> {
    tera::Context::from_serialize(values).map_err(|e| TemplateError::Values { message: e.to_string() })
}

/// One template of several modules. No two may give the same name.
fn stack(description: &str, modules: Vec<Value>) -> Result<Value, TemplateError> {
    let mut whole = json!({ "AWSTemplateFormatVersion": "2010-09-09", "Description": description });
    for section in SECTIONS {
        let mut all = Map::new();
        let given = modules.iter().filter_map(|module| module.get(section)?.as_object()).flatten();
        for (name, value) in given {
            if all.insert(name.clone(), value.clone()).is_some() {
                return Err(TemplateError::Twice { section, name: name.clone() });
            }
        }
        if !all.is_empty() {
            whole[section] = Value::Object(all);
        }
    }
    Ok(whole)
}
