//! The service's data: copies before releases, backups, restoring, with the real game on the real local cloud.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

#[path = "sealed/game.rs"]
mod game;
mod sealed;

use std::fs;

use game::{project, runs};
use sealed::Sealed;

#[test]
fn a_copy_is_taken_before_each_release_and_can_be_brought_back() {
    let project = project();
    project.ok(&["deploy"]);
    for (run, greeting) in [("run-a", "2"), ("run-b", "3"), ("run-c", "4")] {
        project.score(run);
        let deployed = project.ok(&[
            "deploy",
            "--set",
            &format!("env.LOG_LEVEL={}", ["info", "warn", "error"][greeting.parse::<usize>().unwrap() % 3]),
        ]);
        assert!(deployed.stderr.contains("the data was copied to /data/snapshots/"), "{deployed}");
        assert!(!deployed.stdout.contains("sha256"), "a copy is no result of a deploy: {deployed}");
    }
    // Two are kept, in turn: before r3 and before r4.
    assert_eq!(project.copies(), ["1", "1.json", "2", "2.json"]);
    let history = project.ok(&["history"]).stdout;
    assert!(history.contains("/data/snapshots/1") && history.contains("/data/snapshots/2"), "{history}");
    assert_eq!(project.stored(), runs(&["run-a", "run-b", "run-c"]));

    for (arguments, code, said) in [
        (
            &["restore", "r2", "-y"][..],
            2,
            "the copy that was taken before r2 is gone: the one before r4 took its place",
        ),
        (&["restore", "--before", "9", "-y"], 2, "there is no release r9"),
        (&["restore", "r1", "-y"], 2, "no copy of the data was taken before r1"),
        (&["restore", "r3"], 2, "needs a confirmation"),
        (&["restore"], 2, "required"),
    ] {
        let refused = project.run(arguments);
        assert!(refused.code == code && refused.stderr.contains(said), "{arguments:?}: {refused}");
    }
    assert_eq!(project.stored(), runs(&["run-a", "run-b", "run-c"]), "nothing was touched");

    // While it runs: what the copy has, and nothing since; what was there before is kept; what comes after counts.
    let restored = project.ok(&["restore", "r3", "-y"]);
    assert!(restored.stderr.contains("The data of dev becomes the copy that r2 took before r3"), "{restored}");
    project.score("run-d");
    assert_eq!(project.stored(), runs(&["run-a", "run-b", "run-d"]));
    let saved =
        project.copies().into_iter().find(|name| name.starts_with("before-restore-") && !name.ends_with(".json"));
    let saved = format!("/data/snapshots/{}", saved.unwrap());
    assert!(restored.stdout.contains(&format!("what was there before is at {saved}")), "{restored}");
    project.ok(&["restore", "-y", "--no-backup", &saved]);
    assert!(project.stored().is_superset(&runs(&["run-a", "run-b", "run-c"])));

    // A rollback says which copy there is, and brings none back.
    let before = project.stored();
    let back = project.ok(&["rollback", "2"]);
    assert!(
        back.stderr.contains("A copy from before r3 lies at /data/snapshots/2; `dbird restore r3 -e dev`"),
        "{back}"
    );
    assert_eq!(project.stored(), before);
}

#[test]
fn backups_are_made_by_the_services_own_command() {
    let project = project();
    let refused = project.run(&["backup"]);
    assert!(refused.code == 1 && refused.stderr.contains("nothing is deployed"), "{refused}");
    project.ok(&["deploy"]);
    project.score("run-a");
    let (code, events) = project.json(&["backup"]);
    let place = events.iter().find(|e| e["event"] == "copied").unwrap()["place"].as_str().unwrap().to_owned();
    assert!(code == 0 && place.starts_with("/data/snapshots/manual-"), "{place}");
    assert!(project.data().join("snapshots").join(place.rsplit('/').next().unwrap()).is_file());
    let named = project.ok(&["backup", "/data/snapshots/mine"]);
    assert!(named.stdout.contains("1 scores") && named.stdout.contains("sha256"), "its own words: {named}");
    project.score("run-b");
    project.ok(&["restore", "-y", "/data/snapshots/mine"]);
    assert!(project.stored().contains("run-a"));

    // Its own exit code, and its own words.
    let failed = project.run(&["backup", "ftp://nowhere/x"]);
    assert!(failed.code == 2 && failed.stderr.contains("this version writes to"), "{failed}");
    let failed = project.run(&["restore", "-y", "--no-backup", "/data/snapshots/none"]);
    assert!(failed.code == 1 && failed.stderr.contains("is not there"), "{failed}");

    let whole = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    for (without, arguments, said) in [
        ("backup = ", &["backup"][..], "[storage] backup is not set"),
        ("restore = ", &["restore", "-y", "x"], "[storage] restore is not set"),
        ("backup = ", &["restore", "-y", "x"], "with --no-backup"),
    ] {
        let left: Vec<_> = whole.lines().filter(|line| !line.starts_with(without)).collect();
        project.write("environments/base.toml", &left.join("\n"));
        let refused = project.run(arguments);
        assert!(refused.code == 2 && refused.stderr.contains(said), "{without}: {refused}");
    }
    project.write("environments/base.toml", &whole);
}

#[test]
fn without_its_copy_a_release_does_not_begin() {
    let project = project();
    project.ok(&["deploy"]);
    project.score("run-a");
    let failed = project.run(&[
        "deploy",
        "--set",
        "env.LOG_LEVEL=warn",
        "--set",
        "storage.backup=[\"drafty-bird\", \"backup\", \"--json\", \"ftp://nowhere{file}\"]",
    ]);
    assert!(failed.code == 3 && failed.stderr.contains("no copy of the data could be taken before it"), "{failed}");
    let status = project.ok(&["status"]).stdout;
    assert!(status.contains("r1   100 %  ready") && !status.contains("r2"), "{status}");
    assert!(project.ok(&["history"]).stdout.contains("no copy of the data could be taken"));
    assert_eq!(project.stored(), runs(&["run-a"]));
    project.ok(&["deploy", "--set", "env.LOG_LEVEL=warn"]);
    assert_eq!(project.copies(), ["1", "1.json"]);
}

#[test]
fn a_command_killed_while_it_copies_is_undone_and_the_next_one_copies() {
    let project = project();
    project.ok(&["deploy"]);
    project.score("run-a");
    let started = std::time::Instant::now();
    project.ok(&["deploy", "--set", "env.OTHER=begin"]);
    let whole = started.elapsed();
    let mut in_the_middle = 0;
    for round in 0..6_u32 {
        let wanted = format!("env.OTHER=round {round}");
        let mut killed = project.start(&["deploy", "--set", &wanted]);
        let data = project.data();
        let copying =
            || fs::read_dir(&data).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("backup."));
        let until = std::time::Instant::now() + whole;
        while !copying() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        in_the_middle += u32::from(copying());
        killed.kill().unwrap();
        killed.wait().unwrap();
        project.ok(&["deploy", "--set", &wanted]);
        assert_eq!(project.stored(), runs(&["run-a"]), "round {round}");
        // Every copy that the history says stands can be restored.
        restorable(&project);
    }
    assert!(in_the_middle > 0, "no kill fell into a copy");
}

fn restorable(project: &Sealed) {
    let (_, events) = project.json(&["history"]);
    let history = events.iter().find(|e| e["event"] == "history").unwrap().clone();
    let standing = history["snapshots"].as_array().unwrap().clone();
    assert!(!standing.is_empty(), "{history}");
    for copy in standing {
        let before = format!("r{}", copy["before"]);
        project.ok(&["restore", "-y", "--no-backup", &before]);
    }
}
