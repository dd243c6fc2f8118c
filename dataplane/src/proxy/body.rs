//! Bodies on their way through. It decides when a body is over and its connection may be used again; it never stores
//! more of one than the piece at hand.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::link::Link;
use super::pool::Target;
use super::upstream::Upstream;
use super::visit::Visit;

/// How far the body of the current request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// There is none, or all of it was read.
    Done,
    /// The backend's turn: it did not take what there is.
    Flowing,
    /// The client's turn: nothing is there.
    Starved,
    /// It is over the limit.
    TooLarge,
    /// It could not be read.
    Broken,
}

/// Why a request's body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the client's request body could not be read to its end")]
    Client(#[source] hyper::Error),
    #[error("the client's request body is over the limit")]
    TooLarge,
}

/// A request's body on its way to a backend.
pub(super) struct UploadBody {
    inner: Option<Incoming>,
    link: Rc<Link>,
    left_bytes: u64,
    gate: Option<Gate>,
}

/// Keeps a body back until the backend says `100 Continue`, or does not for too long.
pub(super) struct Gate {
    open: Arc<AtomicBool>,
    timer: Pin<Box<Sleep>>,
}

impl Gate {
    pub(super) fn new(open: Arc<AtomicBool>, wait: Duration) -> Self {
        Self { open, timer: Box::pin(tokio::time::sleep(wait)) }
    }

    /// The backend's answer comes out of the very poll that comes to ask here, so only the timer needs a waker.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.load(Relaxed) { Poll::Ready(()) } else { self.timer.as_mut().poll(cx) }
    }
}

impl UploadBody {
    pub(super) fn empty(link: Rc<Link>) -> Self {
        Self { inner: None, link, left_bytes: 0, gate: None }
    }

    pub(super) fn new(inner: Incoming, link: Rc<Link>, gate: Option<Gate>, limit_bytes: Option<u64>) -> Self {
        link.upload.set(Upload::Flowing);
        Self { inner: Some(inner), link, left_bytes: limit_bytes.unwrap_or(u64::MAX), gate }
    }

    fn done(&self) {
        self.link.upload.set(Upload::Done);
        self.link.uploaded();
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll(cx));
            this.gate = None;
        }
        let Poll::Ready(frame) = Pin::new(&mut *inner).poll_frame(cx) else {
            this.link.upload.set(Upload::Starved);
            return Poll::Pending;
        };
        this.link.upload.set(Upload::Flowing);
        let over = inner.is_end_stream();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                this.link.touch();
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if length > this.left_bytes {
                    this.link.upload.set(Upload::TooLarge);
                    this.inner = None;
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                }
                this.left_bytes -= length;
                if over || frame.is_trailers() {
                    this.done();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                this.link.upload.set(Upload::Broken);
                Some(Err(UploadError::Client(error)))
            }
            None => {
                this.done();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        if self.link.upload.get() != Upload::Done {
            self.link.unread.set(true);
        }
    }
}

/// A response's body on its way to the client, and with it the rest of the visit.
pub(super) struct RelayBody {
    source: Source,
    visit: Option<Visit>,
    broken: Option<hyper::Error>,
}

enum Source {
    /// The proxy's own words.
    Text(Option<Bytes>),
    /// All of it came with the head; the connection it came from is free again.
    Whole(Incoming),
    Live(Live),
}

/// A body that is still arriving, together with the connection that must be polled for it to arrive.
struct Live {
    incoming: Incoming,
    upstream: Option<Box<Upstream>>,
    target: Rc<Target>,
}

impl RelayBody {
    pub(super) fn text(text: Bytes, visit: Visit) -> Self {
        Self { source: Source::Text(Some(text)), visit: Some(visit), broken: None }
    }

    /// For a switch of protocols, which is no end of the visit.
    pub(super) fn nothing() -> Self {
        Self { source: Source::Text(None), visit: None, broken: None }
    }

    /// Takes the connection back into the pool as soon as it is free.
    pub(super) fn relay(incoming: Incoming, upstream: Box<Upstream>, target: Rc<Target>, visit: Visit) -> Self {
        let source = if upstream.is_free() {
            target.put(upstream, &visit.worker);
            Source::Whole(incoming)
        } else if upstream.is_ended() {
            Source::Whole(incoming)
        } else {
            Source::Live(Live { incoming, upstream: Some(upstream), target })
        };
        Self { source, visit: Some(visit), broken: None }
    }
}

impl Live {
    fn poll_frame(&mut self, cx: &mut Context<'_>, visit: &Visit) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(upstream) = &self.upstream {
            upstream.mute();
        }
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(upstream) = &mut self.upstream
        {
            let _ = upstream.poll(cx);
            upstream.mute();
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
            upstream.unmute();
        }
        let frame = ready!(frame);
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.settle(cx, visit),
            Some(Err(_)) => self.upstream = None,
        }
        Poll::Ready(frame)
    }

    /// The body is over: the connection is free, or of no more use.
    fn settle(&mut self, cx: &mut Context<'_>, visit: &Visit) {
        let Some(mut upstream) = self.upstream.take() else { return };
        let _ = upstream.poll(cx);
        upstream.mute();
        if upstream.is_free() {
            self.target.put(upstream, &visit.worker);
        }
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match (&mut this.source, &this.visit) {
            (Source::Text(text), _) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            (Source::Whole(incoming), _) => ready!(Pin::new(incoming).poll_frame(cx)),
            (Source::Live(live), Some(visit)) => ready!(live.poll_frame(cx, visit)),
            (Source::Live(_), None) => None,
        };
        let Some(visit) = &mut this.visit else { return Poll::Ready(frame) };
        if let Some(Err(error)) = frame {
            // Told in the next turn: what came before it is written in this one, so that the client sees an answer
            // that is cut off and not an empty connection.
            visit.cut_off();
            this.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        visit.link.touch();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_none(),
            Source::Whole(incoming) => incoming.is_end_stream(),
            Source::Live(live) => live.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Source::Whole(incoming) => incoming.size_hint(),
            Source::Live(live) => live.incoming.size_hint(),
        }
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        if let Some(visit) = &self.visit {
            visit.link.end_response();
        }
    }
}
