//! The commands on the real local cloud: a real agent, real tasks, real traffic.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use sealed::{Ended, Sealed, get, until};
use serde_json::Value;

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until a command has said this on stderr; what it said so far.
fn hear(child: &mut Child, wanted: &str) -> String {
    use std::io::BufRead as _;
    let mut said = String::new();
    let mut reader = std::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains(wanted) {
        assert!(reader.read_line(&mut said).unwrap() > 0, "{wanted:?} was never said:\n{said}");
    }
    // Nobody may have to wait because we no longer read.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    said
}

#[test]
fn the_life_of_an_environment() {
    let project = Sealed::project();
    let first = project.ok(&["deploy"]);
    assert!(first.stdout.contains("r1 serves at"), "{first}");
    assert_eq!(project.get("/").unwrap(), (200, "hi".to_owned()));

    let again = project.ok(&["deploy"]);
    assert!(again.stdout.starts_with("No changes: r1 serves at"), "{again}");

    let plan = project.ok(&["plan", "--set", "env.GREETING=ho"]);
    insta::with_settings!({ filters => vec![("[0-9a-f]{12}", "[DIGEST]")] }, {
        insta::assert_snapshot!("plan", plan.stdout);
    });
    assert_eq!(project.run(&["plan", "--set", "env.GREETING=ho", "--exit-code"]).code, 4);
    assert_eq!(project.ok(&["plan", "--exit-code"]).stdout.lines().last(), Some("No changes."));
    assert_eq!(project.get("/").unwrap().1, "hi", "a plan changes nothing");

    project.ok(&["deploy", "--set", "env.GREETING=ho"]);
    assert_eq!(project.get("/").unwrap().1, "ho");
    let status = project.ok(&["status"]).stdout;
    assert!(status.contains("r2   100 %  ready") && status.contains("storage_mode=file"), "{status}");

    let back = project.ok(&["rollback"]);
    assert!(back.stderr.contains("Rolling back from r2 to what r1 was."), "{back}");
    assert_eq!(project.get("/").unwrap().1, "hi");
    project.ok(&["rollback", "r2"]);
    assert_eq!(project.get("/").unwrap().1, "ho");

    project.ok(&["restart"]);
    assert_eq!(project.get("/").unwrap().1, "ho");
    project.ok(&["wait", "--timeout", "10"]);
    project.ok(&["doctor"]);

    let history = project.ok(&["history"]).stdout;
    insta::with_settings!({ filters => vec![
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[WHEN]"), (r"\d+\.\ds|\d\ds", "[TIME]"), ("[0-9a-f]{12}", "[DIGEST]"),
        (r"tester@\S+ *", "[WHO] "), (" +", " "),
    ] }, {
        insta::assert_snapshot!("history", history);
    });
    let logs = project.ok(&["logs"]).stdout;
    assert!(logs.contains("r1/r1-") && logs.contains("listening on port"), "{logs}");
    assert_eq!(project.ok(&["logs", "--tail", "1"]).stdout.lines().count(), 1);

    let refused = project.run(&["destroy"]);
    assert_eq!((refused.code, project.get("/").is_ok()), (2, true), "{refused}");
    project.ok(&["destroy", "-y"]);
    assert!(project.get("/").is_err());
    assert!(project.ok(&["status"]).stdout.contains("nothing"));
    project.ok(&["destroy", "-y"]);
    assert!(project.ok(&["history", "-n", "1"]).stdout.contains("destroyed"));
}

#[test]
fn machines_can_follow_everything() {
    let project = Sealed::project();
    let schema: Value = serde_json::from_str(&project.ok(&["schema", "events"]).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let run = |arguments: &[&str]| {
        let ended = project.run(&[&["-o", "json"], arguments].concat());
        let events = ended.events();
        for event in &events {
            let errors: Vec<String> = validator.iter_errors(event).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "dbird {}: {event}\n{errors:?}", arguments.join(" "));
        }
        let last = events.last().unwrap().clone();
        assert_eq!(
            (&last["event"], last["exit_code"].as_i64()),
            (&"finished".into(), Some(ended.code.into())),
            "{ended}"
        );
        (events, last)
    };
    let (events, last) = run(&["deploy"]);
    assert_eq!((&last["outcome"], &last["live"]["release"]), (&"done".into(), &"r1".into()));
    for wanted in ["started", "image", "plan", "step", "traffic", "released"] {
        assert!(events.iter().any(|e| e["event"] == wanted), "no {wanted}");
    }
    let (_, last) = run(&["deploy"]);
    assert_eq!((&last["outcome"], &last["live"]["release"]), (&"unchanged".into(), &"r1".into()));
    let (_, last) = run(&["deploy", "--set", "env.DIE=start"]);
    assert_eq!(
        (&last["exit_code"], &last["outcome"], &last["live"]["release"]),
        (&3.into(), &"rolled-back".into(), &"r1".into())
    );
    for arguments in [
        &["status"][..],
        &["history"],
        &["plan"],
        &["logs"],
        &["restart"],
        &["rollback"],
        &["wait"],
        &["doctor"],
        &["run", "--", "tiny", "exit", "0"],
        &["validate"],
        &["destroy", "-y"],
    ] {
        run(arguments);
    }
    // Each run left a log, which holds the same events.
    let logs: Vec<PathBuf> =
        fs::read_dir(project.path().join(".dbird/logs")).unwrap().map(|e| e.unwrap().path()).collect();
    let deploys: Vec<_> = logs.iter().filter(|p| p.to_string_lossy().contains("-deploy-")).collect();
    assert_eq!(deploys.len(), 3);
    let text = fs::read_to_string(deploys[0]).unwrap();
    assert!(text.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()) && text.contains("\"event\":\"finished\""));
}

#[test]
fn a_release_that_fails_changes_nothing_for_users() {
    let project = Sealed::project();
    let never = project.run(&["deploy", "--set", "env.DIE=start", "--set", "rollout.deadline=5s"]);
    assert_eq!(never.code, 1, "there was nothing to go back to: {never}");
    assert!(never.stderr.contains("flux capacitor") && never.stderr.contains("nothing serves"), "{never}");
    assert!(project.ok(&["status"]).stdout.contains("nothing"));

    project.ok(&["deploy"]);
    let cases: &[(&str, &str, &str)] = &[
        ("env.DIE=start", "rollout.deadline=20s", "flux capacitor"),
        ("env.READY=never", "rollout.deadline=2s", "answers 503"),
        ("health.ready=/readyz/", "rollout.deadline=20s", ""),
    ];
    for (set, deadline, wanted) in &cases[..2] {
        let failed = project.run(&["deploy", "--set", set, "--set", deadline]);
        assert_eq!(failed.code, 3, "{set} {failed}");
        assert!(failed.stderr.contains(wanted) && failed.stderr.contains("Live: r"), "{set} {failed}");
        assert_eq!(project.get("/").unwrap(), (200, "hi".to_owned()), "{set}");
    }
    let history = project.ok(&["history"]).stdout;
    assert_eq!((history.matches("rolled back").count(), history.matches("removed").count()), (2, 1), "{history}");
    let failed =
        history.lines().find(|l| l.contains("rolled back")).unwrap().split_whitespace().next().unwrap().to_owned();
    let logs = project.ok(&["logs", "--release", "3"]).stdout;
    assert!(logs.contains("flux capacitor"), "{failed}: {logs}");
    assert_eq!(project.run(&["rollback", &failed]).code, 2, "what never served can't be gone back to");
}

#[test]
fn a_saved_plan_is_carried_out_exactly_or_refused() {
    let project = Sealed::project();
    let set = ["--set", "env.GREETING=planned"];
    project.ok(&[&["plan", "--out", "first.json"], &set[..]].concat());
    let other = project.run(&["deploy", "--plan", "first.json"]);
    assert_eq!(other.code, 1, "without its settings it is another plan: {other}");
    assert!(other.stderr.contains("configuration has changed"), "{other}");
    project.ok(&[&["deploy", "--plan", "first.json"], &set[..]].concat());
    assert_eq!(project.get("/").unwrap().1, "planned");

    let moved = project.run(&[&["deploy", "--plan", "first.json"], &set[..]].concat());
    assert_eq!(moved.code, 1, "{moved}");
    assert!(moved.stderr.contains("does not stand any more") && moved.stderr.contains("Live: r1"), "{moved}");
    project.write("environments/staging.toml", "");
    let elsewhere = project.run(&[&["deploy", "-e", "staging", "--plan", "first.json"], &set[..]].concat());
    assert_eq!(elsewhere.code, 2, "{elsewhere}");
    fs::write(project.path().join("newer.json"), r#"{"format": 999}"#).unwrap();
    let newer = project.run(&["deploy", "--plan", "newer.json"]);
    assert_eq!(newer.code, 2, "{newer}");
    assert!(newer.stderr.contains("format 999"), "{newer}");
}

#[test]
fn the_very_image_goes_from_one_environment_to_another() {
    let project = Sealed::project();
    let digest = |environment: &str| {
        let events = project.ok(&["status", "-e", environment, "-o", "json"]).events();
        events.last().unwrap()["live"]["image"].as_str().map(str::to_owned)
    };
    let (port, test_port) = {
        let other = Sealed::empty();
        (other.port, other.test_port)
    };
    project.write(
        "environments/staging.toml",
        &format!("[cloud.local]\nlisten = \"127.0.0.1:{port}\"\ntest_listen = \"127.0.0.1:{test_port}\"\n"),
    );
    let nothing = project.run(&["deploy", "-e", "staging", "--from", "dev"]);
    assert_eq!(nothing.code, 2, "{nothing}");
    project.ok(&["deploy"]);
    // What lies there now is something else; nothing is built or packed.
    fs::write(project.path().join("bin/tiny"), "broken").unwrap();
    project.ok(&["deploy", "-e", "staging", "--from", "dev"]);
    assert_eq!(get(port, "/").unwrap().1, "hi");
    assert_eq!(digest("dev"), digest("staging"));

    // By digest, from another project's images.
    let elsewhere = Sealed::project();
    let image = format!("oci:{}@{}", project.path().join(".dbird/images").display(), digest("dev").unwrap());
    elsewhere.ok(&["deploy", "--image", &image]);
    assert_eq!(elsewhere.get("/").unwrap().1, "hi");
    elsewhere.ok(&["deploy", "--image", &digest("dev").unwrap()]);
}

#[test]
fn commands_run_in_the_release_and_give_their_exit_code() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    for command in ["run", "exec"] {
        let ended = project.run(&[command, "--", "tiny", "exit", "7"]);
        assert_eq!(
            (ended.code, ended.stdout.trim(), ended.stderr.trim()),
            (7, "said on stdout", "said on stderr"),
            "{command}"
        );
        let environment = project.ok(&[command, "--", "tiny", "env"]).stdout;
        assert!(environment.contains("GREETING=hi\n") && !environment.contains("USER="), "{command}: {environment}");
        let missing = project.run(&[command, "--", "no-such-program"]);
        assert_ne!(missing.code, 0, "{command} {missing}");
        assert!(missing.stderr.contains("no-such-program"), "{command} {missing}");
    }
    let late = project.run(&["run", "--timeout", "1", "--", "tiny", "sleep"]);
    assert_eq!(late.code, 1, "{late}");
    assert_eq!(project.run(&["run", "--release", "99", "--", "tiny"]).code, 1);
}

#[test]
fn one_store_passes_from_release_to_release() {
    let project = Sealed::project();
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    let storage =
        "[storage]\nkind = \"files\"\nmount = \"/data\"\nwriter = \"exclusive\"\n[env]\nSTORE = \"/data/lock\"";
    project.write("environments/base.toml", &base.replace("[env]", storage));
    project.ok(&["deploy"]);
    let changed = project.ok(&["deploy", "--set", "env.GREETING=ho"]);
    assert!(changed.stdout.contains("swap"), "{changed}");
    assert_eq!(project.get("/").unwrap().1, "ho");
    let failed = project.run(&["deploy", "--set", "env.READY=never"]);
    assert_eq!(failed.code, 3, "{failed}");
    assert_eq!(project.get("/").unwrap().1, "ho");

    let kept = project.ok(&["destroy", "-y"]).stdout;
    assert!(kept.contains("kept data: "), "{kept}");
    let file = PathBuf::from(kept.lines().find_map(|l| l.strip_prefix("kept data: ")).unwrap()).join("lock");
    assert!(file.exists());
    let again = project.ok(&["deploy"]);
    assert!(again.stdout.contains("taken over"), "{again}");
    let unknown = project.run(&["destroy", "-y", "--delete-data", "dta"]);
    assert_eq!(unknown.code, 2, "{unknown}");
    project.ok(&["destroy", "-y", "--delete-data", "data"]);
    assert!(!file.exists());
}

#[test]
fn two_deploys_at_once_are_one_too_many() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let mut slow = project.start(&["deploy", "--set", "env.READY=never", "--set", "rollout.deadline=4s"]);
    hear(&mut slow, "starting r2");
    for arguments in [&["deploy", "--set", "env.GREETING=x"][..], &["rollback", "1"], &["restart"], &["destroy", "-y"]]
    {
        let busy = project.run(arguments);
        assert_eq!(busy.code, 5, "{arguments:?} {busy}");
        assert!(busy.stderr.contains("dbird deploy") && busy.stderr.contains("dbird wait"), "{busy}");
    }
    let status = project.ok(&["status"]).stdout;
    assert!(status.contains("busy"), "{status}");
    let waited = project.run(&["wait"]);
    assert_eq!(waited.code, 3, "{waited}");
    assert_eq!(slow.wait().unwrap().code(), Some(3));
    assert_eq!(project.get("/").unwrap().1, "hi");
}

#[test]
fn an_interrupted_deploy_is_undone_and_says_so() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let mut slow = project.start(&["deploy", "--set", "env.READY=never", "-o", "json"]);
    let mut events = String::new();
    {
        use std::io::BufRead as _;
        let mut reader = std::io::BufReader::new(slow.stdout.take().unwrap());
        while !events.contains("starting r2") {
            assert!(reader.read_line(&mut events).unwrap() > 0, "{events}");
        }
        signal(&slow, rustix::process::Signal::INT);
        std::io::Read::read_to_string(&mut reader, &mut events).unwrap();
    }
    assert_eq!(slow.wait().unwrap().code(), Some(130), "{events}");
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&last["exit_code"], &last["live"]["release"]), (&130.into(), &"r1".into()));
    assert_eq!(project.get("/").unwrap().1, "hi");
    assert!(project.ok(&["deploy"]).stdout.contains("No changes"));
}

#[test]
fn an_interrupted_build_deploys_nothing() {
    let project = Sealed::project();
    let mut slow =
        project.start(&["deploy", "--set", "service.build.command=[\"sh\", \"-c\", \"echo begun; sleep 60\"]"]);
    hear(&mut slow, "begun");
    signal(&slow, rustix::process::Signal::INT);
    assert_eq!(slow.wait().unwrap().code(), Some(130));
    assert!(!project.path().join(".dbird/local").exists());
}

#[test]
fn what_stands_in_the_way_is_named_with_its_remedy() {
    let project = Sealed::project();
    let broken =
        project.run(&["deploy", "--set", "service.build.command=[\"sh\", \"-c\", \"echo it is broken; exit 3\"]"]);
    assert_eq!(broken.code, 1, "{broken}");
    assert!(broken.stderr.contains("it is broken") && broken.stderr.contains("exit status: 3"), "{broken}");
    let missing = project.run(&["deploy", "--set", "service.build.command=[\"no-such-compiler\"]"]);
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stderr.contains("no-such-compiler") && missing.stderr.contains("Hint:"), "{missing}");
    let nothing = project.run(&["deploy", "--set", "service.build.binary=bin/nothing"]);
    assert_eq!(nothing.code, 1, "{nothing}");
    assert!(nothing.stderr.contains("bin/nothing is not there") && nothing.stderr.contains("`binary`"), "{nothing}");

    let taken = TcpListener::bind(("127.0.0.1", project.port)).unwrap();
    let busy = project.run(&["deploy"]);
    assert_eq!(busy.code, 1, "{busy}");
    assert!(busy.stderr.contains(&project.port.to_string()) && busy.stderr.contains("Hint:"), "{busy}");
    let doctor = project.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor}");
    assert!(doctor.stdout.contains("in use by another program") && doctor.stdout.contains("Remedy:"), "{doctor}");
    drop(taken);
    project.ok(&["deploy"]);

    // What serves goes on serving, whatever is wrong with what is to come.
    let broken = project.run(&["deploy", "--set", "service.build.command=[\"false\"]"]);
    assert!(broken.code == 1 && broken.stderr.contains("Live: r1 serves"), "{broken}");
    fs::set_permissions(project.path().join("bin/tiny"), fs::Permissions::from_mode(0o644)).unwrap();
    let plain = project.run(&["deploy"]);
    assert!(plain.code == 2 && plain.stderr.contains("not executable"), "{plain}");
    assert_eq!(project.get("/").unwrap().1, "hi");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_an_error() {
    let project = Sealed::project();
    project.write(".dbird", "in the way");
    let ended = project.run(&["deploy"]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stderr.contains(".dbird"), "{ended}");
    fs::remove_file(project.path().join(".dbird")).unwrap();
}

#[test]
fn logs_are_followed_until_interrupted() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let mut follow = project.command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = std::io::BufReader::new(follow.stdout.take().unwrap());
    let mut said = String::new();
    use std::io::BufRead as _;
    while !said.contains("r1/") {
        reader.read_line(&mut said).unwrap();
    }
    project.ok(&["deploy", "--set", "env.GREETING=ho"]);
    while !said.contains("r2/") {
        reader.read_line(&mut said).unwrap();
    }
    signal(&follow, rustix::process::Signal::INT);
    assert_eq!(follow.wait().unwrap().code(), Some(0));

    // Nobody reads any more, as in `dbird logs -f | head`: that ends it too, although nothing is written.
    let mut follow = project.command(&["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    std::io::Read::read_exact(follow.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(follow.stdout.take());
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    assert_eq!(project.run(&["logs", "--release", "99"]).code, 2);
}

#[test]
fn secrets_reach_the_task_and_nobody_else() {
    const CANARY: &str = "canary-5f1d7e";
    let project = Sealed::project();
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    project.write(
        "environments/base.toml",
        &format!("{base}\n[secrets]\nTOKEN = {{ name = \"token\" }}\nKEY = {{ name = \"key\" }}\n"),
    );
    let missing = project.run(&["deploy"]);
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stderr.contains("token") || missing.stderr.contains("TOKEN"), "{missing}");
    fs::create_dir_all(project.path().join(".dbird")).unwrap();
    project.write(".dbird/secrets", &format!("token={CANARY}-file\n"));
    fs::set_permissions(project.path().join(".dbird/secrets"), fs::Permissions::from_mode(0o600)).unwrap();

    let mut heard = String::new();
    let mut run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("KEY", format!("{CANARY}-variable"));
        let ended = Ended::of(command.output().unwrap());
        heard.push_str(&ended.to_string());
        ended
    };
    assert_eq!(run(&["deploy", "-v", "-v"]).code, 0);
    for arguments in [
        &["status"][..],
        &["status", "-o", "json"],
        &["plan", "-o", "json"],
        &["render"],
        &["render", "-o", "json"],
        &["history", "-o", "json"],
        &["doctor"],
        &["validate"],
        &["logs"],
        &["restart", "-vv", "-o", "json"],
        &["rollback"],
        &["deploy", "--set", "env.DIE=start", "-vv"],
        &["plan", "--out", "plan.json", "--set", "env.GREETING=x"],
    ] {
        run(arguments);
    }
    assert!(!heard.contains(CANARY), "a secret was said:\n{heard}");
    let told = project.ok(&["run", "--", "tiny", "env"]).stdout;
    assert!(
        told.contains(&format!("TOKEN={CANARY}-file")) && told.contains(&format!("KEY={CANARY}-variable")),
        "{told}"
    );

    // In files, only where it has to be for a restart after a crash, and for nobody else to read.
    let mut open = vec![project.path().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() && holds(&entry.path(), CANARY) {
                assert_eq!(
                    metadata.permissions().mode() & 0o077,
                    0,
                    "{} can be read by others",
                    entry.path().display()
                );
                found.push(entry.path());
            }
        }
    }
    let allowed =
        |p: &PathBuf| p.ends_with(".dbird/secrets") || p.parent().unwrap().ends_with(".dbird/local/dev/secrets");
    // The one-off task that printed its environment on purpose has it in its log.
    let printed = |p: &PathBuf| p.starts_with(project.path().join(".dbird/local/dev/tasks"));
    assert!(found.iter().all(|p| allowed(p) || printed(p)), "{found:#?}");
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
}

#[test]
fn a_task_that_dies_is_started_again_and_status_says_so() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let events = project.ok(&["status", "-o", "json"]).events();
    let status = events.iter().find(|e| e["event"] == "status").unwrap();
    let pid = status["releases"][0]["tasks"][0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("a restart", || project.ok(&["status"]).stdout.contains("1 restart"));
    project.ok(&["wait", "--timeout", "20"]);
    assert_eq!(project.get("/").unwrap().1, "hi");
}

#[test]
fn images_that_no_release_needs_go_after_a_while() {
    let project = Sealed::project();
    let binary = project.path().join("bin/tiny");
    let original = fs::read(&binary).unwrap();
    let images = project.path().join(".dbird/images");
    let count = || {
        let index: Value = serde_json::from_slice(&fs::read(images.join("index.json")).unwrap()).unwrap();
        index["manifests"].as_array().unwrap().len()
    };
    project.ok(&["deploy"]);
    for n in 0..21u8 {
        fs::write(&binary, [&original[..], &[n]].concat()).unwrap();
        project.ok(&["plan"]);
    }
    project.ok(&["deploy"]);
    assert_eq!(count(), 22, "they may be on their way to a release");
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    for entry in fs::read_dir(images.join("blobs/sha256")).unwrap().flatten() {
        fs::File::open(entry.path()).unwrap().set_modified(yesterday).unwrap();
    }
    project.ok(&["deploy", "--set", "env.GREETING=ho"]);
    assert_eq!(count(), 2, "what runs, and what can be gone back to");
    project.ok(&["rollback", "1"]);
    assert_eq!(project.get("/").unwrap().1, "hi");
}

#[test]
fn hooks_and_shares_of_traffic_are_shown() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    let hook = |n: u8| {
        let hook = format!("[[rollout.hooks]]\nwhen = \"before-traffic\"\nrun = [\"tiny\", \"exit\", \"{n}\"]\n[env]");
        project.write("environments/base.toml", &base.replace("[env]", &hook));
    };
    hook(4);
    let failed = project.run(&["deploy", "--set", "env.GREETING=x"]);
    assert_eq!(failed.code, 3, "{failed}");
    assert!(failed.stderr.contains("hook tiny exit 4") && failed.stderr.contains("said on stderr"), "{failed}");
    assert!(!failed.stdout.contains("said on"), "what a hook says is no result: {failed}");
    hook(0);
    project.ok(&["deploy", "--set", "env.GREETING=x"]);
    assert_eq!(project.get("/").unwrap().1, "x");

    let canary = ["rollout.strategy=canary", "rollout.weight=30", "rollout.pause=1s", "analysis.count=0"];
    let canary: Vec<&str> = canary.iter().flat_map(|set| ["--set", set]).collect();
    let shared = project.ok(&[&["deploy", "--set", "env.GREETING=y"], &canary[..]].concat());
    assert!(shared.stdout.contains("30 %") && shared.stderr.contains("traffic: r3 70 %, r4 30 %"), "{shared}");
    assert_eq!(project.get("/").unwrap().1, "y");
}
