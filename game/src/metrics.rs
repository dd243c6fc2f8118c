//! Counts what happens and writes it as Prometheus text. Names, labels and buckets are an interface that dashboards rely
//! on; everything is registered at start, so alerts find a zero instead of nothing.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::chaos::Injection;
use crate::route::Route;

/// The text's content type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "OTHER"];
/// Every status this service answers with. Others would be counted too, only more slowly.
const STATUSES: [u16; 13] = [200, 201, 202, 204, 304, 400, 404, 405, 408, 413, 415, 500, 503];
const SERIES: usize = Route::ALL.len() * METHODS.len() * STATUSES.len();

/// Handles of all metrics of one process.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    /// The handles that `with_label_values` would look up by hashing three strings for each request.
    series: Box<[OnceLock<(IntCounter, Histogram)>]>,
    chaos_errors: IntCounter,
    chaos_latencies: IntCounter,
    pub(crate) games_started: IntCounter,
    pub(crate) games_completed: IntCounter,
    pub(crate) high_score: Gauge,
    pub(crate) queue_depth: IntGauge,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_scores: Histogram,
    pub(crate) ingest_lag_seconds: Gauge,
    pub(crate) store_failures: IntCounter,
    pub(crate) epoch: IntGauge,
    pub(crate) segments: IntGauge,
    pub(crate) segments_newer: IntGauge,
    pub(crate) ingested: IntCounter,
    pub(crate) differing: IntCounter,
    pub(crate) set_aside: IntCounter,
    pub(crate) connections: IntGauge,
    connections_refused: IntCounterVec,
    storage_mode: GaugeVec,
    writer_role: GaugeVec,
}

/// Why a connection was ended without a request having been served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Malformed,
    Slow,
    OverCapacity,
}

impl Metrics {
    /// # Errors
    /// Only if two metrics had the same name.
    pub(crate) fn new(release: &str, storage: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let labels = ["route", "method", "status"];
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let commit_buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
        let chaos = IntCounterVec::new(
            Opts::new("drafty_bird_chaos_injections_total", "Faults injected on purpose"),
            &["type"],
        )?;
        let build = GaugeVec::new(
            Opts::new("drafty_bird_build_info", "Always 1; the labels say what runs"),
            &["version", "release"],
        )?;
        let metrics = Self {
            requests: IntCounterVec::new(Opts::new("http_requests_total", "HTTP requests answered"), &labels)?,
            durations: HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Time to answer an HTTP request").buckets(buckets),
                &labels,
            )?,
            series: (0..SERIES).map(|_| OnceLock::new()).collect(),
            chaos_errors: chaos.with_label_values(&["error"]),
            chaos_latencies: chaos.with_label_values(&["latency"]),
            games_started: IntCounter::new("drafty_bird_games_started_total", "Games started")?,
            games_completed: IntCounter::new("drafty_bird_games_completed_total", "Games whose score was stored")?,
            high_score: Gauge::new("drafty_bird_high_score", "Highest score of all time")?,
            queue_depth: IntGauge::with_opts(
                Opts::new("drafty_bird_queue_depth", "Scores waiting for the next commit")
                    .const_label("queue", "scores"),
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "drafty_bird_commit_duration_seconds",
                    "Time to make a batch durable, fsync included",
                )
                .buckets(commit_buckets),
            )?,
            commit_scores: Histogram::with_opts(
                HistogramOpts::new("drafty_bird_commit_scores", "Scores made durable by one commit")
                    .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            )?,
            ingest_lag_seconds: Gauge::new(
                "drafty_bird_ingest_lag_seconds",
                "Age of the oldest score of the last batch when it was durable in the database",
            )?,
            store_failures: IntCounter::new(
                "drafty_bird_store_failures_total",
                "Batches that could not be made durable",
            )?,
            epoch: IntGauge::new("drafty_bird_epoch", "Epoch of the database, as this process knows it")?,
            segments: IntGauge::new("drafty_bird_spool_segments", "Segments of accepted scores on the share")?,
            segments_newer: IntGauge::new(
                "drafty_bird_spool_segments_newer",
                "Segments that only a newer version can read, which wait for it",
            )?,
            ingested: IntCounter::new(
                "drafty_bird_ingested_total",
                "Scores that this process moved into the database",
            )?,
            differing: IntCounter::new(
                "drafty_bird_repeats_differing_total",
                "Repeats of a round that said something else than the first",
            )?,
            set_aside: IntCounter::new(
                "drafty_bird_spool_set_aside_total",
                "Damaged stretches of segments that were kept aside",
            )?,
            connections: IntGauge::new("drafty_bird_connections", "Open connections")?,
            connections_refused: IntCounterVec::new(
                Opts::new(
                    "drafty_bird_connections_refused_total",
                    "Connections ended before a request could be served",
                ),
                &["reason"],
            )?,
            storage_mode: GaugeVec::new(Opts::new("drafty_bird_storage_mode", "1 for the storage in use"), &["mode"])?,
            writer_role: GaugeVec::new(
                Opts::new("drafty_bird_writer_role", "1 for this process's part in writing the store"),
                &["role"],
            )?,
            registry,
        };
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), release]).set(1.0);
        // Tells processes behind one address apart, whose counters would seem to go backwards.
        let started = Gauge::new("process_start_time_seconds", "When this process began, in Unix seconds")?;
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let opts = Opts::new("drafty_bird_storage", "1 for how scores are kept, as SCORE_STORAGE names it");
        let storages = GaugeVec::new(opts, &["storage"])?;
        for known in ["spool", "direct", "memory"] {
            storages.with_label_values(&[known]).set(f64::from(u8::from(known == storage)));
        }
        let all: [Box<dyn Collector>; 24] = [
            Box::new(chaos),
            Box::new(build),
            Box::new(started),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.games_started.clone()),
            Box::new(metrics.games_completed.clone()),
            Box::new(metrics.high_score.clone()),
            Box::new(metrics.queue_depth.clone()),
            Box::new(metrics.commit_seconds.clone()),
            Box::new(metrics.commit_scores.clone()),
            Box::new(metrics.ingest_lag_seconds.clone()),
            Box::new(metrics.store_failures.clone()),
            Box::new(storages),
            Box::new(metrics.epoch.clone()),
            Box::new(metrics.segments.clone()),
            Box::new(metrics.segments_newer.clone()),
            Box::new(metrics.ingested.clone()),
            Box::new(metrics.differing.clone()),
            Box::new(metrics.set_aside.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.connections_refused.clone()),
            Box::new(metrics.storage_mode.clone()),
            Box::new(metrics.writer_role.clone()),
        ];
        for collector in all {
            metrics.registry.register(collector)?;
        }
        metrics.preregister();
        Ok(metrics)
    }

    fn preregister(&self) {
        let expected: [(Route, &Method, &[u16]); 4] = [
            (Route::Score, &Method::POST, &[201, 400, 500, 503]),
            (Route::Leaderboard, &Method::GET, &[200, 500, 503]),
            (Route::GameStart, &Method::POST, &[202, 500, 503]),
            (Route::Index, &Method::GET, &[200, 500, 503]),
        ];
        for (route, method, statuses) in expected {
            for status in statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok()) {
                self.series_of(route, method, status);
            }
        }
        for refused in [Refused::Malformed, Refused::Slow, Refused::OverCapacity] {
            self.refused_of(refused);
        }
        self.show_mode(None);
        self.show_role("waiting");
    }

    /// Counts one answered request.
    pub(crate) fn answered(&self, route: Route, method: &Method, status: StatusCode, took: Duration) {
        if let Some((count, duration)) = self.series_of(route, method, status) {
            count.inc();
            duration.observe(took.as_secs_f64());
        } else {
            let labels = [route.pattern(), METHODS[method_index(method)], status.as_str()];
            self.requests.with_label_values(&labels).inc();
            self.durations.with_label_values(&labels).observe(took.as_secs_f64());
        }
    }

    fn series_of(&self, route: Route, method: &Method, status: StatusCode) -> Option<&(IntCounter, Histogram)> {
        let status_index = STATUSES.iter().position(|known| *known == status.as_u16())?;
        let method_index = method_index(method);
        let index = (route as usize * METHODS.len() + method_index) * STATUSES.len() + status_index;
        let slot = self.series.get(index)?;
        Some(slot.get_or_init(|| {
            let labels = [route.pattern(), METHODS[method_index], status.as_str()];
            (self.requests.with_label_values(&labels), self.durations.with_label_values(&labels))
        }))
    }

    pub(crate) fn injected(&self, injection: Injection) {
        match injection {
            Injection::Error => self.chaos_errors.inc(),
            Injection::Latency(_) => self.chaos_latencies.inc(),
        }
    }

    pub(crate) fn refused(&self, refused: Refused) {
        self.refused_of(refused).inc();
    }

    fn refused_of(&self, refused: Refused) -> IntCounter {
        let reason = match refused {
            Refused::Malformed => "malformed",
            Refused::Slow => "slow",
            Refused::OverCapacity => "over_capacity",
        };
        self.connections_refused.with_label_values(&[reason])
    }

    /// Shows which storage is in use; `None` for none yet.
    pub(crate) fn show_mode(&self, mode: Option<&str>) {
        for known in ["sqlite", "memory"] {
            self.storage_mode.with_label_values(&[known]).set(f64::from(u8::from(mode == Some(known))));
        }
    }

    /// Shows this process's part in writing the store.
    pub(crate) fn show_role(&self, role: &str) {
        for known in ["writer", "waiting", "active", "standby", "draining", "fenced", "none"] {
            self.writer_role.with_label_values(&[known]).set(f64::from(u8::from(role == known)));
        }
    }

    /// Everything as Prometheus text.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(fault) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(error = %fault, "metrics could not be written");
        }
        text
    }
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}
