//! One request, from its head to the head of its answer. It decides whether to try a second time and which error stands
//! for which failure; it never touches a socket itself.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use rustix::io::Errno;

use super::answer::{
    CLOSED, CONNECT_LATE, CUT_OFF, EXHAUSTED, GARBAGE, HOLD_FULL, HOLD_LATE, NO_RELEASE, RESPONSE_LATE, Refusal,
    UNASKED_UPGRADE, UNREACHABLE, UPLOAD_BROKEN, UPLOAD_STALLED, UPLOAD_TOO_LARGE,
};
use super::body::{Gate, RelayBody, Upload, UploadBody};
use super::headers::{self, Found, Wishes};
use super::hold::{Place, Queued};
use super::link::{Link, Phase};
use super::pool::{Lane, Opening, Target};
use super::route::Route;
use super::tunnel::Tunnel;
use super::upstream::{Broken, Upstream};
use super::visit::Visit;
use super::worker::{Pick, Worker};

/// Answers one request of a client connection, in one way or another.
pub(super) fn answer(
    worker: Rc<Worker>,
    link: Rc<Link>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<RelayBody>, Infallible>> {
    let mut visit = Visit::new(worker, link);
    visit.link.begin();
    visit.link.asked.borrow_mut().note(request.method(), request.uri().path());
    let mut found = Found::look(request.headers());
    let request_id = found.request_id.take();
    let mut errand = Errand::new(&visit, request, &mut found);
    async move {
        let result = match &mut errand {
            Ok(errand) => match forward(&mut visit, errand).await {
                Ok(answered) => deliver(answered, errand.wishes, visit),
                Err(refusal) => Err((refusal, visit)),
            },
            Err(refusal) => Err((*refusal, visit)),
        };
        Ok(result.unwrap_or_else(|(refusal, visit)| refuse(refusal, visit, request_id.as_ref())))
    }
}

fn refuse(refusal: Refusal, visit: Visit, request_id: Option<&HeaderValue>) -> Response<RelayBody> {
    let link = Rc::clone(&visit.link);
    link.enter(Phase::Relay);
    link.allow(link.spans.stall_ms);
    // What is left of the request is not waited for.
    let unread = link.upload.get() != Upload::Done;
    link.unread.set(unread);
    refusal.respond(visit, request_id, unread || link.retiring.get())
}

/// A request as it is to be sent on.
struct Errand {
    /// While it is on its way: a copy for a second try, if there may be one.
    request: Option<Request<UploadBody>>,
    wishes: Wishes,
    /// It may be sent again even if the backend saw it.
    repeatable: bool,
    add_host: bool,
    /// How long to wait for the backend, or for the first progress of the body.
    span_ms: u64,
}

impl Errand {
    fn new(visit: &Visit, request: Request<Incoming>, found: &mut Found) -> Result<Self, Refusal> {
        let (link, limits) = (&visit.link, &visit.worker.limits);
        let (mut head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        if has_body {
            link.upload.set(Upload::Flowing);
        }
        if !link.is_flushed() {
            // What is left of an earlier response would be lost when the parser gives the socket back.
            head.headers.remove(UPGRADE);
            *found = Found::look(&head.headers);
        }
        let wishes = headers::admit(&mut head, found, has_body, &link.client)?;
        let too_large = |most| body.size_hint().lower() > most;
        if limits.request_body_bytes_max.is_some_and(too_large) {
            return Err(UPLOAD_TOO_LARGE);
        }
        let repeatable = !has_body && matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let add_host = found.host.is_none();
        let span_ms = if has_body { link.spans.stall_ms } else { link.spans.response_head_ms };
        let go = wishes.proceed.then(Arc::<AtomicBool>::default);
        let body = if has_body {
            let gate = go.clone().map(|go| Gate::new(go, limits.expect));
            UploadBody::new(body, Rc::clone(link), gate, limits.request_body_bytes_max)
        } else {
            UploadBody::empty(Rc::clone(link))
        };
        let mut request = Request::from_parts(head, body);
        if let Some(go) = go {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    go.store(true, Relaxed);
                }
            });
        }
        Ok(Self { request: Some(request), wishes, repeatable, add_host, span_ms })
    }

    /// What is sent to a backend now.
    fn take(&mut self, target: &Target, second: bool, link: &Rc<Link>) -> Option<Request<UploadBody>> {
        let mut request = self.request.take()?;
        if self.add_host {
            request.headers_mut().insert(HOST, target.host.clone());
        }
        if self.repeatable && !second {
            let mut copy = Request::new(UploadBody::empty(Rc::clone(link)));
            copy.method_mut().clone_from(request.method());
            copy.uri_mut().clone_from(request.uri());
            *copy.headers_mut() = request.headers().clone();
            self.request = Some(copy);
        }
        Some(request)
    }
}

/// A response's head, and what its body comes from.
struct Answered {
    response: Response<Incoming>,
    upstream: Box<Upstream>,
    target: Rc<Target>,
}

/// Sends a request on, if need be twice.
async fn forward(visit: &mut Visit, errand: &mut Errand) -> Result<Answered, Refusal> {
    let mut patience = None;
    // Where the first try failed.
    let mut failed: Option<Rc<Target>> = None;
    loop {
        let second = failed.is_some();
        // What is seldom waited for is boxed, to keep the future of each request small.
        let lane = match visit.worker.pick() {
            Pick::Lane(lane) => lane,
            Pick::Nowhere => return Err(NO_RELEASE),
            Pick::Held => Box::pin(wait(visit, &mut patience)).await?,
        };
        let target = Rc::clone(lane.target(visit.worker.clock.now_ms(), failed.as_deref()));
        visit.enter(lane);
        // The second try gets a connection of its own, so that it can't fail for the same reason.
        let pooled = if second { None } else { target.take() };
        let (upstream, opening) = match pooled {
            Some(upstream) => (upstream, None),
            None => match Box::pin(open(&visit.worker, &target, !second)).await {
                Ok(opened) => opened,
                Err(refusal) if second || refusal == EXHAUSTED => return Err(refusal),
                Err(_) => {
                    again(visit);
                    failed = Some(target);
                    continue;
                }
            },
        };
        let careful = upstream.reused && !errand.repeatable;
        let Some(request) = errand.take(&target, second, &visit.link) else { return Err(CLOSED) };
        visit.link.allow(errand.span_ms);
        let result = upstream.exchange(request, careful, &visit.link).await;
        drop(opening);
        visit.link.pause();
        match result {
            Ok((response, upstream)) => return Ok(Answered { response, upstream, target }),
            Err(Broken::Unsent(unsent)) if !second => errand.request = Some(*unsent),
            Err(Broken::Closed { answered: false }) if errand.request.is_some() => {}
            Err(broken) => return Err(refusal(&broken, visit.link.upload.get())),
        }
        again(visit);
        failed = Some(target);
    }
}

fn refusal(broken: &Broken, upload: Upload) -> Refusal {
    match (broken, upload) {
        (Broken::Closed { answered: true }, _) => CUT_OFF,
        (Broken::Closed { answered: false } | Broken::Unsent(_), _) => CLOSED,
        (Broken::Garbage, _) => GARBAGE,
        (Broken::Upload, Upload::TooLarge) => UPLOAD_TOO_LARGE,
        (Broken::Upload, _) => UPLOAD_BROKEN,
        (Broken::Late, Upload::Starved) => UPLOAD_STALLED,
        (Broken::Late, _) => RESPONSE_LATE,
    }
}

fn again(visit: &mut Visit) {
    visit.retried();
    visit.leave();
}

/// Waits for the end of a hold, then chooses the release as the route is now. A request's patience is for all holds it
/// meets.
async fn wait(visit: &mut Visit, patience: &mut Option<Instant>) -> Result<Rc<Lane>, Refusal> {
    /// Frees the place if the client goes away.
    struct Seat<'a>(&'a Route, u64);
    impl Drop for Seat<'_> {
        fn drop(&mut self) {
            self.0.give_back(self.1);
        }
    }
    visit.held();
    loop {
        let route = visit.worker.route();
        match route.queue() {
            Queued::Go => {}
            Queued::Full => return Err(HOLD_FULL),
            Queued::Wait(Place { id, go }, limits) => {
                let until = *patience.get_or_insert_with(|| Instant::now() + limits.wait);
                let _seat = Seat(route, id);
                // An error of the place itself is the end of the hold as well.
                let _ = tokio::time::timeout_at(until.into(), go).await.map_err(|_| HOLD_LATE)?;
            }
        }
        match visit.worker.pick() {
            Pick::Lane(lane) => return Ok(lane),
            Pick::Nowhere => return Err(NO_RELEASE),
            Pick::Held => {}
        }
    }
}

/// Opens a connection, unless one got free while this waited for its turn.
async fn open(worker: &Worker, target: &Target, pooled: bool) -> Result<(Box<Upstream>, Option<Opening>), Refusal> {
    let turn = tokio::time::timeout(worker.limits.response_head, target.opening()).await;
    let Ok(Some(opening)) = turn else { return Err(CONNECT_LATE) };
    if let Some(upstream) = pooled.then(|| target.take()).flatten() {
        return Ok((upstream, None));
    }
    let opened = Upstream::open(target.address(), &worker.client, target.epoch(), worker.limits.connect).await;
    let opened = opened.map(|upstream| {
        opening.settle();
        (upstream, Some(opening))
    });
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

/// Makes a backend's response the client's.
fn deliver(answered: Answered, wishes: Wishes, visit: Visit) -> Result<Response<RelayBody>, (Refusal, Visit)> {
    let Answered { response, upstream, target } = answered;
    let (mut head, body) = response.into_parts();
    let mut visit = visit;
    visit.link.enter(Phase::Relay);
    let Some(kind) = headers::relay(&mut head) else { return Err((GARBAGE, visit)) };
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
    link.allow(if kind == headers::Body::Events { link.spans.stream_idle_ms } else { link.spans.stall_ms });
    if link.retiring.get() || link.upload.get() != Upload::Done {
        // After an answer that came before the request's end, what is left of the request is not waited for.
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    visit.decided(head.status);
    Ok(Response::from_parts(head, RelayBody::relay(body, upstream, target, visit)))
}
