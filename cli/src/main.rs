//! The `dbird` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    dbird::main()
}
