//! `dbird doctor`: what a deploy to this machine needs, checked one by one, each with its remedy. It changes nothing.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use dbird_core::{
    Spec,
    spec::{Artefact, Runtime},
};
use dbird_local::AgentStatus;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{
        Event,
        events::{CheckState, Live},
        time,
    },
    session::Session,
};

/// Less free space than this is not enough.
const FREE_BYTES_MIN: u64 = 500_000_000;

/// Check what a deploy needs, with a remedy for what is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed or started. The exit code is 1 if anything is NG.

Examples:
    dbird doctor
    dbird doctor -o json | jq 'select(.state == \"NG\")'")]
pub(crate) struct Args {}

/// What one check found.
struct Found {
    state: CheckState,
    detail: String,
    remedy: Option<String>,
}

fn ok(detail: impl Into<String>) -> Found {
    Found { state: CheckState::Ok, detail: detail.into(), remedy: None }
}

fn skip(detail: impl Into<String>) -> Found {
    Found { state: CheckState::Skip, detail: detail.into(), remedy: None }
}

fn ng(detail: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { state: CheckState::Ng, detail: detail.into(), remedy: Some(remedy.into()) }
}

/// Checks everything, and counts what is not good.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let project = cx.project()?.folder.clone();
    let mut bad = 0;
    let mut say = |name: &str, found: Found| {
        let Found { state, detail, remedy } = found;
        bad += usize::from(state == CheckState::Ng);
        cx.out.event(Event::Check { name: name.to_owned(), state, detail, remedy });
    };
    say("folder", folder(&project));
    say("file system", file_system(&project));
    say("disk space", disk_space(&project));
    match cx.spec() {
        Err(failure) => say("environment", ng(failure.message, "`dbird validate` shows each fault with its place")),
        Ok(spec) => {
            say("environment", ok(format!("{} for {} is valid", spec.environment, spec.cloud)));
            say("build", build(&project, &spec));
            say("podman", podman(&spec));
            say("secrets", secrets(&project, &spec));
            cx.look(async |_| {
                let session = Session::open(cx, &spec, "doctor", None)?;
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
                say("state", state(&session).await);
                Ok(())
            })?;
        }
    }
    match bad {
        0 => Ok(Done { live: None::<Live>, ..Done::success() }),
        1 => Err(Failure::failed("1 check is not good")),
        n => Err(Failure::failed(format!("{n} checks are not good"))),
    }
}

fn folder(project: &Path) -> Found {
    let tried = crate::project::state_folder(project).and_then(|f| tempfile::NamedTempFile::new_in(f).map(drop));
    match tried {
        Ok(()) => ok(format!("{} can be written", project.join(".dbird").display())),
        Err(e) => ng(format!("{} can't be written: {e}", project.join(".dbird").display()), "make it writable for you"),
    }
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

fn disk_space(project: &Path) -> Found {
    match rustix::fs::statvfs(project) {
        Err(e) => skip(format!("could not be found out: {e}")),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} free", time::size(free));
            let remedy = format!("free at least {} on the disk of {}", time::size(FREE_BYTES_MIN), project.display());
            if free < FREE_BYTES_MIN { ng(text, remedy) } else { ok(text) }
        }
    }
}

fn build(project: &Path, spec: &Spec) -> Found {
    let Some(build) = &spec.service.build else {
        return skip("there is no [service.build]; images are named with --image or --from");
    };
    let (key, path) = match &build.artefact {
        Artefact::Binary { path } => ("binary", path),
        Artefact::Folder { path, .. } => ("folder", path),
    };
    match build.command.first() {
        None if project.join(path).exists() => ok(format!("{path} is there")),
        None => {
            ng(format!("{path} is not there"), format!("make it, correct `{key}`, or give the `command` that makes it"))
        }
        Some(program) => match which(project, program) {
            Some(found) => ok(format!("{program} is {}", found.display())),
            None => ng(format!("{program} is not on PATH"), "install it, or correct `command` in [service.build]"),
        },
    }
}

/// Where a program is found, as the shell would look for it from the project's folder.
fn which(project: &Path, program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = project.join(program);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|f| f.join(program)).find(|p| p.is_file())
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

async fn state(session: &Session) -> Found {
    let url = &session.spec.state_url;
    match session.operator.unfinished().await {
        Err(e) => {
            let remedy = "make it readable for you; it holds the history and the lease";
            ng(format!("{url} can't be read: {e}"), e.hint().unwrap_or_else(|| remedy.to_owned()))
        }
        Ok(None) => ok(format!("{url}, nothing is left over")),
        Ok(Some(u)) if u.holder.is_some() => ok(format!("{url}, {} is being deployed right now", u.release)),
        Ok(Some(u)) if u.parked.is_some() => {
            ok(format!("{url}, {} waits at a gate: {}", u.release, session.typing.hint()))
        }
        Ok(Some(u)) if u.beside => {
            ok(format!("{url}, {} goes on in the cloud: `{}` follows it", u.release, session.typing.command("wait")))
        }
        Ok(Some(u)) => ng(
            format!("{} was not finished", u.release),
            "the next `dbird deploy` or `dbird rollback` finishes or undoes it",
        ),
    }
}
