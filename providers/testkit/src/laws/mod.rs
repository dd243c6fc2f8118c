//! The laws. Each is tried on a fresh fixture; a law that says nothing about a provider (its capabilities exclude it) holds.

mod beside;
mod copies;
mod hold;
mod rollout;
mod samples;
mod tasks;

use std::{future::Future, pin::Pin};

use dbird_core::{
    Command, Handle, Observed, Phase, Progress, ProviderError, ReleaseId, Steer, StepKind, Target, Weights, Work,
    provider::{Driver, ErrorKind},
};
use tokio::time::Instant;

use crate::{Fixture, Kind};

/// A law that a provider broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The law.
    pub law: &'static str,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "law `{}` is broken: {}", self.law, self.what)
    }
}

impl std::error::Error for Broken {}

/// What trying a law gives.
pub type Verdict<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

type Check = for<'a> fn(&'a dyn Fixture) -> Verdict<'a>;

/// A law.
#[derive(Clone, Copy)]
pub struct Law {
    /// Its name, unique.
    pub name: &'static str,
    check: Check,
}

impl Law {
    /// Tries it on a fixture in which nothing was done yet.
    pub async fn check(&self, fixture: &dyn Fixture) -> Result<(), Broken> {
        (self.check)(fixture).await.map_err(|what| Broken { law: self.name, what })
    }
}

/// Every law.
pub fn all() -> Vec<Law> {
    let laws: [(&'static str, Check); 25] = [
        ("looking changes nothing", |f| Box::pin(hold::looking_changes_nothing(f))),
        ("a candidate gets no traffic", |f| Box::pin(rollout::candidate_gets_no_traffic(f))),
        ("applying twice makes one", |f| Box::pin(rollout::applying_twice_makes_one(f))),
        ("a handle survives serialisation", |f| Box::pin(rollout::handle_survives_serialisation(f))),
        ("weights are exact", |f| Box::pin(rollout::weights_are_exact(f))),
        ("steering twice is steering once", |f| Box::pin(rollout::steering_twice_is_steering_once(f))),
        ("rolling back restores", |f| Box::pin(rollout::rolling_back_restores(f))),
        ("rolling back the first leaves nothing", |f| Box::pin(rollout::rolling_back_the_first_leaves_nothing(f))),
        ("finishing leaves only the candidate", |f| Box::pin(rollout::finishing_leaves_only_the_candidate(f))),
        ("a dead candidate hurts nobody", |f| Box::pin(rollout::dead_candidate_hurts_nobody(f))),
        ("a late call changes nothing", |f| Box::pin(rollout::late_call_changes_nothing(f))),
        ("a one-off task's exit code is real", |f| Box::pin(tasks::exit_code_is_real(f))),
        ("stopping a one-off task stops it alone", |f| Box::pin(tasks::stopping_stops_the_task_alone(f))),
        ("a one-off task starts once", |f| Box::pin(tasks::starts_once(f))),
        ("log pages neither lose nor repeat", |f| Box::pin(tasks::pages_neither_lose_nor_repeat(f))),
        ("the unknown is not found", |f| Box::pin(tasks::unknown_is_not_found(f))),
        ("destroying keeps the data", |f| Box::pin(hold::destroying_keeps_the_data(f))),
        ("targets do not see each other", |f| Box::pin(hold::targets_do_not_see_each_other(f))),
        ("a cold candidate never overlaps", |f| Box::pin(copies::cold_candidate_never_overlaps(f))),
        ("ready copies never fall below", |f| Box::pin(copies::ready_copies_never_fall_below(f))),
        ("a scaled-down parent comes back", |f| Box::pin(copies::scaled_down_parent_comes_back(f))),
        ("samples count what was served", |f| Box::pin(samples::samples_count_what_was_served(f))),
        ("a gate is passed once", |f| Box::pin(beside::gate_is_passed_once(f))),
        ("shares on the way are told", |f| Box::pin(beside::shares_on_the_way_are_told(f))),
        ("stopping on the way gives all back", |f| Box::pin(beside::stopping_on_the_way_gives_all_back(f))),
    ];
    laws.into_iter().map(|(name, check)| Law { name, check }).collect()
}

/// The releases that laws speak of.
const ONE: ReleaseId = ReleaseId(1);
const TWO: ReleaseId = ReleaseId(2);

fn said(what: &str, e: &ProviderError) -> String {
    format!("{what}: {e} {:?}", e.causes)
}

async fn observe(f: &dyn Fixture, target: &Target) -> Result<Observed, String> {
    f.provider().observe(target).await.map_err(|e| said("observe", &e))
}

/// Follows a step until a phase is as wanted. Calls that may be repeated are.
async fn until(
    f: &dyn Fixture,
    target: &Target,
    handle: &Handle,
    what: &str,
    wanted: impl Fn(&Progress) -> bool,
) -> Result<Progress, String> {
    let start = Instant::now();
    loop {
        match f.provider().poll(target, handle).await {
            Ok(progress) if wanted(&progress) => return Ok(progress),
            Ok(progress) if u128::from(f.patience_ms()) < start.elapsed().as_millis() => {
                return Err(format!(
                    "{what} did not come, it is {:?}, waiting for {}",
                    progress.phase, progress.waiting_for
                ));
            }
            Ok(Progress { phase: Phase::Failed { why, logs }, .. }) => {
                return Err(format!("{what} did not come: {why} {logs:?}"));
            }
            Ok(_) => tokio::task::yield_now().await,
            Err(e) if e.retry && u128::from(f.patience_ms()) > start.elapsed().as_millis() => {
                tokio::task::yield_now().await
            }
            Err(e) => return Err(said(&format!("waiting for {what}"), &e)),
        }
    }
}

async fn apply(f: &dyn Fixture, target: &Target, work: &Work) -> Result<Handle, String> {
    f.provider().apply(target, work).await.map_err(|e| said(&format!("apply {}", work.step), &e))
}

async fn steer(f: &dyn Fixture, target: &Target, handle: &Handle, how: Steer) -> Result<(), String> {
    f.provider().steer(target, handle, &how).await.map_err(|e| said(&format!("steer {how:?}"), &e))
}

/// The steps of a release that gets no traffic before it is told to.
fn works(f: &dyn Fixture, target: &Target, release: ReleaseId, kind: Kind) -> Vec<Work> {
    let works = f.works(target, release, kind);
    if drives(f) { f.waiting(works, false) } else { works }
}

/// The service step of a release.
fn service(f: &dyn Fixture, target: &Target, release: ReleaseId, kind: Kind) -> Result<Work, String> {
    works(f, target, release, kind)
        .into_iter()
        .rfind(|w| w.kind == StepKind::Service)
        .ok_or_else(|| "the fixture has no service".into())
}

/// True where the cloud moves traffic by itself.
fn drives(f: &dyn Fixture) -> bool {
    f.provider().capabilities().strategies.values().all(|driver| *driver == Driver::Cloud)
}

/// Starts a release without waiting for its candidate.
async fn start(f: &dyn Fixture, target: &Target, release: ReleaseId, kind: Kind) -> Result<Handle, String> {
    begin(f, target, works(f, target, release, kind)).await
}

async fn begin(f: &dyn Fixture, target: &Target, works: Vec<Work>) -> Result<Handle, String> {
    for work in works {
        let handle = apply(f, target, &work).await?;
        if work.kind == StepKind::Service {
            return Ok(handle);
        }
        until(f, target, &handle, "a finished step", |p| p.phase == Phase::Finished).await?;
    }
    Err("the fixture has no service".into())
}

/// Makes a candidate and waits until it could take traffic.
async fn candidate(f: &dyn Fixture, target: &Target, release: ReleaseId, kind: Kind) -> Result<Handle, String> {
    let alone = drives(f) && observe(f, target).await?.releases.is_empty();
    let handle = start(f, target, release, kind).await?;
    until(f, target, &handle, "a ready candidate", |p| could_serve(p, alone)).await?;
    Ok(handle)
}

/// True where a candidate could take traffic. One that is alone may get all of it from its cloud, which keeps nothing then.
fn could_serve(progress: &Progress, alone: bool) -> bool {
    progress.phase == Phase::Ready || alone && progress.phase == Phase::Finished
}

async fn shift(f: &dyn Fixture, target: &Target, handle: &Handle, weights: Weights) -> Result<(), String> {
    if drives(f) {
        return take_over(f, target, handle, &weights).await;
    }
    steer(f, target, handle, Steer::shift(weights.clone())).await?;
    until(f, target, handle, "the weights asked for", |p| p.phase == Phase::Ready && p.weights == weights)
        .await
        .map(drop)
}

/// Lets a release that its cloud moves past every gate, to all traffic or to where it is.
async fn take_over(f: &dyn Fixture, target: &Target, handle: &Handle, weights: &Weights) -> Result<(), String> {
    loop {
        // A first release has nothing to wait for.
        let rests = |p: &Progress| matches!(p.phase, Phase::Ready | Phase::Finished);
        let there = |p: &Progress| rests(p) && p.weights == *weights;
        let progress = until(f, target, handle, "a gate", |p| there(p) || !p.gates.is_empty()).await?;
        match progress.gates.first() {
            _ if there(&progress) => return Ok(()),
            Some(gate) => steer(f, target, handle, Steer::Continue { gate: gate.clone() }).await?,
            None => {}
        }
    }
}

/// Makes a release and lets it take over.
async fn serve(f: &dyn Fixture, target: &Target, release: ReleaseId, kind: Kind) -> Result<Handle, String> {
    let handle = candidate(f, target, release, kind).await?;
    shift(f, target, &handle, Weights::all(release)).await?;
    finish(f, target, &handle).await?;
    Ok(handle)
}

async fn finish(f: &dyn Fixture, target: &Target, handle: &Handle) -> Result<(), String> {
    steer(f, target, handle, Steer::Finish).await?;
    until(f, target, handle, "the end of the rollout", |p| p.phase == Phase::Finished).await.map(drop)
}

async fn roll_back(f: &dyn Fixture, target: &Target, handle: &Handle) -> Result<(), String> {
    steer(f, target, handle, Steer::Stop { roll_back: true }).await?;
    until(f, target, handle, "the previous release", |p| p.phase == Phase::RolledBack).await.map(drop)
}

/// Every release with its weight.
fn weights(observed: &Observed) -> Vec<(ReleaseId, u8)> {
    observed.releases.iter().map(|r| (r.id, r.weight)).collect()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, wanted: &T) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{what} is {is:?}, not {wanted:?}")) }
}

/// A call must have been refused for good, as this kind.
fn refused<T: std::fmt::Debug>(
    what: &str,
    answer: Result<T, ProviderError>,
    kinds: &[ErrorKind],
) -> Result<(), String> {
    match answer {
        Ok(value) => Err(format!("{what} was answered with {value:?}")),
        Err(e) if e.retry => Err(format!("{what} was refused, but is said to be worth repeating: {e}")),
        Err(e) if !kinds.contains(&e.kind) => {
            Err(format!("{what} was refused as {:?}, not as one of {kinds:?}", e.kind))
        }
        Err(_) => Ok(()),
    }
}

fn command(release: ReleaseId, argv: Vec<String>, key: &str) -> Command {
    Command { release, argv, timeout_ms: Some(30_000), key: key.into() }
}
