//! The life of a stack against ministack, which has CloudFormation's semantics but not its time: made, planned, changed,
//! failed, undone, deleted with its data kept, and made anew.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use dbird_aws::AwsProvider;
use dbird_core::{
    Action, Digest, Document, Documents, Phase, Preview, Progress, Provider, ReleaseId, StepId, StepKind, Target, Work,
};
use serde_json::{Value, json};
use support::Ministack;

fn target() -> Target {
    Target { service: "bird".to_owned(), environment: "dev".to_owned() }
}

fn body(template: &Value) -> Value {
    let tags = json!({ "dbird:service": "bird", "dbird:environment": "dev" });
    json!({ "stack": "bird-dev", "tags": tags, "template": template })
}

/// A log group, and a repository that outlives the stack.
fn template(days: u32) -> Value {
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {
            "LogGroup": {
                "Type": "AWS::Logs::LogGroup",
                "Properties": { "LogGroupName": "/dbird/bird-dev", "RetentionInDays": days },
            },
            "DataRepository": {
                "Type": "AWS::ECR::Repository",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": { "RepositoryName": "bird-dev" },
            },
        },
        "Outputs": { "LogGroup": { "Value": { "Ref": "LogGroup" } } },
    })
}

/// A template whose second resource can't be made.
fn failing() -> Value {
    let mut template = template(7);
    let trust =
        json!({ "Statement": [{ "Effect": "Allow", "NotPrincipal": { "AWS": "*" }, "Action": "sts:AssumeRole" }] });
    template["Resources"]["Bad"] = json!({
        "Type": "AWS::IAM::Role",
        "DependsOn": "LogGroup",
        "Properties": { "AssumeRolePolicyDocument": trust },
    });
    template
}

fn work(step: &str, kind: StepKind, action: Action, release: u64, body: Value) -> Work {
    Work {
        step: StepId::new(step),
        kind,
        action,
        release: ReleaseId(release),
        document: Digest::of_json(&body),
        body,
        start: Default::default(),
    }
}

async fn carry_out(aws: &AwsProvider, work: &Work) -> Progress {
    let handle = aws.apply(&target(), work).await.unwrap();
    // Whoever has only the handle can go on.
    let handle = serde_json::from_str(&serde_json::to_string(&handle).unwrap()).unwrap();
    for _ in 0..120 {
        let progress = aws.poll(&target(), &handle).await.unwrap();
        if !matches!(progress.phase, Phase::Working) {
            return progress;
        }
    }
    panic!("{work:?} does not end");
}

fn infrastructure(release: u64, action: Action, template: &Value) -> Work {
    work("infrastructure", StepKind::Infrastructure, action, release, body(template))
}

async fn preview(aws: &AwsProvider, template: &Value) -> Preview {
    let step = StepId::new("infrastructure");
    let kind = StepKind::Infrastructure;
    let documents = Documents {
        service: "bird".to_owned(),
        environment: "dev".to_owned(),
        cloud: dbird_core::Cloud::Aws,
        steps: vec![Document { step, kind, title: "stack".to_owned(), body: body(template) }],
    };
    aws.preview(&target(), &documents).await.unwrap()
}

#[tokio::test]
#[ignore = "needs ministack; `cargo xtask test` installs it and runs this"]
async fn stack_life_on_ministack() {
    let server = Ministack::start();
    let aws = server.provider();
    let step = StepId::new("infrastructure");
    assert!(aws.observe(&target()).await.unwrap().documents.is_empty());

    // Made, and made again with the same key: nothing more happens.
    let made = carry_out(&aws, &infrastructure(1, Action::Create, &template(7))).await;
    assert_eq!(made.phase, Phase::Finished, "{made:?}");
    assert_eq!(made.outputs["LogGroup"], "/dbird/bird-dev");
    assert!(made.events.iter().any(|e| e.text.starts_with("LogGroup")), "{:?}", made.events);
    let again = server.provider();
    let repeated = carry_out(&again, &infrastructure(1, Action::Create, &template(7))).await;
    assert_eq!((repeated.phase, &repeated.outputs), (Phase::Finished, &made.outputs));
    let called = |operation: &str| again.requests().iter().any(|c| c.operation == operation);
    assert!(!called("CreateChangeSet") && !called("ExecuteChangeSet"), "{:?}", again.requests());

    // What is live is what was wanted, to the letter.
    let observed = aws.observe(&target()).await.unwrap();
    assert_eq!(observed.documents[&step], body(&template(7)));
    assert!(observed.documents.contains_key(&StepId::new("images")), "{:?}", observed.documents.keys());
    let unchanged = preview(&aws, &template(7)).await;
    assert!(unchanged.changes.is_empty() && unchanged.risks.is_empty(), "{unchanged:?}");

    // A change is told by property, and what was shown is what is executed.
    let shown = preview(&aws, &template(14)).await;
    // ministack gives no values, and holds that anything may be replaced.
    let says = &shown.risks[&step];
    assert!(says.iter().any(|risk| risk.starts_with("LogGroup") && risk.contains("RetentionInDays")), "{shown:?}");
    let changed = carry_out(&aws, &infrastructure(2, Action::Update, &template(14))).await;
    assert_eq!(changed.phase, Phase::Finished, "{changed:?}");
    let observed = aws.observe(&target()).await.unwrap();
    assert_eq!(observed.documents[&step], body(&template(14)));

    // One that fails is undone, and says what failed first.
    let failed = carry_out(&aws, &infrastructure(3, Action::Update, &failing())).await;
    let Phase::Failed { why, .. } = &failed.phase else { panic!("{failed:?}") };
    assert!(why.contains("Bad"), "{why}");
    let observed = aws.observe(&target()).await.unwrap();
    assert_eq!(observed.documents[&step], body(&template(14)));

    // Deleted, the repository stays and is found.
    let gone = carry_out(&aws, &work("infrastructure", StepKind::Infrastructure, Action::Delete, 4, Value::Null)).await;
    assert_eq!(gone.phase, Phase::Finished, "{gone:?}");
    let repeated =
        carry_out(&aws, &work("infrastructure", StepKind::Infrastructure, Action::Delete, 4, Value::Null)).await;
    assert_eq!(repeated.phase, Phase::Finished);
    let observed = aws.observe(&target()).await.unwrap();
    assert!(observed.documents.is_empty(), "{observed:?}");
    assert!(observed.data.contains_key("images"), "{observed:?}");

    // And goes when its name is given.
    let gone = carry_out(&aws, &work("images", StepKind::Data, Action::Delete, 5, Value::Null)).await;
    assert_eq!(gone.phase, Phase::Finished);
    assert!(aws.observe(&target()).await.unwrap().data.is_empty());
}

#[tokio::test]
#[ignore = "needs ministack; `cargo xtask test` installs it and runs this"]
async fn stack_that_failed_is_made_anew_on_ministack() {
    let server = Ministack::start();
    let aws = server.provider();
    let failed = carry_out(&aws, &infrastructure(1, Action::Create, &failing())).await;
    let Phase::Failed { why, .. } = &failed.phase else { panic!("{failed:?}") };
    assert!(why.contains("could not be made") && why.contains("Bad"), "{why}");
    let observed = aws.observe(&target()).await.unwrap();
    assert!(observed.documents.is_empty() && observed.notes.len() == 1, "{observed:?}");
    // Another process, which knows nothing of the first.
    let made = carry_out(&server.provider(), &infrastructure(2, Action::Create, &template(7))).await;
    assert_eq!(made.phase, Phase::Finished, "{made:?}");
}
