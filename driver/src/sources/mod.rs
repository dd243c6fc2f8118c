//! Where the analysis gets its numbers: the cloud, the service's own metrics pages, a Prometheus server, and requests that
//! are made for the purpose. It counts what came in within a window; what the counts mean is never decided here.

mod error;
mod exposition;
pub mod probe;
mod prometheus;
mod provider;
mod reading;
mod scrape;
mod tally;
mod web;

use std::sync::Arc;

use dbird_core::{
    Provider, ReleaseId, Samples, Target,
    spec::{Analysis, AnalysisSource},
};

pub use error::SourceError;

/// A task that can be asked directly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskAddress {
    /// Its release.
    pub release: ReleaseId,
    /// `127.0.0.1:4711`, or with a scheme before it.
    pub address: String,
}

/// A source of numbers about two releases' traffic.
///
/// A window begins with [`Source::begin`]; each [`Source::take`] ends one and begins the next. After a `take` that failed,
/// the next one covers its time as well where that is possible, so nothing is counted twice and little is lost.
pub struct Source(Kind);

enum Kind {
    Provider(provider::Asked),
    Scrape(scrape::Scrape),
    Prometheus(Box<prometheus::Prometheus>),
}

impl Source {
    /// The source that an environment asks for. Asks nobody yet.
    ///
    /// # Errors
    /// Where the cloud has no such source, or an address can't be one.
    pub fn open(analysis: &Analysis, provider: Arc<dyn Provider>, target: Target) -> Result<Self, SourceError> {
        let capabilities = provider.capabilities();
        let kind = match analysis.source {
            AnalysisSource::Auto if !capabilities.samples => Kind::Scrape(scrape::Scrape::open(&analysis.metrics)?),
            AnalysisSource::Metrics => Kind::Scrape(scrape::Scrape::open(&analysis.metrics)?),
            AnalysisSource::Prometheus => {
                let url = analysis.prometheus.as_deref().unwrap_or_default();
                let server = prometheus::Prometheus::open(url, &analysis.selector, &analysis.metrics)?;
                Kind::Prometheus(Box::new(server))
            }
            AnalysisSource::Auto | AnalysisSource::Cloudwatch | AnalysisSource::AzureMonitor
                if capabilities.samples =>
            {
                Kind::Provider(provider::Asked::new(provider, target))
            }
            AnalysisSource::Auto | AnalysisSource::Cloudwatch | AnalysisSource::AzureMonitor => {
                return Err(SourceError {
                    what: "the traffic's numbers can't be had".to_owned(),
                    place: capabilities.cloud.to_string(),
                    why: "this cloud has no such source".to_owned(),
                    hint: Some("[analysis] source = \"auto\" takes the best that it has".to_owned()),
                    retry: false,
                });
            }
        };
        Ok(Source(kind))
    }

    /// True where requests of [`probe::probe`] are among those that the next `take` tells, because services count them
    /// themselves; added to it they would count twice.
    pub fn counts_probes(&self) -> bool {
        !matches!(self.0, Kind::Provider(_))
    }

    /// A window begins now: what came in before is not counted.
    ///
    /// # Errors
    /// Where a task or the server can't be asked. A `take` may follow nevertheless; it counts what it can be sure of.
    pub async fn begin(&mut self, tasks: &[TaskAddress]) -> Result<(), SourceError> {
        match &mut self.0 {
            Kind::Provider(asked) => {
                asked.begin(tasks).await;
                Ok(())
            }
            Kind::Scrape(scrape) => scrape.begin(tasks).await,
            Kind::Prometheus(server) => server.begin().await,
        }
    }

    /// What came in since the last `begin` or `take`, in the order of the releases. The first release is the one that is
    /// judged: without numbers of another there is nothing to compare with, without its own there is an error.
    ///
    /// # Errors
    /// Where numbers can't be had, or where they can't be told apart.
    pub async fn take(
        &mut self,
        releases: &[ReleaseId],
        tasks: &[TaskAddress],
        window_ms: u64,
    ) -> Result<Vec<Samples>, SourceError> {
        match &mut self.0 {
            Kind::Provider(asked) => asked.take(releases, window_ms).await,
            Kind::Scrape(scrape) => scrape.take(releases, tasks, window_ms).await,
            Kind::Prometheus(server) => server.take(releases, window_ms).await,
        }
    }
}
