//! Releases by CodeDeploy, from an empty account: what goes well, what is undone and by whom, and what goes on without a
//! command that was killed.

use std::{fs, io::Write as _};

use crate::{
    load::Load,
    support::{Account, Deployed, SPEED, get},
};

/// Ten percent for ten minutes: long enough for several looks at few requests.
const CANARY: [&str; 6] =
    ["--set", "rollout.strategy=canary", "--set", "rollout.weight=10", "--set", "rollout.pause=10m"];
/// What `CreateDeployment` is asked of CodeDeploy once for each release but the first.
const BEGIN: &str = "CreateDeployment";

fn greeting(text: &str) -> [String; 3] {
    ["deploy".to_owned(), "--set".to_owned(), format!("env.GREETING={text}")]
}

fn with<'a>(first: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[test]
fn a_service_from_nothing_to_its_end() {
    let cloud = Deployed::tiny(Account::start("codedeploy", SPEED, &[]));
    let plan = cloud.ok(&["plan"]);
    assert!(plan.stdout.contains("+ infrastructure  stack tiny-dev") && plan.stdout.contains("4 to create"), "{plan}");
    assert_eq!(cloud.account.times("CreateChangeSet"), 0, "a plan of nothing makes nothing");

    let first = cloud.ok(&["deploy"]);
    for said in ["ok stack tiny-dev", "was pushed as release-dev-r1", "ECS: has reached a steady state", "r1 serves at"]
    {
        assert!(first.to_string().contains(said), "no {said:?} in {first}");
    }
    let address = cloud.address();
    assert_eq!(get(&address, "/").unwrap(), (200, "hi".to_owned()));
    assert_eq!(get(&address, "/metrics").unwrap().0, 404, "closed at the edge");
    assert_eq!(get(&cloud.test_address(), "/").unwrap().0, 503, "no candidate yet");
    let again = cloud.ok(&["deploy"]);
    assert!(again.stdout.starts_with("No changes: r1 serves at"), "{again}");

    // What the stack and the service would change, in one view, each against what is live.
    let change = ["--set", "env.GREETING=ho", "--set", "cloud.aws.test_cidrs=[\"127.0.0.0/8\"]"];
    let plan = cloud.ok(&[&["plan"], &change[..]].concat()).stdout;
    for said in ["\"127.0.0.1/32\" -> \"127.0.0.0/8\"", "environment.GREETING.value", "\"hi\" -> \"ho\""] {
        assert!(plan.contains(said), "no {said:?} in {plan}");
    }
    assert_eq!(get(&address, "/").unwrap().1, "hi", "a plan changes nothing");

    let users = Load::start(&address, 200);
    let changed = cloud.ok(&[&["deploy"], &change[..]].concat());
    assert!(changed.stderr.contains("ok stack tiny-dev") && changed.stdout.contains("r2 serves at"), "{changed}");
    assert!(changed.stderr.contains("look 1: r2 100 %"), "the bake is judged: {changed}");
    assert_eq!(get(&address, "/").unwrap().1, "ho");

    // Another image: bytes behind a program's end do it no harm.
    fs::File::options().append(true).open(cloud.project.path().join("bin/tiny")).unwrap().write_all(b"\n").unwrap();
    let wanted = greeting("third");
    let canary = cloud.ok(&with(&wanted, &[&CANARY[..4], &["--set", "rollout.pause=5m"]].concat()));
    for said in
        ["was pushed as release-dev-r3 (2 parts sent", "traffic: r2 90 %, r3 10 %", "| r2 ", "traffic: r3 100 %"]
    {
        assert!(canary.stderr.contains(said), "no {said:?} in {canary}");
    }
    let back = cloud.ok(&["rollback", "2"]);
    assert!(back.stdout.contains("r4 serves at"), "{back}");
    assert_eq!(get(&address, "/").unwrap().1, "ho");
    let answers = users.take();
    drop(users);
    let known: Vec<_> = answers.keys().map(String::as_str).collect();
    assert_eq!(known, ["hi", "ho", "third"], "a request failed: {answers:?}");
    assert_eq!(cloud.account.times(BEGIN), 3);

    let gone = cloud.ok(&["destroy"]);
    assert!(get(&address, "/").is_err(), "{gone}");
    let elb = cloud.account.report("elb");
    assert!(
        elb.as_object().is_none_or(|all| all.values().all(|part| part.as_array().is_none_or(Vec::is_empty))),
        "{elb}"
    );
}

#[test]
fn what_is_bad_is_undone() {
    let cloud = Deployed::tiny(Account::start("codedeploy-undone", SPEED, &[]));
    cloud.ok(&["deploy"]);
    let address = cloud.address();
    // So few that no minute has enough of them for the alarms: dbird adds its looks up.
    let users = Load::start(&address, 80);
    let bad = cloud.run(&[&["deploy", "--set", "env.FAIL=4"], &CANARY[..]].concat());
    assert_eq!(bad.code, 3, "{bad}");
    for said in ["look 1: r2 10 %", "bad: ", "requests failed, allowed are 1 %", "MANUAL_STOP", "Live: r1 serves"] {
        assert!(bad.stderr.contains(said), "no {said:?} in {bad}");
    }

    // Before any traffic, at CodeDeploy's own gate.
    let hook =
        |code: u8| format!("rollout.hooks=[{{ when = \"before-traffic\", run = [\"tiny\", \"exit\", \"{code}\"] }}]");
    users.take();
    let wanted = greeting("hooked");
    let refused = cloud.run(&with(&wanted, &["--set", &hook(4)]));
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("`tiny exit 4` ended with exit code 4"), "{refused}");
    assert_eq!(users.take().into_keys().collect::<Vec<_>>(), ["hi"], "it never had traffic");
    let passed = cloud.ok(&with(&wanted, &["--set", &hook(0)]));
    assert!(passed.stderr.contains("ok hook tiny exit 0"), "{passed}");
    assert_eq!(get(&address, "/").unwrap().1, "hooked");

    // By a person, half-way.
    users.take();
    let wanted = greeting("aborted");
    let mut driving = cloud.start(&with(&wanted, &CANARY));
    driving.hear("traffic: r4 90 %, r5 10 %");
    cloud.ok(&["abort", "--reason", "not on a friday"]);
    let (code, said) = driving.end();
    assert!(code == 3 && said.contains(": not on a friday"), "{code} {said}");
    let answers = users.take();
    assert!(answers.keys().all(|said| ["hooked", "aborted"].contains(&said.as_str())), "{answers:?}");
    assert_eq!(get(&address, "/").unwrap().1, "hooked");
    drop(users);

    // By CloudFormation's alarm in CodeDeploy, with nobody else looking.
    let users = Load::start(&address, 200);
    let alone = ["deploy", "--set", "env.FAIL=4", "--set", "analysis.count=0", "--set", "rollout.bake=10m"];
    let alarmed = cloud.run(&alone);
    assert_eq!(alarmed.code, 3, "{alarmed}");
    assert!(alarmed.stderr.contains("-errors> (ALARM_ACTIVE)"), "{alarmed}");
    assert!(!alarmed.stderr.contains("look 1"), "{alarmed}");
    drop(users);
    assert_eq!(get(&address, "/").unwrap().1, "hooked");
}

#[test]
fn what_was_begun_goes_on_without_its_command() {
    let cloud = Deployed::tiny(Account::start("codedeploy-killed", SPEED, &[]));
    cloud.ok(&["deploy"]);
    let address = cloud.address();
    let users = Load::start(&address, 200);
    let wanted = greeting("ho");
    let wanted = with(&wanted, &CANARY);
    let mut killed = cloud.start(&wanted);
    killed.hear("traffic: r1 90 %, r2 10 %");
    rustix::process::kill_process(killed.pid(), rustix::process::Signal::KILL).unwrap();
    killed.end();
    let status = cloud.ok(&["status"]).stdout;
    assert!(status.contains("r2    10 %") && status.contains("r2 is under way"), "{status}");
    let next = cloud.ok(&wanted);
    assert!(next.to_string().contains("r2 serves at"), "{next}");
    assert_eq!(cloud.account.times(BEGIN), 1, "the same deployment was picked up");
    assert_eq!(get(&address, "/").unwrap().1, "ho");

    // A person who is sure ends the bake.
    let wanted = greeting("ha");
    let mut baking = cloud.start(&with(&wanted, &["--set", "rollout.bake=2h"]));
    baking.hear("traffic: r3 100 %");
    cloud.ok(&["promote"]);
    let (code, said) = baking.end();
    assert!(code == 0 && said.contains("r3 serves at"), "{code} {said}");
    let answers = users.take();
    assert!(answers.keys().all(|said| ["hi", "ho", "ha"].contains(&said.as_str())), "{answers:?}");
    let elb = cloud.account.report("elb");
    assert!(!elb.is_null());
}
