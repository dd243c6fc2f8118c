//! The commands around a deploy: the bucket for the state, what the account lacks, what dbird has to be allowed, what somebody
//! changed by hand, and what AWS remembers where the state is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    secrets::call,
    support::{Account, Deployed, SPEED},
};

/// IAM takes no longer policy, white space not counted.
const POLICY_CHARACTERS_MAX: usize = 6_144;

#[test]
fn an_account_is_prepared_looked_at_and_watched() {
    let cloud = Deployed::tiny(Account::start("commands", SPEED, &[]));

    // Before anything is there.
    let asked = cloud.run(&["bootstrap"]);
    assert_eq!(asked.code, 2, "a bucket was made without asking: {asked}");
    for _ in 0..2 {
        let made = cloud.ok(&["bootstrap", "-y"]);
        assert!(made.stdout.contains("[cloud.aws]\nstate = \"s3://tiny-dbird-123456789012\""), "{made}");
    }
    assert_eq!(cloud.account.times("ExecuteChangeSet"), 1, "doing it again changes nothing");
    let base = cloud.project.path().join("environments/dev.toml");
    std::fs::write(base, "[cloud.aws]\nstate = \"s3://tiny-dbird-123456789012\"\n[analysis]\ncount = 0\n").unwrap();
    let (code, events) = cloud.json(&["doctor"]);
    let state = |name: &str| events.iter().find(|e| e["name"] == name).map(|e| e["state"].clone()).unwrap_or_default();
    assert_eq!(
        (code, state("credentials"), state("stack"), state("state")),
        (0, "OK".into(), "SKIP".into(), "OK".into())
    );

    // The state is in the bucket that was made for it.
    cloud.ok(&["deploy"]);
    let kept = cloud.account.calls();
    assert!(
        kept.iter().any(|c| c["service"] == "s3" && c["operation"] == "PutObject"),
        "nothing was kept in the bucket"
    );
    // The alarm about nothing healthy was on until the first task was, and ends a minute of AWS's after that.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (code, events) = cloud.json(&["doctor"]);
        let bad: Vec<_> = events.iter().filter(|e| e["state"] == "NG").collect();
        if code == 0 && bad.is_empty() {
            break;
        }
        let alarm = bad.iter().all(|e| e["detail"] == "in ALARM: tiny-dev-no-healthy-host");
        assert!(alarm && Instant::now() < deadline, "{bad:?}");
    }
    policies(&cloud);

    // Only what was changed by hand is drift.
    let none = cloud.ok(&["drift", "--exit-code"]);
    assert!(none.stdout.starts_with("No drift"), "{none}");
    let (ecs, logs) = ("AmazonEC2ContainerServiceV20141113", "Logs_20140328");
    let twice = json!({ "cluster": "tiny-dev", "service": "tiny", "desiredCount": 2 });
    call(&cloud.account, "ecs", &format!("{ecs}.UpdateService"), &twice);
    let shorter = json!({ "logGroupName": "/dbird/tiny-dev", "retentionInDays": 7 });
    call(&cloud.account, "logs", &format!("{logs}.PutRetentionPolicy"), &shorter);
    let (code, events) = cloud.json(&["drift", "--exit-code"]);
    let drift: Vec<_> = events.iter().filter(|e| e["event"] == "drift").collect();
    assert_eq!((code, drift.len()), (4, 2), "{drift:?}");
    assert_eq!(
        (&drift[0]["path"], &drift[0]["expected"], &drift[0]["actual"]),
        (&json!("desired_count"), &json!(1), &json!(2))
    );
    assert_eq!((&drift[1]["of"], &drift[1]["actual"]), (&json!("stack"), &json!("7")));
    assert_eq!(cloud.run(&["drift"]).code, 0);

    // Without the state, AWS still knows something.
    let lost = cloud.ok(&["history", "--set", "cloud.aws.state=file:elsewhere"]);
    assert!(lost.stderr.contains("this is what AWS itself remembers") && lost.stdout.starts_with("r1"), "{lost}");

    // For people, with a program that is not here.
    let exec = cloud.run(&["exec", "--", "ls"]);
    assert!(
        exec.code == 1 && exec.stderr.contains("session-manager-plugin") && exec.stderr.contains("dbird run"),
        "{exec}"
    );
}

fn policies(cloud: &Deployed) {
    let printed = cloud.ok(&["doctor", "--print-policy"]).stdout;
    let whole: Value = serde_json::from_str(&printed).unwrap();
    let actions = |policy: &Value| {
        let statements = policy["Statement"].as_array().unwrap().iter();
        let of = |s: &Value| {
            s["Action"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        statements.flat_map(of).collect::<std::collections::BTreeSet<_>>()
    };
    cloud.ok(&["doctor", "--print-policy", "--out", "policies"]);
    let mut parts = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(cloud.project.path().join("policies")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let dense = text.chars().filter(|c| !c.is_whitespace()).count();
        assert!(dense <= POLICY_CHARACTERS_MAX, "{dense} characters");
        parts.extend(actions(&serde_json::from_str(&text).unwrap()));
    }
    assert!(parts.contains("ecs:CreateService") && parts.contains("s3:PutObject"));
    assert_eq!(parts, actions(&whole), "the parts and the whole allow the same");
}
