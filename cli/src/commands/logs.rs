//! `dbird logs`: what the service's tasks wrote.

use std::time::Duration;

use dbird_core::{LogQuery, ReleaseId};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::Event,
    session::Session,
};

/// Asked again after this long when nothing new came.
const POLL: Duration = Duration::from_millis(250);

/// Show what the tasks wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lines come oldest first, of all releases that are kept. With -f it goes on until Ctrl-C.

Examples:
    dbird logs --tail 20
    dbird logs -f
    dbird logs --release 4        also of a release that failed
    dbird logs -o json | jq -r .text")]
pub(crate) struct Args {
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// Only of this release
    #[arg(long, value_name = "N")]
    release: Option<ReleaseId>,
    /// The last so many lines first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    tail: u32,
    /// Only of this task, as `dbird status` shows it
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
}

/// Shows a page, and with -f every page after it.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.attend(async |interrupts| {
        let session = Session::open(cx, &spec, "logs", None)?;
        tokio::select! {
            done = show(args, cx, &session) => done,
            // Ctrl-C is how following ends.
            () = interrupts.first() => Ok(Done::success()),
        }
    })
}

async fn show(args: &Args, cx: &Context, session: &Session) -> Result<Done> {
    let query = LogQuery { release: args.release, task: args.task.clone(), tail_lines: args.tail };
    let mut cursor = None;
    loop {
        let page = session.provider.logs(&session.target, &query, cursor.as_ref()).await?;
        let idle = page.lines.is_empty();
        if idle && cursor.is_none() {
            silent(args, cx, session).await?;
        }
        for line in page.lines {
            cx.out.event(Event::Log {
                written_at_unix_ms: line.at_unix_ms,
                release: line.release.to_string(),
                task: line.task,
                stream: if line.stderr { "stderr" } else { "stdout" }.to_owned(),
                text: line.text,
            });
        }
        if !args.follow || !page.more || cx.out.is_closed() {
            return Ok(Done::success());
        }
        cursor = Some(page.next);
        if idle {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Nothing to show has a reason.
async fn silent(args: &Args, cx: &Context, session: &Session) -> Result<()> {
    match args.release {
        Some(release) if session.operator.release(release).await?.is_none() => {
            Err(Failure::usage(format!("there is no release {release} in {}", session.target.environment))
                .hint("`dbird history` lists the releases"))
        }
        _ if args.tail > 0 => {
            cx.out.note("Nothing was logged yet.");
            Ok(())
        }
        _ => Ok(()),
    }
}
