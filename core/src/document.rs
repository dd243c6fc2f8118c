//! The documents that a specification renders to, one for each step, and the typed references inside them to values that
//! only applying an earlier step can give. Rendering itself is in the crate `dbird-templates`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{Cloud, Digest, StepId};

/// The key of a typed reference: `{"$output": {"step": "data", "name": "path"}}` stands for an output of an earlier step.
pub const REFERENCE_KEY: &str = "$output";

/// A container image by content: what runs is named by its digest, never by a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRef {
    /// Where it lies: `oci:.dbird/images` for the local store, or a registry's repository.
    pub repository: String,
    /// The digest of the image's manifest.
    pub digest: Digest,
}

/// What a step makes, which says how its progress is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// The image where the cloud can run it from.
    Image,
    /// What the cloud's own engine owns: network, load balancer, registry, identities, log groups.
    Infrastructure,
    /// Data that outlives every release and is kept by `destroy`.
    Data,
    /// A release of the service: a candidate is made and traffic is moved to it.
    Service,
}

/// One step's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// The step that it is for.
    pub step: StepId,
    /// What the step makes.
    pub kind: StepKind,
    /// A few words for people: `image drafty-bird`, `data folder /data`.
    pub title: String,
    /// The document, with typed references where the cloud has yet to give a value.
    pub body: Value,
}

impl Document {
    /// The digest of the body, references unfilled.
    pub fn digest(&self) -> Digest {
        Digest::of_json(&self.body)
    }
}

/// Every document of one environment in one cloud, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Documents {
    /// The service's name.
    pub service: String,
    /// The environment's name.
    pub environment: String,
    /// The cloud they are for.
    pub cloud: Cloud,
    /// The steps, each after what it needs.
    pub steps: Vec<Document>,
}

impl Documents {
    /// The digest over all steps: two equal ones ask for the same thing.
    pub fn digest(&self) -> Digest {
        let all: Vec<_> = self.steps.iter().map(|d| (&d.step, d.kind, d.digest())).collect();
        Digest::of_json(&serde_json::json!(all))
    }

    /// The document of a step.
    pub fn get(&self, step: &StepId) -> Option<&Document> {
        self.steps.iter().find(|d| &d.step == step)
    }
}

/// What the applied steps gave: step -> name -> value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Outputs(pub BTreeMap<StepId, BTreeMap<String, Value>>);

impl Outputs {
    /// Adds one step's outputs.
    pub fn insert(&mut self, step: StepId, values: BTreeMap<String, Value>) {
        self.0.entry(step).or_default().extend(values);
    }
}

/// A reference names an output that no applied step gave.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the document needs output `{name}` of step `{step}`, which that step did not give")]
pub struct MissingOutput {
    /// The step that should have given it.
    pub step: String,
    /// The output's name.
    pub name: String,
}

/// The reference value for an output of a step.
pub fn reference(step: &StepId, name: &str) -> Value {
    serde_json::json!({ REFERENCE_KEY: { "step": step, "name": name } })
}

/// The body with every reference replaced by its output, as a JSON value.
pub fn fill(body: &Value, outputs: &Outputs) -> Result<Value, MissingOutput> {
    Ok(match body {
        Value::Object(map) if map.len() == 1 && map.contains_key(REFERENCE_KEY) => {
            let text = |key: &str| map[REFERENCE_KEY].get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (step, name) = (text("step"), text("name"));
            match outputs.0.get(&StepId::new(step.clone())).and_then(|o| o.get(&name)) {
                Some(value) => value.clone(),
                None => return Err(MissingOutput { step, name }),
            }
        }
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| Ok((k.clone(), fill(v, outputs)?))).collect::<Result<_, _>>()?)
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| fill(v, outputs)).collect::<Result<_, _>>()?),
        other => other.clone(),
    })
}
