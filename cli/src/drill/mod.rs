//! A game day: a candidate with faults on purpose, and whether everything that should notice it did. The parts are made here
//! and judged from numbers alone; the rollout itself is the same as any other.

mod judge;
mod load;
mod report;
mod watch;

pub(crate) use judge::{Facts, Stored, parts, passed};
pub(crate) use load::{Load, Tally};
pub(crate) use report::write;
pub(crate) use watch::{Seen, Watch};

use std::collections::BTreeMap;

use dbird_core::{Documents, StepKind};
use serde_json::Value;

/// What is to go wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Faults {
    /// The share of the candidate's requests that fail, 0 to 1.
    pub(crate) error_rate: f64,
    /// How much longer its other requests take.
    pub(crate) latency_ms: u64,
}

impl Faults {
    /// The variables that tell a service so.
    pub(crate) fn variables(self) -> BTreeMap<String, String> {
        let latency_ms = self.latency_ms.to_string();
        // A hundredth that is slow is just what a 99th percentile does not see, so the others are slow as well.
        BTreeMap::from([
            ("CHAOS_ENABLED".to_owned(), "true".to_owned()),
            ("CHAOS_ERROR_RATE".to_owned(), self.error_rate.to_string()),
            ("CHAOS_LATENCY_MS_P50".to_owned(), latency_ms.clone()),
            ("CHAOS_LATENCY_MS_P99".to_owned(), latency_ms),
        ])
    }
}

/// The same documents, with a service that has these variables; none where it takes no variables.
pub(crate) fn with_variables(documents: &Documents, variables: &BTreeMap<String, String>) -> Option<Documents> {
    let mut documents = documents.clone();
    let service = documents.steps.iter_mut().find(|step| step.kind == StepKind::Service)?;
    let env = service.body.get_mut("env")?.as_object_mut()?;
    env.extend(variables.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    Some(documents)
}

#[cfg(test)]
mod tests {
    use dbird_core::{Cloud, Document, StepId};
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_variables_of_the_service_change() {
        let step = |name: &str, kind, body| Document { step: StepId::new(name), kind, title: name.to_owned(), body };
        let documents = |env: Value| Documents {
            service: "s".to_owned(),
            environment: "e".to_owned(),
            cloud: Cloud::Local,
            steps: vec![
                step("data", StepKind::Data, json!({ "env": {} })),
                step("service", StepKind::Service, json!({ "env": env, "port": 1 })),
            ],
        };
        let faults = Faults { error_rate: 0.2, latency_ms: 0 };
        let made = with_variables(&documents(json!({ "A": "1", "CHAOS_ENABLED": "" })), &faults.variables()).unwrap();
        assert_eq!(
            made,
            documents(json!({
                "A": "1", "CHAOS_ENABLED": "true", "CHAOS_ERROR_RATE": "0.2",
                "CHAOS_LATENCY_MS_P50": "0", "CHAOS_LATENCY_MS_P99": "0",
            }))
        );
        assert_eq!(with_variables(&documents(json!("none")), &faults.variables()), None);
    }
}
