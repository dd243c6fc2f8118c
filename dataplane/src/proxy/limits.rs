//! Every bound of the proxy, with its default. It decides nothing at run time and never reads the environment.

use std::io;
use std::time::Duration;

/// Smallest buffer the HTTP parser accepts.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Bounds of one [`Door`](super::Door). The timeouts are kept by one coarse clock per thread, so each may take up to
/// 250 ms (or a quarter of the shortest one, if that is less) longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that serve connections; 0 is one per core. Default 0.
    pub workers: usize,
    /// Client connections open at once; one more is told 503 and closed. Default 4,096.
    pub connections_max: usize,
    /// Time to open a connection to a backend. Default 1 s, then 504.
    pub connect: Duration,
    /// Time a client has to send the first byte after it connected, and a complete request head from each head's first
    /// byte. Default 10 s, then the connection is closed, with 408 if a part of a head came.
    pub request_head: Duration,
    /// Time a backend has for the head of its response, from the last byte of the request that was sent on. Default
    /// 60 s, then 504.
    pub response_head: Duration,
    /// Time without any progress of a body, in either direction. Default 60 s, then the connection is closed, or 408
    /// if the response had not begun.
    pub stall: Duration,
    /// As `stall`, for server-sent events and upgraded connections. Default 1 h.
    pub stream_idle: Duration,
    /// Time a client connection is kept without a request. Default 75 s.
    pub keep_alive: Duration,
    /// Size of a request head or response head. Default 32 KiB, then 431 (414 for a target over 64 KiB) or 502. At
    /// most 100 header fields, a bound of the parser.
    pub head_bytes_max: usize,
    /// Buffer for each direction of each connection, at least 8 KiB. Default 64 KiB.
    pub buffer_bytes_max: usize,
    /// Size of a request body; `None` is unbounded, since bodies are streamed and never stored. Default `None`; over
    /// it 413.
    pub request_body_bytes_max: Option<u64>,
    /// Idle connections kept to each backend by each thread. Default 64.
    pub pool_idle_max: usize,
    /// Time an idle connection to a backend is kept. Default 30 s.
    pub pool_idle: Duration,
    /// Time a backend that refused a connection is passed over while its release has others. Default 1 s.
    pub backend_pause: Duration,
    /// Time to wait for a backend's `100 Continue` before the body is sent without it. Default 1 s.
    pub expect: Duration,
    /// At a stop: time in which idle clients may send one more request, which is answered with `Connection: close`.
    /// Default 1 s, and never more than half of the stop's deadline.
    pub farewell: Duration,
    /// Time in which the rest of an unwanted request is read and dropped, so that the client gets to read the answer
    /// rather than a reset. Default 2 s, at most 1 MiB.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 0,
            connections_max: 4096,
            connect: Duration::from_secs(1),
            request_head: Duration::from_secs(10),
            response_head: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            stream_idle: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(75),
            head_bytes_max: 32 * 1024,
            buffer_bytes_max: 64 * 1024,
            request_body_bytes_max: None,
            pool_idle_max: 64,
            pool_idle: Duration::from_secs(30),
            backend_pause: Duration::from_secs(1),
            expect: Duration::from_secs(1),
            farewell: Duration::from_secs(1),
            linger: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Refuses what could not work, before a thread is started.
    pub(super) fn check(&self) -> io::Result<()> {
        let fault = if self.buffer_bytes_max < BUFFER_BYTES_MIN {
            "buffer_bytes_max is under 8 KiB, the least the HTTP parser works with"
        } else if self.head_bytes_max > self.buffer_bytes_max {
            "head_bytes_max is over buffer_bytes_max, so such a head could never be read"
        } else if self.connections_max == 0 {
            "connections_max is 0, so nobody could connect"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, fault))
    }

    /// Threads to start.
    pub(super) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        }
    }

    /// How often deadlines are looked at.
    pub(super) fn tick(&self) -> Duration {
        let shortest =
            self.request_head.min(self.response_head).min(self.stall).min(self.keep_alive).min(self.stream_idle);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }
}

/// Bounds of a [`Route::hold`](super::Route::hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// Requests that wait at once; one more is told 503 at once. Default 1,024.
    pub waiting_max: usize,
    /// Time one request waits, then it is told 503. Default 1.5 s.
    pub wait: Duration,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { waiting_max: 1024, wait: Duration::from_millis(1500) }
    }
}
