//! Looks at a rollout for the engine: what both sides' requests were like, and how tasks are. It asks where the analysis says
//! that numbers come from, and judges nothing.

use dbird_core::{
    Handle, LogQuery, Observed, ReleaseId, Samples, TaskState,
    analysis::{Health, Look, Side, Verdict},
    provider::Failing,
    release::{LastLook, Numbers},
    spec::Analysis,
};

use crate::{
    Error, Event,
    call::within,
    error::sentence,
    event::SideView,
    follow::Watched,
    run::Run,
    sources::{Source, SourceError, TaskAddress, probe},
};

/// Numbers that take longer are none. This, what is live, and requests of our own together stay below the time after which
/// another command would take over; the lease is renewed between them.
const LOOK_MS: u64 = 4_000;
/// What is live is told in this time, or not at all.
const SEE_MS: u64 = 2_000;
const SEE_AGAIN_MS: u64 = 500;
/// Requests that dbird makes itself begin within this, and within a window, and have the same time again for their answers.
const PROBE_MS: u64 = 2_000;
/// Reading a failed candidate's last lines takes no longer than this.
const LINES_MS: u64 = 3_000;
/// So many of them.
const LINES_MAX: u32 = 30;
/// Kinds of failing requests that are named.
const NAMED_MAX: usize = 3;
/// What a task says of itself when it is the one that writes to the store.
const WRITES: &str = "active";

/// What is remembered between looks.
pub(crate) struct Eyes {
    analysis: Option<Analysis>,
    source: Option<Result<Source, SourceError>>,
    /// Of the candidate's tasks, when it first got traffic.
    restarts_before: Option<u32>,
    looks: u32,
    weight: u8,
    candidate: Side,
    current: Option<Side>,
    failing: Vec<Failing>,
    /// Why the source could not be read, when it last could not.
    trouble: String,
}

impl Eyes {
    pub(crate) fn of(run: &Run<'_>) -> Eyes {
        let analysis = run.begun.plan.course.as_ref().and_then(|c| c.analysis.clone());
        Eyes {
            source: analysis
                .as_ref()
                .map(|a| Source::open(a, run.operator.provider.clone(), run.operator.target.clone())),
            analysis,
            restarts_before: None,
            looks: 0,
            weight: 0,
            candidate: Side::default(),
            current: None,
            failing: Vec::new(),
            trouble: String::new(),
        }
    }

    /// Which of the candidate's requests failed, in a few words; empty where none did.
    pub(crate) fn failing(&self) -> String {
        let named: Vec<_> = self.failing.iter().take(NAMED_MAX).map(named).collect();
        if named.is_empty() { String::new() } else { format!("mostly {}", named.join(", ")) }
    }

    /// Why the source could not be read, when it last could not.
    pub(crate) fn trouble(&self) -> &str {
        &self.trouble
    }

    /// Both sides, as they were at the last weight.
    pub(crate) fn last(&self) -> Option<LastLook> {
        (self.looks > 0).then(|| LastLook {
            looks: self.looks,
            weight: self.weight,
            candidate: Numbers::from(&self.candidate),
            current: self.current.as_ref().map(Numbers::from),
        })
    }

    fn add(&mut self, look: &Look) {
        self.candidate.add(&look.candidate);
        if let Some(current) = &look.current {
            self.current.get_or_insert_default().add(current);
        }
    }

    fn fail(&mut self, failing: &[Failing]) {
        for new in failing {
            match self.failing.iter_mut().find(|f| f.request == new.request && f.status == new.status) {
                Some(known) => {
                    known.count = known.count.saturating_add(new.count);
                    known.slowest_ms = known.slowest_ms.max(new.slowest_ms);
                }
                None => self.failing.push(new.clone()),
            }
        }
        self.failing.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.request.cmp(&b.request)));
        self.failing.truncate(32);
    }
}

fn named(failing: &Failing) -> String {
    let Failing { request, status, count, .. } = failing;
    let how = if *status == 0 { "no answer".to_owned() } else { status.to_string() };
    format!("{request} -> {how} ({count} times)")
}

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// The look; none where nobody can say what requests were like.
    pub(crate) look: Option<Look>,
    /// How tasks are; none where nobody can say that either.
    pub(crate) health: Option<Health>,
}

impl Run<'_> {
    /// Begins a window, or says what it was like.
    pub(crate) async fn look(
        &mut self,
        eyes: &mut Eyes,
        window_ms: u64,
        handle: &Handle,
        watched: &mut Watched,
    ) -> Result<Found, Error> {
        let (candidate, parent) = (handle.release, self.begun.plan.parent);
        let weights = watched.weights();
        let beside = parent.filter(|p| weights.of(*p) > 0);
        if window_ms == 0 {
            eyes.weight = weights.of(candidate);
            eyes.candidate = Side::default();
            eyes.current = None;
        }
        self.lease.renew().await?;
        let Some(observed) = self.see(candidate).await else { return Ok(Found::default()) };
        let restarts = restarts(&observed, candidate);
        let before = *eyes.restarts_before.get_or_insert(restarts);
        let health = health(&observed, candidate, restarts.saturating_sub(before));
        let found = Found { look: None, health: told_of(&observed, candidate).then_some(health) };
        let releases: Vec<_> = [Some(candidate), beside].into_iter().flatten().collect();
        let tasks = addresses(&observed, &releases);
        let asked = self.bounded(LOOK_MS, ask(eyes, window_ms, &releases, &tasks)).await;
        let samples = match asked.unwrap_or_else(|| Err(format!("no numbers within {} s", LOOK_MS / 1000))) {
            Ok(_) if window_ms == 0 => return Ok(found),
            Ok(samples) => samples,
            Err(e) => {
                self.operator.report(&Event::Warning { text: format!("no look at {candidate}: {e}") });
                eyes.trouble = e;
                return Ok(found);
            }
        };
        let of = |release: ReleaseId| samples.iter().find(|s| s.release == release);
        let mut look = Look {
            candidate: of(candidate).map(Side::of).unwrap_or_default(),
            current: beside.and_then(of).map(Side::of),
            health: found.health,
            probes: 0,
        };
        if let Some(samples) = of(candidate) {
            eyes.fail(&samples.failing);
        }
        self.lease.renew().await?;
        if let Some(own) = self.probe(eyes, &look, window_ms, &observed, candidate, watched).await {
            look.probes = own.requests;
            // A source that counts them itself tells them with the next window.
            if !eyes.source.as_ref().is_some_and(|s| s.as_ref().is_ok_and(Source::counts_probes)) {
                look.candidate.add(&Side::of(&own));
                eyes.fail(&own.failing);
            }
        }
        self.lease.renew().await?;
        eyes.add(&look);
        Ok(Found { look: Some(look), ..found })
    }

    /// What is live. Tasks that an agent has just found again, after it was started anew, are not ready until they were asked
    /// once: what looks unready is looked at twice.
    async fn see(&self, candidate: ReleaseId) -> Option<Observed> {
        let (provider, target) = (&*self.operator.provider, &self.operator.target);
        let look = || self.bounded(SEE_MS, async { provider.observe(target).await.map_err(|e| sentence(&e)) });
        let mut seen = look().await;
        if let Some(Ok(observed)) = &seen
            && health(observed, candidate, 0).ready < health(observed, candidate, 0).tasks
        {
            self.operator.clock.sleep(SEE_AGAIN_MS).await;
            seen = look().await;
        }
        match seen.unwrap_or_else(|| Err(format!("no answer within {} s", SEE_MS / 1000))) {
            Ok(observed) => Some(observed),
            Err(e) => {
                self.operator.report(&Event::Warning { text: format!("no look at {candidate}: {e}") });
                None
            }
        }
    }

    /// What comes of it in time, unless somebody wants to stop.
    async fn bounded<T>(&self, limit_ms: u64, work: impl Future<Output = T>) -> Option<T> {
        let clock = &*self.operator.clock;
        let until_ms = clock.boot_ms() + limit_ms;
        let stop = async {
            match self.interrupt_told {
                true => std::future::pending().await,
                false => self.operator.interrupt.wait().await,
            }
        };
        tokio::select! {
            biased;
            done = within(clock, until_ms, work) => done,
            () = stop => None,
        }
    }

    /// Requests of our own, where users make too few to judge by.
    pub(crate) async fn probe(
        &self,
        eyes: &Eyes,
        look: &Look,
        window_ms: u64,
        observed: &Observed,
        candidate: ReleaseId,
        watched: &Watched,
    ) -> Option<Samples> {
        let analysis = eyes.analysis.as_ref()?;
        let path = analysis.probe.as_ref()?;
        let have = eyes.candidate.requests.saturating_add(look.candidate.requests);
        let missing = analysis.min_samples.max(1).saturating_sub(have);
        if missing == 0 {
            return None;
        }
        let mut urls: Vec<String> =
            addresses(observed, &[candidate]).into_iter().map(|t| format!("http://{}", t.address)).collect();
        if urls.is_empty() {
            urls.extend(watched.endpoint("test"));
        }
        if urls.is_empty() {
            return None;
        }
        let spread_ms = window_ms.min(PROBE_MS);
        self.bounded(spread_ms + PROBE_MS, probe::probe(candidate, &urls, path, missing, spread_ms)).await
    }

    /// Tells a look.
    pub(crate) fn tell_look(
        &self,
        eyes: &mut Eyes,
        look: Option<&Look>,
        verdict: Verdict,
        window_ms: u64,
        watched: &Watched,
    ) {
        eyes.looks += 1;
        let (word, text) = match verdict {
            Verdict::Good => ("good", String::new()),
            Verdict::Bad(fault) => ("bad", fault.to_string()),
            Verdict::Unclear(why) => ("unclear", why.to_string()),
        };
        let side = |release: ReleaseId, side: &Side| SideView {
            release,
            requests: side.requests,
            errors: side.errors,
            error_rate: side.error_rate(),
            p99_ms: side.p99_ms(),
        };
        let candidate = self.begun.release;
        self.operator.report(&Event::Looked {
            look: eyes.looks,
            window_ms,
            weights: watched.weights(),
            candidate: look.map(|l| side(candidate, &l.candidate)),
            current: look.and_then(|l| l.current.as_ref()).zip(self.begun.plan.parent).map(|(s, r)| side(r, s)),
            probes: look.map_or(0, |l| l.probes),
            check: match verdict {
                Verdict::Bad(fault) => Some(fault.check),
                _ => None,
            },
            verdict: word.to_owned(),
            text,
        });
    }

    /// The candidate's last log lines.
    pub(crate) async fn last_lines(&self) -> Vec<String> {
        let (provider, target, clock) = (&self.operator.provider, &self.operator.target, &*self.operator.clock);
        let query = LogQuery { release: Some(self.begun.release), task: None, tail_lines: LINES_MAX };
        let until_ms = clock.boot_ms() + LINES_MS;
        match within(clock, until_ms, provider.logs(target, &query, None)).await {
            Some(Ok(page)) => page.lines.into_iter().map(|l| l.text).collect(),
            Some(Err(e)) => {
                tracing::debug!(error = %e, "the candidate's last lines can't be read");
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}

async fn ask(
    eyes: &mut Eyes,
    window_ms: u64,
    releases: &[ReleaseId],
    tasks: &[TaskAddress],
) -> Result<Vec<Samples>, String> {
    let source = match &mut eyes.source {
        Some(Ok(source)) => source,
        Some(Err(e)) => return Err(told(e)),
        None => return Err("there is nothing to judge by".to_owned()),
    };
    let samples = if window_ms == 0 {
        source.begin(tasks).await.map(|()| Vec::new())
    } else {
        source.take(releases, tasks, window_ms).await
    };
    samples.map_err(|e| told(&e))
}

fn told(e: &SourceError) -> String {
    let hint = e.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{e}{hint}")
}

fn addresses(observed: &Observed, releases: &[ReleaseId]) -> Vec<TaskAddress> {
    let of = observed.releases.iter().filter(|r| releases.contains(&r.id));
    of.flat_map(|r| r.tasks.iter().filter_map(|t| Some(TaskAddress { release: r.id, address: t.address.clone()? })))
        .collect()
}

fn restarts(observed: &Observed, release: ReleaseId) -> u32 {
    let tasks = observed.releases.iter().filter(|r| r.id == release).flat_map(|r| &r.tasks);
    tasks.fold(0, |sum, t| sum.saturating_add(t.restarts))
}

/// Whether anything is said of the candidate's tasks: a cloud need not list them while all of them are ready.
fn told_of(observed: &Observed, candidate: ReleaseId) -> bool {
    !observed.releases.iter().any(|r| r.id == candidate && r.ready && r.tasks.is_empty())
}

fn health(observed: &Observed, candidate: ReleaseId, restarts: u32) -> Health {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let tasks = observed.releases.iter().filter(|r| r.id == candidate).flat_map(|r| &r.tasks);
    let all: Vec<_> = tasks.filter(|t| !matches!(t.state, TaskState::Draining | TaskState::Stopped)).collect();
    let roles: Vec<_> = observed
        .releases
        .iter()
        .flat_map(|r| &r.tasks)
        .filter(|t| t.state == TaskState::Ready)
        .filter_map(|t| t.reported.get("role").and_then(|role| role.as_str()))
        .collect();
    let writers = roles.iter().filter(|role| **role == WRITES).count();
    Health {
        tasks: count(all.len()),
        ready: count(all.iter().filter(|t| t.state == TaskState::Ready).count()),
        restarts,
        writers: (!roles.is_empty()).then(|| count(writers)),
    }
}
