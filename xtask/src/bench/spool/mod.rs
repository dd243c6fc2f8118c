//! Scores through the spool: how many, how late they show, and what a change of the ingester costs. It measures the game's
//! processes from outside; whether scores are kept at all is for the tests.

mod accept;
mod backlog;
mod lag;
mod pauses;
mod probe;

use super::Bench;
use crate::setup::{self, Outcome};

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    let folder = tempfile::tempdir_in(setup::target()).map_err(|e| e.to_string())?;
    accept::run(bench, folder.path())?;
    // The changes of the ingester are measured on what this leaves behind.
    let large = backlog::run(bench, folder.path())?;
    lag::run(bench, folder.path())?;
    pauses::run(bench, folder.path(), &large)
}
