//! `dbird init`: environment files for a new service, so that the next `dbird deploy` works.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use dbird_core::{
    Cloud,
    environment::{Layer, Request, resolve},
};

use super::{Context, Done};
use crate::{
    failure::{Failure, FailureKind, Result},
    output::{Event, Output},
    scaffold::{self, Answers},
};

/// Set up a new service in this folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What isn't given is found out from Cargo.toml or package.json, or asked on a terminal. Nothing is overwritten.

Examples:
    dbird init
    dbird init --name api --port 3000 --binary bin/api --health /up
    dbird init --folder app --entrypoint node --entrypoint server.js --build 'npm ci' -y")]
pub(crate) struct Args {
    /// The service's name
    #[arg(long)]
    name: Option<String>,
    /// The port that it listens on
    #[arg(long)]
    port: Option<u16>,
    /// The command that builds it, with its arguments in one string; quotes are not understood
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// The binary that the build leaves behind
    #[arg(long, value_name = "PATH", conflicts_with_all = ["folder", "entrypoint"])]
    binary: Option<String>,
    /// Or the folder that it leaves behind
    #[arg(long, value_name = "PATH", requires = "entrypoint")]
    folder: Option<String>,
    /// What starts the service in that folder; once for the program and once for each argument
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// The path that answers 200 when the service is healthy
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// What it keeps between releases, in /data
    #[arg(long, value_name = "KIND", value_parser = ["none", "sqlite", "files"])]
    storage: Option<String>,
    /// The ARN of production's certificate; with it, environments/prod.toml is written too
    #[arg(long, value_name = "ARN")]
    certificate: Option<String>,
}

/// Asks what isn't known, checks that the files would be valid, and writes them.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let folder = folder(cx)?;
    let base = folder.join("environments/base.toml");
    if base.exists() {
        return Err(Failure::usage(format!("{} is there already", base.display()))
            .hint("edit it; `dbird schema environment` describes every key"));
    }
    let answers = answers(args, scaffold::detect(&folder), cx)?;
    let files = scaffold::files(&answers);
    check(&files)?;
    for (name, text) in &files {
        write(&folder, name, text, &cx.out)?;
    }
    if answers.certificate.is_none() {
        cx.out.note("Every file in environments/ is an environment. prod.toml needs a certificate first: `dbird explain DB004`.");
    }
    cx.out.note("Next: `dbird validate`, then `dbird deploy`.");
    Ok(Done::success())
}

fn folder(cx: &Context) -> Result<PathBuf> {
    let folder = cx.global.project.clone().unwrap_or_else(|| PathBuf::from("."));
    fs::canonicalize(&folder).map_err(|e| Failure { kind: FailureKind::Usage, ..Failure::io("open", &folder, &e) })
}

/// Flags win over what was found out; what is left is asked, or taken as it is usual.
fn answers(args: &Args, found: Answers, cx: &Context) -> Result<Answers> {
    let ask = |question: &str, default: Option<String>| -> Option<String> {
        if !cx.out.is_interactive() || cx.global.yes {
            return default;
        }
        let shown = default.as_ref().map(|d| format!(" [{d}]")).unwrap_or_default();
        cx.out.ask(&format!("{question}{shown}:")).filter(|a| !a.is_empty()).or(default)
    };
    let given = |flag: &Option<String>, question: &str, default: Option<String>| {
        flag.clone().or_else(|| ask(question, default))
    };

    let name = given(&args.name, "Name of the service", found.name)
        .ok_or_else(|| Failure::usage("the service needs a name").hint("give it with --name"))?;
    let port = match args.port {
        Some(port) => port,
        None => {
            let text = ask("Port that it listens on", Some(found.port.unwrap_or(8080).to_string()));
            let port = text.as_deref().map(str::parse::<u16>);
            port.and_then(|p| p.ok().filter(|p| *p > 0))
                .ok_or_else(|| Failure::usage("a port is a number from 1 to 65535"))?
        }
    };
    let usual = Some(found.command.join(" ")).filter(|c| !c.is_empty()).unwrap_or_else(|| "none".to_owned());
    let command = given(&args.build, "Command that builds it, or none", Some(usual)).filter(|c| c != "none");
    let command = command.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let (folder, entrypoint) = match (&args.folder, args.entrypoint.is_empty()) {
        (Some(folder), _) => (Some(folder.clone()), args.entrypoint.clone()),
        (None, _) => (found.folder, found.entrypoint),
    };
    let binary = match (&args.binary, &folder) {
        (Some(binary), _) => Some(binary.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(ask("Binary that the build leaves behind", found.binary).ok_or_else(|| {
            Failure::usage("it is not clear what goes into the image")
                .hint("give --binary PATH, or --folder PATH with --entrypoint PROGRAM")
        })?),
    };
    let folder = if binary.is_some() { None } else { folder };
    let health = given(&args.health, "Path that answers 200 when it is healthy", Some("/healthz".to_owned()));
    let storage =
        given(&args.storage, "What it keeps between releases: none, sqlite or files", Some("none".to_owned()));
    let certificate = args.certificate.clone();
    Ok(Answers {
        name: Some(name),
        port: Some(port),
        command,
        binary,
        folder,
        entrypoint,
        health,
        storage,
        certificate,
    })
}

/// Answers may hold anything; what they come to has to be valid before it is written.
fn check(files: &[(&'static str, String)]) -> Result<()> {
    let layer = |name: &str| files.iter().find(|(n, _)| *n == name).map(|(n, text)| Layer::new(*n, text));
    let Some(base) = layer("environments/base.toml") else { return Ok(()) };
    for environment in ["dev", "prod"] {
        let Some(overlay) = layer(&format!("environments/{environment}.toml")) else { continue };
        for cloud in Cloud::ALL {
            let overlay = Some(overlay.clone());
            let dbird_version = env!("CARGO_PKG_VERSION");
            let request = Request { environment, cloud, base: base.clone(), overlay, sets: &[], dbird_version };
            if let Err(faults) = resolve(&request) {
                let mut failure = Failure::usage("these answers make no valid configuration");
                failure.causes = faults.0.iter().map(|f| f.message.clone()).collect();
                return Err(failure.hint("nothing was written; run it again with other answers"));
            }
        }
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str, out: &Output) -> Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Failure::io("create", parent, &e))?;
    }
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).map_err(|e| Failure::io("write", &path, &e))?;
            out.event(Event::Written { path: name.to_owned() });
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            out.note(format!("{name} is there already and stays as it is"))
        }
        Err(e) => return Err(Failure::io("write", &path, &e)),
    }
    Ok(())
}
