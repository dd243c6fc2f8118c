//! How a stack stands: its status, its outputs, its template. It only reads.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use dbird_core::provider::{ErrorKind, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::AwsProvider;
use crate::error::{Adding, Answer, code, fault, message};

/// What was read of a stack is believed for this long by whoever can bear that.
const FRESH: Duration = Duration::from_secs(10);

/// A stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Its ARN.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its status, as `UPDATE_COMPLETE`.
    pub(crate) status: String,
    /// Why it has this status; mostly empty.
    pub(crate) reason: String,
    /// Its outputs.
    pub(crate) outputs: BTreeMap<String, String>,
    /// Its tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// True where it can't be deleted before this is taken off.
    pub(crate) protected: bool,
}

impl Stack {
    /// The account that it is in.
    pub(crate) fn account(&self) -> &str {
        self.id.split(':').nth(4).unwrap_or_default()
    }

    /// True while an operation on it is under way.
    pub(crate) fn busy(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && !self.empty()
    }

    /// True when only its name is taken: a change set waits for being executed for the first time.
    pub(crate) fn empty(&self) -> bool {
        self.status == "REVIEW_IN_PROGRESS"
    }

    /// True when it never came to be, or did not go quite: it has to be deleted before anything else.
    pub(crate) fn failed(&self) -> bool {
        matches!(
            self.status.as_str(),
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" | "DELETE_FAILED" | "ROLLBACK_IN_PROGRESS"
        )
    }

    /// True when undoing an update did not come to its end.
    pub(crate) fn stuck(&self) -> bool {
        self.status == "UPDATE_ROLLBACK_FAILED" || self.status == "IMPORT_ROLLBACK_FAILED"
    }

    /// True when its resources are there.
    pub(crate) fn serves(&self) -> bool {
        let going = ["CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"];
        !self.empty() && !self.failed() && !going.contains(&self.status.as_str())
    }

    /// What somebody should know of its status.
    pub(crate) fn note(&self) -> Option<String> {
        let name = &self.name;
        let said = if self.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.reason.trim_end_matches(['.', ' ']))
        };
        match self.status.as_str() {
            "UPDATE_ROLLBACK_COMPLETE" => Some(format!("the last update of the stack {name} failed and was undone")),
            "UPDATE_ROLLBACK_FAILED" | "IMPORT_ROLLBACK_FAILED" => Some(format!(
                "the last update of the stack {name} failed, and so did undoing it{said}: the next deploy goes on with undoing it"
            )),
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => Some(format!(
                "the stack {name} could not be made{said}: the next deploy removes what is left and makes it anew"
            )),
            "DELETE_FAILED" => Some(format!("the stack {name} could not be deleted to its end{said}")),
            _ if self.busy() => Some(format!("an operation on the stack {name} is under way: {}", self.status)),
            _ => None,
        }
    }

    /// The outputs as later steps refer to them.
    pub(crate) fn values(&self) -> BTreeMap<String, Value> {
        self.outputs.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect()
    }
}

/// A stack by its name or ARN, as it is now; none where there is none.
pub(crate) async fn stack_of(aws: &AwsProvider, name: &str) -> Result<Option<Stack>> {
    let answer = aws.clients.cloudformation().await.describe_stacks().stack_name(name).send().await;
    let stack = match answer {
        Err(error) if code(&error) == "ValidationError" && message(&error).contains("does not exist") => None,
        answer => {
            let found = answer.or_fault("read the stack", name)?;
            found.stacks.unwrap_or_default().into_iter().next().map(of).filter(|s| {
                // A deleted one can be read by its ARN.
                s.status != "DELETE_COMPLETE" || name.starts_with("arn:")
            })
        }
    };
    aws.stacks.keep(name, stack.clone());
    Ok(stack)
}

/// As [`stack_of`], or as it was some seconds ago.
pub(crate) async fn stack_of_cached(aws: &AwsProvider, name: &str) -> Result<Option<Stack>> {
    let known = aws.stacks.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    match known {
        Some((at, stack)) if at.elapsed() < FRESH => Ok(stack),
        _ => stack_of(aws, name).await,
    }
}

/// The template that a stack was last made or changed by.
pub(crate) async fn template_of(aws: &AwsProvider, name: &str) -> Result<Value> {
    let answer = aws.clients.cloudformation().await.get_template().stack_name(name).send().await;
    let body = answer.or_fault("read the stack's template", name)?.template_body.unwrap_or_default();
    let template: Value = serde_json::from_str(&body).map_err(|error| {
        fault(ErrorKind::Conflict, "read the stack's template", name, "the stack's template is not one of dbird's")
            .because(&error)
            .hint("the stack has this environment's name but was made by something else: give the environment another name")
    })?;
    aws.stacks
        .templates
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name.to_owned(), (Instant::now(), template.clone()));
    Ok(template)
}

/// As [`template_of`], or as it was some seconds ago.
pub(crate) async fn template_of_cached(aws: &AwsProvider, name: &str) -> Result<Value> {
    let known = aws.stacks.templates.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    match known {
        Some((at, template)) if at.elapsed() < FRESH => Ok(template),
        _ => template_of(aws, name).await,
    }
}

fn of(stack: aws_sdk_cloudformation::types::Stack) -> Stack {
    let outputs = stack.outputs.unwrap_or_default();
    let tags = stack.tags.unwrap_or_default();
    Stack {
        id: stack.stack_id.unwrap_or_default(),
        name: stack.stack_name.unwrap_or_default(),
        status: stack.stack_status.map(|s| s.as_str().to_owned()).unwrap_or_default(),
        reason: stack.stack_status_reason.unwrap_or_default(),
        outputs: outputs.into_iter().filter_map(|o| Some((o.output_key?, o.output_value?))).collect(),
        tags: tags.into_iter().filter_map(|t| Some((t.key?, t.value?))).collect(),
        protected: stack.enable_termination_protection.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_can_be_done() {
        // status, busy, empty, failed, stuck, serves
        let cases = [
            ("CREATE_COMPLETE", [false, false, false, false, true]),
            ("UPDATE_COMPLETE", [false, false, false, false, true]),
            ("IMPORT_COMPLETE", [false, false, false, false, true]),
            ("UPDATE_ROLLBACK_COMPLETE", [false, false, false, false, true]),
            ("REVIEW_IN_PROGRESS", [false, true, false, false, false]),
            ("CREATE_IN_PROGRESS", [true, false, false, false, false]),
            ("UPDATE_IN_PROGRESS", [true, false, false, false, true]),
            ("ROLLBACK_IN_PROGRESS", [true, false, true, false, false]),
            ("ROLLBACK_COMPLETE", [false, false, true, false, false]),
            ("DELETE_FAILED", [false, false, true, false, false]),
            ("UPDATE_ROLLBACK_FAILED", [false, false, false, true, true]),
        ];
        for (status, expected) in cases {
            let stack = Stack { status: status.to_owned(), ..Stack::default() };
            let found = [stack.busy(), stack.empty(), stack.failed(), stack.stuck(), stack.serves()];
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn the_account_is_in_the_stacks_name() {
        let id = "arn:aws:cloudformation:us-east-1:123456789012:stack/bird-dev/1-2".to_owned();
        assert_eq!(Stack { id, ..Stack::default() }.account(), "123456789012");
    }
}
