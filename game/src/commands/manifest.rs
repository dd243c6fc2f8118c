//! What is written beside a backup: what it must be when it is read again. It decides which backups this version can restore.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use crate::clock;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// More than any manifest has.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// A backup's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u64,
    /// When it was made, RFC 3339.
    pub(super) made_at: String,
    /// The epoch whose database it is.
    pub(super) epoch: u64,
    /// Scores in it.
    pub(super) rows: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// Its checksum, hexadecimal.
    pub(super) sha256: String,
    /// Of drafty-bird.
    pub(super) version: String,
    /// Of the storage.
    protocol: u32,
    /// The backup that is about to take its place: what lies there is one of the two, and its checksum says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Box<Manifest>>,
}

impl Manifest {
    pub(super) fn new(epoch: u64, rows: u64, bytes: u64, sha256: String) -> Self {
        Self {
            format: FORMAT,
            made_at: clock::rfc3339(clock::now_ms()),
            epoch,
            rows,
            bytes,
            sha256,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: spool::PROTOCOL,
            next: None,
        }
    }

    /// While a backup is replaced.
    pub(super) fn followed_by(self, next: &Self) -> Self {
        Self { next: Some(Box::new(next.clone())), ..self }
    }

    /// Those that may lie there, as each would say it alone.
    pub(super) fn alternatives(&self) -> Vec<Self> {
        let alone = |one: &Self| Self { next: None, ..one.clone() };
        std::iter::once(self).chain(self.next.as_deref()).map(alone).collect()
    }

    pub(super) fn json(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec_pretty(self).map_err(super::failed("the manifest can't be written"))
    }

    /// Reads one; what is newer is refused before anything else in it is looked at.
    pub(super) fn read(bytes: &[u8], name: &str) -> Result<Self, Failure> {
        let value: Value = serde_json::from_slice(bytes).map_err(super::failed(format!("{name} is no manifest")))?;
        for (key, newest) in [("format", FORMAT), ("protocol", spool::PROTOCOL.into())] {
            if let Some(found) = value[key].as_u64().filter(|found| *found > newest) {
                let what = format!("{name}: {key} {found} is newer than this version's, {newest}");
                return Err(Failure::new(what).advise("restore it with the release that made it, or a later one"));
            }
        }
        serde_json::from_value(value).map_err(super::failed(format!("{name} is no manifest")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Manifest;

    #[test]
    fn only_what_this_version_knows_is_read() {
        let good = serde_json::to_value(Manifest::new(3, 2, 1, "ab".to_owned())).unwrap();
        assert!(Manifest::read(good.to_string().as_bytes(), "m").is_ok());
        for (key, value, said) in [
            ("format", json!(2), "format 2 is newer"),
            ("protocol", json!(9), "protocol 9 is newer"),
            ("format", json!("x"), "no manifest"),
            ("sha256", json!(null), "no manifest"),
            ("bytes", json!(-1), "no manifest"),
        ] {
            let mut wrong = good.clone();
            wrong[key] = value;
            let failure = Manifest::read(wrong.to_string().as_bytes(), "m").unwrap_err();
            assert!(failure.what.contains(said), "{}", failure.what);
        }
        assert!(Manifest::read(b"", "m").is_err());
    }
}
