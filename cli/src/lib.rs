//! The command line of dbird: parses arguments, builds images, shows plans and progress, and turns every end into an exit
//! code. What is done to a cloud is decided in `dbird-core` and carried out by `dbird-driver`.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't set up has failed"))]

mod args;
mod clouds;
mod commands;
mod drill;
mod failure;
mod git;
mod image;
mod interrupt;
mod output;
mod project;
mod rehearsal;
mod scaffold;
mod session;
mod teller;
mod typing;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::Parser as _;

use args::{Cli, Format};
use commands::{Context, Done, Logged};
use failure::{Failure, Result};
use output::{Event, Output, RunLog, time};
use project::Project;

/// The whole program: one command, one exit code.
pub fn main() -> ExitCode {
    // The agent and its helpers are this same program; they know nothing of what follows.
    if let Some(code) = dbird_local::entry(std::env::args_os()) {
        return code;
    }
    match Cli::try_parse() {
        Ok(cli) => ExitCode::from(run(cli)),
        Err(error) => ExitCode::from(refuse(&error)),
    }
}

/// What clap has to say: help and versions on stdout with 0, mistakes on stderr with 2.
fn refuse(error: &clap::Error) -> u8 {
    let code = if error.use_stderr() { 2 } else { 0 };
    // Whoever closed the stream does not want to read it.
    let _ = error.print();
    let arguments: Vec<_> = std::env::args_os().collect();
    let asks = |a: &[std::ffi::OsString]| (a[0] == "--output" || a[0] == "-o") && a[1] == "json";
    let json = arguments.windows(2).any(asks) || arguments.iter().any(|a| a == "-ojson" || a == "--output=json");
    if code != 0 && json {
        let out = Output::new(Format::Json);
        finish(&out, &Err(Failure::usage(error.kind().to_string())));
    }
    code
}

fn run(cli: Cli) -> u8 {
    if cli.global.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    let out = Output::new(cli.global.output);
    let attempt = panic::catch_unwind(AssertUnwindSafe(|| execute(cli, &out)));
    let result = attempt.unwrap_or_else(|_| {
        Err(Failure::failed("dbird itself went wrong, which is a bug")
            .hint("run the same command again: it goes on from the journal; please report what stands above"))
    });
    let code = finish(&out, &result);
    match out.write_error() {
        Some(error) if code == 0 => {
            out.event(Event::Warning { text: format!("the results could not be written: {error}") });
            1
        }
        _ => code,
    }
}

fn execute(cli: Cli, out: &Output) -> Result<Done> {
    let Cli { global, command } = cli;
    let project = Project::find(&global)?;
    let (name, logged) = command.traits();
    let run = run_name(name);
    let log = match &project {
        Some(p) if logged != Logged::Not => RunLog::open(&p.folder, &run, logged == Logged::Looking),
        _ => RunLog::default(),
    };
    out.log_to(log.clone());
    let misread = output::trace(&global, log);
    out.event(Event::Started { command: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), run });
    if let Some(filter) = misread {
        out.warning(format!(
            "DBIRD_LOG={filter} is not understood; DBIRD_LOG=debug or DBIRD_LOG=dbird_driver=trace would be"
        ));
    }
    commands::run(&command, &Context::new(global, out.clone(), project))
}

/// Says how it ended, and gives the exit code.
fn finish(out: &Output, result: &Result<Done>) -> u8 {
    let (exit_code, outcome, live) = match result {
        Ok(done) => (done.exit_code, done.outcome, done.live.clone()),
        Err(failure) => {
            let Failure { message, causes, hint, logs, retry, .. } = failure.clone();
            out.event(Event::Error { message, causes, hint, logs, retry });
            (failure.kind.exit_code(), failure.kind.outcome(), failure.live.as_deref().cloned())
        }
    };
    let took_ms = out.elapsed_ms();
    out.event(Event::Finished { exit_code, outcome: outcome.to_owned(), live, took_ms });
    exit_code
}

/// A name that sorts by time: `20261121T113653-deploy-4711`.
fn run_name(command: &str) -> String {
    let stamp = time::stamp(time::now_unix_ms()).replace(['-', ':'], "").replace(' ', "T");
    format!("{stamp}-{command}-{}", std::process::id())
}
