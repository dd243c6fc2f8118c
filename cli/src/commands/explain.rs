//! `dbird explain`: what a policy's code means, and how to put it right.

use dbird_core::policy;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::Event,
};

/// Explain a policy's code, or list all policies
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
    dbird explain          list every policy
    dbird explain DB007")]
pub(crate) struct Args {
    /// The code, as `dbird validate` shows it
    code: Option<String>,
}

/// Explains one, or lists all.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let Some(code) = &args.code else {
        for policy in policy::all() {
            cx.out.event(Event::Policy { code: policy.code.to_owned(), title: policy.title.to_owned() });
        }
        return Ok(Done::success());
    };
    let wanted = code.to_ascii_uppercase();
    let policy = policy::explain(&wanted)
        .ok_or_else(|| Failure::usage(format!("there is no policy {code}")).hint("`dbird explain` lists them all"))?;
    cx.out.event(Event::Text { topic: policy.code.to_owned(), text: policy.to_string() });
    Ok(Done::success())
}
