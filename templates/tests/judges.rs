//! Outside judges read every template that is rendered: cfn-lint, which knows what CloudFormation takes, and checkov, which
//! knows what is unwise. Each finding is zero, or let pass in the template itself with its reason.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod variants;

use std::{collections::BTreeMap, path::Path, path::PathBuf, process::Command};

use dbird_core::{Digest, Documents, Outputs, StepId, document};
use dbird_templates::{bootstrap, render};
use serde_json::{Value, json};

/// What a shared network would give, so that what stands on it can be judged.
fn network() -> Outputs {
    let mut outputs = Outputs::default();
    let values = [
        ("Vpc", "vpc-0123456789abcdef0"),
        ("PublicSubnetA", "subnet-0123456789abcdef0"),
        ("PublicSubnetB", "subnet-0123456789abcdef1"),
        ("SubnetA", "subnet-0123456789abcdef2"),
        ("SubnetB", "subnet-0123456789abcdef3"),
        ("NatAddressA", "198.51.100.7/32"),
        ("NatAddressB", "198.51.100.8/32"),
    ];
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    outputs.insert(StepId::new("network"), values.collect::<BTreeMap<_, _>>());
    outputs
}

fn templates(documents: &Documents) -> Vec<Value> {
    let of = |d: &dbird_core::Document| Some(document::fill(d.body.get("template")?, &network()).unwrap());
    documents.steps.iter().filter_map(of).collect()
}

/// Every template that differs from the others, each in its file.
fn write(folder: &Path, variants: Vec<variants::Variant>) -> Vec<PathBuf> {
    let mut all: BTreeMap<Digest, Value> = BTreeMap::new();
    let rendered = variants.iter().flat_map(|variant| templates(&render(&variant.spec, None, None).unwrap()));
    for template in rendered.chain([bootstrap("bird-state", "bird", None).unwrap()]) {
        all.insert(Digest::of_json(&template), template);
    }
    let file = |(n, template): (usize, &Value)| {
        let file = folder.join(format!("{n:03}.json"));
        std::fs::write(&file, serde_json::to_string_pretty(template).unwrap()).unwrap();
        file
    };
    all.values().enumerate().map(file).collect()
}

fn folder(judge: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("judges-{judge}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn verdict(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
#[ignore = "needs cfn-lint on PATH; `cargo xtask test` installs it"]
fn cfn_lint_accepts_every_template() {
    let files = write(&folder("cfn-lint"), variants::all());
    assert!(files.len() > 40, "{}", files.len());
    // Informational findings count too.
    let mut lint = Command::new("cfn-lint");
    let (right, said) = verdict(lint.args(["--include-checks", "I", "--"]).args(&files));
    assert!(right && said.trim().is_empty(), "{said}");
}

#[test]
#[ignore = "needs cfn-lint on PATH; `cargo xtask test` installs it"]
fn cfn_lint_finds_a_mistake() {
    let folder = folder("mistake");
    let file = folder.join("mistake.json");
    let mut template = templates(&render(&variants::environments()[0].spec, None, None).unwrap()).pop().unwrap();
    template["Resources"]["BlueTargetGroup"]["Properties"]["TargetType"] = json!("ipp");
    std::fs::write(&file, template.to_string()).unwrap();
    let (right, said) = verdict(Command::new("cfn-lint").arg("--").arg(&file));
    assert!(!right && said.contains("ipp"), "{said}");
}

#[test]
#[ignore = "needs checkov on PATH; `cargo xtask test` installs it"]
fn checkov_finds_nothing_that_is_not_justified() {
    let folder = folder("checkov");
    let files = write(&folder, variants::all());
    let mut checkov = Command::new("checkov");
    let options = ["--framework", "cloudformation", "--compact", "--quiet", "-o", "json", "--skip-download"];
    let (right, said) = verdict(checkov.args(options).arg("-d").arg(&folder));
    let found: Value = serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said}"));
    let summary = &found["summary"];
    assert!(right && summary["failed"] == 0 && summary["parsing_errors"] == 0, "{said}");
    // A justification that nothing needs any more goes.
    let justified = |file: &PathBuf| std::fs::read_to_string(file).unwrap().matches("\"id\": \"CKV").count();
    assert_eq!(summary["skipped"], files.iter().map(justified).sum::<usize>());
    assert!(summary["passed"].as_u64().unwrap() > 10 * files.len() as u64, "{summary}");
}
