//! Takes finished log lines from any thread and writes them from one of its own, many per system call.
//! It never makes a request wait for a slow reader: when the buffer is full, lines are dropped, counted, and reported.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// About a second of lines at full load.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a stopping process waits for a reader that doesn't read.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// A cheap handle; all clones write to the same place.
#[derive(Clone)]
pub(crate) struct LogSink(Arc<Shared>);

struct Shared {
    buffer: Mutex<Buffer>,
    /// Something to write.
    filled: Condvar,
    /// Everything is written.
    written: Condvar,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    dropped: u64,
    writing: bool,
}

impl LogSink {
    /// Starts the writing thread.
    pub(crate) fn start(mut target: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { buffer: Mutex::default(), filled: Condvar::new(), written: Condvar::new() });
        let thread = shared.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || thread.write_to(&mut target))?;
        Ok(Self(shared))
    }

    /// Waits, within bounds, until everything is written.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_WAIT;
        let mut buffer = self.0.lock();
        while buffer.writing || !buffer.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            buffer = self.0.written.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, target: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let dropped = {
                let mut buffer = self.lock();
                buffer.writing = false;
                if buffer.lines.is_empty() {
                    self.written.notify_all();
                }
                while buffer.lines.is_empty() {
                    buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
                }
                buffer.writing = true;
                std::mem::swap(&mut lines, &mut buffer.lines);
                std::mem::take(&mut buffer.dropped)
            };
            if dropped > 0 {
                // Bypasses the buffer that was full.
                let line = format!("{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"count\":{dropped}}}\n");
                lines.extend_from_slice(line.as_bytes());
            }
            // Nobody can be told that the log can't be written.
            drop(target.write_all(&lines).and_then(|()| target.flush()));
            lines.clear();
            lines.shrink_to(64 * 1024);
        }
    }
}

impl Write for LogSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock();
        if buffer.lines.len() + line.len() > BUFFER_BYTES_MAX {
            buffer.dropped += 1;
        } else {
            let idle = buffer.lines.is_empty();
            buffer.lines.extend_from_slice(line);
            drop(buffer);
            if idle {
                self.0.filled.notify_one();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{BUFFER_BYTES_MAX, LogSink};

    struct Gate {
        open: Receiver<()>,
        out: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _: Result<(), _> = self.open.recv();
            drop(self.out.send(bytes.to_vec()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_but_no_time_and_is_told() {
        let (let_through, open) = channel();
        let (out, written) = channel();
        let mut sink = LogSink::start(Gate { open, out }).unwrap();
        let line = [b'x'; 1023].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        let lines = 2 * BUFFER_BYTES_MAX / line.len() + 100;
        for _ in 0..lines {
            sink.write_all(&line).unwrap();
        }
        drop(let_through);
        sink.flush();
        super::LogSink::flush(&sink);
        let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        let kept = text.lines().filter(|line| line.starts_with('x')).count();
        let dropped: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"count\":"))
            .map(|rest| rest.trim_end_matches('}').parse::<usize>().unwrap())
            .sum();
        assert!(dropped > 0 && kept + dropped == lines, "{kept} + {dropped} of {lines}");
    }
}
