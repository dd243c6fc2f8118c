//! Rollouts from the command line on the real local cloud: gates, people who ask for something, looks, and what history
//! keeps of it.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::fs;

use sealed::{Ended, Running, Sealed};
use serde_json::Value;

/// Judged quickly, by requests that dbird makes itself.
const ANALYSIS: &str = r#"
[analysis]
interval = "1s"
count = 3
min_samples = 20
probe = "/"
"#;
const GATE: &str = "rollout.steps=[{ weight = 20, gate = true }, { weight = 100 }]";

/// A project whose releases go by canary, with one that serves.
fn canary() -> Sealed {
    let project = Sealed::project();
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    project.write(
        "environments/base.toml",
        &(base.replace("\"blue-green\"", "\"canary\"\nweight = 20\npause = \"1s\"") + ANALYSIS),
    );
    project.ok(&["deploy"]);
    project
}

/// The arguments of a deploy of this greeting, with a gate at 20 %.
fn gated(greeting: &str) -> Vec<String> {
    ["deploy", "--set", GATE, "--set", &format!("env.GREETING={greeting}")].map(str::to_owned).to_vec()
}

fn run(project: &Sealed, arguments: &[String], more: &[&str]) -> Ended {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    project.run(&arguments)
}

fn start(project: &Sealed, arguments: &[String]) -> Running {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Running::of(project.start(&arguments))
}

#[test]
fn a_rollout_is_left_at_a_gate_and_another_command_goes_on_with_it() {
    let project = canary();
    let parked = run(&project, &gated("ho"), &["--no-wait"]);
    assert_eq!(parked.code, 6, "{parked}");
    assert!(parked.stdout.contains("r2 is left at 20 %") && parked.stderr.contains("Live: r1 serves"), "{parked}");
    for wanted in ["dbird promote -e dev", "dbird abort -e dev"] {
        assert!(parked.stdout.contains(wanted), "{parked}");
        assert!(project.ok(&["status"]).stdout.contains(wanted));
    }
    let status = project.ok(&["status"]).stdout;
    assert!(status.contains("r2 waits at 20 % for somebody to go on: deploy of tester@"), "{status}");
    assert!(!status.contains("busy") && !status.contains("Note:"), "{status}");
    assert!(project.ok(&["doctor"]).stdout.contains("r2 waits at a gate"));

    // Nothing else begins meanwhile, and nothing of it is lost.
    for arguments in [&["deploy"][..], &["rollback"], &["restart"], &["destroy", "-y"]] {
        let refused = project.run(arguments);
        assert_eq!(refused.code, 1, "{arguments:?} {refused}");
        assert!(refused.stderr.contains("r2 still waits at 20 %"), "{refused}");
        assert!(refused.stderr.contains("`dbird promote -e dev` goes on with it"), "{refused}");
    }
    assert_eq!(project.run(&["wait"]).code, 6);
    let senseless = project.run(&["pause"]);
    assert!(senseless.code == 1 && senseless.stderr.contains("nothing to pause"), "{senseless}");

    let promoted = project.ok(&["promote"]);
    assert!(promoted.stdout.contains("r2 serves at"), "{promoted}");
    assert_eq!(project.get("/").unwrap().1, "ho");
    let nothing = project.run(&["promote"]);
    assert!(nothing.code == 1 && nothing.stderr.contains("no rollout is under way"), "{nothing}");
    assert!(!project.ok(&["status"]).stdout.contains("rollout"));
}

#[test]
fn a_rollout_that_was_left_is_undone_by_another_command() {
    let project = canary();
    assert_eq!(run(&project, &gated("ho"), &["--no-wait"]).code, 6);
    let aborted = project.run(&["abort", "--reason", "not on a friday"]);
    assert_eq!(aborted.code, 3, "{aborted}");
    assert!(aborted.stderr.contains("r2 was rolled back: aborted by tester@"), "{aborted}");
    assert!(aborted.stderr.contains("Live: r1 serves"), "{aborted}");
    for _ in 0..20 {
        assert_eq!(project.get("/").unwrap().1, "hi");
    }
    let history = project.ok(&["history"]).stdout;
    assert!(history.contains("rolled back") && history.contains(": not on a friday"), "{history}");

    let straight = project.run(&["deploy", "--no-wait", "--set", "rollout.weight=20", "--set", "rollout.pause=1s"]);
    assert_eq!(straight.code, 2, "no gate comes: {straight}");
    assert!(straight.stderr.contains("no gate comes"), "{straight}");
}

#[test]
fn two_terminals_work_on_one_rollout() {
    let project = canary();
    for (request, code, greeting) in [("promote", 0, "one"), ("abort", 3, "two")] {
        let mut driving = start(&project, &gated(greeting));
        driving.hear("Your turn:");
        driving.hear("dbird abort -e dev");
        let status = project.ok(&["status"]).stdout;
        assert!(status.contains("is under way: deploy of tester@") && status.contains("busy"), "{status}");
        let asked = project.ok(&[request]);
        assert!(asked.stdout.contains(&format!("{request} was taken up")), "{asked}");
        let (ended, said) = driving.end();
        assert_eq!(ended, code, "{said}");
        assert!(said.contains("Request:") && said.contains(&format!("asked to {request}")), "{said}");
        assert_eq!(project.get("/").unwrap().1, "one");
    }
}

#[test]
fn a_pause_holds_until_it_is_resumed() {
    let project = canary();
    let canary = ["--set", "rollout.weight=20", "--set", "rollout.pause=1s", "--set", "env.GREETING=ho"];
    let mut driving = Running::of(project.start(&[&["deploy"], &canary[..]].concat()));
    driving.hear("traffic: r1 80 %, r2 20 %");
    project.ok(&["pause"]);
    driving.hear("Your turn:");
    driving.hear("dbird resume -e dev");
    // Looks are taken all the same; more than its time would have had room for.
    driving.hear("look 3:");
    assert!(!driving.said().contains("r2 100 %"), "{}", driving.said());
    project.ok(&["resume"]);
    let (code, said) = driving.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(project.get("/").unwrap().1, "ho");
}

#[test]
fn a_bad_release_ends_with_its_numbers_its_requests_and_its_lines() {
    let project = canary();
    let bad = ["deploy", "--set", "rollout.weight=20", "--set", "rollout.pause=3s", "--set", "env.FAIL=2"];
    let failed = project.run(&bad);
    assert_eq!(failed.code, 3, "{failed}");
    for wanted in [
        "look 1: r2 20 %",
        "bad: 50 % of",
        "requests failed, allowed are 1 %",
        "GET / -> 500",
        "flux capacitor",
        "Live: r1",
    ] {
        assert!(failed.stderr.contains(wanted), "no {wanted:?} in {failed}");
    }
    assert!(!failed.to_string().contains('\u{1b}'), "no colours in a pipe");

    // What was found out stays in the history, in short and whole.
    let list = project.ok(&["history"]).stdout;
    assert!(list.contains("+ env.FAIL 2") && list.contains("allowed are 1 %"), "{list}");
    let whole = project.ok(&["history", "2"]).stdout;
    for wanted in
        ["r2 rolled back: deploy", "tester@", "GET / -> 500", "At 20 %, after 1 look:", "50 % failed", "env.FAIL"]
    {
        assert!(whole.contains(wanted), "no {wanted:?} in\n{whole}");
    }
    assert_eq!(project.ok(&["history", "--release", "r2"]).stdout, whole);
    assert_eq!(project.run(&["history", "99"]).code, 2);
}

#[test]
fn machines_follow_looks_and_people() {
    const CANARY: &str = "canary-7ac1be";
    let project = canary();
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    project.write("environments/base.toml", &format!("{base}\n[secrets]\nTOKEN = {{ name = \"token\" }}\n"));
    let schema: Value = serde_json::from_str(&project.ok(&["schema", "events"]).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut seen = Vec::new();
    let mut run = |arguments: &[&str], code: i32| {
        let mut command = project.command(&[&["-o", "json"], arguments].concat());
        let ended = Ended::of(command.env("TOKEN", format!("{CANARY}-value")).output().unwrap());
        assert_eq!(ended.code, code, "{arguments:?} {ended}");
        assert!(!ended.to_string().contains(CANARY), "a secret was said: {ended}");
        let events = ended.events();
        for event in &events {
            let errors: Vec<String> = validator.iter_errors(event).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{event}\n{errors:?}");
            seen.push(event["event"].as_str().unwrap().to_owned());
        }
        events
    };
    let events = run(&["deploy", "--set", GATE, "--set", "env.GREETING=ho", "--no-wait"], 6);
    let last = events.last().unwrap();
    assert_eq!((&last["outcome"], &last["live"]["release"]), (&"parked".into(), &"r1".into()));
    let status = run(&["status"], 0);
    let rollout = &status.iter().find(|e| e["event"] == "status").unwrap()["rollout"];
    assert_eq!(
        (&rollout["release"], &rollout["parked"], &rollout["driven"]),
        (&"r2".into(), &20.into(), &false.into())
    );
    run(&["promote"], 0);
    let bad = ["deploy", "--set", "rollout.weight=20", "--set", "rollout.pause=3s", "--set", "env.FAIL=2"];
    let events = run(&bad, 3);
    let look = events.iter().find(|e| e["event"] == "look" && e["verdict"] == "bad").unwrap();
    assert_eq!((&look["candidate"]["release"], &look["check"]), (&"r3".into(), &"error-rate".into()));
    assert!(look["candidate"]["requests"].as_u64() >= Some(20) && look["probes"].as_u64() >= Some(20), "{look}");
    assert_eq!(look["weights"]["r3"], 20);
    let events = run(&["history"], 0);
    let releases = &events.iter().find(|e| e["event"] == "history").unwrap()["releases"];
    assert_eq!((&releases[0]["id"], &releases[0]["looked"]["weight"]), (&"r3".into(), &20.into()));
    assert_eq!(releases[1]["changes"][0]["path"], "env.GREETING");
    run(&["history", "3"], 0);
    assert_eq!(run(&["abort"], 1).last().unwrap()["outcome"], "failed");
    for wanted in ["look", "parked", "release", "rolling-back"] {
        assert!(seen.iter().any(|s| s == wanted), "no {wanted} in {seen:?}");
    }
}

#[test]
fn what_nobody_can_judge_waits_for_a_person_and_is_undone_when_nobody_comes() {
    let project = canary();
    let unseen = ["deploy", "--set", "analysis.probe=", "--set", "rollout.pause_limit=1s", "--set", "env.GREETING=ho"];
    let ended = project.run(&unseen);
    assert_eq!(ended.code, 3, "{ended}");
    for wanted in [
        "unclear: only 0 of the 20 requests",
        "Your turn: r2 waits for something to judge by (at 20 %)",
        "undone by itself in 1.0s",
        "r2 was rolled back: inconclusive at 20 %",
    ] {
        assert!(ended.stderr.contains(wanted), "no {wanted:?} in {ended}");
    }
    assert_eq!(project.get("/").unwrap().1, "hi");
    // The same with somebody who goes on without.
    let unseen: Vec<String> = unseen.iter().map(|a| a.replace("pause_limit=1s", "pause_limit=1m")).collect();
    let mut driving = start(&project, &unseen);
    driving.hear("Your turn:");
    project.ok(&["promote"]);
    let (code, said) = driving.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(project.get("/").unwrap().1, "ho");
}
