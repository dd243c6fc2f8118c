//! Asks tasks for their own metrics pages. Of several processes behind one address it asks until each has answered; it takes
//! numbers from all tasks or from none, so that two releases are never compared over different times.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dbird_core::{ReleaseId, Samples};
use futures::future::{self, BoxFuture};
use url::Url;

use super::{
    SourceError, TaskAddress, exposition,
    reading::{COUNT, Counts, REQUESTS},
    tally::{Tally, Who},
    web::{Question, Web, shown},
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// For all tasks together.
const ROUND_MAX: Duration = Duration::from_secs(4);
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Of more tasks, a part stands for all: as many of each release.
const TASKS_MAX: usize = 64;
/// How often one address is asked at least, where another process could answer, and at most.
const ASKED: (usize, usize) = (3, 32);
const ACCEPT: &str = "text/plain;version=0.0.4";

/// The tasks' counters.
pub(super) struct Scrape {
    web: Web,
    path: String,
    tallies: BTreeMap<TaskAddress, Tally>,
    /// When the window began, by the tasks' clocks as far as they say.
    since_ms: u64,
    /// Windows that ended without an answer.
    unread_ms: u64,
}

/// Why a task gave no numbers.
enum Failure {
    /// It may do so next time; what it counted is not lost.
    Silent(SourceError),
    /// What was counted in this window can't be told.
    Unclear(SourceError),
}

impl Scrape {
    pub(super) fn open(path: &str) -> Result<Self, SourceError> {
        let web = Web::direct().map_err(|why| error("tasks", format!("no HTTP client could be made: {why}"), false))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Scrape { web, path, tallies: BTreeMap::new(), since_ms: u64::MAX, unread_ms: 0 })
    }

    pub(super) async fn begin(&mut self, tasks: &[TaskAddress]) -> Result<(), SourceError> {
        self.unread_ms = 0;
        self.tallies = chosen(tasks).into_iter().map(|task| (task, Tally::opening())).collect();
        // Whoever can't be asked now is met later, at what it has counted by then.
        self.since_ms = u64::MAX;
        let round = self.round().await;
        let now_ms = round.now_ms.unwrap_or_else(now_ms);
        self.since_ms = now_ms;
        for tally in self.tallies.values_mut() {
            tally.opened(now_ms);
        }
        match round.failures.into_iter().next() {
            Some(Failure::Silent(e) | Failure::Unclear(e)) => Err(e),
            None => Ok(()),
        }
    }

    pub(super) async fn take(
        &mut self,
        releases: &[ReleaseId],
        tasks: &[TaskAddress],
        window_ms: u64,
    ) -> Result<Vec<Samples>, SourceError> {
        self.unread_ms = self.unread_ms.saturating_add(window_ms);
        let chosen = chosen(tasks);
        if chosen.is_empty() {
            return Err(error("tasks", "no task has an address that can be reached from here".to_owned(), true));
        }
        self.tallies.retain(|task, _| chosen.contains(task));
        for task in chosen {
            let tally = self.tallies.entry(task).or_insert_with(|| Tally::new(self.since_ms));
            if tally.is_opening() {
                // The window's begin was given up half-way.
                *tally = Tally::new(self.since_ms);
            }
        }
        let round = self.round().await;
        let mut failures = round.failures;
        if let Some(at) = failures.iter().position(|f| matches!(f, Failure::Unclear(_))) {
            let (Failure::Silent(e) | Failure::Unclear(e)) = failures.swap_remove(at);
            // The next window begins here, with everybody who is there now.
            let tasks: Vec<_> = self.tallies.keys().cloned().collect();
            drop(self.begin(&tasks).await);
            return Err(e);
        }
        if let Some(Failure::Silent(e) | Failure::Unclear(e)) = failures.into_iter().next() {
            return Err(e);
        }
        if !round.counts_requests {
            let why =
                format!("no page has {REQUESTS} or {COUNT}; some services have it only once they answered a request");
            return Err(error(&self.path, why, true));
        }
        let now_ms = round.now_ms.unwrap_or_else(now_ms);
        let mut sums: BTreeMap<ReleaseId, Counts> = BTreeMap::new();
        for (task, tally) in &mut self.tallies {
            tally.take(now_ms, sums.entry(task.release).or_default());
        }
        self.since_ms = now_ms;
        let window_ms = std::mem::take(&mut self.unread_ms);
        let of = |release: &ReleaseId| sums.get(release).cloned().unwrap_or_default().samples(*release, window_ms);
        Ok(releases.iter().map(of).collect())
    }

    /// Asks every task.
    async fn round(&mut self) -> Round {
        let (web, path) = (&self.web, self.path.as_str());
        // Boxed, so that a look may move between threads: the compiler can't see that of a closure's future.
        let mut asked: Vec<BoxFuture<'_, Result<Round, Failure>>> = Vec::with_capacity(self.tallies.len());
        for (task, tally) in &mut self.tallies {
            asked.push(Box::pin(ask_in_time(web, path, task, tally)));
        }
        let mut round = Round::default();
        for answer in future::join_all(asked).await {
            match answer {
                Ok(answer) => {
                    round.now_ms = round.now_ms.max(answer.now_ms);
                    round.counts_requests |= answer.counts_requests;
                }
                Err(failure) => round.failures.push(failure),
            }
        }
        round
    }
}

/// What a round over all tasks gave.
#[derive(Default)]
struct Round {
    /// The latest time that a task may have.
    now_ms: Option<u64>,
    counts_requests: bool,
    failures: Vec<Failure>,
}

/// Asks a task, and says where it failed.
async fn ask_in_time(web: &Web, path: &str, task: &TaskAddress, tally: &mut Tally) -> Result<Round, Failure> {
    let url = url(task, path);
    let answer = match &url {
        Some(url) => tokio::time::timeout(ROUND_MAX, ask(web, url, path, tally)).await,
        None => Ok(Err(silent("the address is none".to_owned()))),
    };
    let late = || silent(format!("no answer within {} s", ROUND_MAX.as_secs()));
    let place = || url.as_ref().map_or_else(|| task.address.clone(), shown);
    answer.unwrap_or_else(|_| Err(late())).map_err(|failure| located(failure, task.release, place()))
}

/// Asks one address, often enough to meet everybody behind it.
async fn ask(web: &Web, url: &Url, path: &str, tally: &mut Tally) -> Result<Round, Failure> {
    let mut round = Round::default();
    let mut since_new = 0;
    for asked in 1..=ASKED.1 {
        let question = Question { url, accept: ACCEPT, timeout: TIMEOUT, bytes_max: PAGE_BYTES_MAX };
        let answer = web.get(question).await.map_err(silent)?;
        if answer.status != 200 {
            return Err(silent(format!("it answered {}", answer.status)));
        }
        let sheet = exposition::read(&answer.body, path).map_err(silent)?;
        round.now_ms = round.now_ms.max(Some(answer.now_ms.unwrap_or_else(now_ms)));
        round.counts_requests |= sheet.counts_requests();
        match tally.see(sheet.reading()) {
            Ok(Who::Known) => since_new += 1,
            Ok(Who::New) => since_new = 1,
            Err(why) => {
                let hint = "a process is told from others by the metric process_start_time_seconds: export it".into();
                return Err(Failure::Unclear(SourceError { hint: Some(hint), ..error("", why, true) }));
            }
        }
        // The more there are, the longer one of them may stay away.
        let least = if tally.may_hide_others() { ASKED.0.max(2 * tally.processes()) } else { 1 };
        if asked >= least.min(ASKED.1) && since_new >= least && tally.unseen() == 0 {
            break;
        }
    }
    Ok(round)
}

/// So many tasks of each release that all are asked in time.
fn chosen(tasks: &[TaskAddress]) -> Vec<TaskAddress> {
    let mut by_release: BTreeMap<ReleaseId, Vec<&TaskAddress>> = BTreeMap::new();
    for task in tasks {
        by_release.entry(task.release).or_default().push(task);
    }
    let share = TASKS_MAX / by_release.len().max(1);
    by_release.into_values().flat_map(|tasks| tasks.into_iter().take(share.max(1)).cloned()).collect()
}

fn url(task: &TaskAddress, path: &str) -> Option<Url> {
    let scheme = if task.address.contains("://") { "" } else { "http://" };
    Url::parse(&format!("{scheme}{}{path}", task.address.trim_end_matches('/'))).ok()
}

/// Where nobody says what time it is there, it is taken to be the same as here.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn silent(why: String) -> Failure {
    Failure::Silent(error("", why, true))
}

fn located(failure: Failure, release: ReleaseId, place: String) -> Failure {
    let what = format!("the metrics of {release} can't be read");
    match failure {
        Failure::Silent(e) => Failure::Silent(SourceError { what, place, ..e }),
        Failure::Unclear(e) => Failure::Unclear(SourceError { what, place, ..e }),
    }
}

fn error(place: &str, why: String, retry: bool) -> SourceError {
    SourceError { what: "the tasks' metrics can't be read".to_owned(), place: place.to_owned(), why, hint: None, retry }
}
