//! Rehearsals: the whole of a deploy without an account, and without a trace.

use std::fs;

use crate::sealed::{Ended, Sealed};

/// Fast, with the time that AWS needs, and without looks: what is judged is tested elsewhere.
const QUICK: [&str; 7] = ["rehearse", "--speed", "120", "--set", "analysis.count=0", "--set", "rollout.deadline=30m"];

/// A rehearsal in a project that has a state of its own, with a folder for whatever is temporary.
fn rehearse(project: &Sealed, more: &[&str]) -> Ended {
    let temporary = project.path().join("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = project.command(&[&QUICK[..], more].concat());
    let ended = Ended::of(command.env("TMPDIR", &temporary).output().unwrap());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "something was left behind: {ended}");
    assert!(!project.path().join(".dbird/state").exists(), "a rehearsal is in the history: {ended}");
    ended
}

#[test]
fn a_release_is_rehearsed_and_nothing_is_left() {
    let project = Sealed::project();
    let good = rehearse(&project, &[]);
    assert_eq!(good.code, 0, "{good}");
    for said in ["A rehearsal: AWS is simulated", "r1 serves at http://127.", "~ service", "r2 serves at http://127."] {
        assert!(good.to_string().contains(said), "no {said:?} in {good}");
    }

    // With a fault, the second one ends as a deploy would: undone, and what was before serves.
    let undone = rehearse(&project, &["--set", "rollout.bake=5m", "--fault", "alarm-in-bake", "-o", "json"]);
    assert_eq!(undone.code, 3, "{undone}");
    let events = undone.events();
    let finished = events.last().unwrap();
    assert_eq!((&finished["outcome"], &finished["live"]["release"]), (&"rolled-back".into(), &"r1".into()), "{undone}");
    let error = events.iter().find(|event| event["event"] == "error").unwrap();
    assert!(error["message"].as_str().unwrap().contains("tiny-dev-blue-errors"), "{error}");
}

#[test]
fn a_fault_that_there_is_not_is_refused() {
    let project = Sealed::project();
    let refused = project.run(&["rehearse", "--fault", "thunder"]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("--list-faults"), "{refused}");
    let listed = project.ok(&["rehearse", "--list-faults"]);
    assert!(listed.stdout.contains("lost-reply:OPERATION"), "{listed}");
}
