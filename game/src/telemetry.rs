//! Installs logs and, where a collector is named, traces; and knows what a request's span looks like.
//! Without a collector no span is ever made; a dead one costs a bounded queue and nothing else.

use axum::extract::Request;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Level, Span, Subscriber, field, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::collector::{Collector, SERVICE_NAME};
use crate::log_sink::LogSink;
use crate::route::Route;
use crate::settings::Settings;

/// Target of request and chaos lines.
pub(crate) const LOGS: &str = "drafty_bird::http";
/// Target of everything that is traced. It has spans only and never reaches the log.
pub(crate) const SPANS: &str = "drafty_bird::spans";

/// What was installed.
pub(crate) struct Telemetry {
    collector: Option<Collector>,
    sink: LogSink,
}

impl Telemetry {
    /// Must be called outside the async runtime: the exporter's blocking client insists.
    pub(crate) fn install(settings: &Settings) -> std::io::Result<Self> {
        let sink = LogSink::start(std::io::stdout())?;
        let level = settings.log_level;
        // Libraries speak up for trouble only.
        let lines_wanted = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target("drafty_bird", level)
            // Says the same about a dead collector every few seconds; we say it once.
            .with_target("opentelemetry", LevelFilter::OFF)
            .with_target(SPANS, LevelFilter::OFF);
        let (collector, trouble) = match settings.telemetry.then(|| Collector::new(settings)) {
            None => (None, None),
            Some(Ok(collector)) => (Some(collector), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        // A second installation happens in tests only; the first one stays.
        let installed = match &collector {
            None => tracing_subscriber::registry().with(lines_wanted).with(lines(&sink)).try_init(),
            Some(collector) => {
                let spans = tracing_opentelemetry::layer().with_tracer(collector.provider.tracer(SERVICE_NAME));
                let spans_wanted = Targets::new().with_target(SPANS, LevelFilter::INFO);
                tracing_subscriber::registry()
                    .with(lines(&sink).with_filter(lines_wanted))
                    .with(spans.with_filter(spans_wanted))
                    .try_init()
            }
        };
        if let Err(fault) = installed {
            warn!(error = %fault, "logs go where they went before");
        }
        if let Some(fault) = trouble {
            warn!(error = %fault, "no spans are exported");
        }
        Ok(Self { collector, sink })
    }

    /// Sends the last spans, within bounds, and the last lines.
    pub(crate) fn flush(self) {
        if let Some(collector) = self.collector {
            collector.finish();
        }
        self.sink.flush();
    }
}

/// One JSON object per line.
fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(sink: &LogSink) -> impl Layer<S> {
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(sink.clone())
}

/// Whether a request to this route may get a log line.
pub(crate) fn logs_requests(route: Route) -> bool {
    if route.is_probe() {
        tracing::enabled!(target: LOGS, Level::DEBUG)
    } else {
        tracing::enabled!(target: LOGS, Level::ERROR)
    }
}

/// The HTTP server span, a child of the caller's if it sent a `traceparent`; a disabled one when nothing is traced.
pub(crate) fn request_span(route: Route, request: &Request) -> Span {
    if route.is_probe() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        "otel.name" = format!("{} {}", request.method(), route.pattern()),
        "otel.kind" = "server",
        "otel.status_code" = field::Empty,
        "http.request.method" = request.method().as_str(),
        "http.route" = route.pattern(),
        "http.response.status_code" = field::Empty,
        "http.request.id" = field::Empty,
        "url.path" = request.uri().path(),
        "user_agent.original" = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
        if let Err(fault) = span.set_parent(parent) {
            tracing::debug!(error = %fault, "traceparent was not taken over");
        }
    }
    span
}

/// Fills in what is known only now.
pub(crate) fn record_answer(span: &Span, status: StatusCode, request_id: &HeaderValue) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    span.record("http.request.id", request_id.to_str().unwrap_or_default());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// For the log line, so that it can be found from the trace and back.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span_context = context.span().span_context().clone();
    span_context.is_valid().then(|| span_context.trace_id().to_string())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
