//! A rollout as a few lines of text: one line per side, each with how its requests have been over the last looks. Both sides
//! share a scale, so that the eye can compare them; it draws nothing itself.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use dbird_core::{analysis::percent, rollout::Course};

use super::{
    events::{LookView, SideView},
    look::{count, milliseconds, newest, verdict},
    style::{BOLD, DIM, Look, paint},
};

/// Looks that are shown at most.
const POINTS_MAX: usize = 30;
/// What a line takes beside its two rows of bars.
const FIXED_COLUMNS: usize = 54;
/// Fewer bars than this show nothing that the numbers don't.
const POINTS_MIN: usize = 4;
/// A share of errors up to this is a low bar.
const ERRORS_FULL_MIN: f64 = 0.01;

/// What is remembered of a rollout to be drawn.
#[derive(Default)]
pub(crate) struct Chart {
    looks: VecDeque<LookView>,
    /// How long traffic stays at each weight, as planned.
    holds: Vec<(u8, Duration)>,
    /// The new release's share, and since when.
    at: Option<(u8, Instant)>,
}

impl Chart {
    /// The rollout that was planned.
    pub(crate) fn plan(&mut self, course: &Course) {
        let hold = |(step, weight): (usize, &dbird_core::spec::WeightStep)| {
            (!weight.gate).then(|| (weight.weight, Duration::from_millis(course.hold_ms(step))))
        };
        self.holds = course.weights.iter().enumerate().filter_map(hold).collect();
    }

    /// Traffic is at these weights.
    pub(crate) fn reached(&mut self, weights: &BTreeMap<String, u8>, now: Instant) {
        self.at = newest(weights).map(|(_, weight)| (weight, now));
    }

    /// A look.
    pub(crate) fn add(&mut self, look: &LookView) {
        self.looks.push_back(look.clone());
        while self.looks.len() > POINTS_MAX {
            self.looks.pop_front();
        }
    }

    /// Forgets the looks.
    pub(crate) fn clear(&mut self) {
        self.looks.clear();
    }

    /// How long traffic still stays at its weight, where that is planned and not over.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let (weight, since) = self.at?;
        let (_, hold) = self.holds.iter().find(|(w, _)| *w == weight)?;
        hold.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())
    }

    /// The lines; none before the first look.
    pub(crate) fn lines(&self, look: Look) -> Vec<String> {
        let Some(last) = self.looks.back() else { return Vec::new() };
        let points = look.width.saturating_sub(FIXED_COLUMNS) / 2;
        let points = if points < POINTS_MIN { 0 } else { points.min(POINTS_MAX) };
        let candidate = |l: &LookView| l.candidate.clone();
        let current = |l: &LookView| l.current.clone();
        let both = || self.looks.iter().flat_map(|l| [&l.candidate, &l.current]).flatten();
        let scale = Scale {
            errors: both().map(|s| s.error_rate).fold(ERRORS_FULL_MIN, f64::max),
            p99_ms: both().filter_map(|s| s.p99_ms).fold(1.0, f64::max),
            points,
        };
        let mut lines = Vec::new();
        for side in [&candidate as &dyn Fn(&LookView) -> Option<SideView>, &current] {
            if let Some(now) = side(last) {
                let skip = self.looks.len().saturating_sub(points);
                let past: Vec<_> = self.looks.iter().skip(skip).map(side).collect();
                let weight = last.weights.get(&now.release).copied().unwrap_or(0);
                lines.push(row(&now, weight, &past, &scale, look));
            }
        }
        lines.push(format!("  {} {}", paint(DIM, format!("look {}:", last.look)), verdict(last)));
        lines
    }
}

/// What full bars mean, and how many there are.
struct Scale {
    errors: f64,
    p99_ms: f64,
    points: usize,
}

fn row(now: &SideView, weight: u8, past: &[Option<SideView>], scale: &Scale, look: Look) -> String {
    let bars = |value: &dyn Fn(&SideView) -> Option<f64>, full: f64| {
        let bars: String = past.iter().map(|side| bar(side.as_ref().and_then(value), full, look)).collect();
        if scale.points == 0 { bars } else { format!("{bars:>width$} ", width = scale.points) }
    };
    let answered = |s: &SideView| (s.requests > 0).then_some(s.error_rate);
    let errors = bars(&answered, scale.errors);
    let p99 = bars(&|s: &SideView| s.p99_ms, scale.p99_ms);
    let failed = answered(now).map_or_else(|| "-".to_owned(), percent);
    let took = now.p99_ms.map_or_else(|| "-".to_owned(), milliseconds);
    format!(
        "  {} {weight:>3} %  {:>6} req  failed {errors}{failed:>6}  p99 {p99}{took:>7}",
        paint(BOLD, format!("{:<4}", now.release)),
        count(now.requests),
    )
}

/// One bar; a blank where there is nothing to show.
fn bar(value: Option<f64>, full: f64, look: Look) -> char {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const SIGNS: [char; 8] = ['_', '.', '-', '=', '+', '*', '#', '@'];
    let Some(value) = value else { return ' ' };
    let share = (value / full).clamp(0.0, 1.0);
    // What is more than nothing is never drawn as nothing.
    let height = if value > 0.0 { (share * 7.0).round().max(1.0) } else { 0.0 };
    let signs = if look.unicode { BLOCKS } else { SIGNS };
    signs[(height as usize).min(7)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::look::tests::sample;

    fn drawn(width: usize, unicode: bool) -> String {
        let mut chart = Chart::default();
        for n in 1..=40u32 {
            let errors = if n > 36 { u64::from(n - 36) * 25 } else { u64::from(n % 3) };
            chart.add(&sample(n, errors, 40.0 + f64::from(n)));
        }
        let lines = chart.lines(Look { unicode, width });
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn both_sides_are_drawn_to_one_scale_and_fit_the_terminal() {
        insta::assert_snapshot!("chart", [drawn(120, true), drawn(80, false), drawn(50, true)].join("\n\n"));
        for width in [60, 80, 100, 200] {
            let text = drawn(width, true);
            let rows = text.lines().filter(|l| l.starts_with("  r"));
            assert!(rows.clone().count() == 2 && rows.clone().all(|l| l.chars().count() <= width), "{width}\n{text}");
        }
    }

    #[test]
    fn nothing_is_drawn_before_the_first_look_or_after_it_was_forgotten() {
        let mut chart = Chart::default();
        let look = Look { unicode: true, width: 100 };
        assert!(chart.lines(look).is_empty());
        chart.add(&sample(1, 0, 1.0));
        assert_eq!(chart.lines(look).len(), 3);
        chart.clear();
        assert!(chart.lines(look).is_empty());
    }

    #[test]
    fn the_time_left_is_that_of_the_plan() {
        let mut chart = Chart::default();
        let now = Instant::now();
        let step = |weight, pause_ms, gate| dbird_core::spec::WeightStep { weight, pause_ms, gate };
        let weights = vec![step(10, 5_000, false), step(50, 0, true), step(100, 0, false)];
        chart.plan(&Course { weights, ..Course::default() });
        assert_eq!(chart.left(now), None, "no traffic yet");
        let share = |n| BTreeMap::from([("r2".to_owned(), n), ("r1".to_owned(), 100 - n)]);
        chart.reached(&share(10), now);
        assert_eq!(chart.left(now + Duration::from_secs(2)), Some(Duration::from_secs(3)));
        assert_eq!(chart.left(now + Duration::from_secs(6)), None, "it is over");
        chart.reached(&share(50), now);
        assert_eq!(chart.left(now), None, "nobody knows how long a gate stays closed");
    }
}
