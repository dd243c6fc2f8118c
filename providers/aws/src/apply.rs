//! Beginning a step that a stack carries out. It decides which operation brings the stack to what is wanted from where it
//! stands; what was carried out already is not begun again.

use aws_sdk_cloudformation::types::ChangeSetType;
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Action, StepKind, Target, Work};

use crate::config::{base, network_stack};
use crate::error::{Adding, Answer, fault};
use crate::observe::NETWORK;
use crate::stack::{
    Before, Job, Stack, Stage, Wanted, events, kept, make, stack_of, stack_of_cached, template_of, with_imported,
};
use crate::token::Token;
use crate::{AwsProvider, destroy};

pub(crate) async fn apply(aws: &AwsProvider, target: &Target, work: &Work) -> Result<Token> {
    match (work.kind, work.action) {
        (StepKind::Data, Action::Delete) => destroy::data(aws, target, work).await,
        (_, Action::Delete) => destroy::stack(aws, &stack_name(aws, target, work), work).await,
        (StepKind::Data, Action::Adopt) => adopt(aws, target, work).await,
        (StepKind::Data, _) => Ok(said("it is made with the rest of the stack, in one operation")),
        (_, Action::Adopt) => outputs(aws, &stack_name(aws, target, work)).await,
        _ => begin(aws, &key(work), Wanted::of(&work.body)?).await,
    }
}

/// Done, with a word about it.
pub(crate) fn said(what: &str) -> Token {
    Token::Done { outputs: Default::default(), said: what.to_owned() }
}

fn stack_name(aws: &AwsProvider, target: &Target, work: &Work) -> String {
    match (work.body["stack"].as_str(), &aws.config.network) {
        (Some(name), _) => name.to_owned(),
        (None, Some(network)) if work.step.0 == NETWORK => network_stack(network),
        _ => base(target),
    }
}

/// What a stack that needs nothing gave when it was made.
async fn outputs(aws: &AwsProvider, name: &str) -> Result<Token> {
    match stack_of_cached(aws, name).await? {
        Some(stack) if stack.serves() => Ok(Token::Done { outputs: stack.values(), said: String::new() }),
        _ => Err(fault(ErrorKind::NotFound, "read the stack", name, "the stack is not there any more")
            .hint("somebody deleted it since the plan was made: deploy again")),
    }
}

/// Takes data over that an earlier stack left behind. What the stack has already is left as it is.
async fn adopt(aws: &AwsProvider, target: &Target, work: &Work) -> Result<Token> {
    let mut wanted = Wanted::of(&work.body)?;
    let stack = stack_of(aws, &wanted.stack).await?;
    let live = match &stack {
        Some(stack) if stack.serves() => Some(template_of(aws, &wanted.stack).await?),
        _ => None,
    };
    let mut part = wanted.template.clone();
    if let Some(resources) = part["Resources"].as_object_mut() {
        resources.retain(|id, _| live.as_ref().is_none_or(|l| l["Resources"].get(id).is_none()));
        if resources.is_empty() {
            return Ok(said("the stack has it"));
        }
    }
    let imports = kept::imports(aws, target, &part).await?;
    if imports.is_empty() {
        return Ok(said("there is nothing left to take over: it is made anew with the stack"));
    }
    if let Some(resources) = part["Resources"].as_object_mut() {
        resources.retain(|id, _| imports.iter().any(|i| i.logical == *id));
    }
    wanted.template = with_imported(live.as_ref(), &part);
    wanted.import = imports;
    if let (Some(stack), Some(_)) = (&stack, &live) {
        wanted.tags = stack.tags.clone();
    }
    begin(aws, &key(work), wanted).await
}

/// What an operation is known by: it is asked for once.
fn key(work: &Work) -> String {
    format!("{}-{}", work.release, work.step)
}

/// Begins what brings a stack to what is wanted. The key is part of the token by which AWS knows the operation again.
pub(crate) async fn begin(aws: &AwsProvider, key: &str, wanted: Wanted) -> Result<Token> {
    let name = wanted.stack.clone();
    let change_set = wanted.change_set();
    let token = format!("dbird-{key}-{}", &change_set["dbird-".len()..]);
    let importing = !wanted.import.is_empty();
    let stack = stack_of(aws, &name).await?;
    let job = |fresh: bool, before: Option<Before>| {
        let stage = Stage::Execute { change_set: change_set.clone(), fresh };
        Token::Stack(Job {
            stack: name.clone(),
            token: token.clone(),
            since_unix_ms: aws.clock.now_unix_ms(),
            stage,
            before: before.map(Box::new),
        })
    };
    let kind = match &stack {
        None => ChangeSetType::Create,
        Some(stack) if stack.empty() => ChangeSetType::Create,
        Some(stack) if stack.busy() => {
            let running = events::token_of(aws, &name).await?;
            if running == token {
                return Ok(job(false, None));
            }
            if running.starts_with(&format!("{token}-")) {
                let deleting = stack.failed() || stack.status == "DELETE_IN_PROGRESS";
                return Ok(job(deleting && !importing, Some(Before { deleting, wanted })));
            }
            return Err(in_use(stack));
        }
        Some(stack) if stack.failed() => {
            delete(aws, stack, &format!("{token}-before")).await?;
            return Ok(job(!importing, Some(Before { deleting: true, wanted })));
        }
        Some(stack) if stack.stuck() => {
            let client = aws.clients.cloudformation().await;
            let call =
                client.continue_update_rollback().stack_name(&name).client_request_token(format!("{token}-before"));
            call.send().await.or_fault("go on with undoing the last update", &name)?;
            return Ok(job(false, Some(Before { deleting: false, wanted })));
        }
        Some(stack) => {
            let template = template_of(aws, &name).await?;
            if wanted.is(&template, &stack.tags) {
                return Ok(Token::Done { outputs: stack.values(), said: String::new() });
            }
            ChangeSetType::Update
        }
    };
    let fresh = kind == ChangeSetType::Create;
    make(aws, &wanted, if importing { ChangeSetType::Import } else { kind }).await?;
    Ok(job(fresh && !importing, None))
}

/// Deletes a stack; data that its template keeps stays.
pub(crate) async fn delete(aws: &AwsProvider, stack: &Stack, token: &str) -> Result<()> {
    if stack.protected {
        crate::stack::protect(aws, &stack.name, false).await?;
    }
    aws.stacks.forget(&stack.name);
    let client = aws.clients.cloudformation().await;
    let answer = client.delete_stack().stack_name(&stack.name).client_request_token(token).send().await;
    answer.or_fault("delete the stack", &stack.name).map(drop)
}

/// Somebody else works on the stack.
pub(crate) fn in_use(stack: &Stack) -> dbird_core::ProviderError {
    let what = format!("another operation on the stack is under way: {}", stack.status);
    fault(ErrorKind::Conflict, "change the stack", &stack.name, what)
        .hint("wait until it has ended (`dbird status` shows it), then run the same command again")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_document_without_a_stack_is_refused() {
        for body in [Value::Null, serde_json::json!({ "stack": "x" }), serde_json::json!({ "template": {} })] {
            assert_eq!(Wanted::of(&body).unwrap_err().kind, ErrorKind::Invalid, "{body}");
        }
    }
}
