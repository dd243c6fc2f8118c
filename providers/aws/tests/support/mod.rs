//! A server that stands in for AWS, on a free loopback port; it is stopped by its process when its test ends.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dbird_aws::{AwsProvider, Config, Endpoint};
use tempfile::TempDir;

/// Starting is given up after this.
const START: Duration = Duration::from_secs(60);

/// ministack with a folder of its own.
pub(crate) struct Ministack {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ministack {
    /// Starts the program of PATH.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new("ministack")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("`ministack` can't be started: {e}; `cargo xtask test` installs it"));
        let mut server = Ministack { child, port, _folder: folder };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "ministack ended while it was starting");
            assert!(since.elapsed() < START, "ministack did not start");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        server
    }

    /// A provider that knows nothing yet.
    pub(crate) fn provider(&self) -> AwsProvider {
        let url = format!("http://127.0.0.1:{}", self.port);
        let endpoint = Endpoint { url, key: "test".to_owned(), secret: "test".to_owned() };
        AwsProvider::new(Config {
            region: "us-east-1".to_owned(),
            endpoint: Some(endpoint),
            keep: 10,
            ..Config::default()
        })
        .unwrap()
    }
}
