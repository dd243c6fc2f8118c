//! What must hold for the numbers about traffic.

use dbird_core::{Samples, Target, Weights, Window};
use tokio::time::Instant;

use super::{ONE, TWO, candidate, expect, said, serve, shift};
use crate::{Fixture, Kind};

/// Longer than a law takes.
const EVERYTHING: Window = Window { length_ms: 600_000 };
/// Requests that are sent.
const COUNT: u64 = 100;

async fn sample(f: &dyn Fixture, target: &Target) -> Result<Vec<Samples>, String> {
    let samples = f.provider().sample(target, &[ONE, TWO], EVERYTHING).await.map_err(|e| said("sample", &e))?;
    expect("who is told about", &samples.iter().map(|s| s.release).collect(), &vec![ONE, TWO])?;
    Ok(samples)
}

pub(super) async fn samples_count_what_was_served(f: &dyn Fixture) -> Result<(), String> {
    let target = f.target();
    let capabilities = f.provider().capabilities();
    if !capabilities.samples {
        return Ok(());
    }
    serve(f, &target, ONE, Kind::First).await?;
    let handle = candidate(f, &target, TWO, Kind::Second).await?;
    for share in [0, 50, 100] {
        if share == 50 && !capabilities.any_weights {
            continue;
        }
        let to = [(ONE, 100 - share), (TWO, share)].into_iter().filter(|(_, w)| *w > 0).collect();
        shift(f, &target, &handle, Weights(to)).await?;
        let before = sample(f, &target).await?;
        let Some(asked) = f.ask(&target, COUNT).await else { return Ok(()) };
        let start = Instant::now();
        // The last answer may be with the client before it is with whoever counts.
        let gained = loop {
            let after = sample(f, &target).await?;
            let gained: Vec<_> =
                after.iter().zip(&before).map(|(a, b)| a.requests.saturating_sub(b.requests)).collect();
            let enough = gained.iter().sum::<u64>() >= asked;
            if enough || u128::from(f.patience_ms()) < start.elapsed().as_millis() {
                check(&after)?;
                break gained;
            }
            tokio::task::yield_now().await;
        };
        let new = asked * u64::from(share) / 100;
        expect(&format!("the requests counted at {share} %"), &gained, &vec![asked - new, new])?;
    }
    Ok(())
}

/// Numbers that agree with each other.
fn check(samples: &[Samples]) -> Result<(), String> {
    for samples in samples {
        let timed: u64 = samples.latency_ms.values().sum();
        expect(&format!("the requests of {} by latency", samples.release), &timed, &samples.requests)?;
        expect(&format!("the errors of {}", samples.release), &samples.errors, &0)?;
        expect(&format!("the failing requests of {}", samples.release), &samples.failing.len(), &0)?;
    }
    Ok(())
}
