//! Copies of the data that are taken before releases: where each lies, and which place the next one gets. Places are used in
//! turn, so that the retention holds without anybody having to delete anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Release, ReleaseId,
    spec::{self, Storage},
};

/// The folder of copies, below the storage's mount.
pub const FOLDER: &str = "snapshots";

/// How a copy is taken before a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copying {
    /// Program and arguments, with `{file}` where the copy's place goes.
    pub command: Vec<String>,
    /// Where the storage is mounted.
    pub mount: String,
    /// How many copies there may be.
    pub kept: u32,
}

impl Copying {
    /// As an environment says; none where it wants none, or has no command for it.
    pub fn of(storage: &Storage) -> Option<Self> {
        let wanted = storage.snapshot == spec::Snapshot::BeforeRelease && !storage.backup.is_empty();
        wanted.then(|| Copying {
            command: storage.backup.clone(),
            mount: storage.mount.clone(),
            kept: storage.snapshots_kept,
        })
    }
}

/// A copy of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Where it lies, as the service sees it: `/data/snapshots/3`.
    pub place: String,
    /// The release that served, and whose command took it.
    pub taken_by: ReleaseId,
    /// The release before which it was taken.
    pub before: ReleaseId,
    /// When, in Unix milliseconds by the clock of whoever had it taken.
    pub at_unix_ms: u64,
}

/// The place of the next copy: a free one, or that of the oldest. `kept` is how many there may be.
pub fn next_place(mount: &str, kept: u32, history: &[Release]) -> String {
    let standing = standing(history);
    let place = |n: u32| format!("{}/{FOLDER}/{n}", mount.trim_end_matches('/'));
    let places = (1..=kept.max(1)).map(place);
    let taken = |place: &String| standing.iter().find(|s| s.place == *place).map(|s| s.before);
    // A free place sorts before every taken one.
    places.min_by_key(taken).unwrap_or_else(|| place(1))
}

/// The copies that are still there, oldest first: of those at one place, the last.
pub fn standing(history: &[Release]) -> Vec<&Snapshot> {
    let mut standing: Vec<&Snapshot> = Vec::new();
    for release in history {
        let place = release.snapshot.as_ref().map(|s| &s.place).or(release.copy_lost.as_ref());
        standing.retain(|s| Some(&s.place) != place);
        standing.extend(release.snapshot.as_ref());
    }
    standing
}
