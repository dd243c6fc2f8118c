//! A check against a real cloud, in the account of whoever types it: the tiny service is made, released by a canary, a release
//! is undone, and everything is taken away again. The same is done on the simulator first, and the shapes of both runs' traffic
//! are compared. It makes nothing outside its own environment, and leaves nothing that it made.

mod compare;
mod run;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::setup::{self, Outcome};
use compare::Shapes;
use run::{Place, Project, Simulator};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The cloud
    #[arg(long, value_parser = ["aws"])]
    cloud: String,
    /// The account, twelve digits: credentials for any other are refused
    #[arg(long, value_name = "ID", value_parser = account)]
    account: String,
    /// The region
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    region: String,
    /// Use what is built already, as it is
    #[arg(long)]
    no_build: bool,
    /// How many times as fast as AWS's the simulator's time passes
    #[arg(long, value_name = "N", default_value_t = 60)]
    speed: u32,
}

fn account(text: &str) -> Result<String, String> {
    let digits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { Ok(text.to_owned()) } else { Err("twelve digits".to_owned()) }
}

/// Where the result is written, and the line of the README that says when.
const PAGE: &str = "docs/live.md";
const LAST: &str = "Last live check on AWS: ";

pub(crate) fn run(args: &Args) -> Outcome {
    if !args.no_build {
        setup::build("dev")?;
        build_tiny()?;
    }
    let pretended = std::env::var_os("AWS_ENDPOINT_URL").is_some() || std::env::var_os("DBIRD_SIMULATOR").is_some();
    println!("first on the simulator, {} times as fast", args.speed);
    let simulator = Simulator::start(&args.account, &args.region, args.speed)?;
    let simulated = lifecycle(args, "simulator", &Place::Simulated(&simulator))?;
    drop(simulator);
    let of = if pretended { "the account that AWS_ENDPOINT_URL names" } else { "AWS" };
    println!("now in account {}, on {of}: this costs a little, and takes about half an hour", args.account);
    let real = lifecycle(args, "account", &Place::Environment)?;
    let differences = compare::differences(&simulated, &real);
    let text = page(args, &simulated, &real, &differences)?;
    println!("{text}");
    if pretended {
        println!("nothing is written down: this was not AWS; what differs came of when things were asked");
        return Ok(());
    }
    let path = setup::root().join(PAGE);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    mark(&setup::root().join("README.md"), &today()?)
}

/// Statically, since its image is empty but for it. It needs nothing but the standard library, so nothing else is compiled.
fn build_tiny() -> Outcome {
    let tiny = tiny();
    let folder = tiny.parent().unwrap_or(&tiny);
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let how = ["--edition", "2024", "-O", "--target", run::TRIPLE, "-C", "target-feature=+crt-static", "-o"];
    setup::run(setup::command("rustc", &how).arg(&tiny).arg("cli/examples/tiny.rs"))
}

/// Create, canary, undo, destroy; the shapes of all traffic. Whatever happens, what was made is taken away again.
fn lifecycle(args: &Args, name: &str, place: &Place<'_>) -> Outcome<Shapes> {
    let project = Project::new(name, &args.account, &args.region)?;
    let done = steps(&project, place);
    // Taken away also after a failure; and what is left then is said.
    let destroyed = project.dbird(place, &["destroy", "-y", "--delete-data", "images"], 0);
    done?;
    destroyed.map_err(|e| format!("{e}\nlook at the stack {}, and delete it by hand", project.stack()))?;
    Shapes::read(&project.shapes)
}

fn steps(project: &Project, place: &Place<'_>) -> Outcome {
    project.dbird(place, &["doctor"], 0)?;
    project.dbird(place, &["deploy", "-y"], 0)?;
    project.dbird(place, &["deploy", "-y"], 0)?;
    project.dbird(place, &["deploy", "-y", "--set", "env.GREETING=canary"], 0)?;
    project.dbird(place, &["status"], 0)?;
    // Left to the cloud in the middle, then undone.
    project.dbird(place, &["deploy", "-y", "--no-wait", "--set", "env.GREETING=undone"], 6)?;
    project.dbird(place, &["abort", "--reason", "live check"], 3)?;
    project.dbird(place, &["drift"], 0)?;
    project.dbird(place, &["logs", "--tail", "5"], 0)?;
    project.dbird(place, &["history"], 0)
}

fn page(args: &Args, simulated: &Shapes, real: &Shapes, differences: &[String]) -> Outcome<String> {
    let mut text = format!(
        "# Live check\n\n`cargo xtask live --cloud {}` makes this page: the tiny service in a real account, created, released by a \
         canary, undone and destroyed, and the shapes of its traffic beside the simulator's of the same commands.\n\n\
         Last run: {}, region {}\n\n| | simulator | account |\n|---|---|---|\n",
        args.cloud,
        today()?,
        args.region
    );
    let _ = writeln!(text, "| requests | {} | {} |", simulated.requests(), real.requests());
    let _ = writeln!(text, "| operations | {} | {} |", simulated.operations(), real.operations());
    let _ = writeln!(text, "| refused | {} | {} |\n", simulated.refused(), real.refused());
    if differences.is_empty() {
        text.push_str("No differences in shape.\n");
    } else {
        let _ = writeln!(text, "Differences in shape, {} in all:\n", differences.len());
        differences.iter().for_each(|line| {
            let _ = writeln!(text, "- {line}");
        });
    }
    Ok(text)
}

fn today() -> Outcome<String> {
    Ok(setup::output(&mut setup::command("date", &["+%F"]))?.trim().to_owned())
}

/// Writes the day into the README, behind the words that stand there for it.
fn mark(readme: &Path, day: &str) -> Outcome {
    let failed = |e: std::io::Error| format!("{}: {e}", readme.display());
    let text = std::fs::read_to_string(readme).map_err(failed)?;
    let marked = marked(&text, day).ok_or_else(|| format!("{} does not say \"{LAST}\"", readme.display()))?;
    std::fs::write(readme, marked).map_err(failed)
}

fn marked(text: &str, day: &str) -> Option<String> {
    let (before, rest) = text.split_once(LAST)?;
    let end = rest.find(['.', '\n'])?;
    Some(format!("{before}{LAST}{day}{}", &rest[end..]))
}

/// The static binary of the service.
fn tiny() -> PathBuf {
    setup::target().join("live/tiny")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_written_behind_the_words() {
        let text = "a\nLast live check on AWS: never. More.\n";
        assert_eq!(marked(text, "2026-11-21").as_deref(), Some("a\nLast live check on AWS: 2026-11-21. More.\n"));
        assert_eq!(marked("nothing", "2026-11-21"), None);
    }
}
