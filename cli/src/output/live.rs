//! The live lines of a terminal: what is being done, and below it how a rollout's requests are. They move out of the way of
//! everything that is written, and nothing of them stays.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    chart::Chart,
    events::{Event, LookView},
    look,
    progress::message,
    style::Look,
    time,
};

/// What is drawn, and what was said of it.
pub(crate) struct Live {
    look: Look,
    colours: bool,
    lines: MultiProgress,
    bar: Option<ProgressBar>,
    spinner: &'static [&'static str],
    message: String,
    chart: Chart,
    rows: Vec<ProgressBar>,
    /// The last look, if no plain line has said it.
    unsaid: Option<LookView>,
    /// The last look's verdict.
    verdict: String,
}

impl Live {
    /// Draws there.
    pub(crate) fn new(look: Look, target: ProgressDrawTarget) -> Self {
        let spinner: &[&str] = if look.unicode {
            &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]
        } else {
            &["-", "\\", "|", "/", " "]
        };
        let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        Live {
            look,
            colours,
            lines: MultiProgress::with_draw_target(target),
            bar: None,
            spinner,
            message: String::new(),
            chart: Chart::default(),
            rows: Vec::new(),
            unsaid: None,
            verdict: String::new(),
        }
    }

    /// Follows an event; a line to write before what the event itself says.
    pub(crate) fn follow(&mut self, event: &Event) -> Option<String> {
        if let Some(message) = message(event) {
            let left = matches!(event, Event::Waiting { .. }).then(|| self.chart.left(Instant::now())).flatten();
            let left = left.map(|left| format!(", {} left", time::length(left.as_millis() as u64))).unwrap_or_default();
            self.show(&format!("{message}{left}"));
            return None;
        }
        match event {
            Event::Look(view) => return self.look(view),
            Event::Traffic { reached, weights } => {
                let line = self.said();
                if *reached {
                    self.chart.reached(weights, Instant::now());
                }
                return line;
            }
            Event::PersonNeeded { .. } | Event::Requested { .. } => return self.said(),
            Event::RollingBack { .. } => {
                let line = self.said();
                self.chart.clear();
                self.draw();
                return line;
            }
            Event::Plan { plan } => {
                self.clear();
                if let Some(course) = &plan.course {
                    self.chart.plan(course);
                }
            }
            Event::Released { .. }
            | Event::Parked { .. }
            | Event::Finished { .. }
            | Event::Error { .. }
            | Event::Image { .. } => {
                let line = self.said();
                self.clear();
                return line;
            }
            _ => {}
        }
        None
    }

    /// Draws a look; it is said at once when something is wrong or has changed.
    fn look(&mut self, view: &LookView) -> Option<String> {
        self.chart.add(view);
        self.draw();
        let changed = self.verdict != view.verdict && view.verdict != "good";
        self.verdict.clone_from(&view.verdict);
        self.unsaid = Some(view.clone());
        if changed || view.verdict == "bad" { self.said() } else { None }
    }

    /// The last look as a plain line, unless it was said.
    fn said(&mut self) -> Option<String> {
        self.unsaid.take().map(|view| format!("  {}", look::line(&view)))
    }

    fn show(&mut self, message: &str) {
        if self.message == message {
            return;
        }
        message.clone_into(&mut self.message);
        if let Some(bar) = &self.bar {
            return bar.set_message(self.message.clone());
        }
        let bar = self.lines.insert(0, ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style.tick_strings(self.spinner));
        }
        bar.set_message(self.message.clone());
        // Only now: it draws at once, and not before there is something to show.
        bar.enable_steady_tick(Duration::from_millis(100));
        self.bar = Some(bar);
    }

    /// Brings the rows below the spinner in line with the chart.
    fn draw(&mut self) {
        let wanted = self.chart.lines(self.look);
        while self.rows.len() > wanted.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.lines.remove(&row);
            }
        }
        while self.rows.len() < wanted.len() {
            let row = self.lines.add(ProgressBar::no_length());
            // Cut at the terminal's edge, whatever its width is by now.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                row.set_style(style);
            }
            self.rows.push(row);
        }
        for (row, line) in self.rows.iter().zip(wanted) {
            row.set_message(if self.colours { line } else { anstream::adapter::strip_str(&line).to_string() });
        }
    }

    /// Writes something else while the live lines are out of the way.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.bar.is_some() || !self.rows.is_empty() { self.lines.suspend(write) } else { write() }
    }

    /// Takes the live lines away.
    pub(crate) fn clear(&mut self) {
        self.message.clear();
        self.chart.clear();
        self.draw();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
    }
}

#[cfg(test)]
mod tests;
