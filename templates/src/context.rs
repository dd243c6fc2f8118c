//! What the templates of the local cloud may refer to: the specification as it is, and the few values that are put
//! together from several of its parts. It never drops or renames anything that the specification says.

use dbird_core::{ImageRef, Spec, StepId, document, spec::StorageKind};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{LOCAL_IMAGES, TemplateError};

/// The variable by which OpenTelemetry's libraries are told their collector.
const OTLP_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A folder that is mounted into the service's tasks.
#[derive(Serialize)]
pub(crate) struct Volume<'a> {
    /// The volume's name; the service has one, called `data`.
    pub(crate) name: &'static str,
    /// Where it is mounted.
    pub(crate) path: &'a str,
}

/// The volume of a service that keeps files; a database server needs none.
pub(crate) fn volume(spec: &Spec) -> Option<Volume<'_>> {
    let storage = spec.storage.as_ref()?;
    match storage.kind {
        StorageKind::Sqlite | StorageKind::Files => Some(Volume { name: "data", path: &storage.mount }),
        StorageKind::Postgres => None,
    }
}

/// The context of every template of the local cloud.
pub(crate) fn local(spec: &Spec, image: Option<&ImageRef>) -> Result<tera::Context, TemplateError> {
    let mut env = spec.env.clone();
    // What [telemetry] asks for is done on this machine too, whether or not something listens there: an OTLP exporter
    // drops what it can't deliver. Who wants none sets `otlp = ""`, and an own value in [env] wins.
    if let Some(otlp) = spec.telemetry.otlp.as_ref().filter(|o| !o.is_empty()) {
        env.entry(OTLP_VARIABLE.to_owned()).or_insert_with(|| otlp.clone());
    }
    let digest = image.map(|i| i.digest.as_str());
    let volume = volume(spec);
    let values = json!({
        "spec": spec,
        "env": env,
        "image": { "repository": image.map_or(LOCAL_IMAGES, |i| i.repository.as_str()), "digest": digest },
        "service_image_digest": digest.map_or_else(|| document::reference(&StepId::new("image"), "digest"), Value::from),
        "volumes": volume.as_ref().map_or_else(|| json!([]), |v| json!([v])),
        "volume": volume,
        "storage_protocol": spec.storage.as_ref().map_or(0, |s| s.storage_protocol),
        "writer": volume.as_ref().and(spec.storage.as_ref()).map(|s| s.writer),
    });
    tera::Context::from_serialize(&values).map_err(|e| TemplateError::Values { message: e.to_string() })
}
