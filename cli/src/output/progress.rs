//! What is going on right now: a live line with a spinner on a terminal, and now and then a plain line elsewhere. It is told
//! every event and picks what belongs on its line.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    events::{Event, StepState},
    style::{DIM, Look, paint},
    time,
};

/// Elsewhere than on a terminal, what takes less than this is told by its end only.
const PATIENCE: Duration = Duration::from_secs(1);
/// Elsewhere than on a terminal, the same thing is said again after this long; in CI, where logs are long, later.
const REPEAT: Duration = Duration::from_secs(10);
const REPEAT_IN_CI: Duration = Duration::from_secs(30);

pub(crate) enum Progress {
    /// Machines read events.
    None,
    /// A terminal.
    Live { bar: Option<ProgressBar>, spinner: &'static [&'static str], step: String },
    /// A pipe or CI.
    Lines {
        repeat: Duration,
        /// What is being waited for, and when it is said (again).
        said: Option<(String, Instant)>,
    },
}

impl Progress {
    pub(crate) fn none() -> Self {
        Progress::None
    }

    pub(crate) fn live(look: Look) -> Self {
        let spinner: &[&str] = if look.unicode {
            &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]
        } else {
            &["-", "\\", "|", "/", " "]
        };
        Progress::Live { bar: None, spinner, step: String::new() }
    }

    pub(crate) fn lines(ci: bool) -> Self {
        Progress::Lines { repeat: if ci { REPEAT_IN_CI } else { REPEAT }, said: None }
    }

    /// Follows an event; a line to write where there is no live one.
    pub(crate) fn follow(&mut self, event: &Event) -> Option<String> {
        let message = match event {
            Event::Building { command } => format!("building: {command}"),
            Event::Step { title, state: StepState::Started, .. } => title.clone(),
            // Between two things to wait for, the last one stays.
            Event::Waiting { waiting_for, .. } if waiting_for.is_empty() => return None,
            Event::Waiting { step, waiting_for, .. } => {
                let step = if step.is_empty() { String::new() } else { format!("{step}: ") };
                format!("{step}waiting for {waiting_for}")
            }
            Event::Released { .. }
            | Event::Finished { .. }
            | Event::Error { .. }
            | Event::Plan { .. }
            | Event::Image { .. } => {
                self.clear();
                return None;
            }
            _ => return None,
        };
        match self {
            Progress::None => None,
            Progress::Live { bar, spinner, step } => {
                let bar = bar.get_or_insert_with(|| new_bar(spinner));
                if *step != message {
                    bar.set_message(message.clone());
                    *step = message;
                }
                None
            }
            Progress::Lines { repeat, said } => {
                // A step that starts is told by how it ends; what takes time is told while it does.
                let Event::Waiting { elapsed_ms, .. } = event else { return None };
                let now = Instant::now();
                let (known, next) = said.take().filter(|(m, _)| *m == message).unwrap_or((message, now + PATIENCE));
                if now < next {
                    *said = Some((known, next));
                    return None;
                }
                let line = paint(DIM, format!("  .. {known} ({})", time::length(*elapsed_ms)));
                *said = Some((known, now + *repeat));
                Some(line)
            }
        }
    }

    /// Writes something else while the live line is out of the way.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match self {
            Progress::Live { bar: Some(bar), .. } => bar.suspend(write),
            _ => write(),
        }
    }

    /// Takes the live line away.
    pub(crate) fn clear(&mut self) {
        if let Progress::Live { bar, step, .. } = self {
            step.clear();
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
    }
}

fn new_bar(spinner: &'static [&'static str]) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style.tick_strings(spinner));
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(waiting_for: &str) -> Event {
        let (step, waiting_for) = ("service".to_owned(), waiting_for.to_owned());
        Event::Waiting { step, waiting_for, weights: Default::default(), elapsed_ms: 1500 }
    }

    #[test]
    fn a_pipe_hears_only_of_what_takes_long() {
        let mut progress = Progress::Lines { repeat: Duration::from_secs(3600), said: None };
        assert_eq!(progress.follow(&waiting("readiness")), None, "it has only just begun");
        let Progress::Lines { said: Some((_, next)), .. } = &mut progress else { panic!() };
        *next = Instant::now();
        let line = progress.follow(&waiting("readiness")).unwrap();
        assert!(line.contains(".. service: waiting for readiness (1.5s)"), "{line}");
        assert_eq!(progress.follow(&waiting("readiness")), None, "it was said");
        assert_eq!(progress.follow(&waiting("")), None);
        assert_eq!(progress.follow(&waiting("the store")), None, "something else has only just begun");
    }
}
