//! What every request gets, in one layer: an identity, CORS, chaos, a span, metrics, a log line, and a JSON body for
//! every refusal. It never looks at what a request wants beyond its method and path.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, CONNECTION, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tower::{Layer, Service};
use tracing::{Instrument, Level, Span};

use crate::answer::{Fault, finish_fault};
use crate::chaos::Injection;
use crate::game::{Game, Stage};
use crate::request_id::{X_REQUEST_ID, request_id};
use crate::route::Route;
use crate::telemetry::{self, LOGS, SPANS};

const ANYONE: HeaderValue = HeaderValue::from_static("*");
/// Longest part of a path that is logged, in bytes.
const LOGGED_PATH_BYTES_MAX: usize = 256;

#[derive(Clone)]
pub(crate) struct EdgeLayer {
    game: Game,
}

impl EdgeLayer {
    pub(crate) fn new(game: Game) -> Self {
        Self { game }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, game: self.game.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Edge<S> {
    inner: S,
    game: Game,
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let route = Route::of(request.uri().path());
        let seen = Seen {
            started,
            route,
            method: request.method().clone(),
            request_id: request_id(request.headers()),
            from_page: request.headers().contains_key(ORIGIN),
            uri: telemetry::logs_requests(route).then(|| request.uri().clone()),
        };
        let span = telemetry::request_span(route, &request);
        if seen.method == Method::OPTIONS {
            let response = preflight(request.headers());
            let game = self.game.clone();
            return Box::pin(std::future::ready(Ok(seen.finish(&game, response, &span))));
        }
        let injection = self.game.chaos().and_then(|chaos| chaos.decide(request.uri().path()));
        let game = self.game.clone();
        let Some(injection) = injection else {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let Ok(response) = answer.instrument(span.clone()).await;
                Ok(seen.finish(&game, response, &span))
            });
        };
        let answer = match injection {
            Injection::Error => None,
            Injection::Latency(_) => Some(self.inner.call(request)),
        };
        Box::pin(async move {
            inject(&game, injection, &seen).instrument(span.clone()).await;
            let response = match answer {
                None => Fault::new(StatusCode::SERVICE_UNAVAILABLE, "Injected chaos error").into_response(),
                Some(answer) => {
                    let Ok(response) = answer.instrument(span.clone()).await;
                    response
                }
            };
            Ok(seen.finish(&game, response, &span))
        })
    }
}

/// Counts, logs and waits; the error's answer is the caller's.
async fn inject(game: &Game, injection: Injection, seen: &Seen) {
    let (kind, wait) = match injection {
        Injection::Error => ("error", Duration::ZERO),
        Injection::Latency(wait) => ("latency", wait),
    };
    game.metrics().injected(injection);
    tracing::warn!(
        target: LOGS,
        event = "chaos.injected",
        "chaos.injected" = true,
        "chaos.type" = kind,
        latency_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        route = seen.route.pattern(),
        request_id = seen.request_id.to_str().unwrap_or_default(),
        "chaos injected"
    );
    let span = tracing::info_span!(target: SPANS, "chaos.inject", "chaos.injected" = true, "chaos.type" = kind);
    async {
        if !wait.is_zero() {
            // A stopping process has no time to pretend to be slow.
            let mut life = game.life().watch();
            let closing = async { drop(life.wait_for(|stage| *stage >= Stage::Closing).await) };
            drop(tokio::time::timeout(wait, closing).await);
        }
    }
    .instrument(span)
    .await;
}

/// What is remembered of a request until its answer is there.
struct Seen {
    started: Instant,
    route: Route,
    method: Method,
    request_id: HeaderValue,
    from_page: bool,
    /// For the log line, if one may be written.
    uri: Option<Uri>,
}

impl Seen {
    fn finish(self, game: &Game, mut response: Response, span: &Span) -> Response {
        finish_fault(&mut response, &self.request_id);
        let status = response.status();
        let took = self.started.elapsed();
        game.metrics().answered(self.route, &self.method, status, took);
        if let Some(uri) = &self.uri {
            self.log(logged_path(uri.path()), status, took, span);
        }
        if !span.is_disabled() {
            telemetry::record_answer(span, status, &self.request_id);
        }
        let headers = response.headers_mut();
        if self.from_page {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id"));
        }
        if game.life().stage() > Stage::Serving {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYONE);
        headers.insert(X_REQUEST_ID, self.request_id);
        response
    }

    fn log(&self, path: &str, status: StatusCode, took: Duration, span: &Span) {
        let trace_id = telemetry::trace_id(span);
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: LOGS,
                    $level,
                    request_id = self.request_id.to_str().unwrap_or_default(),
                    method = self.method.as_str(),
                    path,
                    route = self.route.pattern(),
                    status = status.as_u16(),
                    duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                    trace_id,
                    "request"
                )
            };
        }
        match status.as_u16() {
            _ if self.route.is_probe() => line!(Level::DEBUG),
            500.. => line!(Level::ERROR),
            400.. => line!(Level::WARN),
            _ => line!(Level::INFO),
        }
    }
}

fn logged_path(path: &str) -> &str {
    &path[..path.floor_char_boundary(LOGGED_PATH_BYTES_MAX)]
}

/// What the original's CORS middleware answers to any OPTIONS request.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        answer.insert(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}
