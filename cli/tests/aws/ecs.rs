//! Releases by ECS itself: task by task, all tasks before any, one after the other where a store belongs to one process, and by
//! weights at which ECS waits for dbird.

use crate::{
    load::Load,
    support::{Account, Deployed, SPEED, get},
};

/// A judge that is content with few requests, and makes them itself where there are too few.
const JUDGED: [&str; 4] = ["--set", "analysis.min_samples=3", "--set", "analysis.probe=/"];

/// No release is compared with the one before: where every processor is busy, whichever has more of the traffic is slower.
fn project(name: &'static str, strategy: &str) -> Deployed {
    let cloud = Deployed::tiny(Account::start(name, SPEED, &[]));
    cloud.project.write(
        "environments/dev.toml",
        &format!(
            "[rollout]\ncontroller = \"ecs\"\nstrategy = \"{strategy}\"\n[analysis]\ncount = 2\nbaseline = false\n"
        ),
    );
    cloud
}

fn set<'a>(greeting: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["deploy", "--set", greeting], more].concat()
}

#[test]
fn tasks_are_replaced_in_batches() {
    let cloud = project("ecs-rolling", "rolling");
    cloud.ok(&["deploy", "--set", "scale.min=2"]);
    let address = cloud.address();
    let users = Load::start(&address, 100);
    let two = |more: &[&'static str]| [&["deploy", "--set", "scale.min=2"], more].concat();
    let again = cloud.ok(&two(&[]));
    assert!(again.stdout.starts_with("No changes: r1 serves at"), "{again}");
    let good = cloud.ok(&two(&["--set", "env.GREETING=ho"]));
    assert!(good.stdout.contains("r2 serves at") && good.stderr.contains("deployment completed"), "{good}");
    assert_eq!(get(&address, "/").unwrap().1, "ho");

    // ECS gives up, and what a person gets is why the tasks failed.
    let dies = cloud.run(&two(&["--set", "env.DIE=start"]));
    assert_eq!(dies.code, 3, "{dies}");
    for said in ["tiny ended with code 7", "could not find the flux capacitor", "Live: r2 serves"] {
        assert!(dies.to_string().contains(said), "no {said:?} in {dies}");
    }
    let never = cloud.run(&two(&["--set", "env.READY=never"]));
    assert_eq!(never.code, 3, "{never}");
    for said in ["failed ELB health checks", "r4 was rolled back: ", "Live: r2 serves"] {
        assert!(never.to_string().contains(said), "no {said:?} in {never}");
    }

    // What is beside a release does not touch it.
    let run = cloud.run(&["run", "--", "tiny", "exit", "5"]);
    assert!(run.code == 5 && run.to_string().contains("said on stdout"), "{run}");
    let restarted = cloud.ok(&["restart"]);
    assert!(restarted.stdout.contains("r5 serves at"), "{restarted}");
    let back = cloud.ok(&["rollback", "1"]);
    assert!(back.stdout.contains("r6 serves at"), "{back}");
    let answers = users.take();
    drop(users);
    assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>(), ["hi", "ho"], "a request failed: {answers:?}");
    assert_eq!(get(&address, "/").unwrap().1, "hi");
    let history = cloud.ok(&["history"]).stdout;
    assert_eq!(history.matches("rolled back").count(), 2, "{history}");
}

#[test]
fn a_store_of_one_process_is_never_open_twice() {
    let cloud = project("ecs-recreate", "blue-green");
    let exclusive = "[rollout]\ncontroller = \"ecs\"\nstrategy = \"blue-green\"\n[env]\nSTORE = \"/data/scores.lock\"\n\
                     [storage]\nkind = \"files\"\nmount = \"/data\"\nwriter = \"exclusive\"\n";
    cloud.project.write("environments/dev.toml", exclusive);
    cloud.ok(&["deploy"]);
    let plan = cloud.ok(&["plan", "--set", "env.GREETING=ho"]).stdout;
    for said in ["recreate instead of blue-green (one process may open the store)", "nothing serves from the end of r1"]
    {
        assert!(plan.contains(said), "no {said:?} in {plan}");
    }
    let changed = cloud.ok(&set("env.GREETING=ho", &[]));
    assert!(changed.stdout.contains("r2 serves at"), "{changed}");
    let address = cloud.address();
    assert_eq!(get(&address, "/").unwrap().1, "ho");
    // One that never serves: the store goes back to the release that did.
    let bad = cloud.run(&set("env.DIE=start", &[]));
    assert!(bad.code == 3 && bad.stderr.contains("Live: r2 serves"), "{bad}");
    assert_eq!(get(&address, "/").unwrap().1, "ho");

    let stores = cloud.account.report("efs");
    let text = stores.to_string();
    assert!(text.contains("scores.lock"), "the store was never seen open: {text}");
    assert!(!text.contains("\"writers_max\":2"), "two tasks had it open: {text}");
}

#[test]
fn weights_wait_for_looks_and_for_people() {
    let cloud = project("ecs-canary", "canary");
    let parts = ["--set", "rollout.weight=20", "--set", "rollout.pause=3m"];
    let gated = ["--set", "rollout.steps=[{ weight = 20, gate = true }, { weight = 100 }]"];
    let judged = |more: &[&'static str]| [more, &JUDGED[..]].concat();
    cloud.ok(&["deploy"]);
    let address = cloud.address();
    let users = Load::start(&address, 200);
    let canary = cloud.ok(&set("env.GREETING=ho", &judged(&parts)));
    for said in ["traffic: r1 80 %, r2 20 %", "look 1: r2 20 %", "traffic: r2 100 %", "r2 serves at"] {
        assert!(canary.to_string().contains(said), "no {said:?} in {canary}");
    }
    assert!(cloud.account.times("ContinueServiceDeployment") >= 2, "before the first weight, and before the last");

    // At a gate, by whoever comes.
    let parked = cloud.run(&[&set("env.GREETING=gated", &judged(&gated))[..], &["--no-wait"]].concat());
    assert!(parked.code == 6 && parked.stdout.contains("r3 is left at 20 %"), "{parked}");
    assert!(cloud.ok(&["status"]).stdout.contains("r3 waits at 20 % for somebody to go on"));
    let promoted = cloud.ok(&["promote"]);
    assert!(promoted.to_string().contains("r3 serves at"), "{promoted}");
    let parked = cloud.run(&[&set("env.GREETING=refused", &judged(&gated))[..], &["--no-wait"]].concat());
    assert_eq!(parked.code, 6, "{parked}");
    let aborted = cloud.run(&["abort", "--reason", "not on a friday"]);
    assert!(aborted.code == 3 && aborted.stderr.contains(": not on a friday"), "{aborted}");
    let known = ["hi", "ho", "gated", "refused"];
    let answers = users.take();
    assert!(answers.keys().all(|said| known.contains(&said.as_str())), "a request failed: {answers:?}");
    assert_eq!(get(&address, "/").unwrap().1, "gated");

    // What is bad is stopped by the looks: no minute has enough requests for the alarms, and dbird adds its looks up.
    drop(users);
    let users = Load::start(&address, 100);
    let few = [&parts[..], &["--set", "analysis.min_samples=60"]].concat();
    let bad = cloud.run(&set("env.FAIL=3", &few));
    assert_eq!(bad.code, 3, "{bad}");
    for said in ["look 1: r5 20 %", "requests failed, allowed are 1 %", "Live: r3 serves"] {
        assert!(bad.to_string().contains(said), "no {said:?} in {bad}");
    }
    drop(users);
    assert_eq!(get(&address, "/").unwrap().1, "gated");
}

#[test]
fn all_tasks_before_any_traffic_and_then_in_equal_parts() {
    let cloud = project("ecs-native", "blue-green");
    let hook =
        |code: u8| format!("rollout.hooks=[{{ when = \"before-traffic\", run = [\"tiny\", \"exit\", \"{code}\"] }}]");
    cloud.ok(&["deploy"]);
    let address = cloud.address();
    let users = Load::start(&address, 100);
    let refused = cloud.run(&set("env.GREETING=hooked", &["--set", &hook(4)]));
    assert!(refused.code == 3 && refused.stderr.contains("`tiny exit 4` ended with exit code 4"), "{refused}");
    assert_eq!(users.take().into_keys().collect::<Vec<_>>(), ["hi"], "it never had traffic");
    let passed = cloud.ok(&set("env.GREETING=hooked", &["--set", &hook(0), "--set", "rollout.bake=3m"]));
    assert!(passed.to_string().contains("look 1: r3 100 %"), "the bake is judged: {passed}");
    assert_eq!(get(&address, "/").unwrap().1, "hooked");

    let linear = ["--set", "rollout.strategy=linear", "--set", "rollout.percent=40", "--set", "rollout.every=2m"];
    let parts = cloud.ok(&set("env.GREETING=parts", &[&linear[..], &JUDGED[..]].concat()));
    for said in ["traffic: r3 60 %, r4 40 %", "traffic: r3 20 %, r4 80 %", "traffic: r4 100 %"] {
        assert!(parts.stderr.contains(said), "no {said:?} in {parts}");
    }
    let answers = users.take();
    drop(users);
    assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>(), ["hi", "hooked", "parts"], "{answers:?}");
}

#[test]
fn scaling_keeps_what_it_has() {
    let cloud = project("ecs-scaling", "rolling");
    let target = ["--set", "scale.max=4", "--set", "scale.target_cpu_percent=50"];
    cloud.ok(&[&["deploy"], &target[..]].concat());
    assert_eq!(cloud.account.times("PutScalingPolicy"), 1);
    cloud.account.call("ecs", "UpdateService", r#"{"cluster":"tiny-dev","service":"tiny","desiredCount":3}"#);
    let service = r#"{"cluster":"tiny-dev","services":["tiny"]}"#;
    let running = || cloud.account.call("ecs", "DescribeServices", service)["services"][0]["runningCount"].clone();
    crate::sealed::until("three tasks", || running() == 3);
    let quiet = cloud.ok(&[&["deploy"], &target[..]].concat());
    assert!(quiet.stdout.starts_with("No changes"), "the count is not dbird's: {quiet}");
    let changed = cloud.ok(&[&["deploy", "--set", "env.GREETING=ho"], &target[..]].concat());
    assert!(changed.stdout.contains("r2 serves at"), "{changed}");
    assert_eq!(running(), 3);

    let steps = "scale.steps=[{ above = 70, for = \"2m\", add = 1 }, { below = 30, for = \"5m\", add = -1 }]";
    let stepped = cloud.ok(&["deploy", "--set", "env.GREETING=ho", "--set", "scale.max=4", "--set", steps]);
    assert!(stepped.stdout.contains("r3 serves at"), "{stepped}");
    assert!(cloud.account.times("PutScalingPolicy") >= 3, "one for each step");
    let again = cloud.ok(&["deploy", "--set", "env.GREETING=ho", "--set", "scale.max=4", "--set", steps]);
    assert!(again.stdout.starts_with("No changes"), "{again}");
}
