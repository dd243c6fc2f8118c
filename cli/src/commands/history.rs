//! `dbird history`: past releases, and how each ended.

use dbird_core::{Release, ReleaseId, snapshot, spec::Snapshot};
use dbird_driver::Operator;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{
        Event,
        events::{ReleaseView, RememberedView},
    },
    session::Session,
};

/// Releases that are looked through for the copies of the data that still stand; there may be as many copies, at most 1,000.
const LOOK_BACK_MAX: usize = 2_000;

/// List past releases: who, what changed, and how each ended; or show one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Newest first; * marks the one that serves. `dbird rollback N` goes back to one of them. Copies of the data that were taken
before releases are listed below; a rollback never brings one back by itself.

Examples:
    dbird history
    dbird history 5                              release 5: all changes, its requests, its steps
    dbird history -n 50 -o json")]
pub(crate) struct Args {
    /// Only this release, whole
    #[arg(value_name = "N")]
    one: Option<ReleaseId>,
    /// The same
    #[arg(long, value_name = "N", conflicts_with = "one")]
    release: Option<ReleaseId>,
    /// So many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
}

/// Lists them.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |_| {
        let session = Session::open(cx, &spec, "history", None)?;
        let kept = spec.storage.as_ref().filter(|s| s.snapshot == Snapshot::BeforeRelease);
        let kept = kept.map_or(0, |s| s.snapshots_kept as usize);
        // The list is worth showing even where nobody can be asked what is live.
        let live = session.observe().await.ok().and_then(|o| o.current().map(|r| r.id));
        if let Some(id) = args.one.or(args.release) {
            return one(cx, &session, id, live, kept).await;
        }
        let number = args.number as usize;
        let history = with_copies(&session.operator, number, kept).await?;
        if history.is_empty() && remembered(cx, &session).await? {
            return Ok(Done::success());
        }
        if history.is_empty() {
            cx.out.note(format!("No releases yet in {}. `dbird deploy` makes the first.", spec.environment));
            return Ok(Done::success());
        }
        let snapshots = snapshot::standing(&history).into_iter().cloned().collect();
        let releases = history.iter().rev().take(number).map(|r| ReleaseView::of(r, live == Some(r.id))).collect();
        cx.out.event(Event::History { releases, snapshots });
        Ok(Done::success())
    })
}

/// Where there are no records, the cloud itself may remember; false where it doesn't.
async fn remembered(cx: &Context, session: &Session) -> Result<bool> {
    let Some(aws) = session.cloud.aws() else { return Ok(false) };
    let releases = aws.remembered(&session.target).await?;
    if releases.is_empty() {
        return Ok(false);
    }
    let (url, environment) = (&session.spec.state_url, &session.spec.environment);
    cx.out.warning(format!("{url} has no records of {environment}; this is what AWS itself remembers"));
    let view = |r: dbird_aws::remembered::Remembered| RememberedView {
        id: r.id.to_string(),
        image: r.image.map(|i| i.to_string()),
        at_unix_ms: r.at_unix_ms,
        outcome: r.outcome,
    };
    cx.out.event(Event::Remembered { releases: releases.into_iter().map(view).collect() });
    Ok(true)
}

/// Shows one release.
async fn one(cx: &Context, session: &Session, id: ReleaseId, live: Option<ReleaseId>, kept: usize) -> Result<Done> {
    let record = session.operator.release(id).await?.ok_or_else(|| {
        Failure::usage(format!("there is no record of {id} in {}", session.spec.environment))
            .hint("`dbird history -n 100` lists the releases; one that is under way is in `dbird status`")
    })?;
    let snapshot_stands = match &record.snapshot {
        None => false,
        Some(own) => snapshot::standing(&with_copies(&session.operator, 1, kept).await?).contains(&own),
    };
    let release = Box::new(ReleaseView::of(&record, live == Some(id)));
    cx.out.event(Event::Release { release, snapshot_stands, record: Box::new(record) });
    Ok(Done::success())
}

/// So many records and, where copies of the data are kept, as many as it takes to know which of those stand.
async fn with_copies(operator: &Operator, number: usize, kept: usize) -> Result<Vec<Release>> {
    let mut wanted = number;
    loop {
        let history = operator.history(wanted).await?;
        let all = history.len() < wanted || wanted >= LOOK_BACK_MAX;
        if all || snapshot::standing(&history).len() >= kept {
            return Ok(history);
        }
        wanted = (wanted * 4).min(LOOK_BACK_MAX);
    }
}
