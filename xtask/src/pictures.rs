//! The game in a real browser, and a deploy in a real terminal: played and looked at, by a script instead of by hand.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    bench::server::{Server, free_address},
    setup::{self, Outcome, Tool},
};

const TMUX: Tool = Tool { program: "tmux", packages: &["tmux"], needed_for: "the picture of a deploy" };
/// The terminal of the picture.
const COLUMNS: &str = "104";
const ROWS: &str = "30";

/// Plays one game in headless Chromium against the real server; fails when the score does not reach the leaderboard.
pub(crate) fn play() -> Outcome {
    setup::build("dev")?;
    let game = start_game(&setup::target().join("debug/drafty-bird"))?;
    browse(&["play", &format!("http://{}/", game.address)])
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show what is built already, as it is
    #[arg(long)]
    no_build: bool,
}

/// Makes docs/pictures/game.png and docs/pictures/deploy.png.
pub(crate) fn run(args: &Args) -> Outcome {
    let skipped = setup::ensure(&[&setup::CHROMIUM, &setup::NODE, &TMUX]);
    if !skipped.is_empty() {
        return Err(skipped.join("; "));
    }
    if !args.no_build {
        setup::build("release")?;
    }
    let pictures = setup::root().join("docs/pictures");
    std::fs::create_dir_all(&pictures).map_err(|e| e.to_string())?;
    let release = setup::target().join("release");
    let game = start_game(&release.join("drafty-bird"))?;
    browse(&["play", &format!("http://{}/", game.address), &pictures.join("game.png").display().to_string()])?;
    drop(game);
    let screen = deploy(&release)?;
    browse(&["terminal", &screen.display().to_string(), &pictures.join("deploy.png").display().to_string()])
}

fn start_game(program: &Path) -> Outcome<Server> {
    Server::start(
        program,
        &[],
        &[("SCORE_STORAGE", "memory"), ("DRAIN_DELAY_MS", "0"), ("LOG_LEVEL", "warn")],
        "/readyz",
    )
}

/// Runs xtask/browser/browser.mjs, with its one dependency installed into the project's own folder.
fn browse(args: &[&str]) -> Outcome {
    let tools = setup::root().join(".tools/browser");
    if !tools.join("node_modules/playwright-core").exists() {
        std::fs::create_dir_all(&tools).map_err(|e| e.to_string())?;
        let mut install = Command::new("npm");
        install.current_dir(&tools).args(["install", "--no-audit", "--no-fund", "--silent", "playwright-core@1.64.1"]);
        setup::run(&mut install)?;
    }
    let mut node = setup::command("node", &["xtask/browser/browser.mjs"]);
    setup::run(node.args(args).env("DBIRD_BROWSER_MODULES", tools.join("node_modules")))
}

/// Deploys once unseen, then in a terminal of its own, and returns the file that holds the last screen, colours included.
fn deploy(release: &Path) -> Outcome<std::path::PathBuf> {
    let folder = tempfile::Builder::new().prefix("drafty-bird-").tempdir().map_err(|e| e.to_string())?;
    setup::run(setup::command("cp", &["-r", "environments"]).arg(folder.path()))?;
    std::fs::copy(release.join("drafty-bird"), folder.path().join("drafty-bird")).map_err(|e| e.to_string())?;
    // The person in the picture types `dbird`; the function adds what keeps this deploy apart from a real one.
    let rc = format!(
        "PS1='\\[\\e[1;32m\\]$\\[\\e[0m\\] '\nPROMPT_COMMAND='touch done'\ndbird() {{ local c=$1; shift; {} $c \"$@\" -e dev \
         --set service.build.command='[\"true\"]' --set service.build.binary=drafty-bird \
         --set cloud.local.listen={} --set cloud.local.test_listen={}; }}\n",
        release.join("dbird").display(),
        free_address()?,
        free_address()?,
    );
    std::fs::write(folder.path().join("rc"), rc).map_err(|e| e.to_string())?;
    let socket = folder.path().join("tmux.sock").display().to_string();
    let tmux = |args: &[&str]| {
        setup::output(
            Command::new("tmux").args(["-S", &socket]).args(args).current_dir(folder.path()).stdin(Stdio::null()),
        )
    };
    let done = folder.path().join("done");
    let prompt = |what: &str| -> Outcome {
        for _ in 0..600 {
            if done.exists() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("`{what}` did not end:\n{}", tmux(&["capture-pane", "-p", "-t", "p"])?))
    };
    let type_and_wait = |line: &str| -> Outcome {
        let _ = std::fs::remove_file(&done);
        tmux(&["send-keys", "-t", "p", line, "Enter"])?;
        prompt(line)
    };
    tmux(&["new-session", "-d", "-s", "p", "-x", COLUMNS, "-y", ROWS, "bash --noprofile --rcfile rc -i"])?;
    prompt("bash")?;
    let lines = ["dbird deploy", "clear", "dbird deploy --set env.GREETING=hi", "dbird history"];
    let typed = lines.iter().try_for_each(|l| type_and_wait(l));
    let screen = tmux(&["capture-pane", "-e", "-p", "-t", "p"]);
    let _ = type_and_wait("dbird destroy -y");
    let _ = tmux(&["kill-server"]);
    typed?;
    let file = setup::target().join("deploy-screen.ansi");
    std::fs::write(&file, screen?).map_err(|e| e.to_string())?;
    Ok(file)
}
