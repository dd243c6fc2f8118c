//! One connection to a backend. It decides whether the connection is fit for another request and what its end means for
//! the one it carries; it never decides whether to try again.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::body::UploadBody;
use super::link::Link;

/// A connection, driven by whoever polls it: it has no task of its own, so that a request and its answer pass through
/// one task only.
pub(super) struct Upstream {
    conn: Connection<TokioIo<BackendStream>, UploadBody>,
    sender: SendRequest<UploadBody>,
    turn: Arc<Turn>,
    waker: Waker,
    wire: Rc<Wire>,
    ended: bool,
    pub(super) reused: bool,
    pub(super) epoch: u64,
    pub(super) idle_since_ms: u64,
}

/// What a request that was given to a connection came to.
pub(super) enum Broken {
    /// It was never written; here it is.
    Unsent(Box<Request<UploadBody>>),
    /// The connection ended; `answered` if a part of an answer came before.
    Closed { answered: bool },
    /// What came is not HTTP, or a head over the limit.
    Garbage,
    /// The body could not be read from the client.
    Upload,
    /// The client's deadline passed.
    Late,
}

/// What the socket saw since the last request began.
#[derive(Default)]
struct Wire {
    /// Bytes, the end or an error were read.
    heard: Cell<bool>,
    answered: Cell<bool>,
    /// Ask the socket itself before the next read, rather than what the event loop was told.
    probe: Cell<bool>,
}

/// Passes on the wakes of a connection to whom it belongs at the moment, and to nobody while nobody waits: a pooled
/// connection must not wake the task that used it last, nor a task itself while it runs.
#[derive(Default)]
struct Turn {
    parent: AtomicWaker,
    live: AtomicBool,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.live.load(Relaxed) {
            self.parent.wake();
        }
    }
}

impl Upstream {
    pub(super) async fn open(
        address: SocketAddr,
        client: &Builder,
        epoch: u64,
        deadline: Duration,
    ) -> io::Result<Box<Self>> {
        let connect = TcpStream::connect(address);
        let tcp = tokio::time::timeout(deadline, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
        tcp.set_nodelay(true)?;
        let wire = Rc::new(Wire::default());
        let stream = BackendStream { tcp, wire: Rc::clone(&wire), broken: false };
        let (sender, conn) = client.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let turn = Arc::new(Turn::default());
        let waker = Waker::from(Arc::clone(&turn));
        Ok(Box::new(Self { conn, sender, turn, waker, wire, ended: false, reused: false, epoch, idle_since_ms: 0 }))
    }

    /// Sends a request and waits for the head of its response. After an error the connection is gone. With `careful`
    /// the socket itself is asked first whether the backend closed it, for requests that can't be repeated.
    pub(super) fn exchange(
        mut self: Box<Self>,
        request: Request<UploadBody>,
        careful: bool,
        link: &Link,
    ) -> impl Future<Output = Result<(Response<Incoming>, Box<Self>), Broken>> {
        self.wire.heard.set(false);
        self.wire.answered.set(false);
        self.wire.probe.set(careful);
        let promise = self.sender.try_send_request(request);
        async move {
            let wire = Rc::clone(&self.wire);
            let mut slot = Some(self);
            let mut promise = std::pin::pin!(promise);
            let answer = std::future::poll_fn(|cx| {
                if let Some(upstream) = &mut slot {
                    // The answer can only come out of this poll, so as long as nothing was read nobody looks for it.
                    if (upstream.poll(cx).is_ready() || wire.heard.get())
                        && let Poll::Ready(answer) = promise.as_mut().poll(cx)
                    {
                        return Poll::Ready(Some(answer));
                    }
                    if link.take_expired() {
                        return Poll::Ready(None);
                    }
                    if !upstream.ended {
                        return Poll::Pending;
                    }
                }
                // It ended with the request still in its queue: dropping it gives the request back.
                slot = None;
                promise.as_mut().poll(cx).map(Some)
            })
            .await;
            let mut error = match (answer, slot) {
                (Some(Ok(response)), Some(upstream)) => return Ok((response, upstream)),
                (Some(Ok(_)), None) => return Err(Broken::Closed { answered: wire.answered.get() }),
                (Some(Err(error)), _) => error,
                (None, _) => return Err(Broken::Late),
            };
            if let Some(request) = error.take_message() {
                return Err(Broken::Unsent(Box::new(request)));
            }
            let error = error.into_error();
            Err(if error.is_user() {
                Broken::Upload
            } else if error.is_parse() {
                Broken::Garbage
            } else {
                Broken::Closed { answered: wire.answered.get() }
            })
        }
    }

    /// Moves the connection on, in the name of the task of `cx`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.turn.parent.register(cx.waker());
        self.turn.live.store(true, Relaxed);
        let polled = Pin::new(&mut self.conn).poll(&mut Context::from_waker(&self.waker));
        self.ended = polled.is_ready();
        polled.map(|_| ())
    }

    /// Ignores wakes until the next poll.
    pub(super) fn mute(&self) {
        self.turn.live.store(false, Relaxed);
    }

    /// Passes wakes on again.
    pub(super) fn unmute(&self) {
        self.turn.live.store(true, Relaxed);
    }

    /// Whether the last request is over and another one may follow.
    pub(super) fn is_free(&self) -> bool {
        !self.ended && self.sender.is_ready()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether an idle connection is still open, as far as the event loop was told.
    pub(super) fn is_alive(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop())).is_pending() && {
            self.mute();
            self.is_free()
        }
    }

    /// The socket and what was read too much, after a switch of protocols.
    pub(super) fn into_stream(self) -> (TcpStream, Bytes) {
        let parts = self.conn.into_parts();
        (parts.io.into_inner().tcp, parts.read_buf)
    }
}

/// A backend's socket as the HTTP parser sees it.
///
/// A failed write is no failure: whether an answer came before the backend hung up is for the read side to tell. So
/// after one, what is written is dropped.
struct BackendStream {
    tcp: TcpStream,
    wire: Rc<Wire>,
    broken: bool,
}

impl BackendStream {
    /// Whether an idle connection was closed, or holds bytes that nobody asked for.
    fn is_closed(&self) -> bool {
        let peeked = socket2::SockRef::from(&self.tcp).peek(&mut [MaybeUninit::uninit()]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.wire.probe.take() && self.is_closed() {
            self.wire.heard.set(true);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if read.is_ready() {
            self.wire.heard.set(true);
            if buf.filled().len() > before {
                self.wire.answered.set(true);
            }
        }
        read
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.broken {
            match Pin::new(&mut self.tcp).poll_write(cx, buf) {
                Poll::Ready(Err(_)) => self.broken = true,
                written => return written,
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
