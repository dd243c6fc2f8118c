//! What is promised of rollouts: a bad candidate is undone in time, a good one hardly ever, and deciding and planning cost
//! nothing that anyone notices. It runs the real commands and the libraries' examples, and judges no rollout itself.

mod figures;
pub(crate) mod model;
mod thousand;
mod timeline;
mod undone;

use super::Bench;
use crate::setup::Outcome;

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    undone::run(bench)?;
    model::run(bench)?;
    thousand::run(bench)
}
