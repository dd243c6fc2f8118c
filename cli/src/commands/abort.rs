//! `dbird abort`: a rollout is undone.

use dbird_core::rollout::Request;

use super::{Context, Done};
use crate::{failure::Result, session::Session};

/// Undo a rollout that is under way; the previous release gets all traffic back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever drives the rollout does it, and this command ends with 0 once it was taken up; `dbird wait` waits for the end. Where
nobody does any more, this command undoes it itself and ends with 3. What has ended is no rollout any more: `dbird rollback`.

Examples:
    dbird abort
    dbird abort -e prod --reason \"complaints about logins\"")]
pub(crate) struct Args {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// Undoes it.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "abort", Some(interrupts))?;
        let done = session.ask(Request::Abort { why: args.reason.trim().to_owned() }, false).await;
        session.with_live(done).await
    })
}
