//! `dbird backup`: the service's own command that copies its data, as a one-off task of the release that serves. What a copy is
//! and where it may lie, that command decides.

use dbird_core::{Command, Spec, snapshot, spec::Storage};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{Event, time},
    session::Session,
};

/// Copy the service's data, while it runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It runs the command that [storage] backup names, as a task of the release that serves; the exit code is that command's.

Examples:
    dbird backup                               below the data's own folder, in snapshots/
    dbird backup /data/before-the-move
    dbird backup -e prod s3://my-backups/prod/ where its command can write")]
pub(crate) struct Args {
    /// Where to: a path as the service sees it, or an address that its command takes; without it, a new name in the data's
    /// folder
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Stop it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// Runs it.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    let storage = storage(&spec)?;
    let place = args.target.clone().unwrap_or_else(|| new_place(storage, "manual"));
    let argv = command(&spec, "backup", &place)?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "backup", Some(interrupts))?;
        let release = session.observe().await?.current().map(|r| r.id).ok_or_else(|| nothing_serves(&spec))?;
        let command =
            Command { release, argv, timeout_ms: args.timeout.map(|s| s.saturating_mul(1000)), key: key("backup") };
        let started_ms = cx.out.elapsed_ms();
        let end = session.operator.run_task(command, None).await?;
        if end.exit_code == 0 {
            cx.out.event(Event::Copied { place, took_ms: cx.out.elapsed_ms().saturating_sub(started_ms) });
        }
        Ok(ended(cx, end.exit_code))
    })
}

/// What the service keeps.
pub(super) fn storage(spec: &Spec) -> Result<&Storage> {
    spec.storage.as_ref().ok_or_else(|| {
        Failure::usage(format!("{} keeps no data in {}: there is no [storage]", spec.service.name, spec.environment))
    })
}

/// A command of the service, with the copy's place filled in.
pub(super) fn command(spec: &Spec, key: &str, place: &str) -> Result<Vec<String>> {
    let storage = storage(spec)?;
    let argv = if key == "backup" { &storage.backup } else { &storage.restore };
    if argv.is_empty() {
        let text = format!("{} has no command for this: [storage] {key} is not set", spec.environment);
        return Err(Failure::usage(text)
            .hint(format!("name the service's own: {key} = [\"my-service\", \"{key}\", \"{{file}}\"]")));
    }
    Ok(argv.iter().map(|argument| argument.replace("{file}", place)).collect())
}

/// A place in the data's folder that nothing has.
pub(super) fn new_place(storage: &Storage, name: &str) -> String {
    let time = time::stamp(time::now_unix_ms()).replace(['-', ':'], "").replace(' ', "T");
    format!("{}/{}/{name}-{time}", storage.mount.trim_end_matches('/'), snapshot::FOLDER)
}

/// A task's name that no other run has.
pub(super) fn key(command: &str) -> String {
    format!("{command}-{}-{}", time::now_unix_ms(), std::process::id())
}

pub(super) fn nothing_serves(spec: &Spec) -> Failure {
    Failure::failed(format!("nothing is deployed in {}", spec.environment))
        .hint("`dbird deploy` makes the first release, whose image the command then gets")
}

/// Says how a task ended. Codes beyond a byte, or of a signal, are as the shell would show them.
pub(super) fn ended(cx: &Context, exit_code: i32) -> Done {
    cx.out.event(Event::Exited { exit_code });
    let exit_code = u8::try_from(exit_code).unwrap_or(1);
    Done { exit_code, outcome: if exit_code == 0 { "done" } else { "failed" }, live: None }
}
