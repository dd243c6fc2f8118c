//! `dbird schema`: the JSON schemas of what people write and machines read.

use dbird_core::{Plan, Release};
use schemars::schema_for;
use serde_json::{Value, json};

use super::{Context, Done};
use crate::{
    failure::Result,
    output::{Event, events::Line},
};

/// Print a JSON schema
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Editors complete and check environment files with it; for VS Code's Even Better TOML, for example, put this at the head
of environments/base.toml:  #:schema ../.dbird-schema.json

Examples:
    dbird schema environment > .dbird-schema.json
    dbird schema events")]
pub(crate) struct Args {
    /// Of what
    #[arg(value_enum)]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// Files in environments/
    Environment,
    /// Lines of --output json
    Events,
    /// Files of `dbird plan --out`
    Plan,
    /// Records of past releases
    Release,
}

/// Prints it.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let (of, schema) = match args.of {
        Of::Environment => ("environment", dbird_core::schema::environment()),
        Of::Events => ("events", titled(schema_for!(Line<'_>).into(), "One line of dbird --output json")),
        Of::Plan => ("plan", titled(schema_for!(Plan).into(), "A plan that dbird plan --out wrote")),
        Of::Release => ("release", titled(schema_for!(Release).into(), "The record of a release")),
    };
    cx.out.event(Event::Schema { of: of.to_owned(), schema });
    Ok(Done::success())
}

fn titled(mut schema: Value, title: &str) -> Value {
    schema["title"] = json!(title);
    schema
}
