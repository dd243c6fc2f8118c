//! The model of rollouts, a thousand times for each kind of candidate, and the engine as fast as it goes. The model and the
//! engine are `dbird-core`'s; here their figures meet their bounds.

use super::{
    super::Bench,
    figures::{Figures, number},
};
use crate::setup::{self, Outcome};

/// Rollouts of each kind, and decisions, where it only has to be shown that it works.
const SHORT: [&str; 2] = ["20", "200000"];

/// Of healthy candidates, aborted by chance: no more than this share.
const FALSE_MAX: f64 = 0.01;
/// Of candidates that are too slow, aborted: no less than this share.
const FOUND_MIN: f64 = 0.99;
const DECISIONS_PER_S_MIN: f64 = 1e6;

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let figures = Figures::of_example(bench, "rollouts", if bench.short { &SHORT } else { &[] })?;
    let (equal, slower) = both(&figures)?;
    bench.row(
        &format!(
            "a healthy candidate of equal speed, {} simulated rollouts (500 requests/s, 10 % weight, five looks of 60 s, \
             log-normal latency): false aborts, the most of {} spreads",
            equal.rollouts, equal.kinds
        ),
        format!("{:.2} %", equal.most * 100.0),
        "≤ 1 %",
        Some(equal.most <= FALSE_MAX),
    );
    bench.row(
        &format!(
            "a candidate 2 x slower at p99 (80 ms before), the same model through the real buckets: aborted, the fewest of {} \
             spreads and tails",
            slower.kinds
        ),
        format!("{:.1} %, after {:.1} looks at most", slower.fewest * 100.0, slower.looks),
        "≥ 99 %",
        Some(slower.fewest >= FOUND_MIN),
    );
    let decisions = figures.about("decisions").next().ok_or("no decisions")?;
    let per_s = number(decisions, "per_s")?;
    bench.row(
        "decisions of the state machine, each with a look (a test holds that none allocates)",
        format!("{:.2} million/s", per_s / 1e6),
        "≥ 1 million/s",
        Some(per_s >= DECISIONS_PER_S_MIN),
    );
    Ok(())
}

/// The model with more rollouts: an error where a bound does not hold.
pub(crate) fn soak(rollouts: u32) -> Outcome {
    let rollouts = rollouts.to_string();
    let args =
        ["run", "--release", "--locked", "-q", "-p", "dbird-core", "--example", "rollouts", "--", &rollouts, "1"];
    let (equal, slower) = both(&Figures::of(&mut setup::command("cargo", &args))?)?;
    if equal.most <= FALSE_MAX && slower.fewest >= FOUND_MIN {
        return Ok(());
    }
    Err(format!(
        "{:.2} % of healthy candidates aborted, {:.2} % of slow ones",
        equal.most * 100.0,
        slower.fewest * 100.0
    ))
}

/// Candidates of equal speed, and slower ones.
fn both(figures: &Figures) -> Outcome<(Undone, Undone)> {
    Ok((Undone::of(figures, &["equal"])?, Undone::of(figures, &["slower", "longer-tail"])?))
}

/// How often candidates of some kinds were undone.
struct Undone {
    kinds: usize,
    /// Of each kind.
    rollouts: u64,
    /// The largest and the smallest share.
    most: f64,
    fewest: f64,
    /// The most that a kind took on average.
    looks: f64,
}

impl Undone {
    fn of(figures: &Figures, names: &[&str]) -> Outcome<Undone> {
        let mut all = Undone { kinds: 0, rollouts: u64::MAX, most: 0.0, fewest: 1.0, looks: 0.0 };
        for line in names.iter().flat_map(|name| figures.about(name)) {
            let rollouts = number(line, "rollouts")?;
            let share = number(line, "undone")? / rollouts;
            all.kinds += 1;
            all.rollouts = all.rollouts.min(rollouts as u64);
            all.most = all.most.max(share);
            all.fewest = all.fewest.min(share);
            all.looks = all.looks.max(number(line, "looks")?);
        }
        if all.kinds == 0 { Err(format!("no figures about {}", names.join(", "))) } else { Ok(all) }
    }
}
