//! What an account needs before the first environment: the stack that holds the bucket of the state. Doing it again changes
//! only what differs.

use std::collections::BTreeMap;
use std::time::Duration;

use dbird_core::provider::{ErrorKind, Phase, ProgressEvent, Result};
use dbird_core::{ReleaseId, StepId, Target};
use serde_json::Value;
use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::error::{Adding, fault};
use crate::stack::Wanted;
use crate::{AwsProvider, apply};

/// It has failed if it is not there by then.
const WITHIN: Duration = Duration::from_secs(900);

impl AwsProvider {
    /// Makes or updates the stack of a document (`stack`, `tags`, `template`), and waits for it; its outputs. `told` hears
    /// what happens.
    pub async fn bootstrap(
        &self,
        document: &Value,
        told: &mut (dyn FnMut(&ProgressEvent) + Send),
    ) -> Result<BTreeMap<String, String>> {
        let wanted = Wanted::of(document)?;
        let name = wanted.stack.clone();
        let token = apply::begin(self, &format!("bootstrap-{}", unix_ms()), wanted).await?;
        let handle = token.handle(&StepId::new("bootstrap"), ReleaseId(0));
        let target = Target { service: "dbird".to_owned(), environment: "bootstrap".to_owned() };
        let (since, mut heard) = (Instant::now(), 0);
        while since.elapsed() < WITHIN {
            let progress = dbird_core::Provider::poll(self, &target, &handle).await?;
            progress.events.iter().skip(heard).for_each(&mut *told);
            heard = progress.events.len().max(heard);
            match progress.phase {
                Phase::Finished => {
                    let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
                    return Ok(progress.outputs.into_iter().filter_map(text).collect());
                }
                Phase::Failed { why, .. } => return Err(fault(ErrorKind::Invalid, "bootstrap", name, why)),
                _ => {}
            }
        }
        Err(fault(ErrorKind::Unavailable, "bootstrap", name, "the stack is not there yet")
            .retry()
            .hint("run the same command again: it goes on with the same stack"))
    }
}
