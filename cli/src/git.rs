//! Who deploys what: the project's git revision and the name of whoever runs the command. Without git, the revision is
//! empty.

use std::{env, path::Path, process::Command};

/// The revision of the project, `-dirty` appended where tracked files have uncommitted changes; empty outside git.
pub(crate) fn revision(project: &Path) -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(project).args(arguments).env("GIT_OPTIONAL_LOCKS", "0");
        command.output().ok().filter(|o| o.status.success())
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return String::new() };
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "."]);
    if changed.is_some_and(|o| o.stdout.is_empty()) { head } else { format!("{head}-dirty") }
}

/// Who makes the release: what CI says of itself, else `user@host`.
pub(crate) fn actor() -> String {
    let variable = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
    if let Some(actor) = variable("GITHUB_ACTOR") {
        let run = variable("GITHUB_RUN_ID").map(|r| format!(" (run {r})")).unwrap_or_default();
        return format!("{actor}@github{run}");
    }
    if let Some(actor) = variable("BUILD_REQUESTEDFOR") {
        let run = variable("BUILD_BUILDID").map(|r| format!(" (build {r})")).unwrap_or_default();
        return format!("{actor}@azure-pipelines{run}");
    }
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(own_name);
    format!("{user}@{}", host())
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user that this runs as, as /etc/passwd has it; the number where it has none.
fn own_name() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.unwrap_or(id)
}
