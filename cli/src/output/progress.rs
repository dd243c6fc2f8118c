//! What is going on right now: live lines with a spinner on a terminal, and now and then a plain line elsewhere. It is told
//! every event and picks what belongs there.

use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::{
    events::{Event, StepState},
    live::Live,
    look,
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
    Live(Box<Live>),
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
        Progress::Live(Box::new(Live::new(look, ProgressDrawTarget::stderr())))
    }

    pub(crate) fn lines(ci: bool) -> Self {
        Progress::Lines { repeat: if ci { REPEAT_IN_CI } else { REPEAT }, said: None }
    }

    /// Follows an event; a line to write before what the event itself says.
    pub(crate) fn follow(&mut self, event: &Event) -> Option<String> {
        match self {
            Progress::None => None,
            Progress::Live(live) => live.follow(event),
            Progress::Lines { repeat, said } => match event {
                Event::Look(view) => Some(format!("  {}", look::line(view))),
                // A step that starts is told by how it ends; what takes time is told while it does.
                Event::Waiting { elapsed_ms, .. } => {
                    let message = message(event)?;
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
                _ => None,
            },
        }
    }

    /// Writes something else while the live lines are out of the way.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match self {
            Progress::Live(live) => live.suspend(write),
            _ => write(),
        }
    }

    /// Takes the live lines away.
    pub(crate) fn clear(&mut self) {
        if let Progress::Live(live) = self {
            live.clear();
        }
    }
}

/// What an event says is being done; none where it says nothing of the kind.
pub(super) fn message(event: &Event) -> Option<String> {
    match event {
        Event::Building { command } => Some(format!("building: {command}")),
        Event::Step { title, state: StepState::Started, .. } => Some(title.clone()),
        // Between two things to wait for, the last one stays.
        Event::Waiting { waiting_for, .. } if waiting_for.is_empty() => None,
        Event::Waiting { step, waiting_for, .. } => {
            let step = if step.is_empty() { String::new() } else { format!("{step}: ") };
            Some(format!("{step}waiting for {waiting_for}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::look::tests::sample;

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

    #[test]
    fn a_pipe_hears_of_every_look() {
        let mut progress = Progress::lines(true);
        for n in 1..4 {
            let line = progress.follow(&Event::Look(sample(n, 0, 41.0))).unwrap();
            assert!(line.contains(&format!("look {n}:")), "{line}");
        }
    }
}
