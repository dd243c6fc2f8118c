//! `dbird status`: what is live.

use dbird_driver::Unfinished;

use super::{Context, Done};
use crate::{
    failure::Result,
    output::{
        Event,
        events::{RolloutView, StatusRelease, StatusTask, StatusView},
    },
    session::{self, Session},
    typing::Typing,
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
        let unfinished = session.operator.unfinished().await?;
        if let (None, Some(Unfinished { release, parked: None, beside, .. })) = (&holder, &unfinished) {
            notes.push(match beside {
                true => format!(
                    "{release} goes on in the cloud and nobody watches it; `{}` follows it",
                    session.typing.command("wait")
                ),
                false => format!(
                    "{release} was not finished; the next `dbird deploy` or `dbird rollback` finishes or undoes it"
                ),
            });
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
            rollout: unfinished.map(|u| rollout(u, holder.is_some(), &session.typing)),
            busy: holder.map(|h| h.to_string()),
        }));
        Ok(Done { live: Some(session::live(&observed)), ..Done::success() })
    })
}

fn rollout(unfinished: Unfinished, driven: bool, typing: &Typing) -> RolloutView {
    let Unfinished { release, reason, actor, started_unix_ms, parked, beside, .. } = unfinished;
    let parked = parked.filter(|_| !driven);
    let driven = driven || beside && parked.is_none();
    RolloutView {
        release: release.to_string(),
        reason,
        actor,
        started_unix_ms,
        driven,
        parked,
        choices: if parked.is_some() { typing.choices(false) } else { Vec::new() },
    }
}

fn task(t: dbird_core::TaskStatus) -> StatusTask {
    let dbird_core::TaskStatus { id, state, detail, restarts, address, pid, reported } = t;
    StatusTask { id, state, detail, restarts, address, pid, reported }
}
