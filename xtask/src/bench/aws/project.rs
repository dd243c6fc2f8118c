//! A throw-away project on a simulated account: what all real environments share and the already built game, its state in the
//! account's own S3.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    account::{Account, now_ms},
    own_time,
    pace::Pace,
    requests::Requests,
};
use crate::{
    bench::{Bench, server::peak_mb},
    setup::{self, Outcome},
};

const BUCKET: &str = "bench-state";

/// A project folder.
pub(super) struct Project {
    folder: tempfile::TempDir,
    dbird: std::path::PathBuf,
    variables: Vec<(String, String)>,
}

/// How a command went.
pub(super) struct Ran {
    /// From start to exit, in seconds.
    pub(super) took_s: f64,
    /// Of that, what was not the cloud's own time.
    pub(super) own_s: f64,
    /// Peak resident memory as far as it was seen, in MB.
    pub(super) peak_mb: f64,
    /// What it asked for.
    pub(super) requests: Requests,
    /// How it kept its pace.
    pub(super) pace: Pace,
}

impl Project {
    /// A new folder with the game and one environment, `dev`, in an account that gets a bucket for its state.
    pub(super) fn new(bench: &Bench, account: &Account, overlay: &str) -> Outcome<Project> {
        let folder = tempfile::tempdir_in(setup::target()).map_err(|e| e.to_string())?;
        let (from, to) = (setup::root().join("environments"), folder.path().join("environments"));
        std::fs::create_dir(&to).map_err(|e| e.to_string())?;
        std::fs::copy(from.join("base.toml"), to.join("base.toml")).map_err(|e| e.to_string())?;
        std::fs::write(to.join("dev.toml"), overlay).map_err(|e| e.to_string())?;
        std::fs::copy(&bench.game, folder.path().join("drafty-bird")).map_err(|e| e.to_string())?;
        let variables = account.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let project = Project { folder, dbird: bench.bin.join("dbird"), variables };
        setup::output(&mut project.command(&["bootstrap", "--bucket", BUCKET]))?;
        Ok(project)
    }

    /// Makes the next image another one than all before.
    pub(super) fn change_image(&self, number: usize) -> Outcome {
        use std::io::Write as _;
        let path = self.folder.path().join("drafty-bird");
        let file = std::fs::File::options().append(true).open(&path);
        // What comes after an executable's end is never read.
        file.and_then(|mut file| writeln!(file, "{number}")).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.dbird);
        command.current_dir(self.folder.path()).args(args).args(["-y", "-c", "aws", "-e", "dev", "-o", "json"]);
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        for set in [
            r#"service.build.command=["true"]"#.to_owned(),
            "service.build.binary=drafty-bird".to_owned(),
            format!("state.url=s3://{BUCKET}/dbird"),
            "env.LOG_LEVEL=warn".to_owned(),
        ] {
            command.arg("--set").arg(set);
        }
        command
    }

    /// Runs a dbird command to its end; anything but success is an error with its output.
    pub(super) fn run(&self, account: &mut Account, args: &[&str]) -> Outcome<Ran> {
        account.new_calls()?;
        let registry = account.registry_requests()?;
        let log = self.folder.path().join("command.log");
        let file = std::fs::File::create(&log).map_err(|e| e.to_string())?;
        let errors = file.try_clone().map_err(|e| e.to_string())?;
        let began_ms = now_ms();
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
        let ended_ms = now_ms();
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if !status.success() {
            return Err(format!("dbird {} ended with {status}:\n{said}", args.join(" ")));
        }
        let (calls, spans) = (account.new_calls()?, account.spans()?);
        Ok(Ran {
            took_s: (ended_ms - began_ms) / 1000.0,
            own_s: own_time::outside(began_ms, ended_ms, &spans) / 1000.0,
            peak_mb: peak,
            requests: Requests::of(&calls, account.registry_requests()?.saturating_sub(registry)),
            pace: Pace::of(began_ms, &calls, &said),
        })
    }
}
