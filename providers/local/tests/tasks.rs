//! What tasks are given and what is known of them: environment, secrets, volumes, logs, exit codes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dbird_core::{Command, Cursor, LogQuery, Phase, Progress, Provider, ReleaseId, Samples, Window};
use serde_json::json;
use support::load::Load;
use support::{Project, eventually};

async fn run(project: &Project, argv: &[&str], key: &str, timeout_ms: Option<u64>) -> (Progress, Vec<String>) {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    let command = Command { release: ReleaseId(1), argv, timeout_ms, key: key.to_owned() };
    let handle = project.provider.run(&project.target, &command).await.unwrap();
    let progress = project.until(&handle, |progress| progress.exit_code.is_some()).await;
    let query = LogQuery { task: Some(handle.token.clone()), tail_lines: 1000, ..LogQuery::default() };
    let page = project.provider.logs(&project.target, &query, None).await.unwrap();
    assert!(!page.more);
    (progress, page.lines.into_iter().map(|line| line.text).collect())
}

#[tokio::test]
async fn a_task_gets_what_it_is_given_and_nothing_else() {
    let mut project = Project::new();
    fs::write(project.folder.path().join(".dbird/secrets"), "ticket-key=canary-4711\n").unwrap();
    project.service = json!({"secrets": {"KEY": {"name": "ticket-key"}}});
    project.deploy(1, &[("DB", "/data/db.sqlite"), ("NOTE", "in /data")]).await;
    let (progress, mut lines) = run(&project, &["service", "env"], "env", None).await;
    assert_eq!((progress.phase, progress.exit_code), (Phase::Finished, Some(0)));
    let folder = project.state().join("data/data");
    let port = lines.iter().position(|line| line.starts_with("PORT=")).unwrap();
    assert!(lines.remove(port)["PORT=".len()..].parse::<u16>().is_ok());
    // The shell that begins the test's service adds its own.
    lines.retain(|line| {
        !line.starts_with("PWD=")
            && !line.starts_with("OLDPWD=")
            && !line.starts_with("_=")
            && !line.starts_with("SHLVL=")
    });
    lines.sort();
    let expected = format!("DB={}/db.sqlite", folder.display());
    assert_eq!(lines, [expected.as_str(), "DRAIN_DELAY_MS=0", "KEY=canary-4711", "NOTE=in /data"]);
}

#[tokio::test]
async fn a_secret_is_in_one_file_only() {
    let mut project = Project::new();
    fs::write(project.folder.path().join(".dbird/secrets"), "ticket-key=canary-4711\n").unwrap();
    project.service = json!({"secrets": {"KEY": {"name": "ticket-key"}}});
    project.deploy(1, &[]).await;
    run(&project, &["service", "exit", "0"], "one", None).await;
    let mut found = Vec::new();
    search(&project.state(), "canary-4711", &mut found);
    assert_eq!(found, [project.state().join("secrets/r1.json").display().to_string()]);
    for (pid, line) in project.processes() {
        let line_now = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!line.contains("canary") && !line_now.contains("canary"), "{line}");
        if line.contains("__agent") || line.contains("__shim") {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environment).contains("canary"), "{line}");
        }
    }
    assert!(!format!("{:?}", project.observe().await).contains("canary"));
    // It is still known after a crash, when the task is started again by an agent that was told nothing.
    support::kill(project.process(&["worker"]).unwrap());
    support::kill(project.process(&["__shim"]).unwrap());
    eventually("it serves again", async || project.observe().await.releases[0].ready).await;
    let pid = project.observe().await.releases[0].tasks[0].pid.unwrap();
    assert!(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ")).unwrap()).contains("KEY=canary-4711"));
}

fn search(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), text, found);
        } else if kind.is_file() && String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(text) {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0);
            found.push(entry.path().display().to_string());
        }
    }
}

#[tokio::test]
async fn one_off_tasks_end_as_they_say() {
    let project = Project::new();
    project.deploy(1, &[]).await;
    let (progress, lines) = run(&project, &["service", "lines", "3"], "lines", Some(60_000)).await;
    assert_eq!((progress.exit_code, lines.join(",").as_str()), (Some(0), "line 1,line 2,line 3"));
    assert_eq!(run(&project, &["/usr/bin/service", "exit", "9"], "nine", None).await.0.exit_code, Some(9));
    let command = Command {
        release: ReleaseId(1),
        argv: vec!["service".into(), "sleep".into()],
        timeout_ms: Some(150),
        key: "slow".into(),
    };
    let handle = project.provider.run(&project.target, &command).await.unwrap();
    let progress = project.until(&handle, |progress| matches!(progress.phase, Phase::Failed { .. })).await;
    assert_eq!(progress.exit_code, Some(143), "128 and SIGTERM");
    let Phase::Failed { why, .. } = progress.phase else { unreachable!() };
    assert!(why.contains("took too long"), "{why}");
    // One that is running when the agent is killed is followed by the next agent.
    let command = Command { timeout_ms: Some(1500), key: "killed".into(), ..command };
    let handle = project.provider.run(&project.target, &command).await.unwrap();
    support::kill(project.process(&["worker"]).unwrap());
    let progress = project
        .until(&handle, |progress| progress.exit_code.is_some() || matches!(progress.phase, Phase::Failed { .. }))
        .await;
    assert_eq!(progress.exit_code, Some(143));
    let missing = Command { argv: vec!["none".into()], key: "missing".into(), ..command };
    let error = project.provider.run(&project.target, &missing).await.unwrap_err();
    assert!(error.causes[0].contains("program `none` is not in image"), "{error:?}");
}

#[tokio::test]
async fn logs_are_followed_across_restarts_without_an_agent_too() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1"), ("DIE_AFTER_MS", "250")]).await;
    let query = LogQuery { release: Some(ReleaseId(1)), tail_lines: 100, ..LogQuery::default() };
    let mut cursor: Option<Cursor> = None;
    let mut lines = Vec::new();
    eventually("three tasks were seen", async || {
        let page = project.provider.logs(&project.target, &query, cursor.as_ref()).await.unwrap();
        assert!(page.more, "the release is kept up");
        cursor = Some(page.next);
        lines.extend(page.lines.into_iter().map(|line| (line.task, line.text)));
        lines.iter().filter(|(_, text)| text == "dying as told").count() >= 3
    })
    .await;
    let mut tasks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    lines.into_iter().for_each(|(task, text)| tasks.entry(task).or_default().push(text));
    assert_eq!(tasks["r1-0.1"], ["v1 begins", "dying as told"]);
    assert_eq!(tasks["r1-0.2"], ["v1 begins", "dying as told"]);
    project.kill_agent().await;
    let page =
        project.provider.logs(&project.target, &LogQuery { tail_lines: 2, ..LogQuery::default() }, None).await.unwrap();
    assert_eq!(page.lines.len(), 2);
    assert!(project.process(&["worker"]).is_none(), "reading logs starts nothing");
}

#[tokio::test]
async fn samples_say_what_traffic_was_like() {
    let project = Project::new();
    project.deploy(1, &[]).await;
    let load = Load::start(project.port, 4, |n| if n % 4 == 0 { "/slow?ms=30".to_owned() } else { "/".to_owned() });
    load.go_on(200).await;
    let (done, failed) = load.end().await;
    assert!(failed.is_empty());
    let window = Window { length_ms: 60_000 };
    let samples = project.provider.sample(&project.target, &[ReleaseId(1), ReleaseId(7)], window).await.unwrap();
    let Samples { requests, errors, latency_ms, .. } = &samples[0];
    assert_eq!((*requests, *errors, latency_ms.values().sum::<u64>()), (done, 0, done));
    assert!(latency_ms.range(25..).map(|(_, count)| count).sum::<u64>() >= done / 5, "{latency_ms:?}");
    assert_eq!(samples[1].requests, 0);
}

#[tokio::test]
async fn a_deep_folder_works_and_only_its_owner_may_look_in() {
    use std::os::unix::fs::PermissionsExt;
    let base = tempfile::Builder::new().prefix("dbird-local-").tempdir().unwrap();
    let deep = base.path().join("a-rather-long-name-of-a-folder/".repeat(6));
    fs::create_dir_all(&deep).unwrap();
    let project = Project::within(tempfile::tempdir_in(&deep).unwrap());
    assert!(project.state().as_os_str().len() > 200);
    project.deploy(1, &[("VERSION", "v1")]).await;
    assert_eq!(project.version().await, "v1");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&project.state()), mode(&project.state().join("agent.sock"))), (0o700, 0o600));
    assert_eq!(mode(&project.state().join("state.json")), 0o600);
}

#[tokio::test]
async fn a_command_beside_a_task_has_its_surroundings() {
    let mut project = Project::new();
    fs::write(project.folder.path().join(".dbird/secrets"), "ticket-key=canary\n").unwrap();
    project.service = json!({"secrets": {"KEY": {"name": "ticket-key"}}});
    project.deploy(1, &[("GREETING", "hi")]).await;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut beside = project
        .provider
        .exec_command(
            &project.target,
            None,
            &words(&["sh", "-c", "echo $GREETING $KEY; pwd; echo $0 /data/x", "/data"]),
            false,
        )
        .unwrap();
    let output = String::from_utf8(beside.output().unwrap().stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "hi canary");
    assert!(lines[1].ends_with("rootfs"));
    assert!(lines[2].starts_with(&project.state().join("data/data").display().to_string()), "{}", lines[2]);
    let inside =
        project.provider.exec_command(&project.target, Some("r1-0.1"), &words(&["service", "exit", "6"]), false);
    assert_eq!(inside.unwrap().status().unwrap().code(), Some(6));
    for (task, argv) in [(Some("r9-0.1"), &["sh"][..]), (None, &["no-such-program"]), (None, &[])] {
        assert!(project.provider.exec_command(&project.target, task, &words(argv), false).is_err());
    }
}
