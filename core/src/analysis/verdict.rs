//! What a look says, in numbers and in a sentence. It decides how a finding reads; whether there is one, the judge does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The share of failed requests, against `error_rate_max`.
    ErrorRate,
    /// The share of failed requests, against the current release's.
    ErrorRateAgainstCurrent,
    /// The 99th percentile of the latency, against `p99_ms_max`.
    P99,
    /// The 99th percentile of the latency, against the current release's.
    P99AgainstCurrent,
    /// Whether the candidate's tasks are ready.
    Readiness,
    /// Whether the candidate's tasks were started again.
    Restarts,
    /// Whether exactly one process writes to the store.
    WriterRole,
    /// Whether there is anything to judge.
    Data,
}

impl Check {
    /// Its name in events and records.
    pub fn name(self) -> &'static str {
        match self {
            Check::ErrorRate => "error-rate",
            Check::ErrorRateAgainstCurrent => "error-rate-against-current",
            Check::P99 => "p99",
            Check::P99AgainstCurrent => "p99-against-current",
            Check::Readiness => "readiness",
            Check::Restarts => "restarts",
            Check::WriterRole => "writer-role",
            Check::Data => "data",
        }
    }
}

/// Something that ends a release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What was found wrong.
    pub check: Check,
    /// The candidate's value: a share from 0 to 1, milliseconds, or a count.
    pub candidate: f64,
    /// The current release's, where there was one.
    pub current: Option<f64>,
    /// What is allowed.
    pub limit: f64,
    /// The candidate's requests that this is from.
    pub requests: u64,
}

/// Why nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unclear {
    /// Fewer requests than `min_samples`.
    TooFew {
        /// There were.
        requests: u64,
        /// Wanted.
        min: u64,
    },
    /// Over a limit, by numbers too small to be sure of.
    TooFewToBeSure(Fault),
    /// Both releases are over a limit: it is nothing that the candidate brought.
    Both(Fault),
    /// The source of numbers can't be read.
    NoSource {
        /// Looks in a row without an answer.
        looks: u32,
    },
    /// Not exactly one process says that it writes to the store, which may be a hand-over.
    Writers {
        /// They are.
        writers: u32,
    },
    /// No look has come to an end yet.
    NotYet,
    /// Not as many good looks in a row as are wanted.
    TooFewGood {
        /// There were.
        looks: u32,
        /// Wanted.
        wanted: u32,
    },
}

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Everything is within its limits.
    Good,
    /// It is not, and that is no chance.
    Bad(Fault),
    /// Nobody can say.
    Unclear(Unclear),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { check, candidate, current, limit, requests } = *self;
        let beside = |f: &mut fmt::Formatter<'_>, show: &dyn Fn(f64) -> String| match current {
            Some(current) => write!(f, "; the current release has {}", show(current)),
            None => Ok(()),
        };
        match check {
            Check::ErrorRate => {
                write!(f, "{} of {requests} requests failed, allowed are {}", percent(candidate), percent(limit))?;
                beside(f, &percent)
            }
            Check::ErrorRateAgainstCurrent => {
                write!(f, "{} of {requests} requests failed", percent(candidate))?;
                beside(f, &|v| {
                    format!("{} in the same time, and no more than that and {} is allowed", percent(v), percent(limit))
                })
            }
            Check::P99 => {
                let at_least = if candidate > limit { "" } else { "over " };
                let shown = candidate.max(limit);
                write!(f, "99 % of {requests} requests took up to {at_least}{}, allowed are {}", ms(shown), ms(limit))?;
                beside(f, &ms)
            }
            Check::P99AgainstCurrent => {
                write!(f, "99 % of {requests} requests took up to {}", ms(candidate))?;
                beside(f, &|v| format!("{} in the same time, and up to {} is allowed", ms(v), ms(limit)))
            }
            Check::Readiness => write!(f, "{candidate} of {limit} tasks are ready"),
            Check::Restarts => write!(f, "its tasks were started again {candidate} times since it got traffic"),
            Check::WriterRole if candidate == 0.0 => write!(f, "no process writes to the store"),
            Check::WriterRole => write!(f, "{candidate} processes say that they write to the store, and one may"),
            Check::Data => write!(f, "there were {requests} requests, and {limit} are needed to judge it"),
        }
    }
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unclear::TooFew { requests, min } => {
                write!(f, "only {requests} of the {min} requests that are needed to judge it")
            }
            Unclear::TooFewToBeSure(fault) => write!(f, "{fault}: too few to be sure"),
            Unclear::Both(fault) => write!(f, "both releases are over the limit: {fault}"),
            Unclear::NoSource { looks: 1 } => write!(f, "the source of its numbers can't be read"),
            Unclear::NoSource { looks } => {
                write!(f, "the source of its numbers can't be read ({looks} looks in a row)")
            }
            Unclear::Writers { writers: 0 } => write!(f, "no process says that it writes to the store"),
            Unclear::Writers { writers } => write!(f, "{writers} processes say that they write to the store"),
            Unclear::NotYet => write!(f, "no look has ended yet"),
            Unclear::TooFewGood { looks, wanted } => write!(f, "{looks} good looks in a row, and {wanted} are wanted"),
        }
    }
}

/// A share as people write it.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent >= 10.0 || percent == 0.0 { 1 } else { 2 };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

fn ms(ms: f64) -> String {
    if ms >= 10.0 { format!("{ms:.0} ms") } else { format!("{ms:.1} ms") }
}
