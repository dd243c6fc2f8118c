//! The file that tells a Prometheus where each task listens, on real processes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::BTreeMap;

use dbird_core::{Phase, Provider};
use serde_json::{Value, json};
use support::{Project, eventually};

/// What the file says: each release's addresses.
fn told(project: &Project) -> Option<BTreeMap<String, Vec<String>>> {
    let text = std::fs::read(project.state().join("prometheus.json")).ok()?;
    let groups: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let group = |group: &Value| {
        let release = group["labels"]["release"].as_str().unwrap().to_owned();
        assert_eq!(group["labels"], json!({"service": "bird", "environment": "dev", "release": release}));
        (release, serde_json::from_value(group["targets"].clone()).unwrap())
    };
    Some(groups.iter().map(group).collect())
}

/// What runs, as the agent observes it.
async fn running(project: &Project) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for release in project.observe().await.releases {
        let mut addresses: Vec<_> = release.tasks.into_iter().filter_map(|task| task.address).collect();
        addresses.sort();
        if !addresses.is_empty() {
            all.insert(release.id.to_string(), addresses);
        }
    }
    all
}

async fn are_told(project: &Project, releases: &[(&str, usize)]) {
    eventually("the file says what runs", async || {
        let running = running(project).await;
        let counts: Vec<_> = running.iter().map(|(release, of)| (release.as_str(), of.len())).collect();
        counts == releases && told(project) == Some(running.clone())
    })
    .await;
}

#[tokio::test]
async fn the_file_says_where_every_task_listens() {
    let mut project = Project::new();
    project.service = json!({"replicas": 2});
    project.deploy(1, &[("VERSION", "v1")]).await;
    are_told(&project, &[("r1", 2)]).await;
    for address in told(&project).unwrap().into_values().flatten() {
        let port = address.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
        assert!(support::load::get(port, "/").await.unwrap().1.starts_with("v1 "), "{address}");
    }

    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    are_told(&project, &[("r1", 2), ("r2", 2)]).await;
    project.roll_back(&handle).await;
    are_told(&project, &[("r1", 2)]).await;

    // A task that dies comes back elsewhere.
    let before = told(&project);
    let pid = project.observe().await.releases[0].tasks[0].pid.unwrap();
    support::kill(pid);
    eventually("another address is told", async || told(&project) != before).await;
    are_told(&project, &[("r1", 2)]).await;

    // Without an agent it stays as it was: the tasks run on.
    let before = told(&project);
    project.kill_agent().await;
    assert_eq!(told(&project), before);
    are_told(&project, &[("r1", 2)]).await;

    for work in project.removal(1) {
        let handle = project.provider.apply(&project.target, &work).await.unwrap();
        project.until(&handle, |progress| progress.phase == Phase::Finished).await;
    }
    eventually("nobody is told of", async || told(&project) == Some(BTreeMap::new())).await;
    project.provider.shutdown_agent(&project.target).await.unwrap();
    eventually("it goes with the agent", async || told(&project).is_none()).await;
}
