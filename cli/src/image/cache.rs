//! Remembers which image a state of the files was packed to, so that an unchanged artefact is neither read nor packed
//! again. It is only a memory: without it, or with a wrong one, the same image is made again.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use dbird_core::Digest;
use serde::{Deserialize, Serialize};

/// Pairs that are remembered.
const PAIRS_MAX: usize = 20;

/// The file `.dbird/cache/images.json`.
pub(super) struct Cache {
    path: PathBuf,
    pairs: Vec<Pair>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Pair {
    fingerprint: String,
    digest: Digest,
}

impl Cache {
    pub(super) fn open(project: &Path) -> Self {
        let path = project.join(".dbird/cache/images.json");
        let pairs = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Cache { path, pairs }
    }

    pub(super) fn get(&self, fingerprint: &str) -> Option<Digest> {
        self.pairs.iter().find(|p| p.fingerprint == fingerprint).map(|p| p.digest.clone())
    }

    pub(super) fn put(&self, fingerprint: &str, digest: &Digest) {
        let new = Pair { fingerprint: fingerprint.to_owned(), digest: digest.clone() };
        let others = self.pairs.iter().filter(|p| p.fingerprint != fingerprint).cloned();
        let pairs: Vec<Pair> = std::iter::once(new).chain(others).take(PAIRS_MAX).collect();
        // Failing costs the next deploy a moment, so it is no failure.
        let _ = self.write(&pairs);
    }

    fn write(&self, pairs: &[Pair]) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(pairs)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}
