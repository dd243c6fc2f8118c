//! Commands that should feel like nothing: `--help`, and rendering every environment.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use super::{Bench, median};
use crate::setup::{self, Outcome};

pub(crate) fn run(bench: &mut Bench) -> Outcome {
    let help = time(bench, &[&["--help"]])?;
    bench.row("`dbird --help` (new process, warm page cache)", format!("{help:.1} ms"), "≤ 15 ms", Some(help <= 15.0));
    let mut names = vec![];
    for entry in std::fs::read_dir(setup::root().join("environments")).map_err(|e| e.to_string())? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".toml").filter(|n| *n != "base") {
            names.push(name.to_owned());
        }
    }
    let commands: Vec<Vec<&str>> = names.iter().map(|n| vec!["render", "-c", "local", "-e", n]).collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    let render = time(bench, &commands)?;
    let what = format!("`render` of every environment for the local cloud ({} processes)", names.len());
    bench.row(&what, format!("{render:.1} ms"), "≤ 50 ms", Some(render <= 50.0));
    Ok(())
}

/// The middle of the times that these commands together take.
fn time(bench: &Bench, commands: &[&[&str]]) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..if bench.short { 3 } else { 41 } {
        let start = Instant::now();
        for args in commands {
            let mut command = Command::new(bench.bin.join("dbird"));
            command
                .args(*args)
                .current_dir(setup::root())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            setup::run(&mut command)?;
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut times))
}
