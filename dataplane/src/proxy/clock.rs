//! Time as one thread of a door has it. It decides how exact deadlines are; it never wakes anybody.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::limits::Limits;

/// The same for all threads, so that what one notes on a backend means the same to another.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A clock that is read once per tick and request, and looked at as often as one likes.
#[derive(Debug)]
pub(super) struct Clock {
    now_ms: Cell<u64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        let clock = Self { now_ms: Cell::new(0) };
        clock.read();
        clock
    }

    pub(super) fn read(&self) -> Instant {
        let now = Instant::now();
        self.now_ms.set(millis(now.saturating_duration_since(*START)));
        now
    }

    /// Milliseconds since the process's first door, at the last reading.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }
}

/// The spans of [`Limits`] that deadlines of connections are made of, in this clock's unit.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) request_head_ms: u64,
    pub(super) response_head_ms: u64,
    pub(super) stall_ms: u64,
    pub(super) stream_idle_ms: u64,
    pub(super) keep_alive_ms: u64,
}

impl Spans {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            request_head_ms: millis(limits.request_head),
            response_head_ms: millis(limits.response_head),
            stall_ms: millis(limits.stall),
            stream_idle_ms: millis(limits.stream_idle),
            keep_alive_ms: millis(limits.keep_alive),
        }
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
