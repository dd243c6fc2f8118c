//! A project in a temporary folder with an image in its store, a provider for it, and ways to deploy, load and kill. Used by
//! every test of this crate; it ends whatever its project started.

#![expect(
    dead_code,
    clippy::print_stderr,
    reason = "each test uses its part, and shows the agent's log where it failed"
)]

pub(crate) mod load;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbird_core::provider::ProviderError;
use dbird_core::{
    Action, Digest, Handle, Observed, Phase, Progress, Provider, ReleaseId, Start, Steer, StepId, StepKind, Target,
    Weights, Work,
};
use dbird_local::{Config, LocalProvider};
use serde_json::{Value, json};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Project {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) provider: LocalProvider,
    pub(crate) target: Target,
    pub(crate) image: Digest,
    pub(crate) port: u16,
    pub(crate) test_port: u16,
    /// Changes to every service document.
    pub(crate) service: Value,
    /// How much of a candidate is started at once.
    pub(crate) start: Start,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::Builder::new().prefix("dbird-local-").tempdir().unwrap())
    }

    pub(crate) fn within(folder: tempfile::TempDir) -> Self {
        let mut config = Config::new(folder.path());
        config.agent_program = PathBuf::from(env!("CARGO_BIN_EXE_dbird-local-agent"));
        let program = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_dbird-local-test-service"));
        let image = pack(
            &folder.path().join(".dbird/images"),
            &[("usr/bin/service", program.as_bytes(), 0o755)],
            &["/usr/bin/service"],
        );
        Project {
            provider: LocalProvider::new(config),
            target: Target { service: "bird".to_owned(), environment: "dev".to_owned() },
            image,
            port: dataplane::port::free().unwrap(),
            test_port: dataplane::port::free().unwrap(),
            service: json!({}),
            start: Start::All,
            folder,
        }
    }

    pub(crate) fn exclusive() -> Self {
        let mut project = Self::new();
        project.service = json!({"writer": "exclusive"});
        project
    }

    pub(crate) fn state(&self) -> PathBuf {
        dbird_local::folder(self.folder.path(), &self.target.environment)
    }

    pub(crate) fn document(&self, env: &[(&str, &str)]) -> Value {
        let mut document = json!({
            "name": self.target.service, "environment": self.target.environment,
            "image": {"repository": "oci:.dbird/images", "digest": self.image}, "runtime": "process", "port": 8080, "port_env": "PORT",
            "env": env.iter().copied().collect::<BTreeMap<_, _>>(), "secrets": {},
            "health": {"live": "/healthz", "ready": "/readyz", "interval_ms": 200, "timeout_ms": 1000, "healthy_after": 2, "unhealthy_after": 3},
            "mounts": [{"name": "data", "path": "/data"}], "writer": null, "storage_protocol": 0, "replicas": 1, "stop_grace_ms": 5000,
            "listen": format!("127.0.0.1:{}", self.port), "test_listen": format!("127.0.0.1:{}", self.test_port)
        });
        if self.service["writer"] == "exclusive" {
            document["env"]["STORE"] = json!("/data/store");
        }
        for (field, value) in self.service.as_object().unwrap() {
            document[field] = value.clone();
        }
        document
    }

    pub(crate) fn works(&self, release: u64, env: &[(&str, &str)]) -> Vec<Work> {
        let body = |step: &str, kind, body: Value| Work {
            step: StepId::new(step),
            kind,
            action: if release == 1 { Action::Create } else { Action::Update },
            release: ReleaseId(release),
            document: Digest::of_json(&body),
            body,
            start: self.start,
        };
        vec![
            body("image", StepKind::Image, json!({"repository": "oci:.dbird/images", "digest": self.image})),
            body("data", StepKind::Data, json!({"name": "data", "path": "/data"})),
            body("service", StepKind::Service, self.document(env)),
        ]
    }

    pub(crate) fn removal(&self, release: u64) -> Vec<Work> {
        let gone = |step: &str, kind| Work {
            step: StepId::new(step),
            kind,
            action: Action::Delete,
            release: ReleaseId(release),
            document: Digest::of(b""),
            body: Value::Null,
            start: Start::All,
        };
        vec![gone("service", StepKind::Service), gone("image", StepKind::Image)]
    }

    /// Starts every step of a release; the service's handle.
    pub(crate) async fn begin(&self, release: u64, env: &[(&str, &str)]) -> Result<Handle, ProviderError> {
        let mut last = None;
        for work in self.works(release, env) {
            let handle = self.provider.apply(&self.target, &work).await?;
            if work.kind != StepKind::Service {
                self.until(&handle, |progress| progress.phase == Phase::Finished).await;
            }
            last = Some(handle);
        }
        Ok(last.unwrap())
    }

    pub(crate) async fn candidate(&self, release: u64, env: &[(&str, &str)]) -> Handle {
        let handle = self.begin(release, env).await.unwrap();
        self.until(&handle, |progress| progress.phase == Phase::Ready).await;
        handle
    }

    pub(crate) async fn shift(&self, handle: &Handle, weights: &[(u64, u8)]) -> Progress {
        self.shift_with(handle, weights, &[]).await
    }

    pub(crate) async fn shift_with(&self, handle: &Handle, weights: &[(u64, u8)], copies: &[(u64, u32)]) -> Progress {
        let weights = Weights(weights.iter().map(|(release, weight)| (ReleaseId(*release), *weight)).collect());
        let copies = copies.iter().map(|(release, count)| (ReleaseId(*release), *count)).collect();
        self.provider.steer(&self.target, handle, &Steer::Shift { weights, copies }).await.unwrap();
        self.until(handle, |progress| progress.phase != Phase::Shifting).await
    }

    pub(crate) async fn finish(&self, handle: &Handle) {
        self.provider.steer(&self.target, handle, &Steer::Finish).await.unwrap();
        self.until(handle, |progress| progress.phase == Phase::Finished).await;
    }

    pub(crate) async fn roll_back(&self, handle: &Handle) {
        self.provider.steer(&self.target, handle, &Steer::Stop { roll_back: true }).await.unwrap();
        self.until(handle, |progress| progress.phase == Phase::RolledBack).await;
    }

    pub(crate) async fn deploy(&self, release: u64, env: &[(&str, &str)]) {
        let handle = self.candidate(release, env).await;
        let shifted = self.shift(&handle, &[(release, 100)]).await;
        assert_eq!(shifted.phase, Phase::Ready, "{:?}", shifted.events);
        self.finish(&handle).await;
    }

    /// Polls until the progress is as wanted; a failed step that isn't wanted ends the test.
    pub(crate) async fn until(&self, handle: &Handle, wanted: impl Fn(&Progress) -> bool) -> Progress {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.provider.poll(&self.target, handle).await {
                Ok(progress) if wanted(&progress) => return progress,
                Ok(progress) => {
                    let failed = matches!(progress.phase, Phase::Failed { .. });
                    assert!(!failed && Instant::now() < deadline, "{progress:#?}\n{}", self.agent_log());
                }
                Err(error) => assert!(error.retry && Instant::now() < deadline, "{error:?}\n{}", self.agent_log()),
            }
        }
    }

    pub(crate) async fn observe(&self) -> Observed {
        self.provider.observe(&self.target).await.unwrap()
    }

    pub(crate) fn agent_log(&self) -> String {
        fs::read_to_string(self.state().join("agent.log")).unwrap_or_default()
    }

    /// What the front door answers.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        load::get(self.port, path).await.unwrap_or_else(|error| (0, error.to_string()))
    }

    /// Which version the front door leads to.
    pub(crate) async fn version(&self) -> String {
        let (status, body) = self.get("/").await;
        if status == 200 { body.split(' ').next().unwrap_or_default().to_owned() } else { format!("{status} {body}") }
    }

    /// Every process that this project started and that still runs.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        processes(self.folder.path())
    }

    /// Kills watchdog and agent, whichever of them had time to start the other again included.
    pub(crate) async fn kill_agent(&self) {
        eventually("no agent is left", async || {
            let found: Vec<_> = self.processes().into_iter().filter(|(_, line)| line.contains("__agent")).collect();
            found.iter().for_each(|(pid, _)| kill(*pid));
            found.is_empty()
        })
        .await;
    }

    /// The process whose command line has all of these words.
    pub(crate) fn process(&self, words: &[&str]) -> Option<u32> {
        self.processes().into_iter().find(|(_, line)| words.iter().all(|word| line.contains(word))).map(|(pid, _)| pid)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("agent's log:\n{}", self.agent_log());
        }
        let deadline = Instant::now() + PATIENCE;
        // Watchdogs first: they would start others.
        for word in ["watchdog", "worker", ""] {
            while Instant::now() < deadline {
                let found: Vec<_> = self.processes().into_iter().filter(|(_, line)| line.contains(word)).collect();
                if found.is_empty() {
                    break;
                }
                for (pid, _) in found {
                    kill(pid);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Processes that were started from this folder, or for it.
pub(crate) fn processes(folder: &Path) -> Vec<(u32, String)> {
    let marker = folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() || dataplane::process::ProcessId::of(pid).is_none() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if there || line.contains(&marker) {
            found.push((pid, line));
        }
    }
    found
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Puts an image with one layer into an OCI layout; its digest.
pub(crate) fn pack(layout: &Path, files: &[(&str, &[u8], u32)], entrypoint: &[&str]) -> Digest {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    let layer = tar.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": entrypoint, "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}
    });
    let config = config.to_string().into_bytes();
    let described = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config), "layers": [described("layer.v1.tar", &layer)]
    });
    let manifest = manifest.to_string().into_bytes();
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for bytes in [&layer, &config, &manifest] {
        fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    }
    Digest::of(&manifest)
}
