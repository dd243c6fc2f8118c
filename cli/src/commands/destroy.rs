//! `dbird destroy`: takes an environment away, and keeps its data.

use std::collections::BTreeMap;

use dbird_core::{Documents, ImageRef, Observed, Reason};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    interrupt::Interrupts,
    output::{Event, events::Live},
    session::Session,
};

/// Take an environment away; data stays
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Data stays where it is and the next deploy takes it over again, unless --delete-data names it. The history stays too.

Examples:
    dbird destroy -e dev
    dbird destroy -e dev -y --delete-data data")]
pub(crate) struct Args {
    /// Delete this data too, as `dbird status` names it; may be given several times
    #[arg(long, value_name = "NAME")]
    delete_data: Vec<String>,
}

/// Asks, and takes away.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "destroy", Some(interrupts))?;
        session.recover().await?;
        let observed = session.observe().await?;
        check_names(&args.delete_data, &observed.data)?;
        let (documents, image) = documents(cx, &session, &observed).await?;
        let planned = session.plan(documents, image, Reason::Destroy, &args.delete_data).await?;
        let nothing = planned.plan.is_empty();
        if nothing && observed.releases.is_empty() {
            cx.out.note(format!("Nothing runs in {}.", spec.environment));
        } else {
            cx.out.event(Event::Plan { plan: Box::new(planned.plan.clone()) });
            confirm(cx, &spec.environment, interrupts).await?;
            session.carry_out(planned).await?;
        }
        session.cloud.shut_down(&session.target).await?;
        for (name, place) in observed.data.into_iter().filter(|(name, _)| !args.delete_data.contains(name)) {
            cx.out.event(Event::Kept { name, place });
        }
        Ok(Done { live: Some(Live { release: None, image: None, url: None }), ..Done::success() })
    })
}

/// What is live is described by its record; without one, by the configuration.
async fn documents(cx: &Context, session: &Session, observed: &Observed) -> Result<(Documents, Option<ImageRef>)> {
    match session.serving(observed).await {
        Ok(release) => Ok((release.documents, release.image)),
        Err(_) => Ok((cx.project()?.render(&session.spec, None)?, None)),
    }
}

fn check_names(wanted: &[String], there: &BTreeMap<String, String>) -> Result<()> {
    let Some(unknown) = wanted.iter().find(|n| !there.contains_key(*n)) else { return Ok(()) };
    let names: Vec<_> = there.keys().map(String::as_str).collect();
    let known =
        if names.is_empty() { "there is no data here".to_owned() } else { format!("there is: {}", names.join(", ")) };
    Err(Failure::usage(format!("there is no data called `{unknown}`")).hint(known))
}

async fn confirm(cx: &Context, environment: &str, interrupts: &Interrupts) -> Result<()> {
    if cx.global.yes {
        return Ok(());
    }
    if !cx.out.is_interactive() {
        return Err(Failure::usage(format!(
            "destroying {environment} needs a confirmation, and there is no terminal to ask on"
        ))
        .hint("-y confirms it"));
    }
    let question = format!("Type the environment's name to take it away ({environment}):");
    let answer = super::ask(cx, interrupts, &question).await?;
    if answer.as_deref() == Some(environment) {
        return Ok(());
    }
    Err(Failure::failed("not confirmed; nothing was changed"))
}
