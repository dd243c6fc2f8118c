//! One client connection from accept to close. It decides how a connection ends, so that the client gets to read the
//! last answer; it never decides what is answered to a request.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{CROWDED, HEAD_BROKEN, HEAD_LATE, HEAD_TOO_LARGE, HTTP2, Refusal, TARGET_TOO_LONG};
use super::exchange::answer;
use super::link::{ClientStream, Link, Phase};
use super::worker::Worker;

/// Bytes of an unwanted request that are read and dropped at most.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Why the parser let go of a connection.
enum End {
    Parsed(hyper::Result<()>),
    Expired(Phase),
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: &Rc<Worker>, link: &Rc<Link>, tcp: TcpStream) {
    let service = service_fn(|request| answer(Rc::clone(worker), Rc::clone(link), request));
    let io = TokioIo::new(ClientStream { tcp, link: Rc::clone(link) });
    let mut conn = worker.server.serve_connection(io, service);
    let end = std::future::poll_fn(|cx| {
        link.park(cx.waker());
        if link.closing.take() {
            if link.phase() == Phase::Head {
                return Poll::Ready(End::Expired(Phase::Head));
            }
            Pin::new(&mut conn).graceful_shutdown();
        }
        // While busy it is the request that is late, and it knows best what to say.
        if link.is_expired() && link.phase() != Phase::Busy {
            return Poll::Ready(End::Expired(link.phase()));
        }
        Pin::new(&mut conn).poll(cx).map(End::Parsed)
    })
    .await;
    let parts = conn.into_parts();
    let mut tcp = parts.io.into_inner().tcp;
    let last_words = match end {
        End::Parsed(Ok(())) => {
            if let Some(tunnel) = link.tunnel.take() {
                // Either side's going away is an upgraded connection's usual end.
                let _ = tunnel.run(tcp, parts.read_buf).await;
                return;
            }
            None
        }
        End::Parsed(Err(error)) => refusal(&error),
        End::Expired(Phase::Head) => Some(HEAD_LATE),
        End::Expired(_) => return,
    };
    match last_words {
        Some(refusal) if link.is_flushed() => {
            worker.refused(refusal);
            say(tcp, refusal, worker.limits.linger).await;
        }
        _ if link.unread.get() => linger(&mut tcp, worker.limits.linger).await,
        _ => {}
    }
}

/// Tells a client that there is no room for it.
pub(super) async fn turn_away(tcp: TcpStream, span: Duration) {
    say(tcp, CROWDED, span).await;
}

/// What to say to a client whose request could not be parsed; nothing if it just went away.
fn refusal(error: &hyper::Error) -> Option<Refusal> {
    if error.is_parse_too_large() {
        // Both are too large for the parser; only the target has a name of its own.
        return Some(if error.to_string().contains("URI") { TARGET_TOO_LONG } else { HEAD_TOO_LARGE });
    }
    if error.is_parse_version_h2() {
        return Some(HTTP2);
    }
    error.is_parse().then_some(HEAD_BROKEN)
}

async fn say(mut tcp: TcpStream, refusal: Refusal, span: Duration) {
    let told = timeout(span, tcp.write_all(&refusal.message())).await;
    if matches!(told, Ok(Ok(()))) {
        linger(&mut tcp, span).await;
    }
}

/// Reads what still comes and drops it: closing a socket with unread bytes would reset it, and the reset may overtake
/// the answer.
async fn linger(tcp: &mut TcpStream, span: Duration) {
    let drain = async {
        tcp.shutdown().await?;
        let mut waste = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        loop {
            let read = tcp.read(&mut waste).await?;
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                return Ok::<_, io::Error>(());
            }
        }
    };
    // Whatever ends it, the socket is closed now.
    let _ = timeout(span, drain).await;
}
