//! `dbird restart`: new tasks of the release that serves, without losing a request.

use dbird_core::Reason;

use super::{Context, Done, deploy};
use crate::{failure::Result, interrupt::Interrupts, session::Session};

/// Start new tasks of what serves now, without losing a request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is a release like any other, with the same image and settings: secrets are read anew.

Examples:
    dbird restart
    dbird restart -e prod")]
pub(crate) struct Args {}

/// Restarts.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "restart", Some(interrupts))?;
        let done = restart(cx, &session, interrupts).await;
        session.with_live(done).await
    })
}

async fn restart(cx: &Context, session: &Session, interrupts: &Interrupts) -> Result<Done> {
    session.recover().await?;
    let serving = session.serving(&session.observe().await?).await?;
    let planned = session.plan(serving.documents, serving.image, Reason::Restart, &[]).await?;
    deploy::finish(cx, session, planned, interrupts).await
}
