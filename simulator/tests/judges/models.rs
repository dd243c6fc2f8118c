//! Every request that dbird sent and every answer that the simulator gave, by the models that AWS's own SDKs are made from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    account::Account,
    programs::{agrees, script},
};

/// What other tests recorded: the end-to-end tests of the command, and the judges beside this one.
fn recorded() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let files = ["aws-records", "judged"].map(|folder| fs::read_dir(here.join(folder)));
    let files = files.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|e| e == "jsonl")).collect()
}

#[test]
#[ignore = "needs botocore, which `cargo xtask test` installs with boto3"]
fn models_hold_of_all_traffic() {
    let others = recorded();
    let account = Account::start("models");
    account.ok(&["deploy", "-y"]);
    account.ok(&["deploy", "-y"]);
    account.ok(&["plan", "--set", "env.GREETING=two"]);
    account.ok(&["deploy", "-y", "--set", "env.GREETING=two"]);
    for words in
        [&["run", "--", "tiny", "exit", "0"][..], &["restart", "-y"], &["status"], &["logs"], &["rollback", "-y"]]
    {
        account.ok(words);
    }
    account.ok(&["destroy", "-y"]);
    let others = others.iter().filter(|file| **file != account.record);
    let said = agrees("models.py", |command| {
        command.arg(&account.record).args(others);
    });
    let calls: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(calls > 100, "{said}");
}

#[test]
#[ignore = "needs botocore, which `cargo xtask test` installs with boto3"]
fn models_find_a_mistake() {
    let call = |service: &str, operation: &str, input: Value, output: Value| json!({ "service": service, "operation": operation, "input": input, "status": 200, "output": output, "code": null });
    let refused = |code: &str| {
        json!({
            "service": "ecs", "operation": "DescribeServices", "input": { "services": ["a"] }, "status": 400,
            "output": { "message": "no" }, "code": code,
        })
    };
    let ecs = |output: Value| call("ecs", "ListTasks", json!({}), output);
    let table: &[(Value, Option<&str>)] = &[
        (ecs(json!({ "taskArns": ["a"] })), None),
        (ecs(json!({ "taskArns": "a" })), Some("not a list")),
        (ecs(json!({ "taskArns": [1] })), Some("not text")),
        (ecs(json!({ "tasks": [] })), Some("unknown member")),
        (call("ecs", "ListTasks", json!({ "desiredStatus": "GONE" }), json!({})), Some("is none of RUNNING")),
        (call("ecs", "ListTasks", json!({ "maxResults": "7" }), json!({})), Some("not a integer")),
        (call("ecs", "DescribeTasks", json!({}), json!({})), Some("request.tasks: required, and missing")),
        (call("ecs", "Unheard", json!({}), json!({})), Some("not in the model")),
        (
            call("cloudformation", "DescribeChangeSet", json!({ "ChangeSetName": "" }), json!({})),
            Some("0 long, at least 1"),
        ),
        (
            call(
                "monitoring",
                "GetMetricData",
                json!({ "MetricDataQueries": [], "StartTime": 1, "EndTime": [] }),
                json!({}),
            ),
            Some("not a time"),
        ),
        (call("efs", "DescribeTags", json!({}), json!({})), Some("botocore has no model of it")),
        (refused("ClusterNotFoundException"), None),
        (refused("ThrottlingException"), None),
        (refused("ServiceWentAwayException"), Some("is not in the model")),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (number, (line, expected)) in table.iter().enumerate() {
        let file = folder.path().join(format!("{number}.jsonl"));
        // One call that is right goes with each.
        fs::write(&file, format!("{}\n{line}\n", table[0].0)).unwrap();
        let (right, said) = script("models.py", |command| {
            command.arg(&file);
        });
        assert_eq!(right, expected.is_none(), "{line}\n{said}");
        assert!(expected.is_none_or(|what| said.contains(what)), "{line}\n{said}");
    }
}
