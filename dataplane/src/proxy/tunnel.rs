//! Upgraded connections. It decides when one has been silent for too long; it never looks at what passes.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::link::Link;
use super::visit::Visit;

/// Bytes in each direction that wait for the other side.
const BUFFER_BYTES: usize = 16 * 1024;

/// The backend's side of a connection that goes on as another protocol.
pub(super) struct Tunnel {
    pub(super) backend: TcpStream,
    /// What the backend sent right after its answer.
    pub(super) early: Bytes,
    pub(super) visit: Visit,
}

impl Tunnel {
    /// Copies both ways until both sides ended, one broke, or nothing moved for too long.
    pub(super) async fn run(self, client: TcpStream, client_early: Bytes) -> io::Result<()> {
        let link = Rc::clone(&self.visit.link);
        link.allow(link.spans.stream_idle_ms);
        let mut client = Side { tcp: client, link: Rc::clone(&link) };
        let mut backend = Side { tcp: self.backend, link: Rc::clone(&link) };
        let copy = async {
            client.write_all(&self.early).await?;
            backend.write_all(&client_early).await?;
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER_BYTES, BUFFER_BYTES).await
        };
        let mut copy = std::pin::pin!(copy);
        std::future::poll_fn(|cx| {
            if link.take_expired() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            copy.as_mut().poll(cx).map_ok(|_| ())
        })
        .await
    }
}

/// One socket, whose every byte is a sign of life.
struct Side {
    tcp: TcpStream,
    link: Rc<Link>,
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if read.is_ready() {
            self.link.touch();
        }
        read
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        if written.is_ready() {
            self.link.touch();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
