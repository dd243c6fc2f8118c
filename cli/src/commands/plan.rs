//! `dbird plan`: what a deploy would do, exactly, without doing it.

use std::path::PathBuf;

use super::{Context, Done, prepare::ImageArgs};
use crate::{
    failure::{Failure, Result},
    output::Event,
    session::{self, Session},
};

/// Show what a deploy would change
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The image is built first, since its digest is part of the plan. Nothing else is changed, and a saved plan can be carried
out later: `dbird deploy --plan FILE` does exactly that, or refuses if anything moved since.

  +  made    ~  changed    -  taken away    =  left as it is

Examples:
    dbird plan
    dbird plan --set env.GREETING=ho --exit-code
    dbird plan --out plan.json -o markdown")]
pub(crate) struct Args {
    /// Write the plan into this file
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// End with exit code 4 if there are changes
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    image: ImageArgs,
}

/// Plans, shows and saves.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |interrupts| {
        let session = Session::open(cx, &spec, "plan", Some(interrupts))?;
        if let Some(unfinished) = session.operator.unfinished().await? {
            let release = unfinished.release;
            cx.out.warning(match (unfinished.parked, unfinished.holder) {
                (_, Some(held)) => format!("{release} is under way: {held}"),
                (Some(weight), None) => {
                    format!("{release} waits at {weight} %, and nothing is deployed before: {}", session.typing.hint())
                }
                (None, None) if unfinished.beside => {
                    format!("{release} goes on in the cloud; `dbird deploy` follows it to its end first")
                }
                (None, None) => format!("{release} was not finished; `dbird deploy` finishes or undoes it first"),
            });
        }
        let image = args.image.make(cx, &session, interrupts).await?;
        let documents = cx.project()?.render(&spec, Some(&image))?;
        let planned = session.plan(documents, Some(image), dbird_core::Reason::Deploy, &[]).await?;
        let changes = !planned.plan.is_empty();
        cx.out.event(Event::Plan { plan: Box::new(planned.plan.clone()) });
        for obstacle in planned.obstacles {
            cx.out.warning(format!("in the way of a deploy: {obstacle}"));
        }
        if let Some(path) = &args.out {
            let text = planned.plan.to_json();
            std::fs::write(path, text).map_err(|e| Failure::io("write", path, &e))?;
            cx.out.note(format!("wrote {}", path.display()));
        }
        let exit_code = if changes && args.exit_code { 4 } else { 0 };
        let outcome = if changes { "changes" } else { "unchanged" };
        Ok(Done { exit_code, outcome, live: Some(session::live(&planned.observed)) })
    })
}
