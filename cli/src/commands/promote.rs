//! `dbird promote`: a rollout goes on now.

use dbird_core::rollout::Request;

use super::{Context, Done};
use crate::{failure::Result, session::Session};

/// Go on with a rollout: past its gate, or past the rest of its pause
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever drives the rollout does it, and this command ends with 0 once it was taken up. Where nobody does any more, because
`deploy --no-wait` left it at a gate, this command goes on with it itself and ends as a deploy would: 0, 1, 3, or 6 at the
next gate with --no-wait.

Examples:
    dbird promote
    dbird promote -e prod --no-wait              as far as the next gate")]
pub(crate) struct Args {
    /// Where this command has to drive it: leave at the next gate with exit code 6
    #[arg(long)]
    no_wait: bool,
}

/// Goes on.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "promote", Some(interrupts))?;
        let done = session.ask(Request::Promote, args.no_wait).await;
        session.with_live(done).await
    })
}
