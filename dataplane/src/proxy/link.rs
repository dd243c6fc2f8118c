//! What the parts that serve one client connection know of each other. It decides in which phase a connection is and
//! when its time is up; it never reads a request.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::body::Upload;
use super::clock::{Clock, Spans};
use super::failing::Asked;
use super::tunnel::Tunnel;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// Where a client connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests, or before the first.
    Idle,
    /// The first byte of a request is here, its head not yet.
    Head,
    /// A request is being answered; its deadline ends the wait for the backend.
    Busy,
    /// The head of the response is decided, its body may be under way.
    Relay,
    /// The response is complete, but not yet written.
    Flush,
}

/// One client connection.
pub(super) struct Link {
    phase: Cell<Phase>,
    deadline_ms: Cell<u64>,
    /// How far progress moves the deadline.
    span_ms: Cell<u64>,
    expired: Cell<bool>,
    /// Bytes of the response that the socket did not take; `None` until it was tried after the response's end.
    unsent: Cell<Option<usize>>,
    /// The next response says `Connection: close`.
    pub(super) retiring: Cell<bool>,
    /// The connection ends now if it is between requests.
    pub(super) closing: Cell<bool>,
    /// Part of a request may still come that nobody wants.
    pub(super) unread: Cell<bool>,
    pub(super) upload: Cell<Upload>,
    /// The request that is being answered, or was last.
    pub(super) asked: RefCell<Asked>,
    /// Where this connection goes on after the response that is being sent.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    waker: RefCell<Option<Waker>>,
    /// The client's address as `X-Forwarded-For` has it.
    pub(super) client: HeaderValue,
    clock: Rc<Clock>,
    pub(super) spans: Rc<Spans>,
}

impl Link {
    pub(super) fn new(client: HeaderValue, clock: Rc<Clock>, spans: Rc<Spans>) -> Self {
        let link = Self {
            phase: Cell::new(Phase::Idle),
            deadline_ms: Cell::new(NEVER),
            span_ms: Cell::new(NEVER),
            expired: Cell::new(false),
            unsent: Cell::new(Some(0)),
            retiring: Cell::new(false),
            closing: Cell::new(false),
            unread: Cell::new(false),
            upload: Cell::new(Upload::Done),
            asked: RefCell::new(Asked::nothing()),
            tunnel: RefCell::new(None),
            waker: RefCell::new(None),
            client,
            clock,
            spans,
        };
        link.allow(link.spans.request_head_ms);
        link
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Sets the time within which something must happen. What was due before it is not any more, even if it was late.
    pub(super) fn allow(&self, span_ms: u64) {
        self.expired.set(false);
        self.span_ms.set(span_ms);
        self.touch();
    }

    /// No deadline until the next [`allow`](Self::allow): somebody else keeps the time.
    pub(super) fn pause(&self) {
        self.deadline_ms.set(NEVER);
        self.span_ms.set(NEVER);
    }

    /// Something happened: the time begins anew.
    pub(super) fn touch(&self) {
        self.deadline_ms.set(self.clock.now_ms().saturating_add(self.span_ms.get()));
    }

    /// A request's head is here; its deadline is set once it is sent on.
    pub(super) fn begin(&self) {
        self.phase.set(Phase::Busy);
        self.upload.set(Upload::Done);
        self.pause();
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// The request was sent on completely: the wait for the backend begins.
    pub(super) fn uploaded(&self) {
        if self.phase.get() == Phase::Busy {
            self.allow(self.spans.response_head_ms);
        }
    }

    /// A response is complete as far as the proxy is concerned.
    pub(super) fn end_response(&self) {
        self.phase.set(Phase::Flush);
        self.unsent.set(None);
        self.allow(self.spans.stall_ms);
    }

    /// Whether all that was to be sent is sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.get() == Some(0)
    }

    /// Takes note of the time; wakes the connection if its own is up.
    pub(super) fn check_deadline(&self, now_ms: u64) {
        if now_ms >= self.deadline_ms.get() {
            self.deadline_ms.set(NEVER);
            self.expired.set(true);
            self.wake();
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    pub(super) fn take_expired(&self) -> bool {
        self.expired.take()
    }

    /// Notes whom to wake. The task of a connection has the same waker all its life.
    pub(super) fn park(&self, waker: &Waker) {
        let mut parked = self.waker.borrow_mut();
        if parked.is_none() {
            *parked = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn idle(&self) {
        self.phase.set(Phase::Idle);
        self.allow(self.spans.keep_alive_ms);
    }
}

/// The client's socket as the HTTP parser sees it.
///
/// Between requests only what is left of the last response gets through: what the parser writes by itself then is its
/// own, bodyless error page, and [`connection`](super::connection) sends ours in its place. The parser's shutdown
/// does nothing, since the socket may still be needed, for an upgrade or to linger.
pub(super) struct ClientStream {
    pub(super) tcp: TcpStream,
    pub(super) link: Rc<Link>,
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if self.link.phase.get() == Phase::Idle && buf.filled().len() > before {
            self.link.enter(Phase::Head);
            self.link.allow(self.link.spans.request_head_ms);
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { tcp, link } = &mut *self;
        let phase = link.phase.get();
        let wanted = match (phase, link.unsent.get()) {
            (Phase::Busy | Phase::Relay, _) | (Phase::Flush, None) => buf.len(),
            (Phase::Flush | Phase::Idle | Phase::Head, unsent) => buf.len().min(unsent.unwrap_or(0)),
        };
        if wanted == 0 {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(tcp).poll_write(cx, &buf[..wanted]);
        let sent = if let Poll::Ready(Ok(sent)) = written { sent } else { 0 };
        link.unsent.set(Some(wanted - sent));
        if sent > 0 {
            link.touch();
        }
        if phase == Phase::Flush && link.is_flushed() {
            link.idle();
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
