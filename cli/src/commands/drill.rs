//! `dbird drill`: a game day. It makes a candidate with faults on purpose, leaves it at a small weight until it is found or
//! taken away, and passes only if everything that should have noticed it did.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dbird_core::{
    Cloud, Command, Observed, Reason, Release, ReleaseId, Spec,
    spec::{Snapshot, Strategy, WeightStep, Writer},
};
use dbird_driver::{Ended, Order};

use super::{
    Context, Done,
    backup::{key, nothing_serves},
};
use crate::{
    drill::{Facts, Faults, Load, Seen, Stored, Tally, Watch, parts, passed, with_variables, write},
    failure::{Failure, FailureKind, Result},
    git,
    interrupt::Interrupts,
    output::{
        Event,
        drill::{DRILL_FORMAT, DrillView, InjectedView, LimitsView, LoadView},
        time,
    },
    session::{self, Session},
    teller::Teller,
};

/// Without anything else said, the share of requests that fail.
const ERROR_RATE: f64 = 0.2;
/// Looks that a drill lasts at least, and within how many it has to be undone, where that is not said.
const LOOKS: (u64, u64) = (5, 3);
/// The same in milliseconds, where looks are quick.
const LEAST_MS: (u64, u64) = (60_000, 30_000);
/// A drill is a matter of minutes.
const FOR_MAX: Duration = Duration::from_secs(3600);
/// The load goes on so long after everything is back, so that what comes late is seen.
const AFTER: Duration = Duration::from_millis(500);
/// It stops by itself after this beside the drill's own time, whatever hangs.
const LOAD_MORE: Duration = Duration::from_secs(120);
/// The service may take so long to say what it stored.
const STORED_MS: u64 = 120_000;

/// Make a candidate fail on purpose, and see whether that is noticed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A candidate with CHAOS_ENABLED=true and what else is asked for gets a small share of the traffic, and requests of the drill's
own (GET /leaderboard, POST /score) come to the front door. The drill passes if the analysis found the fault and undid the
release in time, users saw few errors, the previous release serves as before, and no acknowledged score is missing. The candidate
never gets more traffic. Its report goes to .dbird/drills. Only where [chaos] drills = \"allowed\".

Exit codes: 0 passed, 1 not passed, 2 refused, 130 interrupted, and undone.

Examples:
    dbird drill                                       20 % errors in 10 % of the traffic
    dbird drill --latency-ms-p99 2000
    dbird drill -e staging --error-rate 0.05 --for 10m --report drill.md")]
pub(crate) struct Args {
    /// The share of the candidate's requests that fail, 0 to 1; without anything said, 0.2
    #[arg(long, value_name = "SHARE", value_parser = share)]
    error_rate: Option<f64>,
    /// The candidate's requests take so much longer
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    latency_ms_p99: Option<u64>,
    /// The candidate's share of the traffic in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=50))]
    weight: u8,
    /// Requests of the drill's own, a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Only the requests that users make anyway
    #[arg(long, conflicts_with = "rate")]
    no_load: bool,
    /// Take the candidate away after so long, found or not; without it, 60s, or five looks where those take longer
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    lasts: Option<Duration>,
    /// From the candidate's first traffic to its last; without it, 30s, or three looks where those take longer
    #[arg(long, value_name = "TIME", value_parser = span)]
    undone_within: Option<Duration>,
    /// The share of users' requests that may fail, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.03, value_parser = share)]
    errors_max: f64,
    /// Write the report to this file, too, in Markdown
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    report: Option<PathBuf>,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share from 0 to 1, like 0.2".to_owned())
}

fn span(text: &str) -> std::result::Result<Duration, String> {
    let span = humantime::parse_duration(text).ok().filter(|span| !span.is_zero() && *span <= FOR_MAX);
    span.ok_or_else(|| "a time like 30s or 5m, an hour at most".to_owned())
}

impl Args {
    fn faults(&self) -> Faults {
        let latency_ms = self.latency_ms_p99.unwrap_or(0);
        let unsaid = if latency_ms == 0 { ERROR_RATE } else { 0.0 };
        Faults { error_rate: self.error_rate.unwrap_or(unsaid), latency_ms }
    }

    fn limits(&self, spec: &Spec) -> LimitsView {
        let interval_ms = spec.analysis.interval_ms;
        let ms = |span: Option<Duration>, looks: u64, least_ms: u64| match span {
            Some(span) => u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            None => interval_ms.saturating_mul(looks).max(least_ms),
        };
        LimitsView {
            undone_within_ms: ms(self.undone_within, LOOKS.1, LEAST_MS.1),
            errors_max: self.errors_max,
            for_ms: ms(self.lasts, LOOKS.0, LEAST_MS.0),
        }
    }
}

/// Makes the drill.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let mut spec = cx.spec()?;
    check(&spec)?;
    let limits = args.limits(&spec);
    prepare(&mut spec, args, limits.for_ms);
    cx.work(async |interrupts| {
        let prefix = format!("drill-{:x}-{:x}-", time::now_unix_ms(), std::process::id());
        let watch = Arc::new(Watch::new(prefix.clone()));
        let session = Session::open(cx, &spec, "drill", Some(interrupts))?;
        let teller = Teller::new(cx.out.clone(), session.typing.clone());
        session.recover().await?;
        let listener = watch.clone();
        let session = session.heard_by(move |told| {
            if listener.hear(told) {
                teller.tell(told);
            }
        });
        let done = Drill { args, cx, session: &session, watch: &watch, prefix, limits }.carry_out(interrupts).await;
        session.with_live(done).await
    })
}

/// Whether there may be a drill here at all.
fn check(spec: &Spec) -> Result<()> {
    let Spec { environment, .. } = spec;
    if !spec.drills_allowed {
        return Err(Failure::usage(format!(
            "drills are refused in {environment}: faults on purpose would reach its users"
        ))
        .hint("[chaos] drills = \"allowed\" in its file allows them"));
    }
    if spec.cloud != Cloud::Local {
        return Err(Failure::usage(format!("this version has drills on the local cloud only, not on {}", spec.cloud)));
    }
    if spec.analysis.count == 0 {
        return Err(Failure::usage(format!(
            "nothing would notice a fault in {environment}: its releases are not judged"
        ))
        .hint("[analysis] count says how many looks there are"));
    }
    if spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Exclusive) {
        return Err(Failure::usage(format!(
            "a drill needs two releases side by side, and only one process may open the store of {environment}"
        )));
    }
    Ok(())
}

/// The candidate gets its share, and nothing that would get it more: a gate that nobody passes, until the drill's time is over.
fn prepare(spec: &mut Spec, args: &Args, for_ms: u64) {
    let weight = args.weight;
    if !args.no_load {
        // The drill makes requests enough, at the front door, where they count as a user's.
        spec.analysis.probe = None;
    }
    let rollout = &mut spec.rollout;
    rollout.strategy = Strategy::Canary {
        steps: vec![
            WeightStep { weight, pause_ms: 0, gate: true },
            WeightStep { weight: 100, pause_ms: 0, gate: false },
        ],
    };
    rollout.pause_limit_ms = for_ms;
    rollout.bake_ms = 0;
    rollout.hooks.clear();
    // The data stays as it is, and a copy of it would only take an older one's place.
    if let Some(storage) = &mut spec.storage {
        storage.snapshot = Snapshot::None;
    }
}

struct Drill<'a> {
    args: &'a Args,
    cx: &'a Context,
    session: &'a Session,
    watch: &'a Watch,
    prefix: String,
    limits: LimitsView,
}

impl Drill<'_> {
    async fn carry_out(self, interrupts: &Interrupts) -> Result<Done> {
        let Drill { args, cx, session, watch, .. } = &self;
        let started_unix_ms = time::now_unix_ms();
        let observed = session.observe().await?;
        if observed.current().is_none() {
            return Err(Failure { kind: FailureKind::Usage, ..nothing_serves(&session.spec) });
        }
        let serving = session.serving(&observed).await?;
        let order = self.order(&serving).await?;
        let load = self.load(&observed)?;
        let begun_ms = watch.elapsed_ms();
        cx.out.note(format!(
            "A drill in {}: {}, for {} at most.",
            session.spec.environment,
            crate::output::drill::injected(&self.injected()),
            time::length(self.limits.for_ms)
        ));
        let ended = session.operator.carry_out(order).await;
        if ended.is_ok() && load.is_some() {
            tokio::select! { () = tokio::time::sleep(AFTER) => {} () = interrupts.first() => {} }
        }
        let tally = match load {
            Some(load) => load.stop().await,
            None => Tally::default(),
        };
        let ended = ended?;
        let stored = if ended.interrupted {
            Stored::NotAsked("interrupted".to_owned())
        } else {
            self.stored(&serving, &tally).await
        };
        let previous = self.previous(serving.id).await;
        let seen = watch.seen();
        let load = (!args.no_load).then(|| load_view(args.rate, &tally, &seen, begun_ms));
        let facts = Facts {
            faults: args.faults(),
            limits: &self.limits,
            seen: &seen,
            outcome: ended.release.outcome,
            load: load.as_ref(),
            tally: &tally,
            previous,
            stored,
        };
        let parts = parts(&facts);
        let mut view = DrillView {
            format: DRILL_FORMAT,
            passed: passed(&parts) && !ended.interrupted,
            service: session.target.service.clone(),
            environment: session.target.environment.clone(),
            actor: ended.release.actor.clone(),
            started_unix_ms,
            took_ms: watch.elapsed_ms(),
            release: ended.release.id.to_string(),
            previous: serving.id.to_string(),
            injected: self.injected(),
            limits: self.limits.clone(),
            why: ended.release.why.clone(),
            parts,
            load,
            door: seen.door,
            timeline: seen.moments,
            files: Vec::new(),
        };
        write(&cx.project()?.folder, args.report.as_deref(), &mut view)?;
        self.end(view, &ended).await
    }

    /// The serving release's own documents, with the faults.
    async fn order(&self, serving: &Release) -> Result<Order> {
        let documents = with_variables(&serving.documents, &self.args.faults().variables()).ok_or_else(|| {
            Failure::usage(format!("{} takes no variables, so there is no way to tell it to fail", serving.id))
        })?;
        let planned = self.session.plan(documents, serving.image.clone(), Reason::Drill, &[]).await?;
        if let [first, rest @ ..] = planned.obstacles.as_slice() {
            let mut failure = Failure::failed(format!("something stands in the way: {first}"));
            failure.causes = rest.to_vec();
            return Err(failure.hint("put it right and run the same command again"));
        }
        if planned.plan.course.as_ref().is_none_or(|c| c.swap || c.analysis.is_none()) {
            return Err(Failure::usage("a drill needs two releases side by side, and something that judges them")
                .hint("`dbird plan` shows how a release takes over here"));
        }
        let git_revision = git::revision(&self.cx.project()?.folder);
        Ok(Order { plan: planned.plan, documents: planned.documents, git_revision, no_wait: false })
    }

    fn injected(&self) -> InjectedView {
        let faults = self.args.faults();
        InjectedView {
            weight: self.args.weight,
            error_rate: faults.error_rate,
            latency_ms: faults.latency_ms,
            variables: faults.variables(),
        }
    }

    fn load(&self, observed: &Observed) -> Result<Option<Load>> {
        if self.args.no_load {
            return Ok(None);
        }
        let url = observed.endpoints.get("service").cloned().unwrap_or_default();
        let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).filter(|a| !a.is_empty());
        let authority = authority.ok_or_else(|| {
            Failure::usage(format!("the drill's own requests can't reach the front door at `{url}`"))
                .hint("--no-load makes none")
        })?;
        let at_most = Duration::from_millis(self.limits.for_ms.saturating_mul(2)).saturating_add(LOAD_MORE);
        Ok(Some(Load::start(authority.to_owned(), self.prefix.clone(), self.args.rate, at_most)))
    }

    /// Asks the service itself which of the drill's scores it has.
    async fn stored(&self, serving: &Release, tally: &Tally) -> Stored {
        let spec = &self.session.spec;
        if tally.acknowledged.is_empty() {
            return Stored::NotAsked("no score was acknowledged".to_owned());
        }
        if spec.storage.is_none() {
            return Stored::NotAsked("the service keeps no data".to_owned());
        }
        if spec.drill_stored.is_empty() {
            return Stored::NotAsked("[chaos] stored names no command that says what is stored".to_owned());
        }
        let argv = spec.drill_stored.iter().map(|argument| argument.replace("{prefix}", &self.prefix)).collect();
        let command = Command { release: serving.id, argv, timeout_ms: Some(STORED_MS), key: key("drill") };
        match self.session.operator.run_task(command, None).await {
            Ok(end) if end.exit_code == 0 => Stored::Told,
            Ok(end) => {
                let said = self.watch.seen().complaints.join(" ");
                Stored::NoAnswer(format!("what is stored can't be found out: exit code {}: {said}", end.exit_code))
            }
            Err(e) => Stored::NoAnswer(format!("what is stored can't be found out: {e}")),
        }
    }

    /// Whether the release of before serves as it did.
    async fn previous(&self, id: ReleaseId) -> std::result::Result<String, String> {
        let observed = self.session.provider.observe(&self.session.target).await.map_err(|e| e.to_string())?;
        match observed.current() {
            Some(current) if current.id == id && current.weight == 100 && current.ready => {
                Ok(format!("{id} serves at 100 %, and is ready"))
            }
            Some(current) => {
                let ready = if current.ready { "ready" } else { "not ready" };
                Err(format!("{} serves at {} % and is {ready}; it should be {id}", current.id, current.weight))
            }
            None => Err(format!("nothing serves; it should be {id}")),
        }
    }

    async fn end(&self, view: DrillView, ended: &Ended) -> Result<Done> {
        let passed = view.passed;
        self.cx.out.event(Event::Drill(Box::new(view)));
        let observed = self.session.observe().await?;
        let live = session::live(&observed);
        if ended.interrupted {
            let text = format!("the drill was interrupted; {} was undone", ended.release.id);
            return Err(Failure::new(FailureKind::Interrupted, text).live(live));
        }
        let (exit_code, outcome) = if passed { (0, "done") } else { (1, "failed") };
        Ok(Done { exit_code, outcome, live: Some(live) })
    }
}

/// The load in numbers. Its clock began `begun_ms` after the drill's.
fn load_view(rate: u32, tally: &Tally, seen: &Seen, begun_ms: u64) -> LoadView {
    let shared: Vec<_> = match (seen.traffic_ms, seen.back_ms) {
        (Some(from_ms), Some(to_ms)) => {
            let within = from_ms.saturating_sub(begun_ms)..=to_ms.saturating_sub(begun_ms);
            tally.requests.iter().filter(|met| within.contains(&u64::from(met.began_ms))).collect()
        }
        _ => Vec::new(),
    };
    let failed = |status: u16| status == 0 || status >= 500;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut took_ms: Vec<u32> = shared.iter().filter(|met| met.status != 0).map(|met| met.took_ms).collect();
    took_ms.sort_unstable();
    let p99 = (!took_ms.is_empty()).then(|| f64::from(took_ms[(took_ms.len() * 99 / 100).min(took_ms.len() - 1)]));
    LoadView {
        rate,
        requests: count(tally.requests.len()),
        failed: count(tally.requests.iter().filter(|met| failed(met.status)).count()),
        refused: count(tally.requests.iter().filter(|met| (400..500).contains(&met.status)).count()),
        requests_shared: count(shared.len()),
        failed_shared: count(shared.iter().filter(|met| failed(met.status)).count()),
        left_out: tally.left_out,
        p99_shared_ms: p99,
        acknowledged: count(tally.acknowledged.len()),
    }
}
