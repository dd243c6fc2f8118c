//! What the libraries' examples print: one line of JSON for each figure. It runs them and finds figures; what they mean is said
//! where the rows are.

use std::process::Command;

use serde_json::Value;

use super::super::Bench;
use crate::setup::{self, Outcome};

/// An example's lines.
pub(super) struct Figures(Vec<Value>);

impl Figures {
    /// Runs an example of the profile that is measured.
    pub(super) fn of_example(bench: &Bench, example: &str, args: &[&str]) -> Outcome<Figures> {
        Figures::of(&mut setup::command(bench.bin.join("examples").join(example), args))
    }

    /// Runs a command to its end.
    pub(super) fn of(command: &mut Command) -> Outcome<Figures> {
        let said = setup::output(command)?;
        let lines: Result<_, _> = said.lines().map(serde_json::from_str).collect();
        lines.map(Figures).map_err(|e| format!("{command:?} printed no figures: {e} in {said}"))
    }

    /// The lines about one thing.
    pub(super) fn about(&self, what: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |line| line["what"] == what)
    }

    /// The first line.
    pub(super) fn first(&self) -> &Value {
        self.0.first().unwrap_or(&Value::Null)
    }
}

/// A number of a line.
pub(super) fn number(line: &Value, name: &str) -> Outcome<f64> {
    line[name].as_f64().ok_or_else(|| format!("there is no number {name} in {line}"))
}
