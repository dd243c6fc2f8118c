//! `dbird deploy`: builds, plans, and carries the plan out.

use std::path::{Path, PathBuf};

use dbird_core::{Action, Cloud, Plan, Reason, StepKind, planning};

use super::{Context, Done, prepare::ImageArgs};
use crate::{
    failure::{Failure, FailureKind, Result},
    image,
    interrupt::Interrupts,
    output::Event,
    session::{self, Planned, Session},
};

/// Build and deploy, without losing a request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What serves now keeps serving until the new release is ready; if it never is, nothing changes for users and the exit code
is 3. Interrupted or killed at any point, the next command finishes or undoes what was begun.

Examples:
    dbird deploy
    dbird deploy --set env.GREETING=ho
    dbird deploy -e prod --from dev              the very image that runs in dev
    dbird deploy --plan plan.json                exactly what `dbird plan --out` showed
    dbird deploy --no-wait                       as far as the next gate; `dbird promote` goes on from there
    dbird deploy --image oci:build@sha256:...")]
pub(crate) struct Args {
    /// Carry out this plan, exactly, or refuse if anything moved since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "from"], value_hint = clap::ValueHint::FilePath)]
    plan: Option<PathBuf>,
    #[command(flatten)]
    image: ImageArgs,
    /// At a gate, or where the cloud goes on alone, leave with exit code 6 instead of waiting; refused where no gate comes
    /// and dbird itself moves the traffic
    #[arg(long)]
    no_wait: bool,
}

/// Deploys.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "deploy", Some(interrupts))?;
        let done = deploy(args, cx, &session, interrupts).await;
        session.with_live(done).await
    })
}

async fn deploy(args: &Args, cx: &Context, session: &Session, interrupts: &Interrupts) -> Result<Done> {
    if args.no_wait {
        check_no_wait(session)?;
    }
    session.recover().await?;
    let mut planned = match &args.plan {
        Some(path) => saved(path, cx, session).await?,
        None => {
            let image = args.image.make(cx, session, interrupts).await?;
            let documents = cx.project()?.render(&session.spec, Some(&image))?;
            session.plan(documents, Some(image), Reason::Deploy, &[]).await?
        }
    };
    planned.no_wait = args.no_wait;
    let done = finish(cx, session, planned, interrupts).await?;
    image::prune(cx.project()?, &cx.out).await;
    Ok(done)
}

/// Without waiting, a rollout goes as far as its first gate, or as the cloud takes it by itself.
fn check_no_wait(session: &Session) -> Result<()> {
    let course = session.course()?;
    if course.is_cloud_driven() || course.weights.iter().any(|w| w.gate) {
        return Ok(());
    }
    let strategy = &course.strategy;
    let message =
        format!("--no-wait can't be used here: dbird itself moves the traffic of {strategy}, and no gate comes");
    let hint =
        "leave it out, or give the rollout a gate: [rollout] steps = [{ weight = 10, gate = true }, { weight = 100 }]";
    Err(Failure::usage(message).hint(hint))
}

/// Shows a plan, asks where it could lose data, and carries it out.
pub(crate) async fn finish(cx: &Context, session: &Session, planned: Planned, interrupts: &Interrupts) -> Result<Done> {
    if planned.plan.is_empty() {
        let live = session::live(&planned.observed);
        let serving = live.release.clone().unwrap_or_else(|| "nothing".to_owned());
        let place = live.url.as_ref().map(|u| format!(" at {u}")).unwrap_or_default();
        if let Some(current) = planned.observed.current().filter(|c| !c.ready) {
            let why = current.tasks.iter().map(|t| t.detail.as_str()).find(|d| !d.is_empty()).unwrap_or("not ready");
            cx.out.warning(format!(
                "{} is not well: {why}; `dbird logs` says more, `dbird restart` starts new tasks",
                current.id
            ));
        }
        cx.out.event(Event::Unchanged { text: format!("No changes: {serving} serves{place}.") });
        return Ok(Done { exit_code: 0, outcome: "unchanged", live: Some(live) });
    }
    cx.out.event(Event::Plan { plan: Box::new(planned.plan.clone()) });
    confirm(cx, &planned.plan, interrupts).await?;
    session.carry_out(planned).await
}

/// Only what can't be taken back is asked about.
async fn confirm(cx: &Context, plan: &Plan, interrupts: &Interrupts) -> Result<()> {
    let hurts = |s: &dbird_core::Step| s.kind == StepKind::Data && matches!(s.action, Action::Delete | Action::Replace);
    let risky = plan.cloud != Cloud::Local || plan.steps.iter().any(hurts);
    if !risky || cx.global.yes {
        return Ok(());
    }
    if !cx.out.is_interactive() {
        return Err(
            Failure::usage("this plan needs a confirmation, and there is no terminal to ask on").hint("-y confirms it")
        );
    }
    match super::ask(cx, interrupts, "Carry this out? [y/N]").await?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::failed("not confirmed; nothing was changed")),
    }
}

/// A plan from a file, if it still stands.
async fn saved(path: &Path, cx: &Context, session: &Session) -> Result<Planned> {
    let bytes = std::fs::read(path)
        .map_err(|e| Failure { kind: FailureKind::Usage, ..Failure::io("read the plan", path, &e) })?;
    let saved = Plan::read(&bytes).map_err(|e| {
        Failure::usage(format!("{} can't be used as a plan", path.display()))
            .because(&e)
            .hint("`dbird plan --out FILE` writes one")
    })?;
    let (target, cloud) = (&session.target, session.spec.cloud);
    if (&saved.service, &saved.environment, saved.cloud) != (&target.service, &target.environment, cloud) {
        let text = format!("the plan is for {} in {} on {}", saved.service, saved.environment, saved.cloud);
        return Err(
            Failure::usage(text).hint(format!("name that environment: -e {} -c {}", saved.environment, saved.cloud))
        );
    }
    let documents = cx.project()?.render(&session.spec, saved.image.as_ref())?;
    let fresh = session.plan(documents, saved.image.clone(), saved.reason.clone(), &[]).await?;
    planning::check_saved(&saved, &fresh.plan).map_err(|moved| {
        let mut failure = Failure::failed("the plan does not stand any more");
        failure.causes = moved.what;
        failure.hint("nothing was changed; make a new plan with `dbird plan --out`, with the same --set")
    })?;
    Ok(Planned { plan: saved, ..fresh })
}
