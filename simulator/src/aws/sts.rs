//! Who the caller is: always the same user of the account.

use std::sync::Arc;

use serde_json::json;

use super::{Answer, Call, Fault, World};

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let account = &world.settings.account;
    match call.operation.as_str() {
        "GetCallerIdentity" => Ok(json!({
            "Account": account,
            "Arn": format!("arn:aws:iam::{account}:user/rehearsal"),
            "UserId": "AIDASIMULATEDREHEARSAL",
        })),
        operation => Err(Fault::unknown("sts", operation)),
    }
}
