//! What one process had counted when it was asked, from its series' names, labels and values. Which names count is decided
//! here; numbers that can't be counts are refused, never guessed at.

use std::collections::{BTreeMap, HashSet};

use dbird_core::{ReleaseId, Samples, provider::Failing};

/// The metric that counts requests.
pub(super) const REQUESTS: &str = "http_requests_total";
/// The histogram's buckets.
pub(super) const BUCKETS: &str = "http_request_duration_seconds_bucket";
/// The histogram's own count of requests, for services that have no other.
pub(super) const COUNT: &str = "http_request_duration_seconds_count";
/// When a process was started, by its own clock.
pub(super) const STARTED: &str = "process_start_time_seconds";

/// A request's name in a report is cut there.
const REQUEST_CHARS: usize = 80;
/// Requests that no user makes.
const QUIET: [&str; 4] = ["/healthz", "/readyz", "/livez", "/metrics"];
/// Series of one process that are read; more are refused.
const SERIES_MAX: usize = 50_000;
/// Above this, a 64-bit float has no room for single requests.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;
/// Kinds of failing requests that are told.
const FAILING_MAX: usize = 32;

/// Labels by name.
pub(super) type Labels = BTreeMap<String, String>;

/// What one process said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// When it was started, in Unix milliseconds by its own clock; none where it does not say.
    pub(super) started_ms: Option<u64>,
    /// What it has counted since.
    pub(super) counts: Counts,
}

/// Requests counted. Each number only grows while a process lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By what was asked, `POST /score`, and the status of the answer.
    requests: BTreeMap<(String, u16), u64>,
    /// By upper bounds in milliseconds: so many up to each. Series with other bounds are kept apart.
    latency: BTreeMap<Vec<u64>, Vec<u64>>,
}

impl Counts {
    /// True when nothing in `earlier` is more than here, so that one process may have counted both.
    pub(super) fn may_follow(&self, earlier: &Counts) -> bool {
        let requests = earlier.requests.iter().all(|(kind, n)| self.requests.get(kind).is_some_and(|m| m >= n));
        requests
            && earlier.latency.iter().all(|(bounds, then)| {
                self.latency.get(bounds).is_some_and(|now| now.iter().zip(then).all(|(m, n)| m >= n))
            })
    }

    /// Adds what was counted between two readings of one process.
    pub(super) fn add_between(&mut self, earlier: &Counts, later: &Counts) {
        for (kind, now) in &later.requests {
            let more = now.saturating_sub(earlier.requests.get(kind).copied().unwrap_or(0));
            if more > 0 {
                let sum = self.requests.entry(kind.clone()).or_default();
                *sum = sum.saturating_add(more);
            }
        }
        for (bounds, now) in &later.latency {
            let then = earlier.latency.get(bounds);
            let sums = self.latency.entry(bounds.clone()).or_insert_with(|| vec![0; bounds.len()]);
            for (at, (sum, now)) in sums.iter_mut().zip(now).enumerate() {
                let then = then.and_then(|then| then.get(at)).copied().unwrap_or(0);
                *sum = sum.saturating_add(now.saturating_sub(then));
            }
        }
    }

    /// As the judge takes it.
    pub(super) fn samples(&self, release: ReleaseId, window_ms: u64) -> Samples {
        let mut samples = Samples { window_ms, ..Samples::none(release) };
        for ((request, status), count) in &self.requests {
            samples.requests = samples.requests.saturating_add(*count);
            if (500..600).contains(status) {
                samples.errors = samples.errors.saturating_add(*count);
                let (request, status, count) = (request.clone(), *status, *count);
                samples.failing.push(Failing { request, status, count, slowest_ms: 0 });
            }
        }
        samples.failing.sort_by_key(|f| std::cmp::Reverse(f.count));
        samples.failing.truncate(FAILING_MAX);
        for (bounds, up_to) in &self.latency {
            // A page may have been written while requests ended: no bucket is below one before it, or above all.
            let all = up_to.last().copied().unwrap_or(0);
            let (mut below, mut below_ms) = (0, None);
            for (bound_ms, count) in bounds.iter().zip(up_to) {
                let count = (*count).clamp(below, all.max(below));
                if count > below {
                    // Where a bucket begins has to be known as well, although nothing may have ended there.
                    if let Some(below_ms) = below_ms {
                        samples.latency_ms.entry(below_ms).or_default();
                    }
                    let sum = samples.latency_ms.entry(*bound_ms).or_default();
                    *sum = sum.saturating_add(count - below);
                    below = count;
                }
                below_ms = Some(*bound_ms);
            }
        }
        samples
    }
}

/// Collects the series of one process at one moment.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    started_ms: Option<u64>,
    /// It said two different things.
    started_twice: bool,
    requests: BTreeMap<(String, u16), u64>,
    has_requests: bool,
    histogram_requests: BTreeMap<(String, u16), u64>,
    has_histogram: bool,
    buckets: BTreeMap<Labels, BTreeMap<u64, u64>>,
    seen: HashSet<(&'static str, Labels)>,
}

impl Sheet {
    /// The name among those that count, or none.
    pub(super) fn known(name: &str) -> Option<&'static str> {
        [REQUESTS, BUCKETS, COUNT, STARTED].into_iter().find(|known| *known == name)
    }

    /// True when requests are counted here at all.
    pub(super) fn counts_requests(&self) -> bool {
        self.has_requests || self.has_histogram
    }

    /// Takes a series' value. `metrics` is the path of the metrics page, which is not counted.
    ///
    /// # Errors
    /// Why it can't be a count, as the end of a sentence that begins with the metric's name.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        mut labels: Labels,
        value: f64,
        metrics: &str,
    ) -> Result<(), String> {
        if name == STARTED {
            // Something else than a time tells nobody apart.
            let started_ms = (value.is_finite() && value > 0.0).then(|| (value * 1000.0).round() as u64);
            self.started_twice |= self.started_ms.is_some() && self.started_ms != started_ms;
            self.started_ms = started_ms;
            return Ok(());
        }
        self.has_requests |= name == REQUESTS;
        self.has_histogram |= name == COUNT;
        let quiet = route(&labels).is_some_and(|path| QUIET.contains(&path) || path == metrics);
        if quiet {
            return Ok(());
        }
        if !(0.0..=COUNT_MAX).contains(&value) {
            return Err(format!("is {value}, which is no count"));
        }
        let count = value as u64;
        if self.seen.len() >= SERIES_MAX {
            return Err(format!("and others have more than {SERIES_MAX} series"));
        }
        if !self.seen.insert((name, labels.clone())) {
            return Err("has one series twice".to_owned());
        }
        if name == BUCKETS {
            let bound = labels.remove("le").ok_or("has a bucket without its bound `le`")?;
            let bound_ms = bound_ms(&bound).ok_or_else(|| format!("has the bound {bound:?}, which is no number"))?;
            let bucket = self.buckets.entry(labels).or_default().entry(bound_ms).or_default();
            *bucket = count.max(*bucket);
            return Ok(());
        }
        let status = status(&labels)?;
        let requests = if name == REQUESTS { &mut self.requests } else { &mut self.histogram_requests };
        let sum = requests.entry((request(&labels), status)).or_default();
        *sum = sum.saturating_add(count);
        Ok(())
    }

    /// What the process said, all told.
    pub(super) fn reading(self) -> Reading {
        let mut latency: BTreeMap<Vec<u64>, Vec<u64>> = BTreeMap::new();
        for up_to in self.buckets.into_values() {
            let bounds: Vec<u64> = up_to.keys().copied().collect();
            let sums = latency.entry(bounds).or_insert_with(|| vec![0; up_to.len()]);
            for (sum, count) in sums.iter_mut().zip(up_to.values()) {
                *sum = sum.saturating_add(*count);
            }
        }
        let requests = if self.has_requests { self.requests } else { self.histogram_requests };
        let started_ms = self.started_ms.filter(|_| !self.started_twice);
        Reading { started_ms, counts: Counts { requests, latency } }
    }
}

fn route(labels: &Labels) -> Option<&str> {
    ["route", "path", "handler"].into_iter().find_map(|name| labels.get(name)).map(String::as_str)
}

/// What was asked, for people: whatever a service puts into its labels, it is short and plain.
fn request(labels: &Labels) -> String {
    let text = named(labels);
    text.chars().filter(|c| !c.is_control()).take(REQUEST_CHARS).collect()
}

fn named(labels: &Labels) -> String {
    match (labels.get("method"), route(labels)) {
        (Some(method), Some(route)) => format!("{method} {route}"),
        (Some(one), None) => one.clone(),
        (None, Some(one)) => one.to_owned(),
        (None, None) => "any request".to_owned(),
    }
}

/// The status: three digits, or a class as `5xx`.
fn status(labels: &Labels) -> Result<u16, String> {
    let text = ["status", "code", "status_code"].into_iter().find_map(|name| labels.get(name));
    let text = text.ok_or("has no label `status` or `code`, so errors can't be told from answers")?;
    let digits = text.to_ascii_lowercase().replace('x', "0");
    match digits.parse::<u16>() {
        Ok(status) if digits.len() == 3 && (100..600).contains(&status) => Ok(status),
        _ => Err(format!("has the status {:?}, which is not one of HTTP", text.chars().take(40).collect::<String>())),
    }
}

/// A bucket's bound in whole milliseconds, rounded up: what took at most that, took at most this.
fn bound_ms(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    if seconds == f64::INFINITY {
        return Some(u64::MAX);
    }
    // A product as 7000.000000000001 is meant as 7000.
    (seconds >= 0.0).then(|| (seconds * 1000.0 - 1e-6).ceil().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use dbird_core::analysis::Latency;

    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_terminator(',').filter_map(|l| l.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect()
    }

    fn read(series: &[(&'static str, &str, f64)]) -> Result<Reading, String> {
        let mut sheet = Sheet::default();
        for (name, of, value) in series {
            sheet.add(name, labels(of), *value, "/m")?;
        }
        Ok(sheet.reading())
    }

    fn samples(series: &[(&'static str, &str, f64)]) -> Samples {
        let mut sum = Counts::default();
        sum.add_between(&Counts::default(), &read(series).unwrap().counts);
        sum.samples(ReleaseId(1), 1000)
    }

    #[test]
    fn requests_errors_and_their_kinds() {
        let found = samples(&[
            (REQUESTS, "method=POST,route=/score,status=201", 90.0),
            (REQUESTS, "method=POST,route=/score,status=503", 7.0),
            (REQUESTS, "method=GET,route=/,status=500", 9.0),
            (REQUESTS, "method=GET,route=/,status=404", 4.0),
            (REQUESTS, "method=GET,route=/healthz,status=500", 1000.0),
            (REQUESTS, "method=GET,path=/readyz,status=503", 1000.0),
            (REQUESTS, "method=GET,handler=/m,status=200", 1000.0),
            (COUNT, "method=GET,route=/,status=500", 9000.0),
        ]);
        assert_eq!((found.requests, found.errors, found.window_ms), (110, 16, 1000));
        let failing: Vec<_> = found.failing.iter().map(|f| (f.request.as_str(), f.status, f.count)).collect();
        assert_eq!(failing, [("GET /", 500, 9), ("POST /score", 503, 7)]);
        assert!(found.latency_ms.is_empty(), "there is no histogram");
    }

    #[test]
    fn other_labels_name_the_same() {
        for (of, request, errors) in [
            ("code=502", "any request", 5),
            ("code=5xx,method=GET", "GET", 5),
            ("status_code=5XX,path=/a", "/a", 5),
            ("status=499,path=/a", "", 0),
            ("status=2xx,pod=b", "", 0),
        ] {
            let found = samples(&[(COUNT, of, 5.0)]);
            let name = found.failing.first().map_or("", |f| f.request.as_str());
            assert_eq!((found.requests, found.errors, name), (5, errors, request), "{of}");
        }
    }

    #[test]
    fn buckets_become_counts() {
        let found = samples(&[
            (BUCKETS, "status=200,le=0.005", 3.0),
            (BUCKETS, "status=200,le=0.0075", 5.0),
            (BUCKETS, "status=200,le=+Inf", 9.0),
            (BUCKETS, "status=500,le=0.005", 1.0),
            (BUCKETS, "status=500,le=0.0075", 1.0),
            (BUCKETS, "status=500,le=+Inf", 1.0),
            (BUCKETS, "status=404,le=0.3", 2.0),
            (BUCKETS, "status=404,le=+Inf", 1.0),
            (BUCKETS, "route=/metrics,status=404,le=7", 50.0),
        ]);
        assert_eq!(found.latency_ms, BTreeMap::from([(5, 4), (8, 2), (300, 1), (u64::MAX, 4)]));
        let gap = samples(&[
            (BUCKETS, "le=0.05", 90.0),
            (BUCKETS, "le=0.5", 90.0),
            (BUCKETS, "le=1", 97.0),
            (BUCKETS, "le=5", 97.0),
            (BUCKETS, "le=+Inf", 99.0),
        ]);
        let edges = [(50, 90), (500, 0), (1000, 7), (5000, 0), (u64::MAX, 2)];
        assert_eq!(gap.latency_ms, BTreeMap::from(edges), "where a bucket begins is told");
        assert_eq!(Latency::of(&gap.latency_ms).slower_than(500), 9);
        assert_eq!(bound_ms("0.0005"), Some(1));
        assert_eq!(bound_ms("0.57"), Some(570));
    }

    #[test]
    fn what_is_no_count_is_refused() {
        for (series, expected) in [
            ((REQUESTS, "status=200", f64::NAN), "is NaN, which is no count"),
            ((REQUESTS, "status=200", -1.0), "is -1, which is no count"),
            ((BUCKETS, "le=1", f64::INFINITY), "is inf, which is no count"),
            ((REQUESTS, "status=200", 1e300), "no count"),
            ((REQUESTS, "route=/", 1.0), "has no label `status` or `code`"),
            ((COUNT, "status=OK", 1.0), "has the status \"OK\""),
            ((COUNT, "status=99", 1.0), "has the status \"99\""),
            ((BUCKETS, "status=200", 1.0), "without its bound"),
            ((BUCKETS, "le=much", 1.0), "has the bound \"much\""),
            ((BUCKETS, "le=-1", 1.0), "has the bound \"-1\""),
        ] {
            let why = read(&[series]).unwrap_err();
            assert!(why.contains(expected), "{series:?}: {why}");
        }
        let twice = (REQUESTS, "status=200", 5.0);
        assert_eq!(read(&[twice, twice]).unwrap_err(), "has one series twice");
    }

    #[test]
    fn start_times_that_tell_nobody_apart_are_none() {
        for (values, expected) in [
            (&[1_700_000_000.25][..], Some(1_700_000_000_250)),
            (&[1.0, 1.0], Some(1000)),
            (&[1.0, 2.0], None),
            (&[f64::NAN], None),
            (&[0.0], None),
            (&[], None),
        ] {
            let series: Vec<_> = values.iter().map(|v| (STARTED, "", *v)).collect();
            assert_eq!(read(&series).unwrap().started_ms, expected, "{values:?}");
        }
    }
}
