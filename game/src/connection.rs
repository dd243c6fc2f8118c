//! Serves one connection within bounds of time: too slow a request is answered with 408, an idle or stuck connection is
//! closed, and a refusal reaches clients that are still sending. It never decides what a request is answered.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures::FutureExt;
use http::{Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::Service;

use crate::game::{Game, Stage};
use crate::metrics::Refused;
use crate::settings::Limits;
use crate::watched::{Phase, Pulse, Watched, refusal};

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
                pulse.set_unread(has_body && refused);
                pulse.enter(Phase::Answered);
                answer
            })
        })
    };
    let watched = Watched::new(stream, pulse.clone(), game.clone());
    let mut connection = http1::Builder::new()
        .half_close(true)
        // One buffer and a plain send are cheaper than a vectored write for answers as small as ours.
        .writev(false)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(watched), service);
    let end = drive(&mut connection, |connection| connection.graceful_shutdown(), &pulse, &game).await;
    let mut stream = connection.into_parts().io.into_inner().into_stream();
    match end {
        End::Done if pulse.has_unread() => linger(stream).await,
        End::Overdue(Phase::Head) => {
            game.metrics().refused(Refused::Slow);
            let text = refusal(StatusCode::REQUEST_TIMEOUT, "the request's head came too slowly");
            drop(tokio::time::timeout(LINGER, stream.write_all(&text)).await);
            drop(stream.shutdown().await);
        }
        End::Done | End::Overdue(_) | End::Dropped => {}
    }
}

/// How a connection came to its end.
enum End {
    /// By the client or by agreement.
    Done,
    /// It took too long in this phase.
    Overdue(Phase),
    /// The process ends.
    Dropped,
}

/// What may happen besides requests and answers.
enum Event {
    Done,
    Life,
    Check,
}

/// Runs the connection, and looks at the game's life and at the clock when either has news. Asking both for every request
/// would cost more than the request is worth, so a [`Herald`] says whether there is anything to ask for.
async fn drive<C: Future + Unpin>(connection: &mut C, finish: impl Fn(Pin<&mut C>), pulse: &Pulse, game: &Game) -> End {
    let limits = &game.settings().limits;
    let mut life = game.life().watch();
    let mut wanted = Stage::Closing;
    let mut seen = (pulse.beat(), Instant::now());
    let mut check = pin!(tokio::time::sleep(check_every(limits)));
    loop {
        let awaited = wanted;
        let mut news = pin!(life.wait_for(move |stage| *stage >= awaited));
        let mut herald: Option<Arc<Herald>> = None;
        let event = poll_fn(|cx| {
            // First, so that a request that is already here is taken up before the connection is told to close.
            if Pin::new(&mut *connection).poll(cx).is_ready() {
                return Poll::Ready(Event::Done);
            }
            let herald = match &herald {
                Some(herald) if herald.task.will_wake(cx.waker()) => {
                    if !herald.called.load(Ordering::Acquire) {
                        return Poll::Pending;
                    }
                    // Before both are asked: a call from now on is for the next time.
                    herald.called.store(false, Ordering::Release);
                    herald
                }
                _ => herald.insert(Arc::new(Herald { called: AtomicBool::new(false), task: cx.waker().clone() })),
            };
            let waker = Waker::from(herald.clone());
            let mut cx = Context::from_waker(&waker);
            if news.as_mut().poll(&mut cx).is_ready() {
                return Poll::Ready(Event::Life);
            }
            check.as_mut().poll(&mut cx).map(|()| Event::Check)
        })
        .await;
        match event {
            Event::Done => return End::Done,
            Event::Life if game.life().stage() == Stage::Ending => return End::Dropped,
            Event::Life => {
                wanted = Stage::Ending;
                finish(Pin::new(&mut *connection));
            }
            Event::Check => {
                if seen.0 != pulse.beat() {
                    seen = (pulse.beat(), Instant::now());
                } else if allowed(pulse.phase(), limits).is_some_and(|allowed| seen.1.elapsed() >= allowed) {
                    return End::Overdue(pulse.phase());
                }
                check.as_mut().reset(tokio::time::Instant::now() + check_every(limits));
            }
        }
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

/// Wakes the connection's task and remembers that it was not the socket that did.
struct Herald {
    called: AtomicBool,
    task: Waker,
}

impl Wake for Herald {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// How long a connection may stay in a phase.
fn allowed(phase: Phase, limits: &Limits) -> Option<Duration> {
    match phase {
        Phase::Fresh | Phase::Head => Some(limits.head_timeout),
        Phase::Answered => Some(limits.idle_timeout),
        // A request that is being answered has bounds of its own.
        Phase::Busy => None,
    }
}

/// One timer per connection looks now and then; one per request would cost more than it brings.
fn check_every(limits: &Limits) -> Duration {
    limits.head_timeout.min(limits.idle_timeout) / 4
}
