//! `dbird history`: past releases, and how each ended.

use super::{Context, Done};
use crate::{
    failure::Result,
    output::{Event, events::ReleaseView},
    session::Session,
};

/// List past releases
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Newest first; * marks the one that serves. `dbird rollback N` goes back to one of them.

Examples:
    dbird history
    dbird history -n 50 -o json")]
pub(crate) struct Args {
    /// So many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
}

/// Lists them.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |_| {
        let session = Session::open(cx, &spec, "history", None)?;
        let history = session.operator.history(args.number as usize).await?;
        if history.is_empty() {
            cx.out.note(format!("No releases yet in {}. `dbird deploy` makes the first.", spec.environment));
            return Ok(Done::success());
        }
        // The list is worth showing even where nobody can be asked what is live.
        let live = session.observe().await.ok().and_then(|o| o.current().map(|r| r.id));
        let releases = history.iter().rev().map(|r| ReleaseView::of(r, live == Some(r.id))).collect();
        cx.out.event(Event::History { releases });
        Ok(Done::success())
    })
}
