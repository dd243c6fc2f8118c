//! What the documents would change, as CloudFormation itself says it, and what stands in the way. The change set that it
//! makes is left for the deploy; nothing else is touched.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::ChangeSetType;
use dbird_core::document::fill;
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Document, Documents, Outputs, Preview, StepId, StepKind, Target};
use serde_json::Value;
use tokio::time::Instant;

use crate::AwsProvider;
use crate::config::base;
use crate::error::{Adding, fault};
use crate::observe::NETWORK;
use crate::service;
use crate::stack::change_set::{ChangeSet, Effect, read, remove};
use crate::stack::{Stack, Wanted, make, stack_of_cached, template_of_cached, what_changes};

/// A change set that is not made by then is not waited for.
const MADE_WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

pub(crate) async fn preview(aws: &AwsProvider, target: &Target, documents: &Documents) -> Result<Preview> {
    let mut preview = Preview::default();
    let mut outputs = Outputs::default();
    for document in documents.steps.iter().filter(|d| d.kind == StepKind::Infrastructure) {
        let Some(name) = document.body["stack"].as_str() else { continue };
        let stack = stack_of_cached(aws, name).await?;
        let Some(stack) = stack.filter(|s| !s.empty()) else { continue };
        if document.step.0 == NETWORK {
            outputs.insert(document.step.clone(), stack.values());
        }
        if stack.busy() {
            preview.obstacles.push(format!(
                "another operation on the stack {name} is under way ({}): wait until it has ended",
                stack.status
            ));
        } else if stack.serves() && !stack.stuck() {
            let effect = effect(aws, document, &stack, &outputs).await?;
            add(&mut preview.changes, &document.step, effect.changes);
            add(&mut preview.risks, &document.step, effect.risks);
        }
    }
    let stack = stack_of_cached(aws, &base(target)).await?.filter(Stack::serves);
    preview.obstacles.extend(service::obstacles(aws, target, documents, stack.as_ref()).await?);
    Ok(preview)
}

fn add<T>(map: &mut BTreeMap<StepId, Vec<T>>, step: &StepId, values: Vec<T>) {
    if !values.is_empty() {
        map.entry(step.clone()).or_default().extend(values);
    }
}

/// What a document would change of its stack.
async fn effect(aws: &AwsProvider, document: &Document, stack: &Stack, outputs: &Outputs) -> Result<Effect> {
    // What refers to a network that does not exist yet can't be asked about: the plan's own diff has to do.
    let Ok(body): std::result::Result<Value, _> = fill(&document.body, outputs) else { return Ok(Effect::default()) };
    let wanted = Wanted::of(&body)?;
    if wanted.is(&template_of_cached(aws, &stack.name).await?, &stack.tags) {
        return Ok(Effect::default());
    }
    make(aws, &wanted, ChangeSetType::Update).await?;
    let name = wanted.change_set();
    let since = Instant::now();
    while since.elapsed() < MADE_WITHIN {
        aws.clients.turn("CloudFormation:DescribeChangeSet").await;
        match read(aws, &stack.name, &name).await? {
            Some(set) if set.young() => {}
            Some(set) if set.nothing() => {
                remove(aws, &stack.name, &name).await?;
                return Ok(Effect::default());
            }
            Some(set) if set.useless() => return Err(refused(stack, &set)),
            Some(set) => return Ok(what_changes(&set.changes)),
            None => break,
        }
    }
    let what = "the change set was not made in time";
    Err(fault(ErrorKind::Unavailable, "preview the stack", &stack.name, what).retry().hint("plan again"))
}

fn refused(stack: &Stack, set: &ChangeSet) -> dbird_core::ProviderError {
    let what = format!("CloudFormation refuses what is wanted: {}", set.reason);
    fault(ErrorKind::Invalid, "preview the stack", &stack.name, what).hint("`dbird render -c aws` shows the template")
}
