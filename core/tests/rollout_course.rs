//! Courses: what becomes of each strategy in a cloud, and how it is told.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use dbird_core::{
    Capabilities, Cloud, ReleaseId, Spec,
    environment::{Layer, Request, resolve},
    provider::Driver,
    rollout::Course,
};

fn capabilities() -> Capabilities {
    let names = ["all-at-once", "blue-green", "canary", "linear", "recreate", "rolling"];
    Capabilities {
        cloud: Cloud::Local,
        strategies: names.iter().map(|n| ((*n).to_owned(), Driver::Dbird)).collect(),
        any_weights: true,
        gates: true,
        test_traffic: true,
        swap: true,
        samples: false,
        one_off_tasks: true,
    }
}

fn spec(rollout: &str) -> Spec {
    spec_on(Cloud::Local, rollout)
}

fn spec_on(cloud: Cloud, rollout: &str) -> Spec {
    let base =
        format!("schema = 1\n[service]\nname = \"bird\"\nport = 8080\nport_env = \"PORT\"\n[rollout]\n{rollout}");
    let request = Request {
        environment: "dev",
        cloud,
        base: Layer::new("base.toml", base),
        overlay: None,
        sets: &[],
        dbird_version: "0.1.0",
    };
    resolve(&request).unwrap_or_else(|faults| panic!("{rollout}: {faults:?}")).0
}

const ONE: &str = "strategy = \"blue-green\"\nbake = \"0s\"\n";
const EXCLUSIVE: &str =
    "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\nwriter = \"exclusive\"\n[env]\nDATA_DIR = \"/data\"\n";

#[test]
fn every_strategy_becomes_a_course() {
    let cases = [
        (ONE.to_owned(), "100", "blue-green: all traffic moves once the new release is ready"),
        (
            "strategy = \"blue-green\"\nbake = \"5m\"\n".to_owned(),
            "100",
            "blue-green: all traffic moves once the new release is ready; the previous release is kept for 5m after that",
        ),
        ("strategy = \"all-at-once\"\nbake = \"0s\"\n".to_owned(), "100", "all-at-once: all traffic moves once the new release is ready"),
        ("strategy = \"rolling\"\nbake = \"0s\"\n".to_owned(), "100", "rolling: the new copy is ready before the old one stops"),
        ("strategy = \"recreate\"\nbake = \"0s\"\n".to_owned(), "100", "recreate: the previous release stops, then this one starts; requests are held meanwhile, and told to come back when that takes long"),
        (
            "strategy = \"canary\"\nbake = \"0s\"\nweight = 10\npause = \"5m\"\n".to_owned(),
            "10 100",
            "canary: 10 % for 5m, 100 %",
        ),
        (
            "strategy = \"canary\"\nbake = \"0s\"\npause_limit = \"1h\"\nsteps = [{ weight = 5, pause = \"1m\" }, { weight = 25, gate = true }, { weight = 100 }]\n".to_owned(),
            "5 25 100",
            "canary: 5 % for 1m, 25 % until somebody goes on, 100 %; undone when nobody goes on within 1h at a gate",
        ),
        (
            "strategy = \"linear\"\nbake = \"0s\"\npercent = 30\nevery = \"1m\"\n".to_owned(),
            "30 60 90 100",
            "linear: 30 % for 1m, 60 % for 1m, 90 % for 1m, 100 %",
        ),
        (
            "strategy = \"linear\"\nbake = \"0s\"\npercent = 10\nevery = \"1m\"\n".to_owned(),
            "10 20 30 40 50 60 70 80 90 100",
            "linear: 10 % for 1m, 20 % for 1m, ... 100 %",
        ),
        (
            "strategy = \"rolling\"\nbake = \"0s\"\nbatch_percent = 30\n[scale]\nmin = 5\nmax = 5\n".to_owned(),
            "40 80 100",
            "rolling: 2 of 5 copies at a time, new ones ready before old ones stop",
        ),
        (format!("{ONE}{EXCLUSIVE}"), "100", "swap (one process may open the store): requests are held while it changes hands"),
        (
            format!("{ONE}[[rollout.hooks]]\nwhen = \"before-traffic\"\nrun = [\"true\"]\ntimeout = \"1m\"\n"),
            "100",
            "blue-green: all traffic moves once the new release is ready; 1 hook",
        ),
    ];
    for (rollout, weights, told) in cases {
        let course = Course::of(&spec(&rollout), &capabilities()).unwrap();
        let shares: Vec<_> = course.weights.iter().map(|w| w.weight.to_string()).collect();
        assert_eq!(shares.join(" "), weights, "{rollout}");
        assert_eq!(course.describe(Some(ReleaseId(1))), told, "{rollout}");
        assert!(course.describe(None).starts_with("first release: all traffic as soon as it is ready"), "{rollout}");
        let text = serde_json::to_string(&course).unwrap();
        assert_eq!(serde_json::from_str::<Course>(&text).unwrap(), course);
    }
}

#[test]
fn what_a_cloud_can_not_do_is_said() {
    let canary = "strategy = \"canary\"\nweight = 10\npause = \"5m\"\n";
    let no_weights = Capabilities { any_weights: false, ..capabilities() };
    let no_swap = Capabilities { swap: false, ..capabilities() };
    let only =
        |name: &str, driver| Capabilities { strategies: BTreeMap::from([(name.to_owned(), driver)]), ..capabilities() };
    let cases = [
        (canary.to_owned(), only("blue-green", Driver::Dbird), "local has no `canary` rollout; it has blue-green"),
        (canary.to_owned(), no_weights, "local can't split traffic, which a `canary` rollout needs; use blue-green"),
        (format!("{ONE}{EXCLUSIVE}"), no_swap, "local can't swap a service whose store only one process may open"),
    ];
    for (rollout, capabilities, said) in cases {
        assert_eq!(Course::of(&spec(&rollout), &capabilities).unwrap_err().to_string(), said);
    }
}

#[test]
fn a_rolling_release_takes_copies_away_in_step_with_what_comes() {
    for (copies, before, new, left) in
        [(4, 0, 1, 3), (4, 0, 4, 0), (4, 8, 1, 6), (4, 8, 2, 4), (4, 8, 4, 0), (8, 4, 1, 4), (8, 4, 3, 3), (8, 4, 8, 0)]
    {
        let course = Course { copies, copies_before: before, ..Course::default() };
        assert_eq!(course.copies_left(new), left, "{new} of {copies}, {before} before");
    }
}

#[test]
fn a_cloud_that_drives_counts_in_minutes_and_can_not_swap() {
    let names = ["all-at-once", "blue-green", "canary", "linear", "recreate", "rolling"];
    let cloud = Capabilities {
        strategies: names.iter().map(|n| ((*n).to_owned(), Driver::Cloud)).collect(),
        any_weights: false,
        swap: false,
        cloud: Cloud::Aws,
        ..capabilities()
    };
    let cases = [
        (
            "strategy = \"canary\"\nbake = \"90s\"\nweight = 10\npause = \"2m\"\n".to_owned(),
            "10:120000 100:0",
            120_000,
            "canary: 10 % for 2m, 100 %; the cloud moves the traffic; the previous release is kept for 2m after that",
        ),
        (
            "strategy = \"linear\"\nbake = \"0s\"\npercent = 50\nevery = \"1m\"\n".to_owned(),
            "50:60000 100:0",
            0,
            "linear: 50 % for 1m, 100 %; the cloud moves the traffic",
        ),
        (
            "strategy = \"rolling\"\nbake = \"0s\"\nbatch_percent = 30\n[scale]\nmin = 5\nmax = 5\n".to_owned(),
            "100:0",
            0,
            "rolling: new copies are ready before old ones stop; the cloud moves the traffic",
        ),
        (
            format!("{ONE}{EXCLUSIVE}"),
            "100:0",
            0,
            "recreate instead of blue-green (one process may open the store): the previous release stops, then this one starts; \
             nothing answers meanwhile; the cloud moves the traffic",
        ),
    ];
    for (rollout, weights, bake_ms, told) in cases {
        let course = Course::of(&spec_on(Cloud::Aws, &rollout), &cloud).unwrap();
        let steps: Vec<_> = course.weights.iter().map(|w| format!("{}:{}", w.weight, w.pause_ms)).collect();
        assert_eq!((steps.join(" ").as_str(), course.bake_ms), (weights, bake_ms), "{rollout}");
        assert_eq!(course.describe(Some(ReleaseId(1))), told);
        assert!(course.is_cloud_driven());
        let text = serde_json::to_string(&course).unwrap();
        assert_eq!(serde_json::from_str::<Course>(&text).unwrap(), course);
    }
    let only = Capabilities { strategies: [("rolling".to_owned(), Driver::Cloud)].into(), ..cloud };
    assert_eq!(
        Course::of(&spec_on(Cloud::Aws, &format!("{ONE}{EXCLUSIVE}")), &only).unwrap_err().to_string(),
        "aws has no `blue-green` rollout; it has rolling"
    );
}

#[test]
fn a_faster_cloud_has_shorter_times() {
    let canary = "strategy = \"canary\"\nbake = \"50s\"\nweight = 10\npause = \"5m\"\n";
    let course = Course::of(&spec(canary), &capabilities()).unwrap();
    let fast = course.clone().at_speed(100);
    assert_eq!((fast.weights[0].pause_ms, fast.bake_ms, fast.deadline_ms), (3_000, 500, course.deadline_ms / 100));
    assert_eq!((course.clone().at_speed(1), course.clone().at_speed(0)), (course.clone(), course));
}
