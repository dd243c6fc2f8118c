//! The one command that runs all tests: Rust, the page's own, and the game in a real browser. What can't run here is said
//! at the end, with the reason; `--strict` (CI) makes that a failure.

use crate::{
    node_base, servers,
    setup::{self, Outcome},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail when anything had to be skipped
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut skipped = setup::ensure(&[
        &setup::PODMAN,
        &setup::NODE,
        &setup::CHROMIUM,
        &setup::PROMETHEUS,
        &setup::REGISTRY,
        &setup::SKOPEO,
        &node_base::MMDEBSTRAP,
    ]);
    let (stores, missing) = servers::ensure(&servers::STORES);
    skipped.extend(missing);
    let (judges, missing) = servers::ensure(&servers::JUDGES);
    skipped.extend(missing);
    let (outside, missing) = servers::ensure(&servers::OUTSIDE);
    skipped.extend(missing);
    if !setup::root().join("../shared/environments").exists() {
        skipped.push("tests against the reference documents ignored: no folder `shared` beside the checkout".into());
    }
    setup::run(&mut setup::command("cargo", &["test", "--workspace", "--locked", "--no-fail-fast"]))?;
    for program in ["podman", "prometheus", "docker-registry"].into_iter().filter(|program| setup::has(program)) {
        // The tests that need a program are in files of its name.
        setup::run(&mut setup::command(
            "cargo",
            &["test", "--workspace", "--locked", "--test", program, "--", "--ignored"],
        ))?;
    }
    if ["podman", "docker-registry", "mmdebstrap"].into_iter().all(setup::has) {
        match node_base::ensure() {
            Ok(_) => {
                let words = ["test", "--workspace", "--locked", "--test", "aws", "--", "--ignored", "examples::"];
                setup::run(&mut setup::command("cargo", &words))?;
            }
            Err(why) => skipped.push(format!("deploying the Node examples skipped: {why}")),
        }
    }
    if !stores.is_empty() {
        let tests: Vec<&str> = stores.iter().map(|server| server.test).collect();
        let words =
            [&["test", "--workspace", "--locked", "--test", "stores", "--", "--ignored", "--exact"], &tests[..]];
        setup::run(setup::command("cargo", &words.concat()).env("PATH", servers::path(&stores)?))?;
    }
    // All in one go, and never by package: another set of packages is another set of features, and the AWS SDKs anew.
    if judges.len() == servers::JUDGES.len() && outside.len() == servers::OUTSIDE.len() {
        let all: Vec<_> = judges.into_iter().chain(outside).collect();
        let words = [
            "test",
            "--workspace",
            "--locked",
            "--test",
            "judges",
            "--test",
            "stacks",
            "--no-fail-fast",
            "--",
            "--ignored",
        ];
        setup::run(setup::command("cargo", &words).env("PATH", servers::path(&all)?))?;
    }
    if setup::has("node") {
        setup::run(&mut setup::command("node", &["--test", "game/web/"]))?;
    }
    if setup::has("node") && setup::has("chromium") {
        crate::pictures::play()?;
    }
    for line in &skipped {
        println!("skipped: {line}");
    }
    if skipped.is_empty() {
        println!("all tests ran, none was skipped");
    } else if args.strict {
        return Err(format!("{} kinds of tests were skipped, and this machine is meant to run all", skipped.len()));
    }
    Ok(())
}
