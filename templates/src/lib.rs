//! Renders a [`Spec`] to the documents of its cloud, one for each step, from templates that are built in and that a project
//! may replace one by one. It decides how a document is written, never what the specification says, and it reads no
//! file, no clock and no environment.

mod aws;
mod context;
mod engine;
mod error;

use dbird_core::{Cloud, Document, Documents, ImageRef, Spec, StepId, StepKind};

pub use error::TemplateError;
use serde_json::Value;

/// The local store of images, relative to the project's folder, as image references name it.
pub const LOCAL_IMAGES: &str = "oci:.dbird/images";

/// The clouds that documents are rendered for.
pub const CLOUDS: [Cloud; 2] = [Cloud::Local, Cloud::Aws];

/// The built-in templates by name. A project replaces one with a file of the same name in its folder `templates`.
pub const BUILT_IN: [(&str, &str); 15] = [
    ("local/image.json.tera", include_str!("../local/image.json.tera")),
    ("local/data.json.tera", include_str!("../local/data.json.tera")),
    ("local/service.json.tera", include_str!("../local/service.json.tera")),
    ("aws/collector.json.tera", include_str!("../aws/collector.json.tera")),
    ("aws/network.json.tera", include_str!("../aws/network.json.tera")),
    ("aws/data.json.tera", include_str!("../aws/data.json.tera")),
    ("aws/images.json.tera", include_str!("../aws/images.json.tera")),
    ("aws/storage.json.tera", include_str!("../aws/storage.json.tera")),
    ("aws/edge.json.tera", include_str!("../aws/edge.json.tera")),
    ("aws/compute.json.tera", include_str!("../aws/compute.json.tera")),
    ("aws/delivery.json.tera", include_str!("../aws/delivery.json.tera")),
    ("aws/observability.json.tera", include_str!("../aws/observability.json.tera")),
    ("aws/image.json.tera", include_str!("../aws/image.json.tera")),
    ("aws/service.json.tera", include_str!("../aws/service.json.tera")),
    ("aws/bootstrap.json.tera", include_str!("../aws/bootstrap.json.tera")),
];

/// Asked for each template by its name; the project's own text, or none for the built-in one.
pub type Overrides<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The documents of an environment in the order in which they are applied.
///
/// Without an image the service's document holds a reference to the digest that the image step will give, so rendering
/// needs no build. `overrides` is asked for each template by name (`local/service.json.tera`) and may answer with its text.
pub fn render(
    spec: &Spec,
    image: Option<&ImageRef>,
    overrides: Option<Overrides<'_>>,
) -> Result<Documents, TemplateError> {
    let engine = engine::Engine::new(overrides)?;
    match spec.cloud {
        Cloud::Local => local(spec, image, &engine),
        Cloud::Aws => aws::render(spec, image, &engine),
        Cloud::Azure => Err(TemplateError::Cloud { cloud: spec.cloud }),
    }
}

/// The template of the bucket on AWS that holds the state of a service's environments.
pub fn bootstrap(bucket: &str, service: &str, overrides: Option<Overrides<'_>>) -> Result<Value, TemplateError> {
    aws::bootstrap(bucket, service, &engine::Engine::new(overrides)?)
}

fn local(spec: &Spec, image: Option<&ImageRef>, engine: &engine::Engine) -> Result<Documents, TemplateError> {
    let context = context::local(spec, image)?;
    let document = |step: &str, kind, title: String, template| {
        Ok(Document { step: StepId::new(step), kind, title, body: engine.render(template, &context)? })
    };

    let name = &spec.service.name;
    let mut steps = vec![document("image", StepKind::Image, format!("image {name}"), "local/image.json.tera")?];
    if let Some(volume) = context::volume(spec) {
        let title = format!("data folder {}", volume.path);
        steps.push(document("data", StepKind::Data, title, "local/data.json.tera")?);
    }
    steps.push(document("service", StepKind::Service, format!("service {name}"), "local/service.json.tera")?);

    Ok(Documents { service: name.clone(), environment: spec.environment.clone(), cloud: spec.cloud, steps })
}
