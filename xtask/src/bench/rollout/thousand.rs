//! A thousand environments planned and rendered in one process of its own, so that its peak memory is theirs alone.

use super::{
    super::Bench,
    figures::{Figures, number},
};
use crate::setup::{self, Outcome};

const SHORT: &str = "50";

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let base = setup::root().join("environments/base.toml").display().to_string();
    let args: &[&str] = if bench.short { &[&base, SHORT] } else { &[&base] };
    let figures = Figures::of_example(bench, "thousand", args)?;
    let line = figures.first();
    let (environments, took_ms) = (number(line, "environments")?, number(line, "took_ms")?);
    let peak_mb = number(line, "peak_kib")? / 1024.0;
    bench.row(
        &format!("plan and render of {environments} environments in one process"),
        format!("{took_ms:.0} ms"),
        "≤ 2 s",
        Some(took_ms <= 2_000.0),
    );
    bench.row(
        "peak memory of that process",
        format!("{peak_mb:.1} MB"),
        "≤ 200 MB",
        Some(peak_mb > 0.0 && peak_mb <= 200.0),
    );
    Ok(())
}
