//! `dbird pause`: a rollout stays where it is.

use dbird_core::rollout::Request;

use super::{Context, Done};
use crate::{failure::Result, session::Session};

/// Keep a rollout at its weight until somebody resumes it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Its requests are judged all the same. Nobody who comes within `[rollout] pause_limit` has it undone.

Examples:
    dbird pause
    dbird resume                                 goes on
    dbird abort                                  undoes it")]
pub(crate) struct Args {}

/// Asks for it.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "pause", Some(interrupts))?;
        let done = session.ask(Request::Pause, false).await;
        session.with_live(done).await
    })
}
