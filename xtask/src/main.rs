//! Chores of this workspace: everything that is more than one cargo command. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who typed it")]

mod bench;
mod live;
mod load;
mod node_base;
mod pictures;
mod servers;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the dbird workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Installs what the tests need, runs all of them, and says what was skipped and why
    Test(test::Args),
    /// Measures every promised number, each as a ratio within one run, and writes docs/benchmarks.md
    Bench(bench::Args),
    /// Runs what is too long for every change: long loads, more seeds, fuzzing
    Soak(soak::Args),
    /// In an account of your own: create, canary, undo, destroy, compared with the simulator; costs a little
    Live(live::Args),
    /// Makes the base image of the Node examples from Debian's packages, below the target folder
    NodeBase,
    /// Makes the pictures in docs/pictures from a real deploy and a real browser
    Pictures(pictures::Args),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().chore {
        Chore::Test(args) => test::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Soak(args) => soak::run(&args),
        Chore::Live(args) => live::run(&args),
        Chore::NodeBase => node_base::ensure().map(|layout| println!("{}", layout.display())),
        Chore::Pictures(args) => pictures::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
