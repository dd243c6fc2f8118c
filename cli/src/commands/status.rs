//! `dbird status`: what is live.

use super::{Context, Done};
use crate::{
    failure::Result,
    output::{
        Event,
        events::{StatusRelease, StatusTask, StatusView},
    },
    session::{self, Session},
};

/// Show what is live: releases, traffic, tasks, URLs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
    dbird status
    dbird status -e prod
    dbird status -o json | jq -r 'select(.event == \"status\") | .endpoints.service'")]
pub(crate) struct Args {}

/// Looks, and shows it.
pub(crate) fn run(_: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |_| {
        let session = Session::open(cx, &spec, "status", None)?;
        let observed = session.observe().await?;
        let holder = session.operator.holder().await?;
        let mut notes = observed.notes.clone();
        if let (None, Some(unfinished)) = (&holder, session.operator.unfinished().await?) {
            let release = unfinished.release;
            notes.push(format!(
                "{release} was not finished; the next `dbird deploy` or `dbird rollback` finishes or undoes it"
            ));
        }
        let releases = observed.releases.iter().rev().map(|r| StatusRelease {
            id: r.id.to_string(),
            weight: r.weight,
            ready: r.ready,
            image: r.image.to_string(),
            since_unix_ms: r.since_unix_ms,
            tasks: r.tasks.iter().cloned().map(task).collect(),
        });
        cx.out.event(Event::Status(StatusView {
            service: session.target.service.clone(),
            environment: session.target.environment.clone(),
            cloud: spec.cloud,
            endpoints: if observed.releases.is_empty() { Default::default() } else { observed.endpoints.clone() },
            releases: releases.collect(),
            data: observed.data.clone(),
            notes,
            busy: holder.map(|h| h.to_string()),
        }));
        Ok(Done { live: Some(session::live(&observed)), ..Done::success() })
    })
}

fn task(t: dbird_core::TaskStatus) -> StatusTask {
    let dbird_core::TaskStatus { id, state, detail, restarts, address, pid, reported } = t;
    StatusTask { id, state, detail, restarts, address, pid, reported }
}
