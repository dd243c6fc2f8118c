//! What the provider has to be told. It decides the names that everything of an environment goes by; it reads no file.

use std::fmt;
use std::path::PathBuf;

use dbird_core::Target;

/// What an [`AwsProvider`](crate::AwsProvider) needs to know.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The project's folder, absolute; the images that are pushed lie below it.
    pub project: PathBuf,
    /// The region; empty: as the process environment or the profile says.
    pub region: String,
    /// The one account that may be touched; none: whichever the credentials are for.
    pub account: Option<String>,
    /// The name of a network that environments share; none: the environment has its own.
    pub network: Option<String>,
    /// Releases whose images are kept in the repository.
    pub keep: u32,
    /// A stand-in for AWS; none: AWS itself, or what the process environment names.
    pub endpoint: Option<Endpoint>,
    /// The value of `DBIRD_SIMULATOR`, where the cloud is a simulated one whose time passes faster.
    pub simulator: Option<String>,
    /// A file to which the shape of every request and answer is appended, one JSON object a line; none: nowhere.
    pub shapes: Option<PathBuf>,
}

/// A server that stands in for AWS, and who may use it.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it answers: `http://127.0.0.1:4566`.
    pub url: String,
    /// An access key's id.
    pub key: String,
    /// The secret key.
    pub secret: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).field("key", &self.key).finish_non_exhaustive()
    }
}

/// The first part of the names of everything that belongs to an environment, and the name of its stack.
pub(crate) fn base(target: &Target) -> String {
    format!("{}-{}", target.service, target.environment)
}

/// The stack of a network that environments share.
pub(crate) fn network_stack(name: &str) -> String {
    format!("dbird-network-{name}")
}

/// Credentials as whoever keeps state in S3 needs them. They are printed as nothing but the key's name.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub key: String,
    /// The secret key.
    pub secret: String,
    /// The session's token, for credentials that end.
    pub session: Option<String>,
    /// When they end, in Unix milliseconds.
    pub ends_unix_ms: Option<u64>,
    /// The region that was found with them.
    pub region: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key", &self.key).field("region", &self.region).finish_non_exhaustive()
    }
}
