//! `dbird exec`: a program beside a running task, on this terminal, for people.

use std::{io::IsTerminal as _, os::unix::process::ExitStatusExt as _};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    session::Session,
};

/// Run a program inside a running task, on this terminal
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It gets the task's environment and folders. For hooks and scripts use `dbird run`, which starts a task of its own.

Examples:
    dbird exec -- drafty-bird check-mount /data
    dbird exec --task r4-1 -- sh")]
pub(crate) struct Args {
    /// In this task, as `dbird status` shows it; without it, the serving release's first
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it and passes its exit code on.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut command = cx.look(async |_| {
        let session = Session::open(cx, &spec, "exec", None)?;
        session.cloud.exec(&session.target, args.task.as_deref(), &args.command, tty).await
    })?;
    cx.out.pause();
    // Ctrl-C is for the program: it gets it from the terminal, and its end is ours.
    let status = cx.attend(async |_| {
        let program = command.get_program().to_string_lossy().into_owned();
        command.status().map_err(|e| Failure::failed(format!("could not start {program}")).because(&e))
    })?;
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    let exit_code = u8::try_from(code).unwrap_or(1);
    Ok(Done { exit_code, outcome: if exit_code == 0 { "done" } else { "failed" }, live: None })
}
