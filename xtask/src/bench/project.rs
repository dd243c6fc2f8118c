//! A throw-away project with what all real environments share and the already built game, deployed with the real `dbird`.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Bench,
    server::{free_address, peak_mb},
};
use crate::setup::{self, Outcome};

/// A project folder; what runs in it is destroyed with this value.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    dbird: PathBuf,
    /// The front door.
    pub(crate) front: SocketAddr,
    test: SocketAddr,
}

/// How a dbird command went.
pub(crate) struct Ran {
    /// From start to exit.
    pub(crate) took: Duration,
    /// Peak resident memory as far as it was seen, in MB.
    pub(crate) peak_mb: f64,
}

impl Project {
    /// A new folder with the game and one environment, `dev`: what the real ones share, and `overlay`.
    pub(crate) fn new(bench: &Bench, overlay: &str) -> Outcome<Project> {
        let folder = tempfile::tempdir_in(setup::target()).map_err(|e| e.to_string())?;
        let (from, to) = (setup::root().join("environments"), folder.path().join("environments"));
        std::fs::create_dir(&to).map_err(|e| e.to_string())?;
        std::fs::copy(from.join("base.toml"), to.join("base.toml")).map_err(|e| e.to_string())?;
        std::fs::write(to.join("dev.toml"), overlay).map_err(|e| e.to_string())?;
        std::fs::copy(&bench.game, folder.path().join("drafty-bird")).map_err(|e| e.to_string())?;
        Ok(Project { dbird: bench.bin.join("dbird"), folder, front: free_address()?, test: free_address()? })
    }

    /// The project's folder.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A dbird command in this project, with the build step replaced by nothing.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.dbird);
        command.current_dir(self.folder.path()).args(args).args(["-y", "-e", "dev"]);
        for set in [
            r#"service.build.command=["true"]"#.to_owned(),
            "service.build.binary=drafty-bird".to_owned(),
            format!("cloud.local.listen={}", self.front),
            format!("cloud.local.test_listen={}", self.test),
            "env.LOG_LEVEL=warn".to_owned(),
        ] {
            command.arg("--set").arg(set);
        }
        command
    }

    /// Runs a dbird command to its end; anything but success is an error with its output.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome<Ran> {
        let log = self.folder.path().join("command.log");
        let file = std::fs::File::create(&log).map_err(|e| e.to_string())?;
        let errors = file.try_clone().map_err(|e| e.to_string())?;
        let start = Instant::now();
        let mut child =
            self.command(args).stdin(Stdio::null()).stdout(file).stderr(errors).spawn().map_err(|e| e.to_string())?;
        let mut peak = 0.0_f64;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            peak = peak.max(peak_mb(child.id()).unwrap_or(0.0));
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = start.elapsed();
        if !status.success() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("dbird {} ended with {status}:\n{said}", args.join(" ")));
        }
        Ok(Ran { took, peak_mb: peak })
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.command(&["destroy"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
