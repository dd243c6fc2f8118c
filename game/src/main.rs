//! The program; everything it does is in the library.

fn main() -> std::process::ExitCode {
    drafty_bird::process::main(std::env::args_os().skip(1))
}
