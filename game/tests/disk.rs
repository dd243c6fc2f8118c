//! The real program on disks that refuse to be written: nothing is acknowledged that isn't stored, and it recovers.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Command;

use common::{Client, Server, configure, stored_runs};
use rustix::process::{Resource, Rlimit, prlimit};

/// Posts until the disk is so full that the server calls itself not ready; returns what was acknowledged.
fn fill(server: &Server) -> Vec<String> {
    let (mut acknowledged, mut refused, mut client) = (Vec::new(), 0, Client::new(server.address));
    for n in 0.. {
        let run_id = format!("before-{n}-{}", "x".repeat(40));
        let body = format!(r#"{{"player":"{}","score":{n},"runId":"{run_id}"}}"#, "p".repeat(40));
        let answer = client.post("/score", &body).unwrap();
        if answer.status == 201 {
            acknowledged.push(run_id);
            continue;
        }
        assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "1"));
        assert!(answer.json()["error"].is_string() && answer.json()["request_id"].is_string());
        refused += 1;
        let ready = server.get("/readyz").unwrap();
        if ready.status == 503 {
            assert!(ready.json()["reason"].as_str().unwrap().contains("db.sqlite"), "{}", ready.json());
            break;
        }
        assert!(refused < 10_000, "never called itself not ready");
    }
    acknowledged
}

fn goes_down_and_comes_back(server: &mut Server, heal: impl FnOnce(&Server)) -> Vec<String> {
    let mut acknowledged = fill(server);
    assert_eq!(server.get("/healthz").unwrap().status, 200, "alive all the while");
    heal(server);
    server.until_ready();
    assert_eq!(server.post_score(r#"{"score":1,"runId":"after"}"#).unwrap().status, 201);
    acknowledged.push("after".to_owned());
    acknowledged
}

#[test]
fn a_full_disk_refuses_scores_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    // A disk of its own in a mount namespace of its own, reached through the process; needs no privileges where user
    // namespaces are allowed.
    let available = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none"]).arg(folder.path()).output();
    if !available.as_ref().is_ok_and(|output| output.status.success()) {
        let writer = &mut std::io::stderr();
        drop(std::io::Write::write_all(writer, b"SKIPPED: no mount namespaces here, a full disk can't be made\n"));
        return;
    }
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m none \"$0\" && head -c 700000 /dev/zero > \"$0/ballast\" && exec \"$1\"";
    command.args(["-rm", "sh", "-c", script]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_drafty-bird"));
    let path = folder.path().join("db.sqlite");
    configure(&mut command, &[("SCORE_DB_PATH", path.to_str().unwrap()), ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")]);
    let mut server = Server::spawn(&mut command);
    server.until_ready();
    let inside = |server: &Server, name: &str| {
        let root = format!("/proc/{}/root", server.child.id());
        std::path::PathBuf::from(root).join(folder.path().strip_prefix("/").unwrap()).join(name)
    };
    let acknowledged = goes_down_and_comes_back(&mut server, |server| {
        std::fs::remove_file(inside(server, "ballast")).unwrap();
    });
    // What is on that disk is gone with the process: copied before it is asked to end, while nothing is written.
    let copy = tempfile::tempdir().unwrap();
    for name in ["db.sqlite", "db.sqlite-wal"] {
        std::fs::copy(inside(&server, name), copy.path().join(name)).unwrap();
    }
    assert_eq!(server.stop().code(), Some(0));
    let stored = stored_runs(&copy.path().join("db.sqlite"));
    assert!(acknowledged.len() > 10 && acknowledged.iter().all(|run_id| stored.contains(run_id)));
}

#[test]
fn a_file_size_limit_is_a_failed_write_and_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut server = Server::start_ready(&[("SCORE_DB_PATH", path.to_str().unwrap())]);
    let pid = Some(server.pid());
    let limit = |current| prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    limit(Some(200_000));
    let acknowledged = goes_down_and_comes_back(&mut server, |_| {
        limit(None);
    });
    assert_eq!(server.stop().code(), Some(0));
    let stored = stored_runs(&path);
    assert!(acknowledged.len() > 10 && acknowledged.iter().all(|run_id| stored.contains(run_id)));
}
