//! Rolling and recreate on real processes: the order of starts, shifts and stops, under load and when a copy fails.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use dbird_core::provider::ErrorKind;
use dbird_core::{Handle, Observed, Phase, Provider, ReleaseId, Start, Steer, TaskState, Weights};
use dbird_local::{Config, LocalProvider};
use serde_json::json;
use support::load::Load;
use support::{Project, eventually};
use tokio::task::JoinHandle;

/// Requests that are quick, and some that take a while.
fn mixed(n: u64) -> String {
    if n.is_multiple_of(5) { "/slow?ms=40".to_owned() } else { format!("/?n={n}") }
}

fn of_four() -> Project {
    let mut project = Project::new();
    project.service = json!({"replicas": 4});
    project
}

/// The ready copies of each release.
fn ready(observed: &Observed) -> BTreeMap<u64, usize> {
    let count =
        |release: &dbird_core::LiveRelease| release.tasks.iter().filter(|task| task.state == TaskState::Ready).count();
    observed.releases.iter().map(|release| (release.id.0, count(release))).collect()
}

fn weights(observed: &Observed) -> Vec<(u64, u8)> {
    observed.releases.iter().map(|release| (release.id.0, release.weight)).collect()
}

async fn failed(project: &Project, handle: &Handle) -> (String, Vec<String>) {
    match project.until(handle, |progress| matches!(progress.phase, Phase::Failed { .. })).await.phase {
        Phase::Failed { why, logs } => (why, logs),
        other => panic!("{other:?}"),
    }
}

/// Looks again and again until it is told to stop; everything that was seen.
struct Watch {
    seen: Arc<Mutex<Vec<Observed>>>,
    looking: JoinHandle<()>,
}

impl Watch {
    fn start(project: &Project) -> Self {
        let mut config = Config::new(project.folder.path());
        config.agent_program = PathBuf::from(env!("CARGO_BIN_EXE_dbird-local-agent"));
        let provider = LocalProvider::new(config);
        let target = project.target.clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            loop {
                let observed = provider.observe(&target).await.unwrap();
                noted.lock().unwrap().push(observed);
            }
        });
        Watch { seen, looking }
    }

    async fn end(self) -> Vec<Observed> {
        self.looking.abort();
        let _ = self.looking.await;
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn nothing_failed(load: Load) {
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
}

#[tokio::test]
async fn a_rolling_release_takes_over_copy_by_copy_without_losing_a_request() {
    let mut project = of_four();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 8, mixed);
    load.go_on(50).await;
    let watch = Watch::start(&project);
    project.start = Start::Copies { count: 1 };
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(1, 4), (2, 1)]));
    let batches = [(25, 1), (50, 2), (75, 3), (100, 4)];
    for (share, new) in batches {
        let to = [(1, 100 - share), (2, share)];
        let shifted = project.shift_with(&handle, &to, &[(1, 4 - new), (2, new)]).await;
        assert_eq!((&shifted.phase, shifted.weights.of(ReleaseId(2))), (&Phase::Ready, share), "{:?}", shifted.events);
        let mut wanted = BTreeMap::from([(1, 4 - new as usize), (2, new as usize)]);
        wanted.retain(|_, copies| *copies > 0);
        assert_eq!(ready(&project.observe().await), wanted, "{:?}", shifted.events);
        // What was carried out is not carried out again.
        let again = project.shift_with(&handle, &to, &[(1, 4 - new), (2, new)]).await;
        assert_eq!((again.phase, again.events.len()), (Phase::Ready, shifted.events.len()));
        load.go_on(20).await;
    }
    project.finish(&handle).await;
    nothing_failed(load).await;
    let seen: Vec<_> = watch.end().await.iter().map(ready).collect();
    assert!(seen.iter().all(|ready| ready.values().sum::<usize>() >= 4), "{seen:?}");
    assert!(seen.iter().any(|ready| ready.len() == 2), "nobody looked while both were there: {seen:?}");
    assert_eq!(weights(&project.observe().await), [(2, 100)]);
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(2, 4)]));
    assert_eq!(project.version().await, "v2");
}

#[tokio::test]
async fn a_rolling_release_is_taken_back_from_any_batch_without_losing_a_request() {
    let mut project = of_four();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 8, mixed);
    project.start = Start::Copies { count: 2 };
    for (release, batches) in [(2, [2].as_slice()), (3, &[2, 4])] {
        let handle = project.candidate(release, &[("VERSION", "v2")]).await;
        for new in batches {
            let share = u8::try_from(new * 25).unwrap();
            let to = [(1, 100 - share), (release, share)];
            project.shift_with(&handle, &to, &[(1, 4 - new), (release, *new)]).await;
        }
        load.go_on(20).await;
        let watch = Watch::start(&project);
        project.roll_back(&handle).await;
        let seen: Vec<_> = watch.end().await.iter().map(ready).collect();
        assert!(seen.iter().all(|ready| ready.values().sum::<usize>() >= 4), "{seen:?}");
        assert_eq!(weights(&project.observe().await), [(1, 100)]);
        assert_eq!(ready(&project.observe().await), BTreeMap::from([(1, 4)]));
        load.go_on(20).await;
    }
    nothing_failed(load).await;
    assert_eq!(project.version().await, "v1");
}

#[tokio::test]
async fn a_new_copy_that_dies_gives_everything_back() {
    let mut project = of_four();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 8, mixed);
    project.start = Start::Copies { count: 1 };
    let handle = project.candidate(2, &[("VERSION", "v2"), ("DIE_WHEN", "/data/die")]).await;
    project.shift_with(&handle, &[(1, 50), (2, 50)], &[(1, 2), (2, 2)]).await;
    fs::write(project.state().join("data/data/die"), "").unwrap();
    let asked = Weights(BTreeMap::from([(ReleaseId(1), 25), (ReleaseId(2), 75)]));
    let copies = BTreeMap::from([(ReleaseId(1), 1), (ReleaseId(2), 3)]);
    let steer = Steer::Shift { weights: asked, copies };
    project.provider.steer(&project.target, &handle, &steer).await.unwrap();
    let (why, logs) = failed(&project, &handle).await;
    assert!(why.contains("exited with code 7"), "{why}");
    assert!(logs.iter().any(|line| line.starts_with("dying because")), "{logs:?}");
    eventually("the old copies have everything again", async || {
        let observed = project.observe().await;
        weights(&observed) == [(1, 100)] && ready(&observed) == BTreeMap::from([(1, 4)])
    })
    .await;
    project.roll_back(&handle).await;
    nothing_failed(load).await;
    assert_eq!(project.version().await, "v1");
}

#[tokio::test]
async fn what_makes_no_sense_of_copies_is_refused() {
    let mut project = of_four();
    project.deploy(1, &[]).await;
    for count in [0, 5] {
        project.start = Start::Copies { count };
        let error = project.begin(2, &[]).await.unwrap_err();
        assert!(error.kind == ErrorKind::Invalid && error.causes[0].contains(&format!("{count} copies")), "{error:?}");
    }
    project.start = Start::Copies { count: 1 };
    let handle = project.candidate(2, &[]).await;
    for (weights, copies, says) in [
        ([(1, 50), (2, 50)], vec![(1, 0), (2, 2)], "without a copy"),
        ([(1, 50), (2, 50)], vec![(9, 1)], "r9 is not here"),
        ([(1, 50), (2, 40)], vec![(2, 2)], "add up to 90"),
    ] {
        let weights = Weights(weights.into_iter().map(|(release, weight)| (ReleaseId(release), weight)).collect());
        let copies = copies.into_iter().map(|(release, count)| (ReleaseId(release), count)).collect();
        let steer = Steer::Shift { weights, copies };
        let error = project.provider.steer(&project.target, &handle, &steer).await.unwrap_err();
        assert!(error.kind == ErrorKind::Invalid && error.causes[0].contains(says), "{error:?}");
    }
    // All at once from here: nothing is left at fewer copies than its document says.
    project.shift(&handle, &[(2, 100)]).await;
    project.finish(&handle).await;
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(2, 4)]));
}

const ALONE: (&str, &str) = ("ALONE", "/data/alone");

/// Two versions never ran at the same time, as far as they noticed.
fn nothing_overlapped(project: &Project) {
    let notes = fs::read_to_string(project.state().join("data/data/alone.overlaps")).unwrap_or_default();
    assert_eq!(notes, "");
}

/// At most one release has processes, at any look.
fn one_at_a_time(seen: &[Observed]) {
    assert!(!seen.is_empty());
    for observed in seen {
        let running = observed.releases.iter().filter(|release| release.tasks.iter().any(|task| task.pid.is_some()));
        assert!(running.count() <= 1, "{observed:?}");
    }
}

#[tokio::test]
async fn a_recreated_release_is_never_beside_the_previous_one() {
    for exclusive in [false, true] {
        let mut project = if exclusive { Project::exclusive() } else { Project::new() };
        let slow_to_stop = ("STOP_MS", "200");
        project.deploy(1, &[("VERSION", "v1"), ALONE, slow_to_stop]).await;
        let load = Load::start(project.port, 8, move |n| if exclusive { format!("/write?n={n}") } else { mixed(n) });
        load.go_on(50).await;
        let watch = Watch::start(&project);
        project.start = Start::Nothing;
        for release in 2..=3 {
            let version = format!("v{release}");
            let handle = project.candidate(release, &[("VERSION", &version), ALONE, slow_to_stop]).await;
            let progress = project.until(&handle, |progress| progress.phase == Phase::Ready).await;
            assert!(
                progress.events.iter().any(|event| event.text.contains("nothing of it is started")),
                "{progress:?}"
            );
            assert_eq!(weights(&project.observe().await), [(release - 1, 100)], "it has no task yet");
            let refused = project.provider.steer(&project.target, &handle, &Steer::Finish).await.unwrap_err();
            assert_eq!((refused.kind, refused.retry), (ErrorKind::Conflict, false));
            let shifted = project.shift(&handle, &[(release, 100)]).await;
            assert_eq!(shifted.phase, Phase::Ready, "{:?}", shifted.events);
            assert_eq!(weights(&project.observe().await), [(release, 100)]);
            load.go_on(20).await;
            project.finish(&handle).await;
            assert_eq!(project.version().await, version);
        }
        nothing_failed(load).await;
        one_at_a_time(&watch.end().await);
        nothing_overlapped(&project);
    }
}

#[tokio::test]
async fn releases_beside_each_other_are_noticed_where_they_are_forbidden() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1"), ALONE]).await;
    let handle = project.begin(2, &[("VERSION", "v2"), ALONE]).await.unwrap();
    let (why, _) = failed(&project, &handle).await;
    assert!(why.contains("exited with code 6"), "{why}");
    let notes = fs::read_to_string(project.state().join("data/data/alone.overlaps")).unwrap();
    assert!(notes.starts_with("v2 was started beside v1"), "{notes}");
}

#[tokio::test]
async fn requests_that_wait_too_long_for_a_recreated_release_are_told_to_come_back() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1"), ALONE]).await;
    project.start = Start::Nothing;
    let handle = project.candidate(2, &[("VERSION", "v2"), ALONE, ("START_MS", "2500")]).await;
    let load = Load::start(project.port, 4, mixed);
    load.go_on(20).await;
    project.shift(&handle, &[(2, 100)]).await;
    load.go_on(20).await;
    let (_, refused) = load.end().await;
    assert!(!refused.is_empty() && refused.iter().all(|answer| answer.contains(": 503 ")), "{refused:?}");
    project.finish(&handle).await;
    nothing_overlapped(&project);
}

#[tokio::test]
async fn a_recreated_release_that_fails_or_is_taken_back_leaves_the_previous_one() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1"), ALONE]).await;
    project.start = Start::Nothing;
    let watch = Watch::start(&project);
    // It dies as it starts.
    let handle = project.candidate(2, &[("VERSION", "v2"), ALONE, ("DIE_SAYING", "no luck")]).await;
    project.provider.steer(&project.target, &handle, &Steer::shift(Weights::all(ReleaseId(2)))).await.unwrap();
    let (why, logs) = failed(&project, &handle).await;
    assert!(why.contains("exited with code 3") && logs.iter().any(|line| line == "no luck"), "{why} {logs:?}");
    assert_eq!(project.version().await, "v1");
    assert_eq!(weights(&project.observe().await), [(1, 100)]);
    project.roll_back(&handle).await;
    // Somebody changes their mind while it starts.
    let handle = project.candidate(3, &[("VERSION", "v3"), ALONE, ("NEVER_READY", "1")]).await;
    project.provider.steer(&project.target, &handle, &Steer::shift(Weights::all(ReleaseId(3)))).await.unwrap();
    project.until(&handle, |progress| progress.waiting_for.contains("told so")).await;
    project.roll_back(&handle).await;
    assert_eq!(project.version().await, "v1");
    // It has taken over already.
    let handle = project.candidate(4, &[("VERSION", "v4"), ALONE]).await;
    project.shift(&handle, &[(4, 100)]).await;
    assert_eq!(project.version().await, "v4");
    project.roll_back(&handle).await;
    // It was never started.
    let handle = project.candidate(5, &[("VERSION", "v5"), ALONE]).await;
    project.roll_back(&handle).await;
    assert_eq!(project.version().await, "v1");
    assert_eq!(weights(&project.observe().await), [(1, 100)]);
    one_at_a_time(&watch.end().await);
    nothing_overlapped(&project);
}

#[tokio::test]
async fn several_copies_are_recreated_together_and_a_restarted_agent_remembers_how() {
    let mut project = of_four();
    project.deploy(1, &[("VERSION", "v1")]).await;
    project.start = Start::Nothing;
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    project.kill_agent().await;
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(1, 4)]));
    let watch = Watch::start(&project);
    project.shift(&handle, &[(2, 100)]).await;
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(2, 4)]));
    one_at_a_time(&watch.end().await);
    project.kill_agent().await;
    assert_eq!(ready(&project.observe().await), BTreeMap::from([(2, 4)]));
    project.finish(&handle).await;
    assert_eq!(project.version().await, "v2");
}

#[tokio::test]
async fn a_state_of_an_earlier_version_is_understood() {
    let project = of_four();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    project.kill_agent().await;
    let path = project.state().join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let rollout = state["rollout"].as_object_mut().unwrap();
    assert!(rollout.remove("start").is_some() && rollout.remove("copies").is_some());
    for record in state["releases"].as_object_mut().unwrap().values_mut() {
        assert!(record.as_object_mut().unwrap().remove("copies").is_some());
    }
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(ready(&project.observe().await).values().sum::<usize>(), 8);
    project.shift(&handle, &[(2, 100)]).await;
    project.finish(&handle).await;
    eventually("it serves alone", async || ready(&project.observe().await) == BTreeMap::from([(2, 4)])).await;
    tokio::time::timeout(Duration::from_secs(5), project.version()).await.unwrap();
}
