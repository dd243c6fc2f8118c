//! A program that is only a shim, for tests that have no other one.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    dataplane::shim::entry(&args).unwrap_or(ExitCode::from(2))
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::from(2)
}
