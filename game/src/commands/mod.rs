//! What people do with the scores beside serving them: backup, restore, stored, downgrade, gc. This file decides what the arguments mean,
//! how an outcome is said and which code the process exits with; it never touches the share.

mod arguments;
mod backup;
mod copy;
mod downgrade;
mod gc;
mod manifest;
mod place;
mod restore;
mod stored;
mod target;
mod transfer;
mod turn;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use arguments::{Command, parse};

/// The commands' names.
pub(crate) const NAMES: [&str; 5] = ["backup", "restore", "stored", "downgrade", "gc"];

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// What a command did.
pub(crate) struct Done {
    /// For people, with a line's end.
    text: String,
    /// For programs.
    facts: Value,
}

/// Why a command did not do it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    what: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Self { code: FAILED, what: what.into(), advice: None }
    }

    fn usage(what: impl Into<String>) -> Self {
        Self { code: USAGE, what: what.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Makes a failure of an error, with all its causes in one line.
fn failed<E: std::error::Error>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(format!("{what}: {}", causes(&error)))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Runs the command that the arguments name, and says what came of it.
pub(crate) fn main(words: &[&str]) -> ExitCode {
    let wants_json = words.contains(&"--json");
    let outcome = match parse(words) {
        Ok(Command::Help(text)) => Ok(Done { text: text.to_owned(), facts: json!({ "help": text }) }),
        Ok(command) => run(command),
        Err(failure) => Err(failure),
    };
    let name = words.first().copied().unwrap_or_default();
    match outcome {
        Ok(Done { text, mut facts }) => {
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("command".to_owned(), name.into());
                facts.insert("ok".to_owned(), true.into());
            }
            say(&if wants_json { format!("{facts}\n") } else { text });
            ExitCode::SUCCESS
        }
        Err(Failure { code, what, advice }) => {
            if wants_json {
                say(&format!("{}\n", json!({ "command": name, "ok": false, "error": what, "advice": advice })));
            } else {
                let advice = advice.map(|advice| format!("\n  {advice}")).unwrap_or_default();
                drop(writeln!(io::stderr(), "drafty-bird {name}: {what}{advice}"));
            }
            ExitCode::from(code)
        }
    }
}

/// Standard output may be closed; there is nobody to tell then.
fn say(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}

fn run(command: Command) -> Result<Done, Failure> {
    // One thread is enough: what takes long is the disk's or the network's, and the keeper has its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed("no thread to work in"))?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed("signals can't be caught"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("signals can't be caught"))?;
        let work = async {
            match command {
                Command::Backup(options) => backup::run(&options).await,
                Command::Restore(options) => restore::run(&options).await,
                Command::Stored(options) => stored::run(&options).await,
                Command::Downgrade(options) => downgrade::run(&options).await,
                Command::Gc(options) => gc::run(&options).await,
                Command::Help(text) => Ok(Done { text: text.to_owned(), facts: json!({}) }),
            }
        };
        // What work has begun, it undoes when it is dropped.
        tokio::select! {
            outcome = work => outcome,
            _ = terminate.recv() => Err(Failure::new("stopped by a signal")),
            _ = interrupt.recv() => Err(Failure::new("stopped by a signal")),
        }
    })
}
