//! Finds the workspace, runs commands, and installs what chores need. It installs Debian packages, by name, and only where
//! that needs no password; what comes from elsewhere is for [`servers`](crate::servers).

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a chore returns: nothing, or why it failed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target folder for this workspace.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command in the workspace's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end with its output shown.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{command:?} can't be started: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let out = command.output().map_err(|e| format!("{command:?} can't be started: {e}"))?;
    if !out.status.success() {
        return Err(format!("{command:?} ended with {}:\n{}", out.status, String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Builds every binary and example of the workspace. Always the whole of it: a selection would unify other features and compile
/// most dependencies once more.
pub(crate) fn build(profile: &str) -> Outcome {
    run(&mut command("cargo", &["build", "--workspace", "--locked", "--bins", "--examples", "--profile", profile]))
}

/// True when a program of this name is on PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}

/// A program from a Debian package.
pub(crate) struct Tool {
    /// The program.
    pub(crate) program: &'static str,
    /// The packages that bring it.
    pub(crate) packages: &'static [&'static str],
    /// What can't be done without it.
    pub(crate) needed_for: &'static str,
}

/// Containers for `runtime = "podman"`.
pub(crate) const PODMAN: Tool =
    Tool { program: "podman", packages: &["podman", "runc"], needed_for: "tests of runtime = \"podman\"" };
/// The peer that the front door is measured against.
pub(crate) const NGINX: Tool =
    Tool { program: "nginx", packages: &["nginx-light"], needed_for: "the proxy's benchmark" };
/// The load generator of the throughput benchmarks.
pub(crate) const WRK: Tool = Tool { program: "wrk", packages: &["wrk"], needed_for: "throughput benchmarks" };
/// The page's and the picture's browser.
pub(crate) const CHROMIUM: Tool =
    Tool { program: "chromium", packages: &["chromium"], needed_for: "playing the game in a browser" };
/// The page's own tests.
pub(crate) const NODE: Tool = Tool { program: "node", packages: &["nodejs"], needed_for: "tests of the page's core" };

/// The server that the analysis can ask.
pub(crate) const PROMETHEUS: Tool =
    Tool { program: "prometheus", packages: &["prometheus"], needed_for: "tests against a real Prometheus" };

/// The registry that images are pushed to in tests.
pub(crate) const REGISTRY: Tool =
    Tool { program: "docker-registry", packages: &["docker-registry"], needed_for: "tests against a real registry" };
/// Another client of registries, which reads back what was pushed.
pub(crate) const SKOPEO: Tool =
    Tool { program: "skopeo", packages: &["skopeo"], needed_for: "reading pushed images back with another client" };

/// Makes sure that tools are there; returns a sentence for each that is not and can't be installed.
pub(crate) fn ensure(tools: &[&Tool]) -> Vec<String> {
    let missing: Vec<_> = tools.iter().filter(|t| !has(t.program)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let packages: Vec<_> = missing.iter().flat_map(|t| t.packages.iter().copied()).collect();
    if !install(&packages) {
        eprintln!("could not install {}: `sudo apt-get install {}` would", packages.join(" "), packages.join(" "));
    }
    missing
        .iter()
        .filter(|t| !has(t.program))
        .map(|t| format!("{} skipped: `{}` is not installed", t.needed_for, t.program))
        .collect()
}

/// Installs Debian packages as root, or through a `sudo` that asks nothing.
pub(crate) fn install(packages: &[&str]) -> bool {
    if !has("apt-get") {
        return false;
    }
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    let prefix: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    eprintln!("installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let words: Vec<&str> = prefix.iter().chain(&["apt-get"]).chain(args).copied().collect();
        Command::new(words[0])
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let all: Vec<&str> = ["install", "-y", "--no-install-recommends"].iter().chain(packages).copied().collect();
    apt(&all) || (apt(&["update"]) && apt(&all))
}
