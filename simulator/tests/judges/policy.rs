//! The policy that dbird prints: who has exactly that may do all that dbird does, and nothing beyond it. ministack's IAM says so.

use std::{fs, path::Path};

use crate::{
    account::Account,
    programs::{Server, agrees, script},
};

#[test]
#[ignore = "needs ministack and boto3, which `cargo xtask test` installs"]
fn policy_is_exactly_what_dbird_needs() {
    let account = Account::start("policy");
    for words in [
        &["deploy", "-y"][..],
        &["deploy", "-y", "--set", "env.GREETING=two"],
        &["run", "--", "tiny", "exit", "0"],
        &["status"],
        &["logs"],
        &["doctor"],
        &["destroy", "-y"],
    ] {
        account.ok(words);
    }
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("policy");
    account.ok(&["doctor", "--print-policy", "--out", written.to_str().unwrap()]);
    let server = Server::ministack(true);
    agrees("policy.py", |command| {
        command.arg(server.url()).arg(&written).arg(&account.record);
    });

    // One action less, and one too many, are seen.
    let spoilt = |from: &str, to: &str, seen: &str| {
        let other = folder.path().join("spoilt");
        let _ = fs::remove_dir_all(&other);
        fs::create_dir(&other).unwrap();
        copy(&written, &other, from, to);
        let (right, said) = script("policy.py", |command| {
            command.arg(server.url()).arg(&other).arg(&account.record);
        });
        assert!(!right && said.contains(seen), "{said}");
    };
    spoilt(
        "\"codedeploy:CreateDeployment\"",
        "\"codedeploy:CreateDeploymentConfig\"",
        "codedeploy:CreateDeployment is called",
    );
    spoilt("\"ecs:ListTasks\"", "\"ecs:ListTasks\", \"s3:ListAllMyBuckets\"", "s3 list_buckets {} is allowed");
}

/// The parts of a policy, one text in the place of another.
fn copy(from: &Path, to: &Path, old: &str, new: &str) {
    let mut replaced = 0;
    for part in fs::read_dir(from).unwrap().flatten() {
        let text = fs::read_to_string(part.path()).unwrap();
        replaced += text.matches(old).count();
        fs::write(to.join(part.file_name()), text.replace(old, new)).unwrap();
    }
    assert!(replaced > 0, "no part of the policy has {old}");
}
