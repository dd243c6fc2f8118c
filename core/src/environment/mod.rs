//! From environment files to a [`Spec`]: layers are parsed, merged, completed with defaults and judged, and every fault is
//! reported at once with its place. Nothing is read or written here; files enter as text.
//!
//! ```
//! use dbird_core::{Cloud, environment::{Layer, Request, resolve}};
//!
//! let base = Layer::new("environments/base.toml", "schema = 1\n[service]\nname = \"hello\"\nport = 8080\n");
//! let sets = [("env.GREETING".to_owned(), "hi".to_owned())];
//! let request = Request {
//!     environment: "dev", cloud: Cloud::Aws, base, overlay: None, sets: &sets, dbird_version: "0.1.0",
//! };
//! let (spec, warnings) = resolve(&request)?;
//! assert_eq!(spec.env["GREETING"], "hi");
//! assert!(warnings.is_empty());
//! # Ok::<(), dbird_core::environment::Faults>(())
//! ```

mod alternatives;
mod conceal;
mod contradictions;
mod declare;
mod duration;
mod envfile;
mod faults;
mod file;
mod finding;
mod layers;
mod reader;
mod resolve;
mod rules;
mod slot;
mod specify;
mod suggestions;
mod table;
mod texts;

use crate::{Cloud, Spec};

pub use conceal::looks_secret;
pub use envfile::EnvFile;
pub use faults::{FAULTS_MAX, Fault, Faults, Severity};
pub use layers::{LAYER_BYTES_MAX, Layer, split_set};

pub(crate) use conceal::value_looks_secret;
pub(crate) use duration::text as duration_text;
pub(crate) use finding::Finding;

/// Keys that were renamed in this version, with their old names.
const RENAMES: &[reader::Rename] = &[];

/// What is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The environment's name: `dev`.
    pub environment: &'a str,
    /// For which cloud.
    pub cloud: Cloud,
    /// What all environments share.
    pub base: Layer,
    /// What this one has of its own.
    pub overlay: Option<Layer>,
    /// What was given on the command line, as dotted keys and values; see [`split_set`].
    pub sets: &'a [(String, String)],
    /// The version of dbird that asks: `0.1.0`.
    pub dbird_version: &'a str,
}

impl Request<'_> {
    /// Every layer that a [`Fault`] may point into, by its `file`, to be shown to people: what looks like a secret is
    /// blanked out, byte for byte, so that spans still fit.
    pub fn sources(&self) -> Vec<Layer> {
        layers::of(self).0.into_iter().map(conceal::conceal).collect()
    }
}

/// Merges and judges the layers.
///
/// # Errors
/// Every fault of every layer, at most [`FAULTS_MAX`] and one line that counts the rest. A result comes with its
/// warnings.
pub fn resolve(request: &Request<'_>) -> Result<(Spec, Vec<Fault>), Faults> {
    resolve::resolve(request, RENAMES)
}

/// The JSON Schema of a file, without a head.
pub(crate) fn json_schema() -> serde_json::Value {
    table::object::<file::Root>(false)
}

/// Whether this can name an environment; if not, why.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_environment_name(name: &str) -> Result<(), &'static str> {
    texts::check_name(name).map_err(|(why, _)| why)
}

/// Resolves arbitrary bytes as a base file for every cloud, for fuzzing: nothing but a panic is a finding.
pub fn fuzz_environment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Whatever stands behind the first NUL is an overlay, and behind the second a setting.
    let mut parts = text.splitn(3, '\0');
    let base = Layer::new("base.toml", parts.next().unwrap_or_default());
    let overlay = parts.next().map(|text| Layer::new("fuzz.toml", text));
    let sets: Vec<_> = parts.next().and_then(split_set).into_iter().collect();
    for cloud in Cloud::ALL {
        let (base, overlay) = (base.clone(), overlay.clone());
        let request = Request { environment: "fuzz", cloud, base, overlay, sets: &sets, dbird_version: "0.1.0" };
        let sources = request.sources();
        let faults = resolve(&request).map_or_else(|faults| faults.0, |(_, warnings)| warnings);
        for fault in faults {
            let source = sources.iter().find(|layer| layer.file == fault.file).map_or("", |layer| layer.text.as_str());
            assert!(source.get(fault.span.clone()).is_some(), "{fault} points outside of its layer");
        }
    }
}
