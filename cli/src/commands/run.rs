//! `dbird run`: a one-off task of the release that serves, with its output and its exit code.

use dbird_core::{Command, ReleaseId};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{Event, time},
    session::Session,
};

/// Run a command as a task of its own, with the release's image and settings
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Its exit code is dbird's.

Examples:
    dbird run -- drafty-bird check-mount /data
    dbird run --release 3 --timeout 60 -- bin/migrate --dry-run")]
pub(crate) struct Args {
    /// Of this release; without it, the one that serves
    #[arg(long, value_name = "N")]
    release: Option<ReleaseId>,
    /// Stop it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "run", Some(interrupts))?;
        let release = match args.release {
            Some(release) => release,
            None => session.observe().await?.current().map(|r| r.id).ok_or_else(|| {
                Failure::failed(format!("nothing is deployed in {}", spec.environment))
                    .hint("`dbird deploy` makes the first release, whose image the command then gets")
            })?,
        };
        let timeout_ms = args.timeout.map(|s| s.saturating_mul(1000));
        let key = format!("run-{}-{}", time::now_unix_ms(), std::process::id());
        let command = Command { release, argv: args.command.clone(), timeout_ms, key };
        let end = session.operator.run_task(command, None).await?;
        cx.out.event(Event::Exited { exit_code: end.exit_code });
        // Codes beyond a byte, or of a signal, are as the shell would show them.
        let exit_code = u8::try_from(end.exit_code).unwrap_or(1);
        Ok(Done { exit_code, outcome: if exit_code == 0 { "done" } else { "failed" }, live: None })
    })
}
