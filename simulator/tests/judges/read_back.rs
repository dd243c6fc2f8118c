//! What dbird made, as boto3 and awscli read it: they parse every answer by models of their own.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{
    account::{Account, ok},
    programs::{agrees, find, script},
};

/// What there is of everything after so many releases.
pub(crate) fn census(url: &str, releases: u32) -> Value {
    let said = agrees("read_back.py", |command| {
        command.args([url, "tiny", "dev", &releases.to_string()]);
    });
    serde_json::from_str(said.trim().lines().next_back().unwrap()).unwrap()
}

#[test]
#[ignore = "needs boto3, which `cargo xtask test` installs"]
fn boto3_reads_back_what_was_made() {
    let account = Account::start("boto3");
    account.ok(&["deploy", "-y"]);
    account.ok(&["deploy", "-y", "--set", "env.GREETING=two"]);
    let there = census(account.url(), 2);
    for (what, how_many) in
        [("task definitions", 2), ("deployments", 1), ("images", 1), ("file systems", 1), ("services", 1)]
    {
        assert_eq!(there[what], how_many, "{what} in {there}");
    }
    // The same judge sees what is missing.
    let (right, said) = script("read_back.py", |command| {
        command.args([account.url(), "tiny", "dev", "3"]);
    });
    assert!(!right && said.contains("a task definition for each release"), "{said}");
}

#[test]
#[ignore = "needs awscli, which `cargo xtask test` installs"]
fn awscli_reads_back_what_was_made() {
    let account = Account::start("awscli");
    account.ok(&["deploy", "-y"]);
    let aws = |words: &str| -> String {
        let mut command = Command::new(find("aws"));
        account.enter(&mut command);
        ok(command.args(words.split(' ')).args(["--output", "text"]).stdin(Stdio::null())).trim().to_owned()
    };
    assert_eq!(aws("sts get-caller-identity --query Account"), "123456789012");
    let output = |name: &str| {
        aws(&format!(
            "cloudformation describe-stacks --stack-name tiny-dev --query Stacks[0].Outputs[?OutputKey=='{name}'].OutputValue"
        ))
    };
    let (cluster, blue, system) = (output("Cluster"), output("BlueTargetGroup"), output("FileSystem"));
    let table: &[(String, &str)] = &[
        (
            "cloudformation describe-stacks --stack-name tiny-dev --query Stacks[0].StackStatus".to_owned(),
            "CREATE_COMPLETE",
        ),
        (format!("ecs describe-services --cluster {cluster} --services tiny --query services[0].runningCount"), "1"),
        (
            format!(
                "elbv2 describe-target-health --target-group-arn {blue} --query TargetHealthDescriptions[0].TargetHealth.State"
            ),
            "healthy",
        ),
        ("deploy list-applications --query applications".to_owned(), "tiny-dev"),
        (
            "cloudwatch describe-alarms --alarm-name-prefix tiny-dev-blue-errors --query length(MetricAlarms)"
                .to_owned(),
            "1",
        ),
        (
            "logs filter-log-events --log-group-name /dbird/tiny-dev --filter-pattern listening --query length(events)"
                .to_owned(),
            "1",
        ),
        ("ecr describe-images --repository-name tiny-dev --query length(imageDetails)".to_owned(), "1"),
        (format!("efs describe-file-systems --file-system-id {system} --query FileSystems[0].Encrypted"), "True"),
    ];
    for (words, expected) in table {
        assert_eq!(aws(words), *expected, "aws {words}");
    }
    // The client's own waiting agrees that all is as it should be.
    aws("cloudformation wait stack-create-complete --stack-name tiny-dev");
    account.ok(&["deploy", "-y", "--set", "env.GREETING=two"]);
    let deployment =
        aws("deploy list-deployments --application-name tiny-dev --deployment-group-name tiny-dev --query deployments");
    aws(&format!("deploy wait deployment-successful --deployment-id {deployment}"));
}
