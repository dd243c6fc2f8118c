//! Serves one connection within bounds of time: too slow a request is answered with 408, an idle or stuck connection is
//! closed, and a refusal reaches clients that are still sending. It never decides what a request is answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures::FutureExt;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;
use tracing::warn;

use crate::answer::fault_body;
use crate::game::{Game, Stage};
use crate::metrics::Refused;
use crate::request_id;
use crate::settings::Limits;
use crate::telemetry::LOGS;

/// Largest request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How much of a refused body is still read so that the client gets to see the refusal.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Serves until the client or the game's life ends the connection.
pub(crate) async fn serve(stream: TcpStream, router: Router, game: Game) {
    let pulse = Arc::new(Pulse::new());
    let service = {
        let pulse = pulse.clone();
        service_fn(move |request: Request<Incoming>| {
            let has_body = !request.body().is_end_stream();
            pulse.enter(Phase::Busy);
            let pulse = pulse.clone();
            router.clone().call(request.map(Body::new)).map(move |answer| {
                let refused = answer.as_ref().is_ok_and(|response| response.status().as_u16() >= 400);
                pulse.unread.store(has_body && refused, Ordering::Relaxed);
                pulse.enter(Phase::Answered);
                answer
            })
        })
    };
    let watched = Watched { stream, pulse: pulse.clone(), game: game.clone(), refusal: None };
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(watched), service);
    let limits = &game.settings().limits;
    let mut life = game.life().watch();
    let mut check = tokio::time::interval(check_every(limits));
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut closing = false;
    let overdue = loop {
        let wanted = if closing { Stage::Ending } else { Stage::Closing };
        tokio::select! {
            biased;
            // Polled first, so that a request that is already here is taken up before the connection is told to close.
            _ = &mut connection => break None,
            stage = life.wait_for(|stage| *stage >= wanted) => match stage.as_deref() {
                Ok(Stage::Closing) => {
                    closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                _ => return,
            },
            _ = check.tick() => if let Some(phase) = pulse.overdue(limits) { break Some(phase) },
        }
    };
    let mut stream = connection.into_parts().io.into_inner().stream;
    match overdue {
        Some(Phase::Head) => {
            game.metrics().refused(Refused::Slow);
            let text = refusal(StatusCode::REQUEST_TIMEOUT, "the request's head came too slowly");
            drop(tokio::time::timeout(LINGER, stream.write_all(&text)).await);
            drop(stream.shutdown().await);
        }
        Some(_) => {}
        None if pulse.unread.load(Ordering::Relaxed) => linger(stream).await,
        None => {}
    }
}

/// Closing a socket with unread bytes resets it, and a reset can overtake the answer.
async fn linger(mut stream: TcpStream) {
    let discard = async {
        let mut left = LINGER_BYTES_MAX;
        let mut bytes = [0; 4096];
        while left > 0 {
            match stream.read(&mut bytes).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read),
                _ => return,
            }
        }
    };
    drop(tokio::time::timeout(LINGER, discard).await);
}

/// One timer per connection looks now and then; one per request would cost more than it brings.
fn check_every(limits: &Limits) -> Duration {
    limits.head_timeout.min(limits.idle_timeout) / 4
}

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
enum Phase {
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

/// A connection's phase and since when; written and read by the connection's own task, hence relaxed.
struct Pulse {
    start: Instant,
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// The last request was refused with some of its body unread.
    unread: AtomicBool,
}

impl Pulse {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Fresh as u8),
            since_ms: AtomicU64::new(0),
            unread: AtomicBool::new(false),
        }
    }

    fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Busy)
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        // A busy request has bounds of its own.
        if phase != Phase::Busy {
            self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn overdue(&self, limits: &Limits) -> Option<Phase> {
        let phase = self.phase();
        let allowed = match phase {
            Phase::Fresh | Phase::Head => limits.head_timeout,
            Phase::Answered => limits.idle_timeout,
            Phase::Busy => return None,
        };
        let waited = Duration::from_millis(self.now_ms().saturating_sub(self.since_ms.load(Ordering::Relaxed)));
        (waited >= allowed).then_some(phase)
    }
}

/// The socket, reporting what happens on it; and what the HTTP library itself refuses is said in our words, since
/// it would answer without a body or a request identity.
struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
    game: Game,
    /// Our refusal and how much of it is written.
    refusal: Option<(Vec<u8>, usize)>,
}

impl Watched {
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
            self.pulse.unread.store(true, Ordering::Relaxed);
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.first().map_or(&[][..], |slice| slice);
        match ready!(self.poll_refuse(cx, first))? {
            Some(written) => Poll::Ready(Ok(written)),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
