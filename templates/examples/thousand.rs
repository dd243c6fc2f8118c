//! Plans and renders many environments in one process: `cargo run --release --example thousand -- environments/base.toml`.
//! Prints one line of JSON: how many, how long, and the most memory that the process had. Another number can be given after the file.

use std::{error::Error, io::Write, time::Instant};

use dbird_core::{
    Capabilities, Cloud, Digest, ImageRef, Observed, Preview, Reason,
    environment::{Layer, Request, resolve},
    planning::{self, Input},
    provider::Driver,
    rollout::Course,
};

const ENVIRONMENTS: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which base.toml?")?;
    let environments = std::env::args().nth(2).map_or(Ok(ENVIRONMENTS), |number| number.parse())?;
    let base = std::fs::read_to_string(&path)?;
    let strategies = ["all-at-once", "blue-green", "canary", "linear", "rolling", "recreate"];
    let capabilities = Capabilities {
        cloud: Cloud::Local,
        strategies: strategies.iter().map(|name| ((*name).to_owned(), Driver::Dbird)).collect(),
        any_weights: true,
        gates: true,
        test_traffic: true,
        swap: true,
        samples: true,
        one_off_tasks: true,
    };
    let (observed, preview) = (Observed::default(), Preview::default());
    let start = Instant::now();
    let (mut steps, mut bytes) = (0, 0);
    for number in 0..environments {
        let environment = format!("e{number}");
        let overlay = format!(
            "[rollout]\nstrategy = \"canary\"\nweight = {}\npause = \"{}m\"\n[env]\nGREETING = \"hello from {number}\"\n[cloud.local]\nlisten = \"127.0.0.1:{}\"\n",
            number % 98 + 1,
            number % 9 + 1,
            9_000 + number % 10_000,
        );
        let request = Request {
            environment: &environment,
            cloud: Cloud::Local,
            base: Layer::new("base.toml", base.clone()),
            overlay: Some(Layer::new(format!("{environment}.toml"), overlay)),
            sets: &[],
            dbird_version: env!("CARGO_PKG_VERSION"),
        };
        let (spec, _) = resolve(&request).map_err(|faults| format!("{environment}: {faults:?}"))?;
        let image = ImageRef {
            repository: dbird_templates::LOCAL_IMAGES.to_owned(),
            digest: Digest::of(environment.as_bytes()),
        };
        let documents = dbird_templates::render(&spec, Some(&image), None)?;
        let course = Course::of(&spec, &capabilities)?;
        let plan = planning::plan(&Input {
            documents: &documents,
            observed: &observed,
            preview: &preview,
            image: Some(image),
            reason: Reason::Deploy,
            course: Some(&course),
            copies: spec.scale.min,
            delete_data: &[],
        })?;
        steps += plan.steps.len();
        bytes += serde_json::to_vec(&documents)?.len() + serde_json::to_vec(&plan)?.len();
    }
    let took_ms = start.elapsed().as_millis();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0);
    writeln!(
        std::io::stdout(),
        "{{\"environments\":{environments},\"took_ms\":{took_ms},\"peak_kib\":{peak_kib},\"steps\":{steps},\"bytes\":{bytes}}}"
    )?;
    Ok(())
}
