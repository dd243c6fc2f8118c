//! Watches one socket: tells which phase its connection is in, and says in our words what the HTTP library refuses by
//! itself. It never judges how long a phase may take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::warn;

use crate::answer::fault_body;
use crate::game::Game;
use crate::metrics::Refused;
use crate::request_id;
use crate::telemetry::LOGS;

/// A whole answer, for requests that never became one.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Vec<u8> {
    let request_id = request_id::fresh();
    warn!(target: LOGS, request_id = request_id.to_str().unwrap_or_default(), status = status.as_u16(), message, "refused");
    refusal_with(status, message, &request_id)
}

fn refusal_with(status: StatusCode, message: &str, request_id: &HeaderValue) -> Vec<u8> {
    let body = fault_body(message, request_id);
    let retry_after = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\n\
         access-control-allow-origin: *\r\n{retry_after}x-request-id: {}\r\ncontent-length: {}\r\n\r\n",
        request_id.to_str().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing came yet.
    Fresh,
    /// Some of a request's head is here.
    Head,
    /// A request is being answered.
    Busy,
    /// The answer is being sent, or was.
    Answered,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Fresh, Self::Head, Self::Busy, Self::Answered];
}

/// What a connection's phase is, and whether it changed; written and read by the connection's own task, hence relaxed.
/// It holds no time: whoever looks now and then keeps that, and requests need no clock for it.
pub(crate) struct Pulse {
    /// Counts the changes, four to a number; the rest is the phase.
    beat: AtomicU32,
    /// The last request was refused with some of its body unread.
    unread: AtomicBool,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { beat: AtomicU32::new(Phase::Fresh as u32), unread: AtomicBool::new(false) }
    }

    pub(crate) fn beat(&self) -> u32 {
        self.beat.load(Ordering::Relaxed)
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[(self.beat() % 4) as usize]
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let count = (self.beat() / 4).wrapping_add(1);
        self.beat.store(count.wrapping_mul(4) | phase as u32, Ordering::Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }
}

/// The socket, reporting what happens on it; and what the HTTP library itself refuses is said in our words, since
/// it would answer without a body or a request identity.
pub(crate) struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
    game: Game,
    /// Our refusal and how much of it is written.
    refusal: Option<(Vec<u8>, usize)>,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream, pulse: Arc<Pulse>, game: Game) -> Self {
        Self { stream, pulse, game, refusal: None }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The status, if `bytes` is a refusal by the library: then no request has reached the service.
    fn library_refusal(&self, bytes: &[u8]) -> Option<StatusCode> {
        if self.pulse.phase() != Phase::Head {
            return None;
        }
        let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
        StatusCode::from_bytes(status).ok().filter(StatusCode::is_client_error)
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<Option<usize>>> {
        if self.refusal.is_none() {
            let Some(status) = self.library_refusal(bytes) else { return Poll::Ready(Ok(None)) };
            self.game.metrics().refused(Refused::Malformed);
            self.pulse.set_unread(true);
            let message = match status {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request's head is too large",
                _ => "this is not a valid HTTP request",
            };
            self.refusal = Some((refusal(status, message), 0));
        }
        while let Some((text, written)) = &mut self.refusal
            && *written < text.len()
        {
            *written += ready!(Pin::new(&mut self.stream).poll_write(cx, &text[*written..]))?;
        }
        // The library's own text counts as written.
        Poll::Ready(Ok(Some(bytes.len())))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before && matches!(self.pulse.phase(), Phase::Fresh | Phase::Answered) {
            self.pulse.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_refuse(cx, bytes))? {
            Some(written) => Poll::Ready(Ok(written)),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
