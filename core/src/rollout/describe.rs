//! A course in a sentence, for the person who confirms it. Nothing is decided here.

use super::Course;
use crate::{ReleaseId, spec::Analysis};

impl Course {
    /// What will happen to traffic, in a sentence.
    pub fn describe(&self, parent: Option<ReleaseId>) -> String {
        let mut text = match parent {
            None => "first release: all traffic as soon as it is ready".to_owned(),
            Some(_) if self.cold && self.is_cloud_driven() => {
                let instead = match self.strategy.as_str() {
                    "recreate" => String::new(),
                    asked => format!(" instead of {asked} (one process may open the store)"),
                };
                format!("recreate{instead}: the previous release stops, then this one starts; nothing answers meanwhile")
            }
            Some(_) if self.cold => {
                "recreate: the previous release stops, then this one starts; requests are held meanwhile, and told to come back \
                 when that takes long"
                    .to_owned()
            }
            Some(_) if self.swap => {
                let instead = if matches!(self.strategy.as_str(), "recreate" | "blue-green" | "all-at-once") {
                    String::new()
                } else {
                    format!(" instead of {}", self.strategy)
                };
                format!("swap{instead} (one process may open the store): requests are held while it changes hands")
            }
            Some(_) => self.describe_weights(),
        };
        if self.is_cloud_driven() && parent.is_some() {
            text += "; the cloud moves the traffic";
        }
        let gates = self.weights.iter().filter(|w| w.gate).count();
        if gates > 0 && !self.swap && parent.is_some() {
            text += &format!("; undone when nobody goes on within {} at a gate", span(self.pause_limit_ms));
        }
        if self.bake_ms > 0 && parent.is_some() {
            text +=
                &format!("; {parent} is kept for {bake} after that", parent = self.kept(), bake = span(self.bake_ms));
        }
        if let (Some(analysis), Some(_)) = (&self.analysis, parent) {
            text += &format!("; {}", judged(analysis, self.is_held()));
        }
        if let (Some(copy), Some(_)) = (&self.copy, parent) {
            text += &format!("; the data is copied first (the last {} copies are kept)", copy.kept);
        }
        if !self.hooks.is_empty() {
            let s = if self.hooks.len() == 1 { "" } else { "s" };
            text += &format!("; {} hook{s}", self.hooks.len());
        }
        text
    }

    fn kept(&self) -> &'static str {
        if self.swap { "the way back" } else { "the previous release" }
    }

    fn describe_weights(&self) -> String {
        if self.weights.len() <= 1 {
            return match self.strategy.as_str() {
                "rolling" if self.is_cloud_driven() => "rolling: new copies are ready before old ones stop".to_owned(),
                "rolling" if self.copies == 1 => "rolling: the new copy is ready before the old one stops".to_owned(),
                "rolling" => format!("rolling: all {} copies at once", self.copies),
                name => format!("{name}: all traffic moves once the new release is ready"),
            };
        }
        if let [first, ..] = self.batches.as_slice() {
            return format!(
                "rolling: {} of {} copies at a time, new ones ready before old ones stop",
                first, self.copies
            );
        }
        let held = |pause_ms: u64| match &self.analysis {
            Some(analysis) if pause_ms == 0 => analysis.interval_ms.saturating_mul(u64::from(analysis.count)),
            _ => pause_ms,
        };
        let steps: Vec<_> = self
            .weights
            .iter()
            .map(|w| match (w.gate, w.pause_ms) {
                (true, _) => format!("{} % until somebody goes on", w.weight),
                (false, _) if w.weight == 100 => "100 %".to_owned(),
                (false, pause) => format!("{} % for {}", w.weight, span(held(pause))),
            })
            .collect();
        format!("{}: {}", self.strategy, shorten(&steps))
    }
}

fn judged(analysis: &Analysis, held: bool) -> String {
    if held {
        format!("judged every {}", span(analysis.interval_ms))
    } else {
        "not judged, since nothing holds it".to_owned()
    }
}

/// The first steps and the last: a linear rollout may have a hundred.
fn shorten(steps: &[String]) -> String {
    match steps {
        [first, second, .., last] if steps.len() > 5 => format!("{first}, {second}, ... {last}"),
        _ => steps.join(", "),
    }
}

fn span(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}
