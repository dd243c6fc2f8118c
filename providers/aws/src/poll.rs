//! How a step stands that was done when it was asked for.

use std::collections::BTreeMap;

use dbird_core::{Phase, Progress};
use serde_json::Value;

use crate::AwsProvider;
use crate::observe::endpoints;

/// Done, with what it gave.
pub(crate) fn done(aws: &AwsProvider, outputs: BTreeMap<String, Value>, said: &str) -> Progress {
    let texts = outputs.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Progress {
        waiting_for: said.to_owned(),
        endpoints: endpoints(&aws.clock, &texts),
        outputs,
        ..Progress::in_phase(Phase::Finished)
    }
}
