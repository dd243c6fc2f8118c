//! What is said over the agent's socket: one JSON value per line, a greeting from each side, then a call and its answer.
//! It decides the format and its version; it sends nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use dataplane::Secret;
use dbird_core::{
    Command, Handle, Observed, Preview, Progress, ProviderError, ReleaseId, Samples, Steer, Target, Work,
};
use serde::{Deserialize, Serialize};

use crate::status::AgentStatus;

/// The version of everything in this file. An agent that speaks another one is replaced, or left to a newer dbird.
pub(crate) const PROTOCOL: u32 = 1;
/// No line is longer.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 20;

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The program that it was started from.
    pub(crate) build: Build,
    /// From a caller: a newer program, to make room for. Part of the greeting, so that every version understands it.
    #[serde(default)]
    pub(crate) take_over: Option<PathBuf>,
}

/// A program: two builds of one version differ in this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// As in Cargo.toml.
    pub(crate) version: (u64, u64, u64),
    /// When its file was written, in Unix nanoseconds.
    pub(crate) written_ns: u64,
    /// Which file it is.
    pub(crate) inode: u64,
}

impl Build {
    /// Of a program's file.
    pub(crate) fn of(program: &std::path::Path) -> Self {
        let number = |text: &str| text.parse().unwrap_or(0);
        let version = (
            number(env!("CARGO_PKG_VERSION_MAJOR")),
            number(env!("CARGO_PKG_VERSION_MINOR")),
            number(env!("CARGO_PKG_VERSION_PATCH")),
        );
        let (written_ns, inode) = fs::metadata(program).map_or((0, 0), |file| {
            let nanoseconds = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
            (u64::try_from(nanoseconds).unwrap_or(0), file.ino())
        });
        Build { version, written_ns, inode }
    }

    /// Whether it should take over from the other.
    pub(crate) fn is_newer_than(&self, other: &Build) -> bool {
        (self.version, self.written_ns) > (other.version, other.written_ns)
    }
}

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    Observe,
    Preview { listen: String, test_listen: String },
    Apply { work: Box<Work>, secrets: BTreeMap<String, Secret> },
    Poll { handle: Handle, seen: u64, wait_ms: u64 },
    Steer { handle: Handle, steer: Steer },
    Sample { releases: Vec<ReleaseId>, length_ms: u64 },
    Run { command: Command },
    Status,
    Shutdown,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Observed { observed: Box<Observed> },
    Preview { preview: Preview },
    Handle { handle: Handle },
    Progress { seen: u64, progress: Box<Progress> },
    Samples { samples: Vec<Samples> },
    Status { status: Box<AgentStatus> },
    Done,
    Failed { error: Box<ProviderError> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_survives_the_wire() {
        let weights = dbird_core::Weights(BTreeMap::from([(ReleaseId(1), 10), (ReleaseId(2), 90)]));
        let handle = Handle { step: dbird_core::StepId::new("service"), release: ReleaseId(2), token: "t".to_owned() };
        let samples = Samples {
            release: ReleaseId(1),
            requests: 1,
            errors: 0,
            latency_ms: BTreeMap::from([(5, 1), (u64::MAX, 2)]),
            ..Samples::none(ReleaseId(1))
        };
        let calls = [
            Call::Observe,
            Call::Steer { handle: handle.clone(), steer: Steer::shift(weights.clone()) },
            Call::Poll { handle: handle.clone(), seen: 7, wait_ms: 1 },
            Call::Status,
        ];
        for call in calls {
            let line = serde_json::to_string(&call).unwrap();
            let back: Call = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), line);
        }
        let mut progress =
            Progress::in_phase(dbird_core::Phase::Failed { why: "x".to_owned(), logs: vec!["y".to_owned()] });
        progress.weights = weights;
        for answer in
            [Answer::Samples { samples: vec![samples] }, Answer::Progress { seen: 1, progress: Box::new(progress) }]
        {
            let line = serde_json::to_string(&answer).unwrap();
            let back: Answer = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), line);
        }
    }

    #[test]
    fn newer_is_a_higher_version_or_a_later_build_of_the_same() {
        let build = |minor, written_ns| Build { version: (0, minor, 0), written_ns, inode: 1 };
        assert!(build(2, 0).is_newer_than(&build(1, 9)));
        assert!(build(1, 2).is_newer_than(&build(1, 1)));
        assert!(!build(1, 1).is_newer_than(&build(1, 1)));
        assert!(!build(1, 9).is_newer_than(&build(2, 0)));
    }
}
