//! `dbird resume`: a paused rollout goes on.

use dbird_core::rollout::Request;

use super::{Context, Done};
use crate::{failure::Result, session::Session};

/// Go on with a rollout that was paused, from where it was
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What was left of its time at that weight passes first; `dbird promote` goes on at once.

Examples:
    dbird resume
    dbird resume -e prod")]
pub(crate) struct Args {}

/// Asks for it.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "resume", Some(interrupts))?;
        let done = session.ask(Request::Resume, false).await;
        session.with_live(done).await
    })
}
