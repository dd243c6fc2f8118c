//! Sends spans to an OTLP collector, and knows whether it answers: a dead one is said once, and a stop doesn't wait for it.
//! It never decides what is traced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, Protocol, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{info, warn};

use crate::settings::Settings;
use crate::tls;

pub(crate) const SERVICE_NAME: &str = "drafty-bird";
/// How long the last spans may hold up a stopping process.
const LAST_SPANS_WAIT: Duration = Duration::from_millis(300);

/// The way to a collector.
pub(crate) struct Collector {
    pub(crate) provider: SdkTracerProvider,
    failing: Arc<AtomicBool>,
}

impl Collector {
    /// Connects to nothing yet. Endpoint, headers, timeout and sampling come from the OTEL_* variables, which the SDK
    /// reads itself. Must be called outside the async runtime: the exporter's blocking client insists.
    pub(crate) fn new(settings: &Settings) -> Result<Self, ExporterBuildError> {
        let builder = opentelemetry_otlp::SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = builder.with_http_client(client()?).build()?;
        let failing = Arc::new(AtomicBool::new(false));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Noticed { exporter, failing: failing.clone() })
            .with_id_generator(Ids)
            .with_resource(resource(settings))
            .build();
        Ok(Self { provider, failing })
    }

    /// Sends the last spans to a collector that answered so far.
    pub(crate) fn finish(self) {
        if self.failing.load(Ordering::Relaxed) {
            return;
        }
        if let Err(fault) = self.provider.shutdown_with_timeout(LAST_SPANS_WAIT) {
            warn!(error = %fault, "the last spans were not exported");
        }
    }
}

/// A client that looks for no certificates: endpoints are plain HTTP, and a container's image has none.
fn client() -> Result<reqwest::blocking::Client, ExporterBuildError> {
    tls::prepare();
    let ms = [OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT].into_iter();
    let ms = ms.filter_map(|name| std::env::var(name).ok()?.parse().ok()).next();
    let timeout = ms.map_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Duration::from_millis);
    let client = reqwest::blocking::Client::builder().timeout(timeout).tls_certs_only([]).build();
    client.map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))
}

fn resource(settings: &Settings) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|text| text.contains("service.name="));
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !named {
        resource = resource.with_service_name(SERVICE_NAME);
    }
    if let Some(release) = &settings.release {
        resource = resource.with_attribute(KeyValue::new("dbird.release", release.clone()));
    }
    resource.build()
}

/// The exporter, its outcomes noticed.
#[derive(Debug)]
struct Noticed {
    exporter: opentelemetry_otlp::SpanExporter,
    failing: Arc<AtomicBool>,
}

impl SpanExporter for Noticed {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        let was_failing = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(fault) if !was_failing => warn!(error = %fault, "spans are dropped until the collector takes them"),
            Ok(()) if was_failing => info!("the collector takes spans again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The SDK's own generator panics in a statically linked process whose root has no /dev/urandom.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from(fastrand::u128(1..))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(fastrand::u64(1..))
    }
}
