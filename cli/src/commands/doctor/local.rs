//! `dbird doctor` for this machine: what runs tasks and what listens here.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use dbird_core::{Spec, spec::Runtime};
use dbird_local::AgentStatus;

use super::{Found, ng, ok, skip};
use crate::session::Session;

/// Everything that only this machine has.
pub(super) async fn checks(project: &Path, session: &Session, say: &mut dyn FnMut(&str, Found)) {
    let spec = &session.spec;
    say("file system", file_system(project));
    say("podman", podman(spec));
    say("secrets", secrets(project, spec));
    let status = session.cloud.agent(&session.target).await;
    let ours = matches!(&status, Ok(Some(_)));
    say(
        "agent",
        match status {
            Ok(status) => agent(status),
            Err(error) => ng(error.message, "`dbird status` starts it again; its log says why it stopped"),
        },
    );
    say("front door", port(&spec.local.listen, "listen", ours));
    say("test door", port(&spec.local.test_listen, "test_listen", ours));
}

/// Locks, sockets and memory maps of what runs there don't work over a network.
fn file_system(project: &Path) -> Found {
    const REMOTE: [(i128, &str); 5] =
        [(0x6969, "NFS"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB"), (0x6573_5546, "FUSE"), (0x0102_1997, "9P")];
    match rustix::fs::statfs(project) {
        Err(e) => skip(format!("could not be found out: {e}")),
        Ok(found) => match REMOTE.iter().find(|(magic, _)| *magic == i128::from(found.f_type)) {
            Some((_, name)) => {
                ng(format!("the project lies on {name}"), "move it to a local disk: locks and sockets don't work there")
            }
            None => ok("local"),
        },
    }
}

fn podman(spec: &Spec) -> Found {
    if spec.local.runtime != Runtime::Podman {
        return skip("not needed: tasks are processes");
    }
    let mut command = Command::new("podman");
    command.arg("--version").stdin(Stdio::null());
    match command.output() {
        Ok(o) if o.status.success() => ok(String::from_utf8_lossy(&o.stdout).trim().to_owned()),
        Ok(o) => {
            ng(format!("podman does not work: {}", String::from_utf8_lossy(&o.stderr).trim()), "`podman info` says why")
        }
        Err(e) => ng(
            format!("podman can't be started: {e}"),
            "install it (Debian: apt install podman runc), or set runtime = \"process\"",
        ),
    }
}

fn secrets(project: &Path, spec: &Spec) -> Found {
    if spec.secrets.is_empty() {
        return skip("none are needed");
    }
    let file = dbird_local::config::secrets_file(project);
    if fs::metadata(&file).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        return ng(format!("{} can be read by others", file.display()), format!("chmod 600 {}", file.display()));
    }
    // Only names are looked at; values are read by whoever starts the task.
    let text = fs::read_to_string(&file).unwrap_or_default();
    let named = |name: &str| {
        let line =
            |l: &str| l.trim().trim_start_matches("export ").split_once('=').is_some_and(|(k, _)| k.trim() == name);
        text.lines().any(line)
    };
    let there = |key: &String, name: &str| named(name) || named(key) || std::env::var_os(key).is_some();
    let missing: Vec<_> =
        spec.secrets.iter().filter(|(k, s)| !there(k, &s.name)).map(|(k, s)| format!("{k} ({})", s.name)).collect();
    if missing.is_empty() {
        return ok(format!("{} of {}", spec.secrets.len(), spec.secrets.len()));
    }
    ng(
        format!("missing: {}", missing.join(", ")),
        "put NAME=VALUE lines into .dbird/secrets, or set the variable for this command",
    )
}

fn agent(status: Option<AgentStatus>) -> Found {
    let Some(status) = status else { return skip("none runs; a deploy starts it") };
    let own = env!("CARGO_PKG_VERSION");
    let text = format!(
        "version {}, process {}, {} tasks, log {}",
        status.version,
        status.pid,
        status.tasks,
        status.log.display()
    );
    if status.version != own {
        return ng(
            format!("{text}; this is dbird {own}"),
            "the next `dbird deploy` replaces it, without closing its doors",
        );
    }
    // What it has recovered from is worth knowing and nothing to act on.
    ok([vec![text], status.notes].concat().join("; "))
}

/// A port is good if it is free, or if it is held by this environment's own agent.
fn port(address: &str, key: &str, ours: bool) -> Found {
    let Ok(socket) = address.parse::<SocketAddr>() else { return skip(format!("{address} can't be checked")) };
    match TcpListener::bind(socket) {
        Ok(_) => ok(format!("{address} is free")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && ours => {
            ok(format!("{address} is held by this environment's agent"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => ng(
            format!("{address} is in use by another program"),
            format!("stop it, or set another `{key}` in [cloud.local]"),
        ),
        Err(e) => ng(format!("{address}: {e}"), format!("set another `{key}` in [cloud.local]")),
    }
}
