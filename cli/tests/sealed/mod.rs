//! A project in a temporary folder and a `dbird` that sees nothing of the machine it runs on: no environment, no colour, a
//! fixed width.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A project that is taken away with everything that it runs.
pub(crate) struct Sealed {
    folder: tempfile::TempDir,
    /// The front door's port.
    pub(crate) port: u16,
    /// The test door's port.
    pub(crate) test_port: u16,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The service that is deployed.
pub(crate) fn tiny() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_dbird")).parent().unwrap().join("examples/tiny");
    assert!(path.is_file(), "{} is missing: cargo build -p dbird --example tiny", path.display());
    path
}

/// A port that nobody else is given for now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Sealed {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Sealed { folder: tempfile::tempdir().unwrap(), port: free_port(), test_port: free_port() }
    }

    /// A project that deploys the tiny service, stateless.
    pub(crate) fn project() -> Self {
        let sealed = Self::empty();
        let (port, test_port) = (sealed.port, sealed.test_port);
        sealed.write(
            "environments/base.toml",
            &format!(
                r#"schema = 1
[service]
name = "tiny"
port = 8080
port_env = "PORT"
stop_grace = "5s"
[service.build]
binary = "bin/tiny"
[health]
live = "/healthz"
ready = "/readyz"
interval = "100ms"
timeout = "1s"
healthy_after = 1
[rollout]
strategy = "blue-green"
deadline = "20s"
[env]
GREETING = "hi"
[cloud.local]
listen = "127.0.0.1:{port}"
test_listen = "127.0.0.1:{test_port}"
"#
            ),
        );
        sealed.write("environments/dev.toml", "");
        fs::create_dir_all(sealed.path().join("bin")).unwrap();
        fs::copy(tiny(), sealed.path().join("bin/tiny")).unwrap();
        sealed
    }

    /// The project's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command in the sealed environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbird"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("COLUMNS", "100");
        command.env("USER", "tester");
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

    /// Starts a command.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What the front door answers, or why not.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), std::io::Error> {
        get(self.port, path)
    }

    /// Output with everything that differs from run to run replaced.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let folder = self.path().canonicalize().unwrap();
        text.replace(&*folder.to_string_lossy(), "[PROJECT]")
            .replace(&*self.path().to_string_lossy(), "[PROJECT]")
            .replace(&format!(":{}", self.port), ":[PORT]")
            .replace(&format!(":{}", self.test_port), ":[TEST PORT]")
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if self.path().join(".dbird/local").exists() {
            for entry in fs::read_dir(self.path().join(".dbird/local")).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let ended = self.run(&["destroy", "-y", "-e", &name]);
                if ended.code != 0 && !std::thread::panicking() {
                    panic!("{name} could not be destroyed: {ended}");
                }
            }
        }
    }
}

/// A command that runs, and what it has said so far on both streams.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Listens to a command that was started with pipes.
    pub(crate) fn of(mut child: Child) -> Self {
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = streams.map(|stream| {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap();
                    said.push_str(&line);
                    said.push('\n');
                }
            })
        });
        Running { child, said, readers: readers.into() }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said this.
    pub(crate) fn hear(&mut self, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.said().contains(wanted) {
            let over = self.child.try_wait().unwrap().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            let late = Instant::now() >= deadline || over;
            assert!(!late || self.said().contains(wanted), "{wanted:?} was never said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    /// Waits for its end: the exit code, and everything that it said.
    pub(crate) fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.readers.drain(..).for_each(|r| r.join().unwrap());
        (code, self.said())
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The events of `--output json`.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// One request over a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> Result<(u16, String), std::io::Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: tiny\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
