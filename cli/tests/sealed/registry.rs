//! Debian's registry on a port of its own.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use dbird_registry::{Credentials, Place, Source, push};
use serde_json::json;

use crate::sealed;

/// The registry, for as long as this lives.
pub(crate) struct Registry {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// An empty one.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}")}});
        let path = folder.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        let process = command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sealed::until("the registry answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Registry { process, port, _folder: folder }
    }

    /// Pushes the image of a layout's folder; its name there by digest.
    pub(crate) fn push(&self, layout: &Path, digest: &str, repository: &str) -> String {
        let place = Place::parse(&format!("127.0.0.1:{}/{repository}", self.port)).unwrap();
        let source = Source { layout: layout.to_owned(), digest: digest.to_owned() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(push(&source, &place, &["latest".to_owned()], &Credentials::None, &|_| {})).unwrap();
        format!("{place}@{digest}")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
