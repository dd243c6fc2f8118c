//! A command beside a running task, for people. It decides where the program is found and what it is told; running it is
//! the caller's.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dataplane::image;
use dataplane::runtime;
use dataplane::task::{self, Record};
use dataplane::volume::{Mount, rewrite};
use dataplane::{files, podman};
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{ReleaseId, Target};

use crate::agent::state::State;
use crate::fault::{self, Adding, fault};
use crate::provider::LocalProvider;

const OPERATION: &str = "exec";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl LocalProvider {
    /// A command in a running task's surroundings: its environment with secrets, its folders, its image. The program is
    /// looked for in the image first, then on this machine, so that a shell is there also for an image without one. The
    /// caller runs it with its own terminal. Without a task: one of the release with the most traffic.
    pub fn exec_command(&self, target: &Target, task: Option<&str>, argv: &[String], tty: bool) -> Result<Command> {
        let paths = self.paths(target)?;
        let state = State::load(&paths.state()).map_err(|why| fault(ErrorKind::Internal, OPERATION, "", why))?;
        let (folder, record) = find(&paths.tasks(), &state, task)?;
        let (program, args) =
            argv.split_first().ok_or_else(|| fault(ErrorKind::Invalid, OPERATION, "", "no command is given"))?;
        if let Some(container) = &record.container {
            return podman::exec(container, tty, argv).map_err(|error| fault::runtime(OPERATION, &error));
        }
        let release: ReleaseId = record.group.parse().unwrap_or(ReleaseId(0));
        let body = state.releases.get(&release).map(|release| &release.body).ok_or_else(|| {
            fault(ErrorKind::NotFound, OPERATION, release.to_string(), format!("{release} is not here any more"))
        })?;
        let digest = body.image.as_ref().map(|image| image.digest.as_str()).unwrap_or_default();
        let unpacked = image::find(&paths.images(), digest)
            .ok_or_else(|| fault(ErrorKind::NotFound, OPERATION, digest, "the release's image is not unpacked"))?;
        let mounts: Vec<Mount> = body
            .mounts
            .iter()
            .map(|mount| Mount { path: mount.path.clone(), folder: paths.data().join(&mount.name) })
            .collect();
        let pid = task::pid(&folder).ok_or_else(|| {
            fault(ErrorKind::NotFound, OPERATION, record.id.clone(), format!("task {} does not run", record.id))
        })?;
        let folder = if unpacked.config.working_dir.is_empty() { "/" } else { &unpacked.config.working_dir };
        let environment = fs::read(format!("/proc/{pid}/environ"))
            .map_err(|error| fault::disk(OPERATION, record.id.clone(), "can't read the task's environment", &error))?;
        let env: Vec<(String, String)> = environment
            .split(|byte| *byte == 0)
            .filter_map(|pair| {
                String::from_utf8_lossy(pair).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect();
        let path = env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let file = runtime::find(&unpacked, program, Path::new(folder), path)
            .ok()
            .or_else(|| on_machine(program))
            .ok_or_else(|| {
                fault(
                    ErrorKind::NotFound,
                    OPERATION,
                    program,
                    format!("`{program}` is neither in the image nor on this machine"),
                )
            })?;
        let cwd = image::resolve(&unpacked.rootfs, Path::new(folder), true)
            .map_err(|error| fault::disk(OPERATION, folder, "can't find the image's working folder", &error))?;
        let has = |name: &str| env.iter().any(|(known, _)| known == name);
        let mut command = Command::new(file);
        command.arg0(program).args(args.iter().map(|arg| rewrite(arg, &mounts).into_owned())).current_dir(cwd);
        // What a person's terminal needs, unless the task has its own.
        let terminal = ["TERM", "PATH", "HOME", "LANG"].into_iter().filter(|name| !has(name));
        let terminal: Vec<_> = terminal.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        command.env_clear().envs(terminal).envs(env);
        Ok(command)
    }
}

fn find(tasks: &Path, state: &State, wanted: Option<&str>) -> Result<(PathBuf, Record)> {
    let missing = |what: String| {
        fault(ErrorKind::NotFound, OPERATION, wanted.unwrap_or_default(), what).hint("`dbird status` lists the tasks")
    };
    if let Some(name) = wanted {
        let folder = tasks.join(name);
        let record = (!name.contains('/')).then(|| task::record(&folder)).flatten();
        return record.map(|record| (folder, record)).ok_or_else(|| missing(format!("there is no task {name}")));
    }
    let release = state.current().ok_or_else(|| missing("no release serves".to_owned()))?;
    let names = files::names(tasks).unwrap_or_default();
    names
        .iter()
        .rev()
        .map(|name| tasks.join(name))
        .filter(|folder| task::exit_of(folder).is_none())
        .filter_map(|folder| task::record(&folder).map(|record| (folder, record)))
        .find(|(_, record)| record.slot.is_some() && record.group == release.to_string())
        .ok_or_else(|| missing(format!("no task of {release} runs")))
}

fn on_machine(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| file.is_file());
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    path.split(':').map(|place| Path::new(place).join(program)).find(|file| file.is_file())
}
