//! Manifests as they lie in a repository's folder. It decides which of an index's images is for this machine.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::aws::{list, text};

const PLAIN: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where a blob lies, if its digest is one.
pub(super) fn blob(folder: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_hex.then(|| folder.join("blobs/sha256").join(hex))
}

pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn read(folder: &Path, digest: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(blob(folder, digest)?).ok()?).ok()
}

/// The manifest itself, or that of the image for linux/amd64 where it is an index.
pub(super) fn for_this_machine(folder: &Path, digest: &str) -> Option<String> {
    let manifest = read(folder, digest)?;
    let all = list(&manifest, "manifests");
    if all.is_empty() {
        return Some(digest.to_owned());
    }
    let is_ours = |of: &&Value| {
        let says = |name: &str| of.pointer(&format!("/platform/{name}")).and_then(Value::as_str);
        says("os") == Some("linux") && says("architecture") == Some("amd64")
    };
    text(all.iter().find(is_ours)?, "digest").map(str::to_owned)
}

/// What a manifest is, and which blobs or manifests it needs, as its bytes tell.
pub(super) fn needs(bytes: &[u8], told: Option<&str>) -> Result<(String, Vec<String>, u64), String> {
    let manifest: Value = serde_json::from_slice(bytes).map_err(|why| format!("the manifest is no JSON: {why}"))?;
    let kind = text(&manifest, "mediaType").or(told).unwrap_or(PLAIN).to_owned();
    let mut parts: Vec<&Value> = list(&manifest, "layers").iter().chain(list(&manifest, "manifests")).collect();
    parts.extend(manifest.get("config"));
    let bytes = parts.iter().filter_map(|p| p.get("size").and_then(Value::as_u64)).sum();
    Ok((kind, parts.iter().filter_map(|p| text(p, "digest")).map(str::to_owned).collect(), bytes))
}
