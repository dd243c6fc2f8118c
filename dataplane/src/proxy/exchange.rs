//! One request, from its head to the head of its answer. It decides whether to try a second time and which error stands
//! for which failure; it never touches a socket itself.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body;
use hyper::body::Incoming;
use rustix::io::Errno;

use super::answer::{
    CLOSED, CONNECT_LATE, CUT_OFF, EXHAUSTED, GARBAGE, HOLD_FULL, HOLD_LATE, NO_RELEASE, RESPONSE_LATE, Refusal,
    UNASKED_UPGRADE, UNREACHABLE, UPLOAD_BROKEN, UPLOAD_STALLED, UPLOAD_TOO_LARGE,
};
use super::body::{Gate, RelayBody, Upload, UploadBody};
use super::headers::{self, Wishes};
use super::hold::{Place, Queued};
use super::link::{Link, Phase};
use super::pool::{Lane, Target};
use super::route::Route;
use super::tunnel::Tunnel;
use super::upstream::{Broken, Upstream};
use super::visit::Visit;
use super::worker::{Pick, Worker};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers one request of a client connection, in one way or another.
pub(super) async fn answer(
    worker: Rc<Worker>,
    link: Rc<Link>,
    request: Request<Incoming>,
) -> Result<Response<RelayBody>, Infallible> {
    let mut visit = Visit::new(worker, Rc::clone(&link));
    link.begin();
    let (mut head, body) = request.into_parts();
    let request_id = head.headers.get(X_REQUEST_ID).cloned();
    let has_body = !body.is_end_stream();
    if has_body {
        link.upload.set(Upload::Flowing);
    }
    if !link.is_flushed() {
        // What is left of an earlier response would be lost when the parser gives the socket back.
        head.headers.remove(UPGRADE);
    }
    let result = match headers::admit(&mut head, has_body, &link.client) {
        Ok(wishes) => match forward(&mut visit, head, has_body.then_some(body), wishes).await {
            Ok(answered) => deliver(answered, wishes, visit),
            Err(refusal) => Err((refusal, visit)),
        },
        Err(refusal) => Err((refusal, visit)),
    };
    link.enter(Phase::Relay);
    Ok(match result {
        Ok(response) => response,
        Err((refusal, visit)) => {
            link.allow(link.spans.stall_ms);
            // What is left of the request is not waited for.
            let unread = link.upload.get() != Upload::Done;
            link.unread.set(unread);
            refusal.respond(visit, request_id.as_ref(), unread || link.retiring.get())
        }
    })
}

/// A response's head, and what its body comes from.
struct Answered {
    response: Response<Incoming>,
    upstream: Box<Upstream>,
    target: Rc<Target>,
}

/// Sends a request on, if need be twice.
async fn forward(
    visit: &mut Visit,
    head: request::Parts,
    body: Option<Incoming>,
    wishes: Wishes,
) -> Result<Answered, Refusal> {
    let link = Rc::clone(&visit.link);
    let limits = Rc::clone(&visit.worker.limits);
    let too_large = |body: &Incoming| limits.request_body_bytes_max.is_some_and(|most| body.size_hint().lower() > most);
    if body.as_ref().is_some_and(too_large) {
        return Err(UPLOAD_TOO_LARGE);
    }
    let repeatable = body.is_none() && matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let add_host = !head.headers.contains_key(HOST);
    let span_ms = if body.is_some() { link.spans.stall_ms } else { link.spans.response_head_ms };
    let mut request = match body {
        None => Request::from_parts(head, UploadBody::empty(Rc::clone(&link))),
        Some(body) => {
            let go = wishes.proceed.then(Arc::<AtomicBool>::default);
            let gate = go.clone().map(|go| Gate::new(go, limits.expect));
            let body = UploadBody::new(body, Rc::clone(&link), gate, limits.request_body_bytes_max);
            let mut request = Request::from_parts(head, body);
            if let Some(go) = go {
                hyper::ext::on_informational(&mut request, move |response| {
                    if response.status() == StatusCode::CONTINUE {
                        go.store(true, Relaxed);
                    }
                });
            }
            request
        }
    };

    let mut patience = None;
    // Where the first try failed.
    let mut failed: Option<Rc<Target>> = None;
    loop {
        let second = failed.is_some();
        let lane = choose(visit, &mut patience).await?;
        visit.enter(Rc::clone(&lane));
        let target = Rc::clone(lane.target(visit.worker.clock.now_ms(), failed.as_deref()));
        // The second try gets a connection of its own, so that it can't fail for the same reason.
        let pooled = if second { None } else { target.take() };
        let mut slot = match pooled {
            Some(upstream) => Some(upstream),
            None => match open(&visit.worker, &target, !second).await {
                Ok(upstream) => Some(upstream),
                Err(refusal) if second || refusal == EXHAUSTED => return Err(refusal),
                Err(_) => {
                    again(visit);
                    failed = Some(target);
                    continue;
                }
            },
        };
        let reused = slot.as_ref().is_some_and(|upstream| upstream.reused);
        if add_host {
            request.headers_mut().insert(HOST, target.host.clone());
        }
        let copy = (repeatable && !second).then(|| duplicate(&request, &link));
        link.allow(span_ms);
        let result = Upstream::exchange(&mut slot, request, reused && !repeatable, &link).await;
        link.pause();
        request = match (result, slot) {
            (Ok(response), Some(upstream)) => return Ok(Answered { response, upstream, target }),
            (Err(Broken::Unsent(unsent)), _) if !second => *unsent,
            (Err(Broken::Closed { answered: false }), _) if let Some(copy) = copy => copy,
            (Err(Broken::Closed { answered: true }), _) => return Err(CUT_OFF),
            (Err(Broken::Closed { .. } | Broken::Unsent(_)) | Ok(_), _) => return Err(CLOSED),
            (Err(Broken::Garbage), _) => return Err(GARBAGE),
            (Err(Broken::Upload), _) if link.upload.get() == Upload::TooLarge => return Err(UPLOAD_TOO_LARGE),
            (Err(Broken::Upload), _) => return Err(UPLOAD_BROKEN),
            (Err(Broken::Late), _) if link.upload.get() == Upload::Starved => return Err(UPLOAD_STALLED),
            (Err(Broken::Late), _) => return Err(RESPONSE_LATE),
        };
        again(visit);
        failed = Some(target);
    }
}

fn again(visit: &mut Visit) {
    visit.retried();
    visit.leave();
}

/// The release a request goes to as the route is now, after any hold.
async fn choose(visit: &mut Visit, patience: &mut Option<Instant>) -> Result<Rc<Lane>, Refusal> {
    loop {
        match visit.worker.pick() {
            Pick::Lane(lane) => return Ok(lane),
            Pick::Nowhere => return Err(NO_RELEASE),
            Pick::Held => wait(visit, patience).await?,
        }
    }
}

/// Waits for the end of a hold. A request's patience is for all holds it meets.
async fn wait(visit: &mut Visit, patience: &mut Option<Instant>) -> Result<(), Refusal> {
    /// Frees the place if the client goes away.
    struct Seat<'a>(&'a Route, u64);
    impl Drop for Seat<'_> {
        fn drop(&mut self) {
            self.0.give_back(self.1);
        }
    }
    let (Place { id, go }, limits) = match visit.worker.route().queue() {
        Queued::Go => return Ok(()),
        Queued::Full => return Err(HOLD_FULL),
        Queued::Wait(place, limits) => (place, limits),
    };
    visit.held();
    let until = *patience.get_or_insert_with(|| Instant::now() + limits.wait);
    let seat = Seat(visit.worker.route(), id);
    let waited = tokio::time::timeout_at(until.into(), go).await;
    drop(seat);
    waited.map(|_| ()).map_err(|_| HOLD_LATE)
}

/// Opens a connection, unless one got free while this waited for its turn.
async fn open(worker: &Worker, target: &Target, pooled: bool) -> Result<Box<Upstream>, Refusal> {
    let _turn = target.opening().await;
    if let Some(upstream) = pooled.then(|| target.take()).flatten() {
        return Ok(upstream);
    }
    let opened = Upstream::open(target.address(), &worker.client, target.epoch(), worker.limits.connect).await;
    opened.map_err(|error| {
        if let Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM) =
            Errno::from_io_error(&error)
        {
            tracing::warn!(backend = %target.address(), %error, "no connection could be opened");
            return EXHAUSTED;
        }
        target.pause(worker.clock.now_ms(), worker.limits.backend_pause);
        if error.kind() == io::ErrorKind::TimedOut { CONNECT_LATE } else { UNREACHABLE }
    })
}

/// For a second try of a request that has no body.
fn duplicate(request: &Request<UploadBody>, link: &Rc<Link>) -> Request<UploadBody> {
    let mut copy = Request::new(UploadBody::empty(Rc::clone(link)));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Makes a backend's response the client's.
fn deliver(answered: Answered, wishes: Wishes, visit: Visit) -> Result<Response<RelayBody>, (Refusal, Visit)> {
    let Answered { response, upstream, target } = answered;
    let (mut head, body) = response.into_parts();
    let mut visit = visit;
    if !headers::relay(&mut head) {
        return Err((GARBAGE, visit));
    }
    let link = Rc::clone(&visit.link);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if !wishes.upgrade || !upstream.is_ended() {
            return Err((UNASKED_UPGRADE, visit));
        }
        visit.decided(head.status);
        visit.upgrade();
        let (backend, early) = upstream.into_stream();
        *link.tunnel.borrow_mut() = Some(Tunnel { backend, early, visit });
        return Ok(Response::from_parts(head, RelayBody::nothing()));
    }
    link.allow(if is_event_stream(&head.headers) { link.spans.stream_idle_ms } else { link.spans.stall_ms });
    if link.retiring.get() || link.upload.get() != Upload::Done {
        // After an answer that came before the request's end, what is left of the request is not waited for.
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    visit.decided(head.status);
    Ok(Response::from_parts(head, RelayBody::relay(body, upstream, target, visit)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}
