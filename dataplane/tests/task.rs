//! Tasks and copies on real processes: how they end, what is left of them, when they are started again.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::Secret;
use dataplane::image::{ImageConfig, Unpacked};
use dataplane::logs;
use dataplane::process::ProcessId;
use dataplane::runtime::{Port, Recipe, Runtime};
use dataplane::shim::{Exit, Launch};
use dataplane::supervise::{Copy, Health, Slot, State};
use dataplane::task::{self, Found, Record, Task};
use rustix::process::{Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_dataplane-shim"))
}

fn shell(script: &str) -> Launch {
    Launch {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("GIVEN".to_owned(), Secret::new("yes"))]),
        cwd: PathBuf::from("/"),
        stop_grace_ms: 200,
        timeout_ms: None,
        cleanup: Vec::new(),
    }
}

fn start(tasks: &Path, id: &str, launch: &Launch) -> Task {
    start_under(&program(), tasks, id, launch)
}

fn start_under(supervisor: &Path, tasks: &Path, id: &str, launch: &Launch) -> Task {
    let record = Record {
        id: id.to_owned(),
        group: "r1".to_owned(),
        slot: None,
        attempt: 1,
        address: None,
        made_unix_ms: 1,
        container: None,
    };
    Task::start(tasks, record, launch, supervisor).unwrap()
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn lines(folder: &Path) -> Vec<String> {
    logs::tail(folder, 100).unwrap().0.into_iter().map(|line| line.text).collect()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn shim_of(task: &Path) -> u32 {
    serde_json::from_slice::<ProcessId>(&fs::read(task.join("shim")).unwrap()).unwrap().pid
}

#[tokio::test]
async fn ends_are_told_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    type Expected = fn(&Exit) -> bool;
    let cases: [(&str, &str, Expected); 6] = [
        ("code", "exit 7", |exit| exit.code == Some(7) && exit.status() == 7 && !exit.asked),
        ("signal", "kill -SEGV $$", |exit| exit.signal == Some(11) && exit.status() == 139),
        ("fine", "echo out; echo err >&2; printf tail", |exit| exit.code == Some(0)),
        ("env", "env | grep -v -e ^PWD -e ^_ -e ^SHLVL; cat; pwd", |exit| exit.code == Some(0)),
        ("heirs", "setsid sleep 600 & sleep 600 & echo $! > \"$0\"; exit 3", |exit| exit.code == Some(3)),
        ("many", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done", |exit| exit.code == Some(0)),
    ];
    for (name, script, expected) in cases {
        let mut launch = shell(script);
        launch.args.push(folder.path().join("heir").display().to_string());
        let mut task = start(folder.path(), name, &launch);
        let exit = task.ended().await;
        assert!(expected(&exit), "{name}: {exit:?}");
        assert_eq!(task.ended().await, exit, "asked again");
        assert_eq!(task::exit_of(task.folder()), Some(exit));
        assert_eq!(task.pid(), None);
    }
    let mut fine = lines(&folder.path().join("fine"));
    fine.sort();
    assert_eq!(fine, ["err", "out", "tail"]);
    assert_eq!(lines(&folder.path().join("env")), ["GIVEN=yes", "/"]);
    assert_eq!(logs::read(&folder.path().join("many"), logs::Position::default(), 10_000).unwrap().len(), 2000);
    let heir: u32 = fs::read_to_string(folder.path().join("heir")).unwrap().trim().parse().unwrap();
    assert!(ProcessId::of(heir).is_none(), "what a task leaves behind ends with it");
}

#[tokio::test]
async fn a_task_that_can_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, launch, says) in [
        ("program", Launch { program: "/no/such".into(), ..shell("") }, "/no/such: No such file"),
        ("interpreter", Launch { program: script, ..shell("") }, "interpreter"),
        ("folder", Launch { cwd: "/no/such".into(), ..shell("") }, "/no/such"),
        ("mode", Launch { program: "/etc/passwd".into(), ..shell("") }, "Permission denied"),
    ] {
        let exit = start(folder.path(), name, &launch).ended().await;
        assert!(exit.error.as_ref().is_some_and(|error| error.contains(says)), "{exit:?}");
        assert_eq!(exit.status(), 127);
    }
}

#[tokio::test]
async fn stopping_asks_first_and_kills_all_later() {
    let folder = tempfile::tempdir().unwrap();
    for (name, script, kill, expected) in [
        ("polite", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.01; done", false, (Some(4), None)),
        ("stubborn", "trap '' TERM; echo up; while :; do sleep 0.01; done", false, (None, Some(9))),
        ("killed", "trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done", true, (None, Some(9))),
    ] {
        let mut task = start(folder.path(), name, &shell(script));
        eventually("it runs", || lines(task.folder()) == ["up"]).await;
        assert!(!task.is_stopping());
        if kill {
            task.kill()
        } else {
            task.stop()
        }
        assert!(task.is_stopping());
        let exit = task.ended().await;
        assert_eq!((exit.code, exit.signal), expected, "{name}: {exit:?}");
        assert!(exit.asked && !exit.lost);
    }
    let mut launch = shell("sleep 600");
    launch.timeout_ms = Some(50);
    let exit = start(folder.path(), "timed", &launch).ended().await;
    assert!(exit.timed_out && exit.status() == 143, "{exit:?}");
}

#[tokio::test]
async fn a_task_is_found_again_by_whoever_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let task = start(folder.path(), "t", &shell("echo up; exec sleep 600"));
    let place = task.folder().to_owned();
    eventually("it runs", || lines(&place) == ["up"]).await;
    let pid = task.pid().unwrap();
    drop(task);
    let Found::Running(mut adopted) = Task::adopt(&place).await.unwrap() else { panic!("it runs") };
    assert_eq!(adopted.pid(), Some(pid));
    adopted.stop();
    assert_eq!(adopted.ended().await.signal, Some(15));
    assert!(matches!(Task::adopt(&place).await.unwrap(), Found::Ended(record, _) if record.id == "t"));
    // A supervisor that is started on a used folder leaves it alone.
    let second = std::process::Command::new(program())
        .args(["__shim".as_ref(), place.as_os_str()])
        .stdin(std::process::Stdio::null())
        .status();
    assert_eq!(second.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_task_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = start(folder.path(), "t", &shell("echo up; exec sleep 600"));
    eventually("it runs", || lines(task.folder()) == ["up"]).await;
    let pid = ProcessId::of(task.pid().unwrap()).unwrap();
    signal(shim_of(task.folder()), Signal::KILL);
    let exit = task.ended().await;
    assert!(exit.lost && exit.describe().contains("lost"), "{exit:?}");
    eventually("the task is gone", || !pid.is_alive()).await;
    // Killed before it was told what to start, it leaves nothing either.
    let record = Record { id: "early".to_owned(), ..task::record(task.folder()).unwrap() };
    let early = folder.path().join("early");
    fs::create_dir(&early).unwrap();
    fs::write(early.join("task.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    assert!(matches!(Task::adopt(&early).await.unwrap(), Found::Ended(_, exit) if exit.lost));
}

#[tokio::test]
async fn ended_tasks_are_collected_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["a", "b", "c"] {
        start(folder.path(), id, &shell("exit 0")).ended().await;
        // Their ends are told apart by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut runs = start(folder.path(), "runs", &shell("exec sleep 600"));
    task::collect(folder.path(), 1).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["c", "runs"]);
    runs.kill();
    runs.ended().await;
}

/// A copy of a service that is a shell script; without a port it is never probed.
fn copy(folder: &Path, script: &str) -> Copy {
    let bin = folder.join("rootfs/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("service"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(bin.join("service"), fs::Permissions::from_mode(0o755)).unwrap();
    let config = ImageConfig { entrypoint: vec!["/bin/service".to_owned()], ..ImageConfig::default() };
    Copy {
        recipe: Arc::new(Recipe {
            runtime: Runtime::Process,
            image: Unpacked { digest: "sha256:0".into(), store: folder.into(), rootfs: folder.join("rootfs"), config },
            argv: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            port: Some(Port { inside: 1, env: Some("PORT".to_owned()) }),
            mounts: Vec::new(),
            stop_grace_ms: 500,
            timeout_ms: None,
        }),
        group: "r1".to_owned(),
        slot: 0,
        health: Health {
            live: "/".to_owned(),
            ready: "/".to_owned(),
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(500),
            healthy_after: 1,
            unhealthy_after: 2,
        },
        tasks: folder.join("tasks"),
        program: program(),
        container_prefix: String::new(),
    }
}

#[tokio::test]
async fn a_copy_that_dies_is_started_again_ever_more_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let slot = Slot::start(copy(folder.path(), "exit 9"), None);
    let mut status = slot.status();
    let mut deaths = Vec::new();
    while deaths.len() < 4 {
        let died = deaths.len() as u32 + 1;
        status.wait_for(|status| status.deaths >= died).await.unwrap();
        deaths.push(Instant::now());
    }
    let gaps: Vec<_> = deaths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, least) in gaps.iter().zip([100, 200, 400]) {
        assert!(*gap >= Duration::from_millis(least), "{gaps:?}");
    }
    let now = slot.now();
    assert_eq!((now.state, now.detail.as_str(), now.restarts), (State::BackingOff, "exited with code 9", 3));
    assert_eq!(now.died.unwrap().0, "r1-0.4");
    slot.stop();
    slot.stopped().await;
    assert_eq!(slot.now().state, State::Stopped);
}

#[tokio::test]
async fn a_copy_that_is_dropped_goes_on_and_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let made = copy(folder.path(), "echo up; exec sleep 600");
    let slot = Slot::start(made.clone(), None);
    slot.status().wait_for(|status| status.task.is_some()).await.unwrap();
    let place = folder.path().join("tasks/r1-0.1");
    eventually("it runs", || lines(&place) == ["up"]).await;
    let pid = task::pid(&place).unwrap();
    drop(slot);
    let Found::Running(found) = Task::adopt(&place).await.unwrap() else { panic!("it runs") };
    let slot = Slot::start(made, Some(found));
    assert_eq!((slot.now().task.as_deref(), task::pid(&place)), (Some("r1-0.1"), Some(pid)));
    slot.kill();
    slot.stopped().await;
    assert!(ProcessId::of(pid).is_none());
    assert_eq!(fs::read_dir(folder.path().join("tasks")).unwrap().count(), 1, "none was started in its place");
}

#[tokio::test]
async fn a_copy_without_a_program_says_so_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let made = copy(folder.path(), "exec sleep 600");
    let service = folder.path().join("rootfs/bin/service");
    let aside = folder.path().join("aside");
    fs::rename(&service, &aside).unwrap();
    let slot = Slot::start(made, None);
    let mut status = slot.status();
    let hopeless = status.wait_for(|status| status.hopeless.is_some()).await.unwrap().hopeless.clone().unwrap();
    assert!(hopeless.contains("program `/bin/service` is not in image"), "{hopeless}");
    fs::rename(&aside, &service).unwrap();
    status.wait_for(|status| status.state == State::Starting && status.task.is_some()).await.unwrap();
    slot.kill();
    slot.stopped().await;
}

#[tokio::test]
async fn a_kill_is_not_lost_where_its_signal_is_ignored() {
    // As under nohup, or in the background of a script: whatever comes before the supervisor listens is ignored.
    let folder = tempfile::tempdir().unwrap();
    let deaf = folder.path().join("deaf");
    fs::write(&deaf, format!("#!/bin/sh\ntrap '' QUIT TERM\nexec '{}' \"$@\"\n", program().display())).unwrap();
    fs::set_permissions(&deaf, fs::Permissions::from_mode(0o755)).unwrap();
    for (attempt, stop) in [Task::stop, Task::kill, Task::stop, Task::kill].into_iter().enumerate() {
        let tasks = folder.path().join("tasks");
        let mut task = start_under(&deaf, &tasks, &format!("r1-0.{attempt}"), &shell("exec sleep 600"));
        stop(&task);
        let exit = tokio::time::timeout(PATIENCE, task.ended()).await.unwrap();
        assert!(exit.asked, "{exit:?}");
    }
}
