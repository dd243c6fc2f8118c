//! The real game with its scores on a shared file system: through releases, and through the end and the new beginning of its
//! environment.

use std::{collections::BTreeSet, fs};

use crate::{
    load::Load,
    sealed::Sealed,
    support::{Account, Deployed, SPEED, built, get},
};

fn game(account: Account) -> Deployed {
    let project = Sealed::empty();
    project.write(
        "environments/base.toml",
        r#"schema = 1
[service]
name = "drafty-bird"
port = 8080
port_env = "PORT"
cpu = 0.25
memory_mib = 512
stop_grace = "60s"
[service.build]
binary = "bin/drafty-bird"
[health]
live = "/healthz"
ready = "/readyz"
interval = "5s"
timeout = "2s"
healthy_after = 2
[storage]
kind = "sqlite"
mount = "/data"
writer = "protocol"
storage_protocol = 1
snapshot = "before-release"
snapshots_kept = 2
backup = ["drafty-bird", "backup", "--replace", "{file}"]
restore = ["drafty-bird", "restore", "--yes", "--running", "{file}"]
[rollout]
strategy = "blue-green"
bake = "1m"
deadline = "30m"
pause_limit = "30m"
[analysis]
interval = "1m"
count = 2
min_samples = 10
[env]
SCORE_DB_PATH = "/data/db.sqlite"
SCORE_STORAGE = "spool"
DRAIN_DELAY_MS = "100"
[cloud.aws]
region = "us-east-1"
egress = "public-ip"
"#,
    );
    project.write("environments/dev.toml", "");
    fs::create_dir_all(project.path().join("bin")).unwrap();
    fs::copy(built("drafty-bird", "drafty-bird"), project.path().join("bin/drafty-bird")).unwrap();
    Deployed { project, account }
}

/// Which scores are stored.
fn stored(cloud: &Deployed) -> BTreeSet<String> {
    cloud.ok(&["run", "--", "drafty-bird", "stored", "run-"]).stdout.split_whitespace().map(str::to_owned).collect()
}

/// How many tasks ever had one file of the file system open for writing at once.
fn writers_max(cloud: &Deployed) -> u64 {
    let report = cloud.account.report("efs");
    let files = report["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["file"].as_str().unwrap().contains(".db")), "{report}");
    files.iter().filter_map(|file| file["writers_max"].as_u64()).max().unwrap()
}

fn file_systems(cloud: &Deployed) -> BTreeSet<String> {
    let report = cloud.account.report("efs");
    let files = report["files"].as_array().into_iter().flatten().filter_map(|file| file["file"].as_str());
    files.filter_map(|file| file.split('/').find(|part| part.starts_with("fs-")).map(str::to_owned)).collect()
}

#[test]
fn scores_outlive_releases_and_their_environment() {
    let cloud = game(Account::start("data", SPEED, &[]));
    cloud.ok(&["deploy"]);
    let address = cloud.address();
    assert_eq!(get(&address, "/healthz").unwrap().0, 200);
    let again = cloud.ok(&["deploy"]);
    assert!(again.stdout.starts_with("No changes: r1 serves at"), "{again}");

    let players = Load::scores(&address, 40);
    let released = cloud.ok(&["deploy", "--set", "env.DRAIN_DELAY_MS=120"]);
    assert!(released.stderr.contains("the data was copied to /data/snapshots/1"), "{released}");
    let canary =
        ["deploy", "--set", "env.DRAIN_DELAY_MS=140", "--set", "rollout.strategy=canary", "--set", "rollout.weight=10"];
    cloud.ok(&[&canary[..], &["--set", "rollout.pause=2m"]].concat());
    let answers = players.take();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["201"], "a score was refused or lost: {answers:?}");
    let acknowledged = players.acknowledged();
    drop(players);
    let kept = stored(&cloud);
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(acknowledged.len() > 50 && lost.is_empty(), "{} of {}: {lost:?}", lost.len(), acknowledged.len());
    assert_eq!(writers_max(&cloud), 1, "{}", cloud.account.report("efs"));

    // The end: everything goes but the data, which the next beginning takes over.
    let file_system = file_systems(&cloud);
    let destroyed = cloud.ok(&["destroy"]);
    assert!(get(&address, "/healthz").is_err(), "{destroyed}");
    let status = cloud.ok(&["status"]).stdout;
    let kept = file_system.first().unwrap();
    assert!(status.contains(&format!("data: {kept}")) && status.contains("live      nothing"), "{status}");
    let plan = cloud.ok(&["plan"]).stdout;
    for said in [
        "+ data            file system /data (exists from before, taken over)",
        "+ images          image repository drafty-bird-dev (exists from before, taken over)",
        "3 to create, 2 to take over.",
    ] {
        assert!(plan.contains(said), "no {said:?} in {plan}");
    }
    let again = cloud.ok(&["deploy"]);
    for said in ["DataFileSystem (EFS FileSystem): import complete", "was there, and is called release-dev-"] {
        assert!(again.stderr.contains(said), "no {said:?} in {again}");
    }
    let kept = stored(&cloud);
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), acknowledged.len());
    assert_eq!(file_systems(&cloud), file_system, "the same file system");
    assert_eq!(writers_max(&cloud), 1);
}
