//! The project of a live check, the real `dbird` in it, and the simulator that goes before. It decides what is deployed; it
//! compares nothing.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::setup::{self, Outcome};

/// What the service is built for: linked statically, for an empty image.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The environment, whose name no environment of anybody's own has.
const ENVIRONMENT: &str = "livecheck";

/// Where `dbird` deploys to.
pub(crate) enum Place<'a> {
    /// The simulator that this check starts.
    Simulated(&'a Simulator),
    /// Whatever the variables of this process say: the account.
    Environment,
}

/// A simulated account that ends with this value.
pub(crate) struct Simulator {
    child: Child,
    _folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Simulator {
    pub(crate) fn start(account: &str, region: &str, speed: u32) -> Outcome<Simulator> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let bin = setup::target().join("debug");
        let mut command = Command::new(bin.join("dbird-simulator"));
        command.arg("--shim").arg(bin.join("dataplane-shim")).arg("--folder").arg(folder.path().join("account"));
        command.args(["--account", account, "--region", region, "--speed", &speed.to_string()]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the simulator can't be started: {e}"))?;
        let mut lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines);
        let mut variables: Vec<(String, String)> = Vec::new();
        // It says all of it at once; this is the last of it.
        while variables.last().is_none_or(|(name, _)| name != "DBIRD_SIMULATOR") {
            let line = lines.next().and_then(Result::ok).ok_or("the simulator has ended")?;
            let pair = line.strip_prefix("export ").and_then(|rest| rest.split_once('='));
            variables.extend(pair.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())));
        }
        Ok(Simulator { child, _folder: folder, variables })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Asked, not killed: it ends its tasks.
        let _ = setup::run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let _ = self.child.wait();
    }
}

/// A project that deploys the tiny service to one environment of its own.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    /// Where the shapes of its traffic are written.
    pub(crate) shapes: PathBuf,
    service: String,
}

impl Project {
    pub(crate) fn new(name: &str, account: &str, region: &str) -> Outcome<Project> {
        let folder = tempfile::Builder::new().prefix("dbird-live-").tempdir().map_err(|e| e.to_string())?;
        let service = "tiny".to_owned();
        let path = folder.path();
        write(path, "environments/base.toml", &base(&service, account, region))?;
        write(path, &format!("environments/{ENVIRONMENT}.toml"), "")?;
        std::fs::create_dir_all(path.join("bin")).map_err(|e| e.to_string())?;
        let tiny = super::tiny();
        std::fs::copy(&tiny, path.join("bin/tiny")).map_err(|e| format!("{}: {e}", tiny.display()))?;
        let shapes = path.join(format!("{name}.jsonl"));
        Ok(Project { folder, shapes, service })
    }

    /// The stack that it makes.
    pub(crate) fn stack(&self) -> String {
        format!("{}-{ENVIRONMENT}", self.service)
    }

    /// Runs a command to its end, which has to have this exit code.
    pub(crate) fn dbird(&self, place: &Place<'_>, arguments: &[&str], wanted: i32) -> Outcome {
        let began = Instant::now();
        let mut command = Command::new(setup::target().join("debug/dbird"));
        command.args(arguments).args(["-e", ENVIRONMENT, "-c", "aws"]).current_dir(self.folder.path());
        command.env("DBIRD_SHAPES", &self.shapes).stdin(Stdio::null());
        if let Place::Simulated(simulator) = place {
            command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
            command.envs(simulator.variables.iter().map(|(name, value)| (name, value)));
        }
        let out = command.output().map_err(|e| format!("dbird can't be started: {e}"))?;
        let code = out.status.code().unwrap_or(-1);
        println!("  dbird {}: exit code {code} after {} s", arguments.join(" "), began.elapsed().as_secs());
        if code == wanted {
            return Ok(());
        }
        let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Err(format!("dbird {} ended with {code} instead of {wanted}:\n{said}", arguments.join(" ")))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Outcome {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// As small and as quick as a real environment can be, without NAT gateways, which cost by the hour.
fn base(service: &str, account: &str, region: &str) -> String {
    format!(
        r#"schema = 1
[service]
name = "{service}"
port = 8080
port_env = "PORT"
stop_grace = "10s"
[service.build]
binary = "bin/tiny"
[health]
live = "/healthz"
ready = "/readyz"
interval = "5s"
timeout = "2s"
healthy_after = 2
[rollout]
strategy = "canary"
weight = 20
pause = "2m"
bake = "1m"
deadline = "30m"
[analysis]
count = 0
[env]
GREETING = "live"
[cloud.aws]
region = "{region}"
account = "{account}"
egress = "public-ip"
"#
    )
}
