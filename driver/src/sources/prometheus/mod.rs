//! Asks a Prometheus server for the raw samples of a window and counts them as pages are counted. It does not let the server
//! calculate: `increase()` estimates beyond the samples that it has, and never sees the first error of a process, because the
//! series begins with it.
//!
//! All times are the server's: a window begins at its time, and the next one where the last one ended, whatever is asked when.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use dbird_core::{ReleaseId, Samples};
use url::Url;

use self::answer::{Found, Series};
use super::{
    SourceError,
    reading::{BUCKETS, COUNT, Counts, REQUESTS, STARTED, Sheet},
    tally::Tally,
    web::{Question, Web, shown},
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// For all questions of one look.
const LOOK_MAX: Duration = Duration::from_secs(4);
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// A window that could not be read for longer begins anew.
const WINDOW_MS_MAX: u64 = 3_600_000;
/// A sample may become visible so long after the time that it bears.
const LATE_MS: u64 = 10_000;
/// Processes of one release.
const INSTANCES_MAX: usize = 256;
/// 1 where the process could be asked; says that it is there before it has counted anything.
const UP: &str = "up";

/// A Prometheus server, and where the window began.
pub(super) struct Prometheus {
    web: Web,
    url: Url,
    selector: String,
    /// The path of the services' metrics pages, which are not counted.
    metrics: String,
    /// None before the first window.
    since_ms: Option<u64>,
    instances: BTreeMap<(ReleaseId, Instance), Counted>,
    /// Releases whose counters at the window's begin are known.
    opened: BTreeSet<ReleaseId>,
}

/// The labels `job` and `instance`.
type Instance = (String, String);

/// The address may carry a password.
impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("url", &shown(&self.url)).field("selector", &self.selector).finish()
    }
}

/// One process, as it was seen so far.
struct Counted {
    tally: Tally,
    /// The last sample that was taken, or the window's begin.
    at_ms: u64,
}

/// Everything that an instance said, by time.
type Told = BTreeMap<Instance, BTreeMap<u64, Option<Sheet>>>;

impl Prometheus {
    pub(super) fn open(url: &str, selector: &str, metrics: &str) -> Result<Self, SourceError> {
        let invalid = |why: &str| SourceError {
            what: "the Prometheus server can't be asked".to_owned(),
            place: "[analysis] prometheus".to_owned(),
            why: why.to_owned(),
            hint: Some("prometheus = \"http://127.0.0.1:9090\"".to_owned()),
            retry: false,
        };
        let mut url = Url::parse(url).map_err(|e| invalid(&format!("its address can't be read: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("its address is not one of http"));
        }
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let web = Web::to(&url).map_err(|why| invalid(&why))?;
        let braces: &[char] = &['{', '}'];
        // With braces around it, a selector is what people copy from a query.
        let selector = match selector.trim() {
            whole if whole.starts_with('{') && whole.ends_with('}') && !whole.starts_with("{release}") => {
                whole.strip_prefix(braces).and_then(|inner| inner.strip_suffix(braces)).unwrap_or(whole)
            }
            inner => inner,
        };
        Ok(Prometheus {
            web,
            url,
            selector: selector.trim().trim_end_matches(',').to_owned(),
            metrics: metrics.to_owned(),
            since_ms: None,
            instances: BTreeMap::new(),
            opened: BTreeSet::new(),
        })
    }

    pub(super) async fn begin(&mut self) -> Result<(), SourceError> {
        self.begin_at(None);
        let now_ms = self.now_ms().await?;
        self.begin_at(Some(now_ms));
        Ok(())
    }

    pub(super) async fn take(&mut self, releases: &[ReleaseId], window_ms: u64) -> Result<Vec<Samples>, SourceError> {
        match tokio::time::timeout(LOOK_MAX, self.look(releases, window_ms)).await {
            Ok(samples) => samples,
            Err(_) => Err(self.error(format!("no answer within {} s", LOOK_MAX.as_secs()), true)),
        }
    }

    fn begin_at(&mut self, since_ms: Option<u64>) {
        self.since_ms = since_ms;
        self.instances.clear();
        self.opened.clear();
    }

    async fn look(&mut self, releases: &[ReleaseId], window_ms: u64) -> Result<Vec<Samples>, SourceError> {
        let now_ms = self.now_ms().await?;
        let since_ms = self.since_ms.unwrap_or_else(|| now_ms.saturating_sub(window_ms));
        if now_ms.saturating_sub(since_ms) > WINDOW_MS_MAX {
            self.begin_at(Some(now_ms));
            let why = format!("nothing could be read for {} s; the window begins anew", WINDOW_MS_MAX / 1000);
            return Err(self.error(why, true));
        }
        self.since_ms = Some(since_ms);
        for (at, release) in releases.iter().enumerate() {
            let read = self.read(*release, since_ms, now_ms, at == 0).await;
            match read {
                Ok(()) => {}
                Err(Failure::Silent(e)) => return Err(e),
                Err(Failure::Unclear(e)) => {
                    self.begin_at(Some(now_ms));
                    return Err(e);
                }
            }
        }
        let mut sums: BTreeMap<ReleaseId, Counts> = BTreeMap::new();
        for ((release, _), counted) in &mut self.instances {
            // Who was not asked by the server in this window is not gone.
            if counted.at_ms > since_ms {
                counted.tally.take(now_ms, sums.entry(*release).or_default());
            }
        }
        self.since_ms = Some(now_ms);
        let covered_ms = now_ms.saturating_sub(since_ms);
        let of = |release: &ReleaseId| sums.get(release).cloned().unwrap_or_default().samples(*release, covered_ms);
        Ok(releases.iter().map(of).collect())
    }

    /// Takes a release's samples of the window.
    async fn read(&mut self, release: ReleaseId, since_ms: u64, now_ms: u64, judged: bool) -> Result<(), Failure> {
        if !self.opened.contains(&release) {
            let before = self.series(release, None, since_ms).await?;
            for (instance, told) in before {
                let Some(sheet) = told.into_values().next_back().flatten() else { continue };
                let mut tally = Tally::opening();
                tally.see(sheet.reading()).map_err(|why| self.unclear(release, why))?;
                tally.opened(since_ms);
                self.instances.insert((release, instance), Counted { tally, at_ms: since_ms });
            }
            self.opened.insert(release);
        }
        let length_ms = now_ms.saturating_sub(since_ms) + LATE_MS;
        let within = self.series(release, Some(length_ms), now_ms).await?;
        let mut newest_ms = None;
        let mut counts_requests = false;
        let is_empty = within.is_empty();
        for (instance, told) in within {
            for (at_ms, sheet) in told {
                let Some(sheet) = sheet else { continue };
                newest_ms = newest_ms.max(Some(at_ms));
                counts_requests |= sheet.counts_requests();
                let known = self.instances.entry((release, instance.clone()));
                let counted = known.or_insert_with(|| Counted { tally: Tally::new(since_ms), at_ms: since_ms });
                if at_ms > counted.at_ms {
                    counted.at_ms = at_ms;
                    counted.tally.see(sheet.reading()).map_err(|why| self.unclear(release, why))?;
                }
            }
        }
        let count = self.instances.keys().filter(|(of, _)| *of == release).count();
        let selector = self.selector_of(release);
        let why = match newest_ms {
            _ if count > INSTANCES_MAX => format!("more than {INSTANCES_MAX} processes have {selector}"),
            None if is_empty => format!("it has nothing of {release}: no series has {selector}"),
            None => format!("it could ask no process of {release} in the last {} s", length_ms / 1000),
            Some(at_ms) if at_ms <= since_ms => {
                let age_s = now_ms.saturating_sub(at_ms) / 1000;
                format!("its newest numbers of {release} are {age_s} s old, from before the window")
            }
            Some(_) if !counts_requests => format!("no series of {release} is {REQUESTS} or {COUNT} yet"),
            Some(_) => return Ok(()),
        };
        // Beside which a release is judged may be unknown; what is judged may not.
        if !judged && count <= INSTANCES_MAX {
            return Ok(());
        }
        let hint = "the server has to ask each process more often than [analysis] interval, \
                    and [analysis] selector has to name a release's series";
        let error = SourceError { hint: Some(hint.to_owned()), ..self.error(why, true) };
        Err(Failure::Silent(error))
    }

    /// A release's series: all samples of a time that ends at `at_ms`, or their values at it.
    async fn series(&self, release: ReleaseId, length_ms: Option<u64>, at_ms: u64) -> Result<Told, Failure> {
        let range = length_ms.map(|ms| format!("[{ms}ms]")).unwrap_or_default();
        let names = [REQUESTS, BUCKETS, COUNT, STARTED, UP].join("|");
        let query = format!("{{__name__=~\"{names}\",{}}}{range}", self.selector_of(release));
        let found = self.ask(&query, Some(at_ms)).await.map_err(Failure::Silent)?;
        let Found::Series(all) = found else {
            return Err(Failure::Silent(self.error("it answered something else".to_owned(), true)));
        };
        let mut told = Told::new();
        for series in all {
            self.sort_in(series, &mut told)
                .map_err(|why| Failure::Silent(self.error(format!("of {release}, {why}"), true)))?;
        }
        Ok(told)
    }

    /// What a series said belongs to its instance, at each time.
    fn sort_in(&self, series: Series, told: &mut Told) -> Result<(), String> {
        let mut labels = series.labels;
        let name = labels.remove("__name__").unwrap_or_default();
        let mut take = |label: &str| labels.remove(label).unwrap_or_default();
        let instance = (take("job"), take("instance"));
        let times = told.entry(instance).or_default();
        for (at_ms, value) in series.values {
            let sheet = times.entry(at_ms).or_insert_with(|| Some(Sheet::default()));
            if name == UP && value != 1.0 {
                // Nobody answered: what else bears this time is none of its numbers.
                *sheet = None;
            } else if let (Some(sheet), Some(known)) = (sheet, Sheet::known(&name)) {
                sheet.add(known, labels.clone(), value, &self.metrics).map_err(|why| format!("{known} {why}"))?;
            }
        }
        Ok(())
    }

    /// The server's time.
    async fn now_ms(&self) -> Result<u64, SourceError> {
        match self.ask("time()", None).await? {
            Found::Scalar(seconds) if seconds > 0.0 => Ok((seconds * 1000.0) as u64),
            _ => Err(self.error("it does not know what time it is".to_owned(), true)),
        }
    }

    async fn ask(&self, query: &str, at_ms: Option<u64>) -> Result<Found, SourceError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("query", query);
        if let Some(at_ms) = at_ms {
            url.query_pairs_mut().append_pair("time", &format!("{}.{:03}", at_ms / 1000, at_ms % 1000));
        }
        let question =
            Question { url: &url, accept: "application/json", timeout: TIMEOUT, bytes_max: ANSWER_BYTES_MAX };
        let answer = self.web.get(question).await.map_err(|why| self.error(why, true))?;
        answer::read(answer.status, &answer.body).map_err(|refusal| SourceError {
            hint: refusal.hint.map(str::to_owned),
            ..self.error(refusal.why, refusal.retry)
        })
    }

    fn selector_of(&self, release: ReleaseId) -> String {
        self.selector.replace("{release}", &release.to_string())
    }

    fn unclear(&self, release: ReleaseId, why: String) -> Failure {
        let why = format!("an instance of {release} is not one process: {why}");
        let hint = "a process is told from others by the metric process_start_time_seconds: export it".to_owned();
        Failure::Unclear(SourceError { hint: Some(hint), ..self.error(why, true) })
    }

    fn error(&self, why: String, retry: bool) -> SourceError {
        let mut place = shown(&self.url);
        place.truncate(place.len() - "/api/v1/query".len());
        SourceError { what: "Prometheus gives no numbers".to_owned(), place, why, hint: None, retry }
    }
}

/// Why a release has no numbers.
enum Failure {
    /// The next look covers this window too.
    Silent(SourceError),
    /// What was counted can't be trusted; the next window begins here.
    Unclear(SourceError),
}
