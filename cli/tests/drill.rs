//! Game days, with the real game on the real local cloud: a fault is found and undone, and a drill that found none says so.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

#[path = "sealed/game.rs"]
mod game;
mod sealed;

use std::{fs, path::Path};

use game::{project, runs};
use sealed::{Ended, Sealed, get, until};
use serde_json::Value;

/// The drill's own event.
fn drill(events: &[Value]) -> Value {
    events.iter().find(|e| e["event"] == "drill").unwrap_or_else(|| panic!("no drill: {events:?}")).clone()
}

fn part<'a>(drill: &'a Value, name: &str) -> &'a Value {
    drill["parts"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap()
}

fn undone(project: &Sealed, release: &str) {
    let status = project.ok(&["status"]).stdout;
    assert!(status.contains("r1   100 %  ready") && !status.contains(&format!("{release} ")), "{status}");
}

#[test]
fn a_candidate_that_fails_is_found_and_undone() {
    let project = project();
    project.ok(&["deploy"]);
    project.score("run-a");
    let started = std::time::Instant::now();
    let report = project.path().join("report.md");
    let (code, events) =
        project.json(&["drill", "--rate", "200", "--errors-max", "0.1", "--report", report.to_str().unwrap()]);
    let drill = drill(&events);
    assert_eq!(code, 0, "{drill:#}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    assert_eq!((&drill["passed"], &drill["release"], &drill["previous"]), (&true.into(), &"r2".into(), &"r1".into()));
    for name in ["undone", "alarm", "users", "previous", "scores"] {
        assert_eq!(part(&drill, name)["state"], "passed", "{drill:#}");
    }
    assert!(part(&drill, "alarm")["detail"].as_str().unwrap().starts_with("error-rate"), "{drill:#}");
    let number = |name: &str| drill["load"][name].as_u64().unwrap();
    assert!(number("acknowledged") > 20 && number("requests") > 200 && number("failed") > 0, "{drill:#}");
    assert!(drill["door"]["failed"].as_u64().unwrap() > 0, "{drill:#}");
    let looks: Vec<_> = drill["timeline"].as_array().unwrap().iter().filter(|m| !m["look"].is_null()).collect();
    assert!(looks.iter().any(|m| m["look"]["verdict"] == "bad" && m["look"]["current"]["requests"].as_u64() > Some(0)));
    undone(&project, "r2");

    // The same in files, for people and for machines.
    let files: Vec<_> = drill["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert!(
        files[0].starts_with(".dbird/drills/") && files[0].ends_with(".md") && files[1].ends_with(".json"),
        "{files:?}"
    );
    let machine: Value = serde_json::from_slice(&fs::read(project.path().join(files[1])).unwrap()).unwrap();
    assert_eq!((&machine["parts"], &machine["format"]), (&drill["parts"], &1.into()));
    let markdown = fs::read_to_string(project.path().join(files[0])).unwrap();
    assert_eq!(markdown, fs::read_to_string(report).unwrap());
    for said in [
        "# Drill of drafty-bird in dev: passed",
        "20 % errors in 10 % of the traffic",
        "- `CHAOS_ERROR_RATE=0.2`",
        "| alarm | passed | error-rate fired",
        "| scores | passed | all ",
        "| r2: ",
        "traffic: r1 90 %, r2 10 %",
    ] {
        assert!(markdown.contains(said), "{said}:\n{markdown}");
    }

    // The history knows what it was, and nobody goes back to it.
    let history = project.ok(&["history"]).stdout;
    assert!(history.contains("drill") && history.contains("CHAOS_ERROR_RATE"), "{history}");
    let back = project.run(&["rollback", "2"]);
    assert!(back.code == 2 && back.stderr.contains("it was a drill"), "{back}");
    assert_eq!(project.stored(), runs(&["run-a"]));
}

#[test]
fn a_slow_candidate_is_found_by_its_latency() {
    let project = project();
    project.ok(&["deploy"]);
    let (code, events) = project.json(&["drill", "--latency-ms-p99", "800", "--rate", "200"]);
    let drill = drill(&events);
    assert_eq!(code, 0, "{drill:#}");
    assert!(part(&drill, "alarm")["detail"].as_str().unwrap().starts_with("p99"), "{drill:#}");
    assert_eq!(drill["injected"]["variables"]["CHAOS_LATENCY_MS_P99"], "800");
    undone(&project, "r2");
}

#[test]
fn a_drill_that_finds_nothing_does_not_pass() {
    let project = project();
    project.ok(&["deploy"]);
    let ended = project.run(&["drill", "--error-rate", "0", "--for", "3s"]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(
        ended.stdout.contains("The drill did not pass.") && ended.stdout.contains("nothing was found in"),
        "{ended}"
    );
    assert!(ended.stdout.contains("no fault was injected"), "{ended}");
    assert!(!ended.stderr.contains("dbird promote"), "nobody is asked to go on with it: {ended}");
    undone(&project, "r2");
}

#[test]
fn a_service_that_can_not_fail_on_purpose_is_found_out() {
    let project = Sealed::project();
    project.write(
        "environments/dev.toml",
        "[chaos]\ndrills = \"allowed\"\n[analysis]\ninterval = \"1s\"\ncount = 4\nmin_samples = 5\n",
    );
    project.ok(&["deploy"]);
    let ended = project.run(&["drill", "--for", "3s", "--rate", "200"]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(
        ended.stdout.contains("the candidate did not fail in") && ended.stdout.contains("does it honour"),
        "{ended}"
    );
    assert_eq!(project.get("/").unwrap(), (200, "hi".to_owned()));
}

#[test]
fn drills_are_refused_where_they_make_no_sense() {
    let project = project();
    for (arguments, said) in [
        (&["drill"][..], "nothing is deployed"),
        (&["drill", "-e", "prod"], "drills are refused in prod"),
        (&["drill", "--error-rate", "2"], "a share from 0 to 1"),
        (&["drill", "--weight", "80"], "1..=50"),
        (&["drill", "--rate", "501"], "1..=500"),
        (&["drill", "--for", "9h"], "an hour at most"),
        (&["drill", "--set", "analysis.count=0"], "nothing would notice"),
        (&["drill", "--set", "storage.writer=exclusive", "--set", "storage.storage_protocol=0"], "only one process"),
    ] {
        let refused = project.run(arguments);
        assert!(refused.code == 2 && refused.stderr.contains(said), "{arguments:?}: {refused}");
    }
    assert!(!Path::new(&project.path().join(".dbird/drills")).exists());
}

#[test]
fn an_interrupted_drill_is_undone_and_never_goes_on() {
    let project = project();
    project.ok(&["deploy"]);
    let mut begun = project.start(&["drill", "--error-rate", "0", "--for", "60s"]);
    until("the candidate has traffic", || project.ok(&["status"]).stdout.contains("r2    10 %"));
    // Nobody gives it more, from wherever.
    let promoted = project.run(&["promote"]);
    assert!(promoted.code != 0 && promoted.stderr.contains("it never gets more traffic"), "{promoted}");
    let pid = rustix::process::Pid::from_raw(begun.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = Ended::of(begun.wait_with_output().unwrap());
    assert!(ended.code == 130 && ended.stderr.contains("the drill was interrupted"), "{ended}");
    undone(&project, "r2");

    // Killed, it is undone by whatever comes next.
    begun = project.start(&["drill", "--error-rate", "0", "--for", "60s"]);
    until("the candidate has traffic", || project.ok(&["status"]).stdout.contains("r3    10 %"));
    begun.kill().unwrap();
    begun.wait().unwrap();
    let next = project.run(&["deploy"]);
    assert!(next.code == 0 && next.stderr.contains("Recovered:"), "{next}");
    undone(&project, "r3");
    assert_eq!(get(project.port, "/healthz").unwrap().0, 200);
}
