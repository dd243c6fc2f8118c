//! `dbird rollback`: planning again from the documents of an older release.

use dbird_core::{Reason, ReleaseId, snapshot};

use super::{Context, Done, deploy};
use crate::{
    failure::{Failure, Result},
    image::{self, Layout},
    interrupt::Interrupts,
    session::Session,
};

/// Releases that are looked at for one to go back to.
const LOOK_BACK: usize = 1000;

/// Go back to an older release
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is a release like any other, made from the older one's image and settings: what serves now keeps serving until it is
ready. Data is not taken back: `dbird restore` does that. `dbird history` lists what there is.

Examples:
    dbird rollback          to the one before
    dbird rollback 3")]
pub(crate) struct Args {
    /// To this release; without it, the last one that succeeded before the one that serves
    #[arg(value_name = "N")]
    to: Option<ReleaseId>,
}

/// Rolls back.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "rollback", Some(interrupts))?;
        let done = rollback(args, cx, &session, interrupts).await;
        session.with_live(done).await
    })
}

async fn rollback(args: &Args, cx: &Context, session: &Session, interrupts: &Interrupts) -> Result<Done> {
    session.recover().await?;
    let history = session.operator.history(LOOK_BACK).await?;
    let live = session.observe().await?.current().map(|r| r.id);
    let target = dbird_core::history::rollback_target(&history, live, args.to)
        .map_err(|e| Failure::usage(e.to_string()).hint("`dbird history` lists the releases"))?;
    if let Some(image) = &target.image {
        let layout = Layout::create(&cx.project()?.folder.join(image::FOLDER))?;
        if session.cloud.runs_from_project() || layout.holds(&image.digest) {
            layout.check(&image.digest)?;
            layout.touch(&image.digest);
        }
    }
    let from = live.map_or_else(|| "nothing".to_owned(), |l| l.to_string());
    cx.out.note(format!("Rolling back from {from} to what {} was.", target.id));
    // Of all copies that were taken since it served, the oldest is the nearest to what it left.
    if let Some(copy) =
        snapshot::standing(&history).into_iter().filter(|s| s.before > target.id).min_by_key(|s| s.before)
    {
        let command = session.typing.command(&format!("restore {}", copy.before));
        cx.out.note(format!(
            "The data stays as it is now. A copy from before {} lies at {}; `{command}` brings it back.",
            copy.before, copy.place
        ));
    }
    let reason = Reason::Rollback { to: target.id };
    let planned = session.plan(target.documents.clone(), target.image.clone(), reason, &[]).await?;
    deploy::finish(cx, session, planned, interrupts).await
}
