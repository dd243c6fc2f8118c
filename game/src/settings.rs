//! Decides what the environment variables mean, and reports every fault at once.
//! It never reads the environment itself and never opens anything.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use crate::chaos::ChaosSettings;

/// Everything that can be set from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST`: address to listen on, default all of IPv4.
    pub host: IpAddr,
    /// `PORT`, default 8080; 0 lets the system choose.
    pub port: u16,
    /// `METRICS_PORT`: where `/metrics` is, if not on `PORT`.
    pub metrics_port: Option<u16>,
    /// `DRAIN_DELAY_MS`: how long after the stop signal connections are still accepted.
    pub drain_delay: Duration,
    /// `STOP_GRACE_MS`: how long requests in flight may take after that.
    pub stop_grace: Duration,
    /// `SCORE_STORAGE`.
    pub storage: Storage,
    /// `SCORE_DB_PATH`.
    pub score_db_path: PathBuf,
    /// `SPOOL_SILENCE_MS`: where locks can't be trusted, how long an ingester may be silent before another takes over.
    pub spool_silence: Duration,
    /// `SCORE_DB_FALLBACK=memory`.
    pub fallback_to_memory: bool,
    /// `CHAOS_*`; `None` unless `CHAOS_ENABLED=true`.
    pub chaos: Option<ChaosSettings>,
    /// `LOG_LEVEL`.
    pub log_level: LevelFilter,
    /// Whether an OTLP endpoint is set.
    pub telemetry: bool,
    /// `DBIRD_RELEASE`: name of the release this process belongs to, shown in `/readyz` and the metrics.
    pub release: Option<String>,
    /// Bounds on what one client can cost.
    pub limits: Limits,
}

/// Where scores are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Any number of processes accept, one of them writes a SQLite database.
    Spool,
    /// One process owns a SQLite database.
    Direct,
    /// Nothing outlives the process.
    Memory,
}

impl Storage {
    /// As `SCORE_STORAGE` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Direct => "direct",
            Self::Memory => "memory",
        }
    }
}

/// Bounds on what one client can cost; fixed in the binary, smaller in tests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at the same time.
    pub connections_max: usize,
    /// From the first byte of a request to the end of its head, and from connecting to the first byte.
    pub head_timeout: Duration,
    /// For the rest of a request's body.
    pub body_timeout: Duration,
    /// How long an idle connection is kept: longer than the 60 s of common load balancers, so that they close first.
    pub idle_timeout: Duration,
    /// How long a score may wait for the disk.
    pub store_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 2048,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            store_timeout: Duration::from_secs(10),
        }
    }
}

/// Every fault found, in one line.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {}", .faults.join("; "))]
pub struct SettingsError {
    faults: Vec<String>,
}

impl Settings {
    /// Reads variables through `variable`; an empty value counts as unset. Also returns warnings for values that were
    /// clamped or ignored.
    ///
    /// # Errors
    /// All faults at once.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<(Self, Vec<String>), SettingsError> {
        let mut reader = Reader { variable: &variable, faults: Vec::new(), warnings: Vec::new() };
        let settings = reader.settings();
        match reader.faults {
            faults if faults.is_empty() => Ok((settings, reader.warnings)),
            faults => Err(SettingsError { faults }),
        }
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Settings {
        const LONGEST_WAIT_MS: u64 = 600_000;
        let port = self.parsed("PORT", "a port from 0 to 65535").unwrap_or(8080);
        let metrics_port = self.parsed("METRICS_PORT", "a port from 0 to 65535");
        if metrics_port == Some(port) && port != 0 {
            self.faults
                .push(format!("METRICS_PORT={port} is the same as PORT: leave it unset to serve /metrics there"));
        }
        Settings {
            host: self.parsed("HOST", "an IP address").unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port,
            metrics_port,
            drain_delay: self.milliseconds("DRAIN_DELAY_MS", 5_000, LONGEST_WAIT_MS),
            stop_grace: self.milliseconds("STOP_GRACE_MS", 20_000, LONGEST_WAIT_MS),
            storage: self.storage(),
            score_db_path: self.text("SCORE_DB_PATH").unwrap_or_else(|| "/data/db.sqlite".to_owned()).into(),
            spool_silence: self.milliseconds("SPOOL_SILENCE_MS", 10_000, LONGEST_WAIT_MS),
            fallback_to_memory: self.fallback_to_memory(),
            chaos: self.chaos(),
            log_level: self.log_level(),
            telemetry: self.telemetry(),
            release: self.text("DBIRD_RELEASE"),
            limits: Limits::default(),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.faults.push(format!("{name}={value:?} is not {expected}"));
        }
        parsed
    }

    fn milliseconds(&mut self, name: &str, default_ms: u64, max_ms: u64) -> Duration {
        let expected = format!("a number of milliseconds from 0 to {max_ms}");
        let ms = self.parsed(name, &expected).unwrap_or(default_ms);
        if ms > max_ms {
            self.faults.push(format!("{name}=\"{ms}\" is not {expected}"));
        }
        Duration::from_millis(ms)
    }

    fn storage(&mut self) -> Storage {
        match self.text("SCORE_STORAGE").as_deref() {
            None | Some("spool") => Storage::Spool,
            Some("direct") => Storage::Direct,
            Some("memory") => Storage::Memory,
            Some(other) => {
                self.faults.push(format!(
                    "SCORE_STORAGE={other:?} is not in this version, which has spool, direct and memory"
                ));
                Storage::Spool
            }
        }
    }

    fn fallback_to_memory(&mut self) -> bool {
        match self.text("SCORE_DB_FALLBACK").as_deref() {
            None | Some("none") => false,
            Some("memory") => true,
            Some(other) => {
                self.faults.push(format!("SCORE_DB_FALLBACK={other:?} is neither memory nor none"));
                false
            }
        }
    }

    fn log_level(&mut self) -> LevelFilter {
        let Some(text) = self.text("LOG_LEVEL") else { return LevelFilter::INFO };
        match text.to_ascii_lowercase().as_str() {
            "trace" => LevelFilter::TRACE,
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" | "warning" => LevelFilter::WARN,
            "error" | "fatal" => LevelFilter::ERROR,
            "silent" | "off" => LevelFilter::OFF,
            _ => {
                self.faults
                    .push(format!("LOG_LEVEL={text:?} is not one of trace, debug, info, warn, error, fatal, silent"));
                LevelFilter::INFO
            }
        }
    }

    fn telemetry(&mut self) -> bool {
        let endpoint =
            self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| self.text("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let Some(endpoint) = endpoint else { return false };
        let off = |value: Option<String>, word: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(word));
        if off(self.text("OTEL_SDK_DISABLED"), "true") || off(self.text("OTEL_TRACES_EXPORTER"), "none") {
            return false;
        }
        if endpoint.starts_with("http://") {
            return true;
        }
        // Spans must never keep the game from starting, so this is no fault.
        self.warnings.push(format!(
            "OTLP endpoint {endpoint:?} is not plain http://: no spans are exported (run a collector beside the game)"
        ));
        false
    }

    fn chaos(&mut self) -> Option<ChaosSettings> {
        const LATENCY_MS_MAX: f64 = 60_000.0;
        let enabled = self.text("CHAOS_ENABLED");
        if let Some(other) = enabled.as_deref().filter(|value| !matches!(*value, "true" | "false" | "0")) {
            self.warnings.push(format!("CHAOS_ENABLED={other:?} is not \"true\": chaos stays off"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=60000")]
        let settings = ChaosSettings {
            error_rate: self.clamped("CHAOS_ERROR_RATE", 1.0),
            latency_ms_p50: self.clamped("CHAOS_LATENCY_MS_P50", LATENCY_MS_MAX) as u32,
            latency_ms_p99: self.clamped("CHAOS_LATENCY_MS_P99", LATENCY_MS_MAX) as u32,
            routes: self
                .text("CHAOS_ROUTES")
                .unwrap_or_else(|| "/score,/leaderboard".to_owned())
                .split(',')
                .map(str::trim)
                .filter(|route| !route.is_empty())
                .map(str::to_owned)
                .collect(),
            seed: self.seed(),
        };
        (enabled.as_deref() == Some("true")).then_some(settings)
    }

    fn clamped(&mut self, name: &str, max: f64) -> f64 {
        let Some(number) = self.parsed::<f64>(name, "a number") else { return 0.0 };
        if number.is_nan() {
            self.faults.push(format!("{name}=\"NaN\" is not a number"));
            return 0.0;
        }
        let clamped = number.clamp(0.0, max);
        if clamped != number {
            self.warnings.push(format!("{name}={number} is outside 0 to {max} and was set to {clamped}"));
        }
        clamped
    }

    fn seed(&mut self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "any integer seeds; 32 bits are used"
        )]
        let seed = self.parsed::<i64>("CHAOS_SEED", "an integer").unwrap_or(42) as u32;
        seed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::{Settings, Storage};
    use tracing_subscriber::filter::LevelFilter;

    fn read(pairs: &[(&str, &str)]) -> Result<(Settings, Vec<String>), String> {
        let map: HashMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(|name| map.get(name).cloned()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn defaults_are_the_contract() {
        let (settings, warnings) = read(&[("PORT", ""), ("CHAOS_ENABLED", " ")]).unwrap();
        assert!(warnings.is_empty());
        assert_eq!((settings.port, settings.metrics_port), (8080, None));
        assert_eq!(settings.drain_delay, Duration::from_secs(5));
        assert_eq!(settings.score_db_path.to_str(), Some("/data/db.sqlite"));
        assert_eq!(settings.storage, Storage::Spool);
        assert_eq!(settings.log_level, LevelFilter::INFO);
        assert!(settings.chaos.is_none() && !settings.fallback_to_memory && !settings.telemetry);
    }

    #[test]
    fn all_faults_are_said_at_once_in_one_line() {
        let message = read(&[
            ("PORT", "abc"),
            ("METRICS_PORT", "70000"),
            ("HOST", "here"),
            ("DRAIN_DELAY_MS", "-1"),
            ("STOP_GRACE_MS", "600001"),
            ("SCORE_STORAGE", "postgres"),
            ("SCORE_DB_FALLBACK", "disk"),
            ("LOG_LEVEL", "loud"),
            ("CHAOS_ERROR_RATE", "often"),
            ("CHAOS_SEED", "1.5"),
        ])
        .unwrap_err();
        assert!(!message.contains('\n'), "{message}");
        for part in [
            "PORT=\"abc\" is not a port",
            "METRICS_PORT=\"70000\"",
            "HOST=\"here\"",
            "DRAIN_DELAY_MS=\"-1\"",
            "STOP_GRACE_MS=\"600001\"",
            "SCORE_STORAGE=\"postgres\" is not in this version, which has spool, direct and memory",
            "SCORE_DB_FALLBACK=\"disk\"",
            "LOG_LEVEL=\"loud\"",
            "CHAOS_ERROR_RATE=\"often\"",
            "CHAOS_SEED=\"1.5\"",
        ] {
            assert!(message.contains(part), "{part} is missing in {message}");
        }
        assert!(read(&[("PORT", "9000"), ("METRICS_PORT", "9000")]).unwrap_err().contains("same as PORT"));
    }

    #[test]
    fn chaos_out_of_range_is_clamped_with_a_warning() {
        let (settings, warnings) = read(&[
            ("CHAOS_ENABLED", "true"),
            ("CHAOS_ERROR_RATE", "1.5"),
            ("CHAOS_LATENCY_MS_P50", "-3"),
            ("CHAOS_LATENCY_MS_P99", "1e9"),
            ("CHAOS_ROUTES", "/score, /readyz,"),
            ("CHAOS_SEED", "-1"),
        ])
        .unwrap();
        let chaos = settings.chaos.unwrap();
        assert_eq!((chaos.error_rate, chaos.latency_ms_p50, chaos.latency_ms_p99), (1.0, 0, 60_000));
        assert_eq!((chaos.routes, chaos.seed), (vec!["/score".to_owned(), "/readyz".to_owned()], u32::MAX));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        for off in ["false", "1", "TRUE", "yes"] {
            assert!(read(&[("CHAOS_ENABLED", off)]).unwrap().0.chaos.is_none(), "{off}");
        }
    }

    #[test]
    fn telemetry_needs_a_plain_endpoint() {
        for (pairs, on, warned) in [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")][..], true, false),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/v1/traces")], true, false),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c")], false, true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_SDK_DISABLED", "TRUE")], false, false),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_TRACES_EXPORTER", "none")], false, false),
        ] {
            let (settings, warnings) = read(pairs).unwrap();
            assert_eq!((settings.telemetry, !warnings.is_empty()), (on, warned), "{pairs:?}");
        }
    }
}
