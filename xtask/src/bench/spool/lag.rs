//! How long after the active process's answer a score is on the leaderboard of a standby: alone, and beside other scores.

use std::{path::Path, time::Duration};

use super::super::{
    Bench,
    share::{Share, wait_for_role},
};
use super::probe::{Probe, Watch};
use crate::{
    load::{Load, Pace, quantile_ms},
    setup::Outcome,
};

/// Scores whose way is timed.
const SAMPLES: u32 = 200;
const SAMPLES_SHORT: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);
/// Time that the last scores have to be seen.
const REST: Duration = Duration::from_secs(1);
const LAG_MS_MAX: f64 = 250.0;

pub(super) fn run(bench: &mut Bench, folder: &Path) -> Outcome {
    let share = Share::make(&folder.join("lag"))?;
    let active = share.start(&bench.game, &[])?;
    wait_for_role(&active, "active", Duration::from_secs(10))?;
    let standby = share.start(&bench.game, &[])?;
    wait_for_role(&standby, "standby", Duration::from_secs(10))?;
    for connections in [0, 64] {
        let load = Load::start(active.address, connections, 1, Pace::After(Duration::from_millis(10)));
        let watch = Watch::start(standby.address, "active");
        let probe = Probe::start(active.address, "active", PAUSE);
        std::thread::sleep(PAUSE * if bench.short { SAMPLES_SHORT } else { SAMPLES });
        let sent = probe.stop();
        std::thread::sleep(REST);
        let seen = watch.stop();
        let tally = load.stop();
        if sent.failed + tally.failed > 0 {
            return Err(format!("{} scores failed: {:?}", sent.failed + tally.failed, tally.failures));
        }
        let lags = seen.lags(&sent.acknowledged)?;
        let (samples, p99) = (lags.len(), quantile_ms(lags.clone(), 0.99));
        let beside = if connections == 0 { "no other load".to_owned() } else { format!("{connections} connections") };
        bench.row(
            &format!("leaderboard lag of a standby behind the active process's answer, {beside}"),
            format!("p99 {p99:.0} ms, median {:.0} ms of {samples} scores", quantile_ms(lags, 0.5)),
            "p99 < 250 ms",
            Some(p99 < LAG_MS_MAX),
        );
    }
    standby.terminate()?;
    active.terminate().map(drop)
}
