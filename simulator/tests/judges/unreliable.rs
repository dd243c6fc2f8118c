//! A network between dbird and the cloud that refuses and loses: microburst answers every call that changes something with
//! "too many" once, and loses its reply once, after it was carried out. All ends as it does without, and nothing is there twice.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    account::{Account, ok},
    programs::{Server, agrees},
    read_back::census,
};

/// Whether a call changes something.
fn changes(operation: &str) -> bool {
    !["Describe", "List", "Get", "BatchGet", "Filter", "Simulate"].iter().any(|reads| operation.starts_with(reads))
}

/// The calls that changed something, as `service:operation`.
fn changing(calls: &[Value]) -> BTreeSet<String> {
    let named = |call: &Value| Some((call["service"].as_str()?.to_owned(), call["operation"].as_str()?.to_owned()));
    let all = calls.iter().filter_map(named).filter(|(service, operation)| service != "s3" && changes(operation));
    all.map(|(service, operation)| format!("{service}:{operation}")).collect()
}

fn deploys(account: &Account, through: Option<&str>) {
    for words in [&["deploy", "-y"][..], &["deploy", "-y", "--set", "env.GREETING=two"]] {
        let mut command = account.dbird(words);
        if let Some(url) = through {
            command.env("AWS_ENDPOINT_URL", url);
        }
        ok(&mut command);
    }
}

#[test]
#[ignore = "needs microburst, which `cargo xtask test` installs"]
fn microburst_makes_nothing_be_made_twice() {
    let calm = Account::start("calm");
    deploys(&calm, None);
    let expected = census(calm.url(), 2);
    let operations = changing(&calm.calls());
    assert!(operations.len() > 8, "{operations:?}");
    drop(calm);

    let stormy = Account::start("stormy");
    let proxy = Server::start("microburst", |command, port| {
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--upstream", stormy.url()]);
    });
    let rules: Vec<Value> = operations
        .iter()
        .flat_map(|call| {
            let (service, operation) = call.split_once(':').unwrap();
            let code = match service {
                "cloudformation" | "elasticloadbalancing" | "monitoring" => "Throttling",
                _ => "ThrottlingException",
            };
            let service = match service {
                "elasticloadbalancing" => "elbv2",
                "monitoring" => "cloudwatch",
                other => other,
            };
            [
                json!({ "service": service, "operation": operation, "times": 1, "error": { "code": code, "status": 400 } }),
                json!({ "service": service, "operation": operation, "times": 1, "response": { "abort_bytes": 0 } }),
            ]
        })
        .collect();
    let storm = |rules: &Value| -> Vec<Value> {
        let said = agrees("burst.py", |command| {
            command.arg(proxy.url()).arg(rules.to_string());
        });
        serde_json::from_str(said.trim()).unwrap()
    };
    assert_eq!(storm(&json!(rules)).len(), 2 * operations.len());
    deploys(&stormy, Some(&proxy.url()));
    let idle: Vec<Value> = storm(&Value::Null).into_iter().filter(|rule| rule["fired_count"] != 1).collect();
    assert!(idle.is_empty(), "what was meant to go wrong did not: {idle:?}");
    assert_eq!(census(stormy.url(), 2), expected);
}
