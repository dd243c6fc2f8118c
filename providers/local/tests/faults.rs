//! Bad releases and bad machines: what a user sees does not change, and the error says what to do.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use dbird_core::provider::ErrorKind;
use dbird_core::{Observed, Phase, Provider, ReleaseId, Steer, StepKind, TaskState, Weights};
use serde_json::json;
use support::load::{Load, get};
use support::{Project, eventually};

fn live(observed: &Observed) -> Vec<(u64, u8)> {
    observed.releases.iter().map(|release| (release.id.0, release.weight)).collect()
}

async fn failed(project: &Project, handle: &dbird_core::Handle) -> (String, Vec<String>) {
    match project.until(handle, |progress| matches!(progress.phase, Phase::Failed { .. })).await.phase {
        Phase::Failed { why, logs } => (why, logs),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_candidate_that_is_not_ready_hurts_nobody_and_is_reached_only_by_the_test_door() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let (status, body) = get(project.test_port, "/").await.unwrap();
    assert!(status == 503 && body.starts_with('{'), "{status} {body}");
    let handle = project.begin(2, &[("VERSION", "v2"), ("NEVER_READY", "1")]).await.unwrap();
    eventually("the candidate answers at the test door", async || {
        get(project.test_port, "/").await.is_ok_and(|(status, body)| status == 200 && body.starts_with("v2"))
    })
    .await;
    let progress = project.until(&handle, |progress| progress.waiting_for.contains("told so")).await;
    assert_eq!(
        (progress.phase, progress.waiting_for.as_str()),
        (Phase::Working, "readiness of r2 (answers 503: told so)")
    );
    let observed = project.observe().await;
    let task = &observed.releases[1].tasks[0];
    assert_eq!((task.state, task.detail.as_str()), (TaskState::Starting, "answers 503: told so"));
    assert!(task.pid.is_some() && task.address.is_some());
    let refused =
        project.provider.steer(&project.target, &handle, &Steer::shift(Weights::all(ReleaseId(2)))).await.unwrap_err();
    assert!(refused.retry && refused.kind == ErrorKind::Conflict);
    assert_eq!(project.version().await, "v1");
    project.roll_back(&handle).await;
    assert_eq!(get(project.test_port, "/").await.unwrap().0, 503);
    assert_eq!(live(&project.observe().await), [(1, 100)]);
}

#[tokio::test]
async fn a_release_that_goes_bad_with_part_of_the_traffic_gives_it_back() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let handle = project.candidate(2, &[("VERSION", "v2"), ("DIE_AFTER_MS", "300")]).await;
    project.shift(&handle, &[(1, 90), (2, 10)]).await;
    let (why, logs) = failed(&project, &handle).await;
    assert!(why.contains("exited with code 4") && logs.iter().any(|line| line == "dying as told"), "{why} {logs:?}");
    assert_eq!(live(&project.observe().await), [(1, 100)]);
    project.roll_back(&handle).await;
    assert_eq!(project.version().await, "v1");
}

#[tokio::test]
async fn a_swap_whose_candidate_fails_is_undone_with_the_requests_held() {
    for (env, says) in [
        (&[("DIE_WITH_STORE", "1")][..], "exited with code 5"),
        (&[("OPEN_MS", "5000")][..], "was not ready in time"),
        (&[("OPEN_MS", "5000"), ("STOP_MS", "5000")][..], "was not ready in time"),
    ] {
        let project = Project::exclusive();
        project.deploy(1, &[("VERSION", "v1")]).await;
        let load = Load::start(project.port, 8, |n| format!("/write?n={n}"));
        load.go_on(20).await;
        let handle = project.candidate(2, env).await;
        let weights = Weights::all(ReleaseId(2));
        project.provider.steer(&project.target, &handle, &Steer::shift(weights)).await.unwrap();
        let (why, logs) = failed(&project, &handle).await;
        assert!(why.contains(says), "{why}");
        assert!(logs.iter().any(|line| line.contains("begins") || line.contains("dying")), "{logs:?}");
        load.go_on(20).await;
        project.roll_back(&handle).await;
        let (done, failures) = load.end().await;
        assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(5)]);
        assert_eq!(project.version().await, "v1");
        assert_eq!(live(&project.observe().await), [(1, 100)]);
    }
}

#[tokio::test]
async fn a_swap_is_taken_back_under_load() {
    let project = Project::exclusive();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 8, |n| format!("/write?n={n}"));
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    let events = project.shift(&handle, &[(2, 100)]).await.events;
    assert!(events.iter().any(|event| event.text.contains("waits for the store")), "{events:?}");
    assert_eq!(project.version().await, "v2");
    assert_eq!(live(&project.observe().await), [(2, 100)], "the old one is stopped, and kept for the way back");
    load.go_on(20).await;
    // There and back by shifts alone, then for good.
    let shifted = project.shift(&handle, &[(1, 100)]).await;
    assert_eq!((shifted.phase, project.version().await.as_str()), (Phase::Ready, "v1"), "{:?}", shifted.events);
    project.shift(&handle, &[(2, 100)]).await;
    assert_eq!(project.version().await, "v2");
    project.roll_back(&handle).await;
    assert_eq!(project.version().await, "v1");
    load.go_on(20).await;
    let (done, failures) = load.end().await;
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(5)]);
}

#[tokio::test]
async fn a_swap_cuts_streams_that_do_not_end() {
    let project = Project::exclusive();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", project.port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 16]).await.unwrap();
    let load = Load::start(project.port, 4, |n| format!("/write?n={n}"));
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    let progress = project.shift(&handle, &[(2, 100)]).await;
    assert!(progress.events.iter().any(|event| event.text.contains("1 streams to r1")), "{:?}", progress.events);
    project.finish(&handle).await;
    assert_eq!(project.version().await, "v2");
    let (done, failures) = load.end().await;
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(5)]);
}

#[tokio::test]
async fn a_slow_request_is_finished_before_its_release_goes() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    let port = project.port;
    let slow = tokio::spawn(async move { get(port, "/slow?ms=600").await.unwrap() });
    // Answered by the same release, so the slow one has long begun.
    for _ in 0..20 {
        assert_eq!(project.version().await, "v1");
    }
    project.shift(&handle, &[(2, 100)]).await;
    project.finish(&handle).await;
    assert!(slow.is_finished(), "the old release was not stopped before");
    assert_eq!(slow.await.unwrap(), (200, "slow".to_owned()));
}

#[tokio::test]
async fn a_port_in_use_names_its_holder_and_the_remedy() {
    let project = Project::new();
    let taken = TcpListener::bind(("127.0.0.1", project.port)).unwrap();
    let error = project.begin(1, &[]).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (ErrorKind::Conflict, false));
    assert!(error.causes[0].contains(&format!("pid {}", std::process::id())), "{error:?}");
    assert!(error.hint.as_ref().unwrap().contains("--set cloud.local.listen="), "{error:?}");
    let documents = dbird_core::Documents {
        service: "bird".into(),
        environment: "dev".into(),
        cloud: dbird_core::Cloud::Local,
        steps: vec![dbird_core::Document {
            step: dbird_core::StepId::new("service"),
            kind: StepKind::Service,
            title: String::new(),
            body: project.document(&[]),
        }],
    };
    let preview = project.provider.preview(&project.target, &documents).await.unwrap();
    assert!(preview.obstacles.len() == 1 && preview.obstacles[0].contains("is in use"), "{preview:?}");
    assert!(project.observe().await.releases.is_empty());
    drop(taken);
    assert!(project.provider.preview(&project.target, &documents).await.unwrap().obstacles.is_empty());
    project.deploy(1, &[("VERSION", "v1")]).await;
    assert_eq!(project.version().await, "v1");
}

#[tokio::test]
async fn the_address_may_change_between_releases() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let old = project.port;
    project.port = dataplane::port::free().unwrap();
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    for port in [old, project.port] {
        assert!(get(port, "/").await.unwrap().1.starts_with("v1"), "both doors are open");
    }
    project.shift(&handle, &[(2, 100)]).await;
    project.finish(&handle).await;
    assert_eq!(project.version().await, "v2");
    eventually("the old door is closed", async || get(old, "/").await.is_err()).await;
    assert_eq!(project.observe().await.endpoints["service"], format!("http://127.0.0.1:{}", project.port));
}

#[tokio::test]
async fn what_can_not_start_is_refused_before_anything_changes() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let store = project.folder.path().join(".dbird/images");
    let works = |project: &Project, change: &dyn Fn(&mut serde_json::Value)| {
        let mut work = project.works(2, &[]).remove(2);
        change(&mut work.body);
        work
    };
    let nothing = support::pack(&store, &[("a", b"", 0o644)], &[]);
    let absent = support::pack(&store, &[("a", b"", 0o644)], &["/usr/bin/none", "x"]);
    let damaged = support::pack(&store, &[("a", b"damaged", 0o644)], &["/a"]);
    let plain = support::pack(&store, &[("a", b"plain", 0o644)], &["/a"]);
    fs::write(store.join("blobs/sha256").join(damaged.hex()), "{}").unwrap();
    let unknown = dbird_core::Digest::of(b"unknown");
    for (image, kind, says) in [
        (&nothing, ErrorKind::Invalid, "no entry point"),
        (&absent, ErrorKind::Invalid, "program `/usr/bin/none` is not in image"),
        (&plain, ErrorKind::Invalid, "may not be executed"),
        (&damaged, ErrorKind::Invalid, "is damaged"),
        (&unknown, ErrorKind::NotFound, "has no blob"),
    ] {
        let work = works(&project, &|body| body["image"]["digest"] = json!(image));
        let error = project.provider.apply(&project.target, &work).await.unwrap_err();
        assert!(
            error.kind == kind && !error.retry && error.causes[0].contains(says) && error.hint.is_some(),
            "{error:?}"
        );
    }
    for (change, says) in [
        (&(|body: &mut serde_json::Value| body["image"] = json!(null)) as &dyn Fn(&mut serde_json::Value), "`image`"),
        (&|body| body["colour"] = json!(1), "colour"),
        (&|body| body["name"] = json!("other"), "`name`"),
        (&|body| body["secrets"] = json!({"KEY": {"name": "no-such-key"}}), "no-such-key"),
    ] {
        let error = project.provider.apply(&project.target, &works(&project, change)).await.unwrap_err();
        assert!(error.kind == ErrorKind::Invalid && error.causes[0].contains(says), "{error:?}");
    }
    assert_eq!(live(&project.observe().await), [(1, 100)]);
    assert_eq!(project.version().await, "v1");
    // A program that is there but whose interpreter is not fails when it is started, and says why.
    project.image = support::pack(&store, &[("a", b"#!/no/such/interpreter\n", 0o755)], &["/a"]);
    let handle = project.begin(2, &[]).await.unwrap();
    let (why, _) = failed(&project, &handle).await;
    assert!(why.contains("interpreter"), "{why}");
    project.roll_back(&handle).await;
    assert_eq!(project.version().await, "v1");
}

#[tokio::test]
async fn a_second_deploy_waits_for_the_first() {
    let project = Project::new();
    project.deploy(1, &[]).await;
    let handle = project.candidate(2, &[]).await;
    let error = project.begin(3, &[]).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && !error.retry && error.causes[0].contains("r2"), "{error:?}");
    let other = project.provider.apply(&project.target, &project.works(2, &[("A", "b")])[2]).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::Conflict);
    project.roll_back(&handle).await;
}

#[tokio::test]
async fn a_folder_that_can_not_be_written_is_named() {
    let project = Project::new();
    fs::write(project.folder.path().join(".dbird/local"), "a file where a folder belongs").unwrap();
    let error = project.begin(1, &[]).await.unwrap_err();
    assert!(error.object.contains(".dbird/local") && error.causes.len() > 1, "{error:?}");
    fs::remove_file(project.folder.path().join(".dbird/local")).unwrap();
    // The state's file can't be replaced: nothing is done, and what runs goes on.
    project.deploy(1, &[("VERSION", "v1")]).await;
    let state = project.state().join("state.json");
    fs::remove_file(&state).unwrap();
    fs::create_dir_all(state.join("in-the-way")).unwrap();
    let error = project.begin(2, &[("VERSION", "v2")]).await.unwrap_err();
    assert!(error.causes[0].contains("nothing was changed"), "{error:?}");
    assert_eq!(project.version().await, "v1");
    fs::remove_dir_all(&state).unwrap();
    project.deploy(2, &[("VERSION", "v2")]).await;
    assert_eq!(project.version().await, "v2");
}

#[tokio::test]
async fn a_sick_task_is_started_again_with_back_off() {
    let project = Project::new();
    project.deploy(1, &[("SICK_AFTER_MS", "500")]).await;
    let first = project.observe().await.releases[0].tasks[0].pid;
    eventually("it failed its liveness probe and was started again", async || {
        let task = project.observe().await.releases[0].tasks[0].clone();
        task.restarts >= 1 && task.pid != first && task.state == TaskState::Ready
    })
    .await;
}

#[tokio::test]
async fn a_removed_folder_ends_everything_in_it() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    fs::remove_dir_all(project.state()).unwrap();
    eventually("agent and tasks are gone", async || project.processes().is_empty()).await;
    // And nobody needs to clean up by hand.
    project.deploy(1, &[("VERSION", "again")]).await;
    assert_eq!(project.version().await, "again");
}

#[tokio::test]
async fn a_service_that_is_destroyed_leaves_only_its_data() {
    let project = Project::exclusive();
    project.deploy(1, &[]).await;
    assert_eq!(project.get("/write?n=1").await.0, 200);
    let refused = project.provider.shutdown_agent(&project.target).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    for work in project.removal(2) {
        let handle = project.provider.apply(&project.target, &work).await.unwrap();
        project.until(&handle, |progress| progress.phase == Phase::Finished).await;
    }
    assert!(get(project.port, "/").await.is_err());
    project.provider.shutdown_agent(&project.target).await.unwrap();
    eventually("nothing runs", async || project.processes().is_empty()).await;
    let observed = project.observe().await;
    assert!(observed.releases.is_empty() && observed.documents.is_empty(), "{observed:?}");
    assert!(project.processes().is_empty(), "looking starts nothing");
    assert_eq!(fs::read_to_string(project.state().join("data/data/store")).unwrap(), "1\n");
    assert_eq!(observed.data.keys().collect::<Vec<_>>(), ["data"]);
    assert!(project.provider.agent_status(&project.target).await.unwrap().is_none());
}

#[tokio::test]
async fn looking_is_quick_and_starts_nothing() {
    let project = Project::new();
    assert_eq!(project.observe().await, Observed::default());
    assert!(project.processes().is_empty());
    project.deploy(1, &[]).await;
    let begun = Instant::now();
    for _ in 0..20 {
        project.observe().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "20 looks took {:?}", begun.elapsed());
}
