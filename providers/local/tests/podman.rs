//! The same releases in containers, for machines where podman works: `cargo test -p dbird-local --test podman -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use dbird_core::{Command as OneOff, Phase, Provider, ReleaseId, Start};
use serde_json::json;
use support::load::Load;
use support::{Project, eventually, pack};

/// An image with the test's service and the libraries that it needs.
fn image(project: &Project) -> dbird_core::Digest {
    let service = Path::new(env!("CARGO_BIN_EXE_dbird-local-test-service"));
    let libraries = Command::new("ldd").arg(service).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let paths: Vec<String> =
        libraries.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    let mut files = vec![("usr/bin/service".to_owned(), fs::read(service).unwrap())];
    files.extend(paths.iter().map(|path| (path.trim_start_matches('/').to_owned(), fs::read(path).unwrap())));
    let files: Vec<_> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice(), 0o755)).collect();
    pack(&project.folder.path().join(".dbird/images"), &files, &["/usr/bin/service"])
}

fn containers(project: &Project) -> Vec<String> {
    let digest = dbird_core::Digest::of(project.state().as_os_str().as_encoded_bytes());
    let prefix = format!("dbird-dev-{}-", &digest.hex()[..8]);
    let listed = Command::new("podman").args(["ps", "--all", "--format", "{{.Names}}"]).output().unwrap();
    String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter(|name| name.starts_with(&prefix))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
#[ignore = "needs podman; run with --ignored"]
async fn a_service_in_containers_is_swapped_killed_and_taken_away() {
    let mut project = Project::exclusive();
    project.image = image(&project);
    // The data is of this user and not of the image's, whether it runs in a container or not.
    project.service = json!({"writer": "exclusive", "runtime": "process"});
    project.deploy(1, &[("VERSION", "v1")]).await;
    assert_eq!(project.version().await, "v1");
    let load = Load::start(project.port, 4, |n| format!("/write?n={n}"));
    let mut events = Vec::new();
    for (release, runtime, version, running) in
        [(2, "podman", "v2", 1), (3, "podman", "v3", 2), (4, "process", "v4", 1), (5, "podman", "v5", 1)]
    {
        load.go_on(20).await;
        project.service["runtime"] = json!(runtime);
        let handle = project.candidate(release, &[("VERSION", version)]).await;
        assert_eq!(containers(&project).len(), running, "{version}");
        let shifted = project.shift(&handle, &[(release, 100)]).await;
        assert_eq!(shifted.phase, Phase::Ready, "{version}: {:?}", shifted.events);
        project.finish(&handle).await;
        assert_eq!(project.version().await, version);
        events.extend(shifted.events);
    }
    load.go_on(20).await;
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?} {events:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(fs::read_to_string(project.state().join("data/data/store")).unwrap().lines().count() as u64, done);

    let argv = vec!["/usr/bin/service".to_owned(), "exit".to_owned(), "7".to_owned()];
    let command = OneOff { release: ReleaseId(5), argv, timeout_ms: None, key: "seven".to_owned() };
    let run = project.provider.run(&project.target, &command).await.unwrap();
    assert_eq!(project.until(&run, |progress| progress.exit_code.is_some()).await.exit_code, Some(7));
    let words: Vec<String> = ["/usr/bin/service", "exit", "5"].map(str::to_owned).into();
    let beside = project.provider.exec_command(&project.target, None, &words, false).unwrap().status().unwrap();
    assert_eq!(beside.code(), Some(5));

    // A killed supervisor leaves no container; another task takes its place.
    let before = containers(&project);
    support::kill(project.process(&["__shim"]).unwrap());
    eventually("another container serves", async || {
        let now = containers(&project);
        now.len() == 1 && now != before && project.version().await == "v5"
    })
    .await;
    take_away(&project, 6).await;
}

/// Takes the service away, and looks that no container is left.
async fn take_away(project: &Project, release: u64) {
    for work in project.removal(release) {
        let handle = project.provider.apply(&project.target, &work).await.unwrap();
        project.until(&handle, |progress| progress.phase == Phase::Finished).await;
    }
    eventually("no container is left", async || containers(project).is_empty()).await;
}

#[tokio::test]
#[ignore = "needs podman; run with --ignored"]
async fn a_service_in_containers_is_recreated_and_rolled() {
    let mut project = Project::new();
    project.image = image(&project);
    project.service = json!({"runtime": "podman"});
    let alone = ("ALONE", "/data/alone");
    project.deploy(1, &[("VERSION", "v1"), alone]).await;
    project.start = Start::Nothing;
    let handle = project.candidate(2, &[("VERSION", "v2"), alone]).await;
    assert_eq!(containers(&project).len(), 1, "nothing of it is started");
    let shifted = project.shift(&handle, &[(2, 100)]).await;
    assert_eq!((shifted.phase, containers(&project).len()), (Phase::Ready, 1), "{:?}", shifted.events);
    project.roll_back(&handle).await;
    assert_eq!((project.version().await.as_str(), containers(&project).len()), ("v1", 1));
    let overlaps = project.state().join("data/data/alone.overlaps");
    assert!(!overlaps.exists(), "{:?}", fs::read_to_string(overlaps));

    project.service["replicas"] = json!(2);
    project.start = Start::All;
    project.deploy(3, &[("VERSION", "v3")]).await;
    let load = Load::start(project.port, 4, |n| format!("/?n={n}"));
    load.go_on(20).await;
    project.start = Start::Copies { count: 1 };
    let handle = project.candidate(4, &[("VERSION", "v4")]).await;
    assert_eq!(containers(&project).len(), 3);
    for (weights, copies) in [([(3, 50), (4, 50)].as_slice(), [(3, 1), (4, 1)]), (&[(4, 100)], [(3, 0), (4, 2)])] {
        let shifted = project.shift_with(&handle, weights, &copies).await;
        assert_eq!((shifted.phase, containers(&project).len()), (Phase::Ready, 2), "{:?}", shifted.events);
        load.go_on(20).await;
    }
    project.finish(&handle).await;
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(project.version().await, "v4");
    take_away(&project, 5).await;
}
