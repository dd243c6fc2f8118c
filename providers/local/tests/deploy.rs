//! Releases come and go under load, on real processes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use dbird_core::ReleaseId;
use support::load::Load;
use support::{Project, eventually};

#[tokio::test]
async fn a_stateless_service_is_replaced_without_losing_a_request() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    assert_eq!(project.version().await, "v1");
    let load = Load::start(project.port, 8, |n| format!("/?n={n}"));
    load.go_on(50).await;
    for release in 2..=3 {
        project.deploy(release, &[("VERSION", &format!("v{release}"))]).await;
        load.go_on(50).await;
        assert_eq!(project.version().await, format!("v{release}"));
    }
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let observed = project.observe().await;
    assert_eq!(
        observed.releases.iter().map(|release| (release.id, release.weight)).collect::<Vec<_>>(),
        [(ReleaseId(3), 100)]
    );
    eventually("only one service runs", async || {
        project.processes().iter().filter(|(_, line)| line.contains("test-service")).count() == 1
    })
    .await;
}

#[tokio::test]
async fn an_exclusive_service_is_swapped_without_losing_a_request() {
    let project = Project::exclusive();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 16, |n| format!("/write?n={n}"));
    load.go_on(50).await;
    for release in 2..=4 {
        project.deploy(release, &[("VERSION", &format!("v{release}"))]).await;
        load.go_on(50).await;
        assert_eq!(project.version().await, format!("v{release}"));
    }
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let written = std::fs::read_to_string(project.state().join("data/data/store")).unwrap();
    assert_eq!(written.lines().count() as u64, done, "every answer was written, once");
}
