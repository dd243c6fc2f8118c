//! The command line: what every command shares, and which commands there are. Each command's own options stand in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::styling};
use dbird_core::Cloud;

use crate::commands;

/// How the terminal's help is coloured.
const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(styling::AnsiColor::Cyan.on_default());

/// The version, with the git revision where whoever built it gave one.
fn version() -> String {
    let revision = option_env!("DBIRD_GIT_REVISION").map(|r| format!(" ({r})")).unwrap_or_default();
    format!("{}{revision}", env!("CARGO_PKG_VERSION"))
}

/// Deploys one containerised service from environments/*.toml, without losing a request
#[derive(Debug, Parser)]
#[command(
    name = "dbird",
    version = version(),
    styles = STYLES,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    after_help = "\
Exit codes:
    0  done                              4  `plan --exit-code` found changes,
    1  failed; what is live is stated       `drift --exit-code` found drift
    2  usage or configuration            5  another deploy holds the lease
    3  failed; the previous release is   6  left at a manual gate
       serving again                     130  interrupted

Examples:
    dbird init                           set up a new service, in a few questions
    dbird deploy                         build, and deploy to this machine
    dbird deploy -e prod --from dev      the very image that runs in dev
    dbird plan --set env.GREETING=ho     what would that change?
    dbird rehearse -e prod               the same on a simulated AWS
    dbird promote                        a rollout that waits goes on
    dbird rollback                       back to the previous release"
)]
pub(crate) struct Cli {
    /// What every command shares.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The project's folder; without it, the nearest parent folder that has environments/base.toml
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) project: Option<PathBuf>,
    /// The environment: the name of a file in environments/ without .toml; without it `dev`, or the only one there is
    #[arg(short, long, global = true, value_name = "NAME", env = "DBIRD_ENV", hide_env_values = true)]
    pub(crate) env: Option<String>,
    /// The cloud: local, aws or azure; without it, local
    #[arg(short, long, global = true, value_name = "CLOUD", env = "DBIRD_CLOUD", hide_env_values = true, value_parser = cloud())]
    pub(crate) cloud: Option<Cloud>,
    /// Sets one key over the files, dotted: --set env.GREETING=hi --set scale.max=2
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// How results are written; json: one event a line, the last one says how it ended
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Don't ask
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Say more; twice for everything (or DBIRD_LOG=debug, DBIRD_LOG=dbird_driver=trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No colour (also NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One event a line, for machines.
    Json,
    /// For pull requests; `plan` only.
    Markdown,
}

fn cloud() -> impl clap::builder::TypedValueParser<Value = Cloud> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    PossibleValuesParser::new(Cloud::ALL.map(Cloud::name)).try_map(|s| s.parse::<Cloud>())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(commands::init::Args),
    Validate(commands::validate::Args),
    Explain(commands::explain::Args),
    Render(commands::render::Args),
    Bootstrap(commands::bootstrap::Args),
    Plan(commands::plan::Args),
    Rehearse(commands::rehearse::Args),
    Deploy(commands::deploy::Args),
    Status(commands::status::Args),
    History(commands::history::Args),
    Drift(commands::drift::Args),
    Promote(commands::promote::Args),
    Abort(commands::abort::Args),
    Pause(commands::pause::Args),
    Resume(commands::resume::Args),
    Rollback(commands::rollback::Args),
    Backup(commands::backup::Args),
    Restore(commands::restore::Args),
    Drill(commands::drill::Args),
    Run(commands::run::Args),
    Restart(commands::restart::Args),
    Wait(commands::wait::Args),
    Logs(commands::logs::Args),
    Exec(commands::exec::Args),
    Destroy(commands::destroy::Args),
    Doctor(commands::doctor::Args),
    Schema(commands::schema::Args),
    Completions(commands::completions::Args),
}
