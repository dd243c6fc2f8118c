//! A simulated AWS account until it is interrupted. It prints what a client's environment needs, as a shell reads it.

use std::{
    io::{Error, Write},
    path::PathBuf,
    process::ExitCode,
};

use dbird_simulator::{Settings, start_at};

const USAGE: &str =
    "usage: dbird-simulator --shim PROGRAM [--folder DIR] [--port N] [--speed N] [--region R] [--account N]
    [--port-offset N] [--record FILE] [--fault NAME]... [--upstream URL] [--podman]

  --shim PROGRAM    what every task runs under; cargo build -p dataplane makes dataplane-shim
  --folder DIR      where everything lies; a new folder below the temporary one if none is named
  --speed N         how many times as fast as ours its time passes (1)
  --port-offset N   added to a load balancer's ports below 1024 (20000)
";

#[tokio::main]
async fn main() -> ExitCode {
    let (settings, port) = match arguments(std::env::args().skip(1)) {
        Ok(read) => read,
        Err(why) => return refuse(&format!("{why}\n{USAGE}"), 2),
    };
    match run(settings, port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("the simulator could not go on: {error}\n"), 1),
    }
}

async fn run(settings: Settings, port: u16) -> Result<(), Error> {
    let running = start_at(settings, port).await?;
    let mut out = std::io::stdout();
    for (name, value) in running.env() {
        writeln!(out, "export {name}='{value}'")?;
    }
    out.flush()?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    running.stop().await;
    Ok(())
}

fn refuse(why: &str, code: u8) -> ExitCode {
    // Nobody may be listening; the code says it as well.
    let _ = std::io::stderr().write_all(why.as_bytes());
    ExitCode::from(code)
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(Settings, u16), String> {
    let mut settings = Settings {
        speed: 1.0,
        account: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        folder: std::env::temp_dir().join(format!("dbird-simulator-{}", std::process::id())),
        shim: PathBuf::new(),
        port_offset: 20_000,
        podman: false,
        record: None,
        faults: Vec::new(),
        upstream: None,
    };
    let mut port = 0;
    while let Some(name) = given.next() {
        if name == "--podman" {
            settings.podman = true;
            continue;
        }
        let value = given.next().ok_or_else(|| format!("{name} needs a value, or is not known"))?;
        let wrong = |_| format!("{name} can't be {value:?}");
        match name.as_str() {
            "--port" => port = value.parse().map_err(|e: std::num::ParseIntError| wrong(e.to_string()))?,
            "--port-offset" => {
                settings.port_offset = value.parse().map_err(|e: std::num::ParseIntError| wrong(e.to_string()))?;
            }
            "--speed" => settings.speed = value.parse().map_err(|e: std::num::ParseFloatError| wrong(e.to_string()))?,
            "--folder" => settings.folder = PathBuf::from(value),
            "--shim" => settings.shim = PathBuf::from(value),
            "--record" => settings.record = Some(PathBuf::from(value)),
            "--fault" => settings.faults.push(value),
            "--upstream" => settings.upstream = Some(value),
            "--region" => settings.region = value,
            "--account" if value.len() == 12 && value.bytes().all(|b| b.is_ascii_digit()) => settings.account = value,
            "--account" => return Err(wrong(String::new())),
            _ => return Err(format!("{name} is not known")),
        }
    }
    if settings.shim.as_os_str().is_empty() {
        return Err("--shim is needed".to_owned());
    }
    Ok((settings, port))
}
