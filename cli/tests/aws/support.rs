//! A simulated account, a project that is deployed to it, and `dbird` that sees nothing but both.
#![allow(dead_code, reason = "each topic uses a part of it")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::sealed::{Ended, Running, Sealed, tiny};

/// How many times as fast as ours the account's time passes, unless a test says otherwise.
pub(crate) const SPEED: u32 = 60;
/// The port at which a listener on 80 answers: only root may bind that.
const PORT: u16 = 20_080;
/// The port of the test listener.
const TEST_PORT: u16 = 9_000;

/// A simulated account that ends with its tasks when this is dropped.
pub(crate) struct Account {
    simulator: Child,
    folder: tempfile::TempDir,
    /// What a client's environment needs.
    environment: Vec<(String, String)>,
    /// Every call and its answer, one JSON object a line.
    pub(crate) record: PathBuf,
    name: &'static str,
}

/// A program that was built beside `dbird`.
pub(crate) fn built(name: &str, package: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_dbird")).parent().unwrap().join(name);
    assert!(path.is_file(), "{} is missing: cargo build -p {package}", path.display());
    path
}

impl Account {
    /// An empty account. The name is the test's: what was asked of it is kept under it, for those who judge it later.
    pub(crate) fn start(name: &'static str, speed: u32, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record.jsonl");
        let mut simulator = Command::new(built("dbird-simulator", "dbird-simulator"))
            .arg("--shim")
            .arg(built("dataplane-shim", "dataplane"))
            .arg("--folder")
            .arg(folder.path().join("account"))
            .arg("--record")
            .arg(&record)
            .args(["--speed", &speed.to_string()])
            .args(more)
            .env_clear()
            // Podman looks for iptables beside what only root runs.
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(simulator.stdout.take().unwrap()).lines();
        let mut environment = Vec::new();
        // It says all of it at once; this is the last of it.
        while environment.last().is_none_or(|(name, _)| name != "DBIRD_SIMULATOR") {
            let line = said.next().expect("the simulator has ended").unwrap();
            let (name, value) = line.strip_prefix("export ").and_then(|line| line.split_once('=')).unwrap();
            environment.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        }
        Account { simulator, folder, environment, record, name }
    }

    /// What the simulator tells of itself: `spans`, `calls`, `elb`, `efs`, ...
    pub(crate) fn report(&self, what: &str) -> Value {
        let (status, body) = self.ask("GET", &format!("/_simulator/{what}"), "");
        assert_eq!(status, 200, "{what}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Puts these faults in the place of all before.
    pub(crate) fn faults(&self, names: &[&str]) {
        let (status, body) = self.ask("POST", "/_simulator/faults", &serde_json::to_string(names).unwrap());
        assert_eq!(status, 200, "{names:?}: {body}");
    }

    /// Does what somebody else would do in the account: a call of a service that speaks JSON, with its input.
    pub(crate) fn call(&self, service: &str, operation: &str, input: &str) -> Value {
        let address = self.variable("AWS_ENDPOINT_URL").strip_prefix("http://").unwrap().to_owned();
        let credential = format!("{}/20260101/us-east-1/{service}/aws4_request", self.variable("AWS_ACCESS_KEY_ID"));
        let target = match service {
            "ecs" => "AmazonEC2ContainerServiceV20141113",
            "codedeploy" => "CodeDeploy_20141006",
            "ecr" => "AmazonEC2ContainerRegistry_V20150921",
            "logs" => "Logs_20140328",
            other => panic!("{other} does not speak JSON, or nobody has asked it yet"),
        };
        let headers = format!(
            "x-amz-target: {target}.{operation}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0\r\n"
        );
        let (status, body) = request_with(&address, "POST", "/", &headers, input).unwrap();
        assert_eq!(status, 200, "{operation}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The same of a service that takes forms, and answers XML.
    pub(crate) fn form(&self, service: &str, form: &str) -> String {
        let address = self.variable("AWS_ENDPOINT_URL").strip_prefix("http://").unwrap().to_owned();
        let credential = format!("{}/20260101/us-east-1/{service}/aws4_request", self.variable("AWS_ACCESS_KEY_ID"));
        let headers = format!(
            "content-type: application/x-www-form-urlencoded\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0\r\n"
        );
        let (status, body) = request_with(&address, "POST", "/", &headers, form).unwrap();
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let address = self.variable("AWS_ENDPOINT_URL").strip_prefix("http://").unwrap().to_owned();
        request(&address, method, path, body).unwrap()
    }

    /// A variable that clients of it need.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.environment.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// What was asked so far, and what was answered.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.record).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often this was done: asked and not refused.
    pub(crate) fn times(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call["operation"] == operation && call["code"].is_null()).count()
    }

    /// Gives a command what it needs to reach the account.
    pub(crate) fn reached_by(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.simulator.id().cast_signed()).unwrap();
        // Asked, not killed: it ends its tasks.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.simulator.wait();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aws-records");
        let copied =
            fs::create_dir_all(&kept).and_then(|()| fs::copy(&self.record, kept.join(self.name.to_owned() + ".jsonl")));
        assert!(copied.is_ok() || std::thread::panicking(), "the record could not be kept: {copied:?}");
    }
}

/// A project, and the account that it is deployed to.
pub(crate) struct Deployed {
    pub(crate) project: Sealed,
    pub(crate) account: Account,
}

impl Deployed {
    /// A project that deploys the tiny service, stateless, with one copy and without a bake.
    pub(crate) fn tiny(account: Account) -> Self {
        let project = Sealed::empty();
        project.write(
            "environments/base.toml",
            r#"schema = 1
[service]
name = "tiny"
port = 8080
port_env = "PORT"
cpu = 0.25
memory_mib = 512
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
strategy = "blue-green"
bake = "1m"
deadline = "30m"
pause_limit = "20m"
[analysis]
interval = "1m"
count = 3
min_samples = 20
[env]
GREETING = "hi"
[cloud.aws]
region = "us-east-1"
egress = "public-ip"
test_cidrs = ["127.0.0.1/32"]
"#,
        );
        project.write("environments/dev.toml", "");
        fs::create_dir_all(project.path().join("bin")).unwrap();
        fs::copy(tiny(), project.path().join("bin/tiny")).unwrap();
        Deployed { project, account }
    }

    /// A command of `dbird` that works on AWS, and asks nobody.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut all = vec!["-c", "aws"];
        if ["deploy", "destroy", "rollback", "restart", "restore", "backup"].contains(verb) {
            all.push("-y");
        }
        let mut command = self.project.command(&[&[*verb], &all[..], rest].concat());
        self.account.reached_by(&mut command);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command that has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "dbird {}\n{ended}", arguments.join(" "));
        ended
    }

    /// Starts a command, and listens to it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The events of a command, and its exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let ended = self.run(&[arguments, &["-o", "json"]].concat());
        (ended.code, ended.events())
    }

    /// The load balancer's address, with the port of production.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.host())
    }

    /// The same, with the port of the test listener.
    pub(crate) fn test_address(&self) -> String {
        format!("{}:{TEST_PORT}", self.host())
    }

    fn host(&self) -> String {
        let status = self.ok(&["status"]).stdout;
        let url = status.lines().find_map(|line| line.trim().strip_prefix("url ")).unwrap_or_default().trim();
        url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).expect("an address").to_owned()
    }
}

/// One request over a connection of its own.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), std::io::Error> {
    request_with(address, method, path, "", body)
}

/// The same with more headers, each with its line's end.
fn request_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, String), std::io::Error> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let kind = if headers.contains("content-type: ") { "" } else { "content-type: application/json\r\n" };
    write!(stream, "{head}{headers}{kind}content-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// What a GET answers.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String), std::io::Error> {
    request(address, "GET", path, "")
}
