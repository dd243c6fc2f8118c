//! A simulated account with a project that the real `dbird` deploys to it, and the record of all that was asked.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// How many times as fast its time passes.
const SPEED: &str = "100";

/// The tiny service, as small as a project can be.
const PROJECT: &str = r#"schema = 1
[service]
name = "tiny"
port = 8080
port_env = "PORT"
stop_grace = "5s"
cpu = 0.25
memory_mib = 512
[service.build]
binary = "bin/tiny"
base = "scratch"
[health]
live = "/healthz"
ready = "/readyz"
interval = "5s"
timeout = "2s"
healthy_after = 2
[storage]
kind = "files"
mount = "/data"
writer = "many"
[scale]
min = 1
max = 2
[rollout]
progress_deadline = "60m"
strategy = "blue-green"
deadline = "60m"
[env]
GREETING = "hi"
[cloud.aws]
region = "us-east-1"
"#;

/// An account that is simulated by the real program until it goes out of scope.
pub(crate) struct Account {
    child: Child,
    folder: tempfile::TempDir,
    /// What a client's environment needs.
    env: Vec<(String, String)>,
    /// Where all calls are written.
    pub(crate) record: PathBuf,
}

impl Drop for Account {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It ends what runs in it; killed at once, it could not.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A program that Cargo built beside the simulator.
fn built(name: &str, how: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_dbird-simulator")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build {how}", path.display());
    path
}

impl Account {
    /// Starts an account, and writes a project for it. The record is named after the test.
    pub(crate) fn start(test: &str) -> Self {
        let records = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judged");
        fs::create_dir_all(&records).unwrap();
        let record = records.join(format!("{test}.jsonl"));
        let _ = fs::remove_file(&record);
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        fs::create_dir_all(project.join("environments")).unwrap();
        fs::create_dir_all(project.join("bin")).unwrap();
        fs::write(project.join("environments/base.toml"), PROJECT).unwrap();
        fs::write(project.join("environments/dev.toml"), "").unwrap();
        fs::copy(built("examples/tiny", "-p dbird --example tiny"), project.join("bin/tiny")).unwrap();
        let mut simulator = Command::new(env!("CARGO_BIN_EXE_dbird-simulator"));
        simulator.arg("--shim").arg(built("dataplane-shim", "-p dataplane"));
        simulator.arg("--folder").arg(folder.path().join("account")).args(["--speed", SPEED]);
        simulator.arg("--record").arg(&record).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = simulator.spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let mut env = Vec::new();
        for line in told.lines().map_while(Result::ok) {
            let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
            env.push((name.to_owned(), value.trim_matches('\'').to_owned()));
            if name == "DBIRD_SIMULATOR" {
                break;
            }
        }
        assert!(env.iter().any(|(name, _)| name == "DBIRD_SIMULATOR"), "the simulator did not start: {env:?}");
        Account { child, folder, env, record }
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> &str {
        &self.env.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").unwrap().1
    }

    /// Gives a command the environment of a client.
    pub(crate) fn enter(&self, command: &mut Command) {
        command.env_clear().env("HOME", self.folder.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("USER", "tester").envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    /// A `dbird` that deploys the project here.
    pub(crate) fn dbird(&self, arguments: &[&str]) -> Command {
        let mut command = dbird();
        self.enter(&mut command);
        command.args(["-c", "aws"]).args(arguments).current_dir(self.folder.path().join("project"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs one that has to succeed: what it said.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        ok(&mut self.dbird(arguments))
    }

    /// All that was asked so far.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.record).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The real command.
pub(crate) fn dbird() -> Command {
    Command::new(built("dbird", "-p dbird"))
}

/// Runs a command that has to succeed: what it said.
pub(crate) fn ok(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{out}\n{err}");
    out.into_owned()
}
