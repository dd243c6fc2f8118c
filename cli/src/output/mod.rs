//! How commands speak: results to stdout, progress to stderr, both also to the run's log. It decides how things look,
//! never what is said, and a stream that nobody reads any more is no error.

mod chart;
mod diagnostics;
pub(crate) mod drill;
pub(crate) mod events;
mod history;
mod live;
pub(crate) mod look;
mod plan;
mod progress;
mod run_log;
mod status;
pub(crate) mod style;
mod text;
pub(crate) mod time;
mod tracing_setup;
mod views;

use std::{
    io::{self, IsTerminal, Stderr, Stdout, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anstream::AutoStream;

pub(crate) use diagnostics::drawing;
pub(crate) use events::Event;
pub(crate) use run_log::RunLog;
pub(crate) use tracing_setup::trace;

use crate::args::Format;
use progress::Progress;
use style::Look;

/// Where a command's output goes; clones write to the same streams.
#[derive(Clone)]
pub(crate) struct Output {
    format: Format,
    look: Look,
    /// Questions may be asked.
    interactive: bool,
    started: Instant,
    streams: Arc<Mutex<Streams>>,
}

struct Streams {
    stdout: AutoStream<Stdout>,
    stderr: AutoStream<Stderr>,
    stdout_closed: bool,
    /// Results could not be written for another reason than that nobody wants them.
    stdout_error: Option<io::Error>,
    progress: Progress,
    /// The last line of progress, so that the same thing told from two sides is said once.
    last: String,
    log: RunLog,
}

/// Which stream a text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// What was asked for.
    Result,
    /// What happens meanwhile.
    Progress,
}

impl Output {
    /// The terminal as it is.
    pub(crate) fn new(format: Format) -> Self {
        let ci = std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false" && v != "0");
        let look = Look::of_environment();
        let live = io::stderr().is_terminal() && !ci && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let progress = match format {
            Format::Json => Progress::none(),
            _ if live => Progress::live(look),
            _ => Progress::lines(ci),
        };
        Output {
            format,
            look,
            interactive: !ci && format == Format::Text && io::stdin().is_terminal() && io::stderr().is_terminal(),
            started: Instant::now(),
            streams: Arc::new(Mutex::new(Streams {
                stdout: anstream::stdout(),
                stderr: anstream::stderr(),
                stdout_closed: false,
                stdout_error: None,
                progress,
                last: String::new(),
                log: RunLog::default(),
            })),
        }
    }

    /// From now on, everything is logged there too.
    pub(crate) fn log_to(&self, log: RunLog) {
        self.streams().log = log;
    }

    /// How results are written.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// What the terminal can show.
    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// Questions may be asked: somebody sits there.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether whoever read the results went away. Found out also without writing anything.
    pub(crate) fn is_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let gone = asked.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        gone || self.streams().stdout_closed
    }

    /// Why results could not be written, if not because their reader went away.
    pub(crate) fn write_error(&self) -> Option<io::Error> {
        self.streams().stdout_error.take()
    }

    /// How long the command has taken so far.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says something.
    pub(crate) fn event(&self, event: Event) {
        let line = events::Line { v: events::EVENT_FORMAT, at_unix_ms: time::now_unix_ms(), event: &event };
        let json = serde_json::to_string(&line).unwrap_or_default();
        let mut streams = self.streams();
        // A task's own lines are kept in the task's own logs, and may hold anything.
        if !matches!(event, Event::Log { .. } | Event::Output { .. }) {
            streams.log.line(json.as_bytes());
        }
        match self.format {
            Format::Json => {
                streams.write(Stream::Result, &json);
                if let Event::Error { .. } = event
                    && let Some((_, text)) = text::of(&event, self.look)
                {
                    streams.write(Stream::Progress, &text);
                }
            }
            Format::Text | Format::Markdown => streams.say(&event, self.format, self.look),
        }
    }

    /// A note for people and machines alike.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.event(Event::Note { text: text.into() });
    }

    /// A warning.
    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.event(Event::Warning { text: text.into() });
    }

    /// Takes the live line away, before another program or a question uses the terminal.
    pub(crate) fn pause(&self) {
        self.streams().progress.clear();
    }

    /// Asks, and reads one line. Only where [`Output::is_interactive`]; none at the end of input.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        let mut streams = self.streams();
        streams.progress.clear();
        let _ = write!(streams.stderr, "{question} ").and_then(|()| streams.stderr.flush());
        drop(streams);
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(answer.trim().to_owned()),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn say(&mut self, event: &Event, format: Format, look: Look) {
        if let (Format::Markdown, Event::Plan { plan }) = (format, event) {
            return self.write(Stream::Result, &plan::markdown(plan));
        }
        if let Some(line) = self.progress.follow(event) {
            self.write(Stream::Progress, &line);
        }
        if let Some((stream, text)) = text::of(event, look) {
            let again = stream == Stream::Progress
                && self.last == text
                && matches!(event, Event::Happened { .. } | Event::Traffic { .. });
            if !again {
                self.write(stream, &text);
                self.last = text;
            }
        }
    }

    fn write(&mut self, stream: Stream, text: &str) {
        let Streams { stdout, stderr, stdout_closed, stdout_error, progress, .. } = self;
        let written = progress.suspend(|| match stream {
            Stream::Result if *stdout_closed => Ok(()),
            Stream::Result => writeln!(stdout, "{text}").and_then(|()| stdout.flush()),
            Stream::Progress => {
                let _ = writeln!(stderr, "{text}").and_then(|()| stderr.flush());
                Ok(())
            }
        });
        // Nobody reads the results any more, or they can't be kept (a full disk): the work itself goes on.
        if let Err(error) = written {
            *stdout_closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                *stdout_error = Some(error);
            }
        }
    }
}
