//! A program that is only an agent, for tests that have no other one.

use std::process::ExitCode;

fn main() -> ExitCode {
    dbird_local::entry(std::env::args_os()).unwrap_or(ExitCode::from(2))
}
