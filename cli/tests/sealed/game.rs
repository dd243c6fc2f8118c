//! A project that deploys the real game, and what a player and an operator do with it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::sealed::{Sealed, get, until};

/// The game's own program.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_dbird")).parent().unwrap().join("drafty-bird");
    assert!(path.is_file(), "{} is missing: cargo build -p drafty-bird", path.display());
    path
}

/// A project of the game, with quick looks.
pub(crate) fn project() -> Sealed {
    let sealed = Sealed::empty();
    let (port, test_port) = (sealed.port, sealed.test_port);
    sealed.write(
        "environments/base.toml",
        &format!(
            r#"schema = 1
[service]
name = "drafty-bird"
port = 8080
port_env = "PORT"
stop_grace = "10s"
[service.build]
binary = "bin/drafty-bird"
[health]
live = "/healthz"
ready = "/readyz"
interval = "100ms"
timeout = "1s"
healthy_after = 1
[storage]
kind = "sqlite"
mount = "/data"
writer = "protocol"
storage_protocol = 1
snapshot = "before-release"
snapshots_kept = 2
backup = ["drafty-bird", "backup", "--replace", "{{file}}"]
restore = ["drafty-bird", "restore", "--yes", "--running", "{{file}}"]
[rollout]
strategy = "blue-green"
deadline = "30s"
[analysis]
interval = "1s"
count = 5
min_samples = 20
[env]
SCORE_DB_PATH = "/data/db.sqlite"
SCORE_STORAGE = "spool"
DRAIN_DELAY_MS = "100"
[chaos]
drills = "allowed"
stored = ["drafty-bird", "stored", "{{prefix}}"]
[cloud.local]
listen = "127.0.0.1:{port}"
test_listen = "127.0.0.1:{test_port}"
"#
        ),
    );
    sealed.write("environments/dev.toml", "");
    sealed.write("environments/prod.toml", "[chaos]\ndrills = \"refused\"\n");
    fs::create_dir_all(sealed.path().join("bin")).unwrap();
    fs::copy(program(), sealed.path().join("bin/drafty-bird")).unwrap();
    sealed
}

impl Sealed {
    /// A score that must be acknowledged.
    pub(crate) fn score(&self, run: &str) {
        let body = format!(r#"{{"player":"P","score":7,"runId":"{run}"}}"#);
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /score HTTP/1.1\r\nhost: game\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// Which scores are stored.
    pub(crate) fn stored(&self) -> BTreeSet<String> {
        let said = self.ok(&["run", "--", "drafty-bird", "stored", "run-"]).stdout;
        said.split_whitespace().map(str::to_owned).collect()
    }

    /// The folder of the data on this machine.
    pub(crate) fn data(&self) -> PathBuf {
        let status = self.ok(&["-o", "json", "status"]).events();
        let data = status.iter().find(|e| e["event"] == "status").unwrap()["data"].clone();
        let place = data.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.path().join(place)
    }

    /// The names of the copies.
    pub(crate) fn copies(&self) -> Vec<String> {
        let names = fs::read_dir(self.data().join("snapshots")).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// The events of a command, and its exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let ended = self.run(&[&["-o", "json"], arguments].concat());
        (ended.code, ended.events())
    }

    /// Until the front door answers.
    pub(crate) fn until_it_serves(&self) {
        until("it serves", || get(self.port, "/healthz").is_ok_and(|(status, _)| status == 200));
    }
}

/// Identities as a set.
pub(crate) fn runs(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
