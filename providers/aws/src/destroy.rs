//! Taking things away. A stack goes without the data that its template keeps; data goes only where its step is named.

use dbird_core::provider::Result;
use dbird_core::{Target, Work};

use crate::AwsProvider;
use crate::apply::{delete, in_use, said};
use crate::observe::IMAGES;
use crate::stack::{Job, Stage, events, kept, stack_of};
use crate::token::Token;

/// Deletes a stack.
pub(crate) async fn stack(aws: &AwsProvider, name: &str, work: &Work) -> Result<Token> {
    let Some(stack) = stack_of(aws, name).await? else { return Ok(said("there is no such stack")) };
    let token = format!("dbird-{}-{}-delete", work.release, work.step);
    if stack.busy() {
        let running = events::token_of(aws, name).await?;
        if running != token && stack.status != "DELETE_IN_PROGRESS" {
            return Err(in_use(&stack));
        }
        return Ok(following(aws, stack.id, running));
    }
    delete(aws, &stack, &token).await?;
    Ok(following(aws, stack.id, token))
}

fn following(aws: &AwsProvider, stack: String, token: String) -> Token {
    let since_unix_ms = aws.clock.now_unix_ms();
    Token::Stack(Job { stack, token, since_unix_ms, stage: Stage::Delete, before: None })
}

/// Deletes data for good.
pub(crate) async fn data(aws: &AwsProvider, target: &Target, work: &Work) -> Result<Token> {
    let what = match work.step.0.as_str() {
        IMAGES => kept::delete_repository(aws, target).await?,
        _ => kept::delete_file_system(aws, target).await?,
    };
    Ok(said(&what))
}
