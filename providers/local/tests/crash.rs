//! Everything is killed, at any time: what was serving serves, what was begun ends, and nothing is left over.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dbird_core::{Handle, Phase, Provider, ReleaseId, Start, Steer, Weights};
use serde_json::json;
use support::load::Load;
use support::{Project, eventually, kill};

const WORKER: &[&str] = &["__agent", "worker"];
const WATCHDOG: &[&str] = &["__agent", "watchdog"];
const SHIM: &[&str] = &["__shim"];

fn services(project: &Project) -> Vec<u32> {
    let is_service = |line: &str| line.contains("test-service") && !line.contains("__");
    project.processes().into_iter().filter(|(_, line)| is_service(line)).map(|(pid, _)| pid).collect()
}

/// Kills a process and waits until another one has its place.
async fn replace(project: &Project, words: &[&str]) {
    eventually("there is one to kill", async || project.process(words).is_some()).await;
    let old = project.process(words).unwrap();
    kill(old);
    eventually("it is replaced", async || project.process(words).is_some_and(|new| new != old)).await;
}

#[tokio::test]
async fn a_killed_agent_adopts_its_tasks_and_refuses_nobody() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let before = services(&project);
    for words in [WORKER, WATCHDOG, WORKER, WATCHDOG, WORKER] {
        replace(&project, words).await;
        // Whoever connects now waits in the queue of a socket that was never closed.
        assert_eq!(project.version().await, "v1");
        assert_eq!(services(&project), before, "the task is the same");
    }
    let observed = project.observe().await;
    assert!(observed.notes.iter().any(|note| note.contains("took over 1 running task")), "{:?}", observed.notes);
    assert_eq!(project.provider.agent_status(&project.target).await.unwrap().unwrap().tasks, 1);
}

#[tokio::test]
async fn with_watchdog_and_agent_killed_the_next_command_starts_them_anew() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let before = services(&project);
    project.kill_agent().await;
    assert_eq!(services(&project), before, "the task lives on");
    assert_eq!(project.observe().await.releases[0].weight, 100);
    assert_eq!(project.version().await, "v1");
    assert_eq!(services(&project), before, "and was taken over");
}

#[tokio::test]
async fn a_killed_task_or_supervisor_is_replaced_and_leaves_nothing() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    for by_supervisor in [true, false] {
        let old = services(&project);
        assert_eq!(old.len(), 1);
        kill(if by_supervisor { project.process(SHIM).unwrap() } else { old[0] });
        eventually("another one serves", async || {
            let now = services(&project);
            now.len() == 1 && now != old && project.version().await == "v1"
        })
        .await;
    }
    // Without anybody to see it: what the supervisor left is ended when the agent comes back.
    project.kill_agent().await;
    kill(project.process(SHIM).unwrap());
    eventually("one serves again", async || {
        project.observe().await.releases[0].ready && project.version().await == "v1"
    })
    .await;
    assert_eq!(services(&project).len(), 1);
}

/// One deploy or undo of a loop; repeated calls are what a driver does that was itself interrupted.
async fn carry_on(project: &Project, release: u64, parent: u64, env: &[(&str, &str)], undo: bool) -> Phase {
    let deadline = Instant::now() + support::PATIENCE;
    let again = |error: &dbird_core::ProviderError| {
        assert!(error.retry && Instant::now() < deadline, "{error:?}\n{}", project.agent_log())
    };
    let mut handle: Option<Handle> = None;
    for work in project.works(release, env) {
        loop {
            match project.provider.apply(&project.target, &work).await {
                Ok(begun) => break handle = Some(begun),
                Err(error) => again(&error),
            }
        }
    }
    let handle = handle.unwrap();
    loop {
        let progress = match project.provider.poll(&project.target, &handle).await {
            Ok(progress) => progress,
            Err(error) => {
                again(&error);
                continue;
            }
        };
        assert!(Instant::now() < deadline, "{progress:#?}\n{}", project.agent_log());
        let all = Weights::all(ReleaseId(release));
        let steer = match &progress.phase {
            Phase::Finished | Phase::RolledBack => return progress.phase,
            Phase::Ready if progress.weights != all => next(project, release, parent, &progress.weights),
            Phase::Ready if undo => Steer::Stop { roll_back: true },
            Phase::Ready => Steer::Finish,
            Phase::Failed { .. } => Steer::Stop { roll_back: true },
            _ => continue,
        };
        if let Err(error) = project.provider.steer(&project.target, &handle, &steer).await {
            // It was carried out although its answer was lost.
            assert!(error.retry || error.kind == dbird_core::provider::ErrorKind::Conflict, "{error:?}");
        }
    }
}

/// The shift that comes after these weights: everything at once, or a third of a rolling release.
fn next(project: &Project, release: u64, parent: u64, weights: &Weights) -> Steer {
    let (release, parent) = (ReleaseId(release), ReleaseId(parent));
    if !matches!(project.start, Start::Copies { .. }) {
        return Steer::shift(Weights::all(release));
    }
    let (share, new) = match weights.of(release) {
        0 => (33, 1),
        33 => (66, 2),
        _ => (100, 3),
    };
    let mut weights = Weights([(release, share), (parent, 100 - share)].into());
    weights.0.retain(|_, weight| *weight > 0);
    Steer::Shift { weights, copies: [(release, new), (parent, 3 - new)].into() }
}

/// Kills one of the processes every few milliseconds, until told to stop.
async fn havoc(folder: PathBuf, mut seed: u64) {
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(20 + (seed >> 33) % 150)).await;
        let found = support::processes(&folder);
        let of =
            |word: &str| found.iter().filter(|(_, line)| line.contains(word)).map(|(pid, _)| *pid).collect::<Vec<_>>();
        let victims = match (seed >> 20) % 8 {
            0..4 => of("worker"),
            4 | 5 => of("watchdog"),
            6 => [of("watchdog"), of("worker")].concat(),
            _ => of("__shim").into_iter().take(1).collect(),
        };
        victims.into_iter().for_each(kill);
    }
}

/// `DBIRD_SOAK_ROUNDS` makes the loops longer, `DBIRD_SOAK_SEED` makes them others.
fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

async fn survives(mut project: Project, start: Start, seed: u64) {
    let (rounds, seed) = (number("DBIRD_SOAK_ROUNDS", 10), number("DBIRD_SOAK_SEED", seed));
    project.service["stop_grace_ms"] = 2000.into();
    let copies = project.service["replicas"].as_u64().map_or(1, |copies| usize::try_from(copies).unwrap());
    let alone = if start == Start::Nothing { ("ALONE", "/data/alone") } else { ("BESIDE", "") };
    project.deploy(1, &[("VERSION", "v1"), alone]).await;
    project.start = start;
    let mut serving = 1;
    for round in 2..2 + rounds {
        let killer = tokio::spawn(havoc(project.folder.path().to_owned(), seed * 1000 + round));
        let version = format!("v{round}");
        let ended = carry_on(&project, round, serving, &[("VERSION", &version), alone], round % 3 == 0).await;
        killer.abort();
        let _ = killer.await;
        if ended == Phase::Finished {
            serving = round;
        }
        let expected = format!("v{serving}");
        let mut seen = String::new();
        let deadline = Instant::now() + support::PATIENCE;
        while !(project.version().await == expected && services(&project).len() == copies) {
            seen = format!("{} {:#?} {:#?}", project.version().await, project.processes(), project.observe().await);
            assert!(Instant::now() < deadline, "round {round}: not {expected} alone but {seen}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(seen);
        let observed = project.observe().await;
        let live: Vec<_> = observed.releases.iter().map(|release| (release.id.0, release.weight)).collect();
        assert_eq!(live, [(serving, 100)], "round {round}\n{}", project.agent_log());
    }
    eventually("one of each is left", async || {
        let found = project.processes();
        let count = |word: &str| found.iter().filter(|(_, line)| line.contains(word)).count();
        (count("watchdog"), count("worker"), count("__shim")) == (1, 1, copies)
    })
    .await;
    let overlaps = std::fs::read_to_string(project.state().join("data/data/alone.overlaps")).unwrap_or_default();
    assert_eq!(overlaps, "", "two versions were beside each other\n{}", project.agent_log());
}

#[tokio::test]
async fn deploys_survive_any_kill() {
    survives(Project::new(), Start::All, 1).await;
}

#[tokio::test]
async fn swaps_survive_any_kill() {
    survives(Project::exclusive(), Start::All, 2).await;
}

#[tokio::test]
async fn rolling_releases_survive_any_kill() {
    let mut project = Project::new();
    project.service = json!({"replicas": 3});
    survives(project, Start::Copies { count: 1 }, 3).await;
}

#[tokio::test]
async fn recreated_releases_survive_any_kill_and_are_never_beside_each_other() {
    survives(Project::new(), Start::Nothing, 4).await;
    survives(Project::exclusive(), Start::Nothing, 5).await;
}

#[tokio::test]
async fn a_newer_agent_takes_over_without_a_refused_request() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let before = (services(&project), project.process(WORKER).unwrap());
    let load = Load::start(project.port, 8, |n| format!("/?n={n}"));
    load.go_on(50).await;
    // The same program, written later.
    let newer = project.folder.path().join("newer-dbird");
    std::fs::copy(env!("CARGO_BIN_EXE_dbird-local-agent"), &newer).unwrap();
    let mut config = dbird_local::Config::new(project.folder.path());
    config.agent_program = newer;
    project.provider = dbird_local::LocalProvider::new(config);
    let candidate = project.candidate(2, &[("VERSION", "v2")]).await;
    eventually("the older one has gone", async || {
        project.process(WORKER).is_some_and(|now| now != before.1)
            && project.processes().iter().filter(|(_, line)| line.contains("worker")).count() == 1
    })
    .await;
    assert!(services(&project).contains(&before.0[0]), "the task is the same");
    project.shift(&candidate, &[(2, 100)]).await;
    project.finish(&candidate).await;
    load.go_on(50).await;
    let (done, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {done}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(project.version().await, "v2");
}

#[tokio::test]
async fn a_newer_agent_that_does_not_work_is_given_up() {
    let mut project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let broken = project.folder.path().join("broken-dbird");
    std::fs::copy("/bin/false", &broken).unwrap();
    std::fs::File::options().write(true).open(&broken).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let mut config = dbird_local::Config::new(project.folder.path());
    config.agent_program = broken;
    config.start_timeout_ms = 2000;
    let working = std::mem::replace(&mut project.provider, dbird_local::LocalProvider::new(config));
    let begun = project.begin(2, &[]).await;
    assert_eq!(project.version().await, "v1");
    project.provider = working;
    assert!(begun.is_ok(), "{begun:?}\n{}", project.agent_log());
    let notes = project.observe().await.notes;
    project.deploy(2, &[]).await;
    assert!(project.agent_log().contains("could not take over"), "{notes:?}");
}
