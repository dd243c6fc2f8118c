//! Runs the model of rollouts a thousand times each, and the engine as fast as it goes: `cargo run --release --example rollouts`.
//! Prints one line of JSON for each figure. Other numbers of rollouts and decisions can be given, in this order.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example measures; the library reads no clock"
)]

mod model;

use std::{error::Error, io::Write, time::Instant};

use dbird_core::rollout::Decision;
use model::{Service, Watcher, undone};

const ROLLOUTS: u64 = 1_000;
const DECISIONS: u64 = 5_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let rollouts = numbers.next().transpose()?.unwrap_or(ROLLOUTS).max(1);
    let decisions = numbers.next().transpose()?.unwrap_or(DECISIONS).max(1);
    let mut out = std::io::stdout().lock();
    for sigma in [0.3, 0.5, 0.8, 1.2] {
        let current = Service { p99_ms: 80.0, sigma, error_rate: 0.001 };
        for (what, candidate) in
            [("equal", current), ("slower", current.slower()), ("longer-tail", current.longer_tail())]
        {
            let (mut ended, mut looks) = (0, 0);
            for seed in 0..rollouts {
                let (was_undone, took) = undone(seed, current, candidate);
                ended += u64::from(was_undone);
                looks += u64::from(took);
            }
            let looks = looks as f64 / rollouts as f64;
            writeln!(
                out,
                "{{\"what\":\"{what}\",\"sigma\":{sigma},\"rollouts\":{rollouts},\"undone\":{ended},\"looks\":{looks}}}"
            )?;
        }
    }
    let mut watcher = Watcher::new();
    let mut waits = 0u64;
    let start = Instant::now();
    for _ in 0..decisions {
        waits += u64::from(matches!(watcher.decide(), Decision::Wait { .. }));
    }
    let per_s = (decisions as f64 / start.elapsed().as_secs_f64()) as u64;
    writeln!(out, "{{\"what\":\"decisions\",\"per_s\":{per_s},\"waits\":{waits}}}")?;
    Ok(())
}
