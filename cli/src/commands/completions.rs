//! `dbird completions`: what a shell needs to complete dbird's commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Context, Done};
use crate::{args::Cli, failure::Result, output::Event};

/// Write the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
    dbird completions bash > ~/.local/share/bash-completion/completions/dbird
    dbird completions zsh  > ~/.zfunc/_dbird
    dbird completions fish > ~/.config/fish/completions/dbird.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Writes the script.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dbird", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    cx.out.event(Event::Text { topic: args.shell.to_string(), text });
    Ok(Done::success())
}
