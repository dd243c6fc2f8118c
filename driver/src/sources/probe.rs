//! Requests that are made because users make too few to judge by: spread over a time, a few at once, each answered in time or
//! counted as an error. It decides neither when they are needed nor what they say.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use dbird_core::{ReleaseId, Samples, provider::Failing};
use futures::future::{self, BoxFuture};
use tokio::time::Instant;
use url::Url;

use super::web::{Question, Web};

/// Requests at the same time.
const AT_ONCE: usize = 4;
/// No answer within this is an error.
const TIMEOUT: Duration = Duration::from_millis(1_900);
/// However little time they are spread over, so long is for sending them.
const SENT_WITHIN: Duration = Duration::from_secs(1);
/// An answer that is longer is as good as none.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Requests of one probe.
const COUNT_MAX: u64 = 1_000;
/// The bounds that latency is counted by.
const BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Asks for a path `count` times (at most 1,000), the addresses in turn, evenly over at most so long. What was not sent by
/// then, because answers were slow, is not sent.
pub async fn probe(release: ReleaseId, urls: &[String], path: &str, count: u64, spread_ms: u64) -> Samples {
    let began = Instant::now();
    let place = |url: &String| Url::parse(&format!("{}{path}", url.trim_end_matches('/'))).ok();
    let urls: Vec<Url> = urls.iter().filter_map(place).collect();
    let count = count.min(COUNT_MAX);
    let (Ok(web), false) = (Web::direct(), urls.is_empty()) else { return Samples::none(release) };
    let plan = Plan { web, urls, count, began, spread: Duration::from_millis(spread_ms), next: AtomicU64::new(0) };
    let workers: Vec<BoxFuture<'_, Vec<(u16, Duration)>>> =
        (0..AT_ONCE).map(|_| -> BoxFuture<'_, _> { Box::pin(plan.work()) }).collect();
    let answers = future::join_all(workers).await;
    count_up(release, &format!("GET {path}"), answers.into_iter().flatten(), began.elapsed())
}

/// What is still to be sent, by whoever is free.
struct Plan {
    web: Web,
    urls: Vec<Url>,
    count: u64,
    began: Instant,
    spread: Duration,
    next: AtomicU64,
}

impl Plan {
    /// Sends one after the other, each when it is due.
    async fn work(&self) -> Vec<(u16, Duration)> {
        let mut answers = Vec::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let late = Instant::now() > self.began + self.spread.max(SENT_WITHIN);
            let Some(url) = self.urls.get(at as usize % self.urls.len()).filter(|_| at < self.count && !late) else {
                return answers;
            };
            tokio::time::sleep_until(self.began + self.spread.mul_f64(at as f64 / self.count as f64)).await;
            let sent = Instant::now();
            let question = Question { url, accept: "*/*", timeout: TIMEOUT, bytes_max: ANSWER_BYTES_MAX };
            let status = self.web.get(question).await.map_or(0, |answer| answer.status);
            answers.push((status, sent.elapsed()));
        }
    }
}

fn count_up(
    release: ReleaseId,
    request: &str,
    answers: impl Iterator<Item = (u16, Duration)>,
    took: Duration,
) -> Samples {
    let ms = |time: Duration| u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    let mut samples = Samples { window_ms: ms(took), ..Samples::none(release) };
    let mut failing: BTreeMap<u16, Failing> = BTreeMap::new();
    for (status, time) in answers {
        let time_ms = ms(time);
        samples.requests += 1;
        let at = BOUNDS_MS.partition_point(|bound| *bound < time_ms);
        // Where a bucket begins has to be known as well, although nothing may have ended there.
        if let Some(below) = at.checked_sub(1) {
            samples.latency_ms.entry(BOUNDS_MS[below]).or_default();
        }
        *samples.latency_ms.entry(BOUNDS_MS.get(at).copied().unwrap_or(u64::MAX)).or_default() += 1;
        if status == 0 || (500..600).contains(&status) {
            samples.errors += 1;
            let none = Failing { request: request.to_owned(), status, count: 0, slowest_ms: 0 };
            let failing = failing.entry(status).or_insert(none);
            failing.count += 1;
            failing.slowest_ms = failing.slowest_ms.max(time_ms);
        }
    }
    samples.failing = failing.into_values().collect();
    samples.failing.sort_by_key(|f| std::cmp::Reverse(f.count));
    samples.failing.truncate(32);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted() {
        let answers = [(200, 3), (500, 7), (503, 30), (503, 900), (0, 5001), (404, 5), (302, 26)];
        let answers = answers.into_iter().map(|(status, ms)| (status, Duration::from_millis(ms)));
        let samples = count_up(ReleaseId(4), "GET /", answers, Duration::from_millis(1500));
        assert_eq!((samples.requests, samples.errors, samples.window_ms), (7, 4, 1500));
        let latency = [(5, 2), (10, 1), (25, 0), (50, 2), (500, 0), (1_000, 1), (5_000, 0), (u64::MAX, 1)];
        assert_eq!(samples.latency_ms, BTreeMap::from(latency));
        let failing: Vec<_> = samples.failing.iter().map(|f| (f.status, f.count, f.slowest_ms)).collect();
        assert_eq!(failing, [(503, 2, 900), (0, 1, 5001), (500, 1, 7)]);
        assert_eq!(samples.failing[0].request, "GET /");
    }
}
