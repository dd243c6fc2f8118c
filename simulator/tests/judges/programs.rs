//! Programs from PATH, and servers among them on free ports of this machine; they are stopped by their process.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Starting is given up after this.
const START: Duration = Duration::from_secs(60);

/// Where a program of PATH lies.
pub(crate) fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{program}` is not on PATH; `cargo xtask test` installs it"))
}

/// A script of this folder, run by the Python that has boto3: whether it found all right, and what it said.
pub(crate) fn script(name: &str, prepare: impl FnOnce(&mut Command)) -> (bool, String) {
    // microburst lies beside boto3 and awscli, in a folder of its own.
    let python = find("microburst").with_file_name("python3");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(name);
    let mut command = Command::new(python);
    command.arg(file).stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("AWS_ACCESS_KEY_ID", "AKIAJUDGE").env("AWS_SECRET_ACCESS_KEY", "judge");
    prepare(&mut command);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

/// A script that has to find all right; what it said is shown.
pub(crate) fn agrees(name: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let (right, said) = script(name, prepare);
    assert!(right, "{name} does not agree:\n{said}");
    println!("{said}");
    said
}

/// A server.
pub(crate) struct Server {
    child: Child,
    /// Where it answers.
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program of PATH in a folder of its own, and waits until it listens.
    pub(crate) fn start(program: &str, prepare: impl FnOnce(&mut Command, u16)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(find(program));
        command.env("HOME", folder.path()).env("TMPDIR", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        prepare(&mut command, port);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut server = Server { child, port, _folder: folder };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "{program} ended while it was starting");
            assert!(since.elapsed() < START, "{program} did not start");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        server
    }

    /// ministack, which has CloudFormation's and IAM's semantics.
    pub(crate) fn ministack(checks_permissions: bool) -> Self {
        Self::start("ministack", |command, port| {
            command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
            if checks_permissions {
                command.env("AUTH", "true");
            }
        })
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
