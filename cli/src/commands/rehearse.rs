//! `dbird rehearse`: a deploy to a simulated AWS account on this machine, with faults if they are asked for. What is deployed
//! and how is exactly what a deploy does; the account is gone afterwards, and AWS itself is never called.

use std::path::PathBuf;

use dbird_core::{
    Cloud, Reason, Spec,
    spec::{AnalysisSource, Strategy},
};
use dbird_simulator::FAULTS;

use super::{Context, Done, deploy, prepare::ImageArgs};
use crate::{
    clouds::Account,
    failure::{Failure, FailureKind, Result},
    interrupt::Interrupts,
    output::Event,
    rehearsal::Rehearsal,
    session::Session,
};

/// What the release before the rehearsed one has, and that one doesn't: so there is something to release.
const BEFORE: &str = "DBIRD_REHEARSED_BEFORE";
/// Whoever probes the candidate is on this machine.
const HERE: &str = "127.0.0.0/8";

/// Deploy to a simulated AWS on this machine, with faults if you like
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An empty account is simulated, a first release is made in it, and then the one that is rehearsed, both as `dbird deploy`
does it: stack, images, tasks (as processes of this machine), load balancer, alarms. Nothing of AWS is called, no
credentials are needed, and afterwards nothing is left but the image. The exit code is that of the second deploy.

What a simulated account can't have is left out, and said: addresses of hooks, gates (nobody sits there), and what other
accounts or servers own.

Examples:
    dbird rehearse -e prod
    dbird rehearse -e prod --fault task-dies-after-ready        exit code 3: undone
    dbird rehearse --fault throttle --fault lost-reply:CreateDeployment
    dbird rehearse --keep                   look around: other commands, awscli, a browser
    dbird rehearse --list-faults")]
pub(crate) struct Args {
    /// How many times as fast as AWS's time passes there
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=500))]
    speed: u32,
    /// Something that goes wrong during the second deploy; may be given several times
    #[arg(long = "fault", value_name = "NAME", value_parser = fault)]
    faults: Vec<String>,
    /// Leave it running until Ctrl-C, and print what other commands need to reach it
    #[arg(long)]
    keep: bool,
    /// List the faults
    #[arg(long, exclusive = true)]
    list_faults: bool,
    /// Write every call and its answer into this file, a JSON object a line
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    record: Option<PathBuf>,
    #[command(flatten)]
    image: ImageArgs,
}

fn fault(text: &str) -> std::result::Result<String, String> {
    let fits = |(name, _): &&(&str, &str)| match name.split_once(':') {
        Some((name, _)) => text.split_once(':').is_some_and(|(n, value)| n == name && !value.is_empty()),
        None => *name == text,
    };
    match FAULTS.iter().find(fits) {
        Some(_) => Ok(text.to_owned()),
        None => Err("there is no such fault; `dbird rehearse --list-faults` lists them".to_owned()),
    }
}

/// Rehearses.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    if args.list_faults {
        let width = FAULTS.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<_> = FAULTS.iter().map(|(name, what)| format!("{name:width$}  {what}")).collect();
        cx.out.event(Event::Text { topic: "faults".to_owned(), text: lines.join("\n") });
        return Ok(Done::success());
    }
    let project = cx.project()?;
    let name = project.environment(cx.wanted())?;
    let mut spec = project.spec(&name, Cloud::Aws, &cx.global.set, &cx.out)?;
    let folder =
        Rehearsal::begin().map_err(|e| Failure::failed("no folder for the rehearsal could be made").because(&e))?;
    cx.work(async |interrupts| {
        let account = Account::begin(&spec, &folder.path().join("account"), args.speed, args.record.as_deref()).await?;
        let cx = cx.rehearsing(account.simulated());
        cx.out.note(format!(
            "A rehearsal: AWS is simulated on this machine, its time passes {} times as fast, and nothing is called or paid outside.",
            args.speed
        ));
        account.make_secrets(&mut spec).await?;
        for left_out in prepare(&mut spec) {
            cx.out.note(format!("Left out: {left_out}."));
        }
        spec.state_url = format!("file:{}", folder.path().join("state").display());
        let done = rehearse(args, &cx, &spec, &account, interrupts).await;
        if args.keep && !matches!(&done, Err(f) if f.kind == FailureKind::Interrupted) {
            keep(&cx, &spec, &done, interrupts).await;
        }
        drop(account);
        done
    })
}

async fn rehearse(args: &Args, cx: &Context, spec: &Spec, account: &Account, interrupts: &Interrupts) -> Result<Done> {
    cx.out.note("The first release, which the rehearsed one replaces:");
    let mut before = spec.clone();
    before.env.insert(BEFORE.to_owned(), "true".to_owned());
    let session = Session::open(cx, &before, "rehearse", Some(interrupts))?;
    let image = args.image.make(cx, &session, interrupts).await?;
    let deploy = async |session: &Session| {
        let documents = cx.project()?.render(&session.spec, Some(&image))?;
        let planned = session.plan(documents, Some(image.clone()), Reason::Deploy, &[]).await?;
        deploy::finish(cx, session, planned, interrupts).await
    };
    let first = session.with_live(deploy(&session).await).await;
    first.map_err(|failure| Failure {
        message: format!("the first release failed, so nothing was rehearsed: {}", failure.message),
        ..failure
    })?;
    match args.faults.as_slice() {
        [] => cx.out.note("The release that is rehearsed:"),
        faults => cx.out.note(format!("The release that is rehearsed, with {}:", faults.join(", "))),
    }
    account.set_faults(&args.faults);
    let session = Session::open(cx, spec, "rehearse", Some(interrupts))?;
    let done = deploy(&session).await;
    // What goes wrong on purpose should not keep anybody from seeing how it ended.
    account.set_faults(&[]);
    session.with_live(done).await
}

/// Takes out what an empty account on this machine can't have, or what would reach somebody; each in a few words.
fn prepare(spec: &mut Spec) -> Vec<String> {
    let mut left_out = Vec::new();
    let hooks = spec.rollout.hooks.len();
    spec.rollout.hooks.retain(|hook| hook.url.is_none());
    if spec.rollout.hooks.len() < hooks {
        left_out.push("hooks that are addresses: nobody is told of a rehearsal".to_owned());
    }
    if let Strategy::Canary { steps } = &mut spec.rollout.strategy
        && steps.iter().any(|step| step.gate)
    {
        steps.iter_mut().for_each(|step| step.gate = false);
        left_out.push("gates: nobody is there to say `promote`".to_owned());
    }
    if spec.analysis.source == AnalysisSource::Prometheus {
        spec.analysis.source = AnalysisSource::Auto;
        left_out.push("the Prometheus server: simulated CloudWatch is asked instead".to_owned());
    }
    if spec.aws.repository.take().is_some() {
        left_out.push("the image repository: the account has one of its own".to_owned());
    }
    if spec.aws.execution_role.take().is_some() {
        left_out.push("the execution role: the account has one of its own".to_owned());
    }
    if spec.aws.access_logs.take().is_some() {
        left_out.push("access logs: their bucket is not there".to_owned());
    }
    if spec.analysis.count > 0 && spec.analysis.probe.is_none() {
        // Nobody plays there, and without requests nothing can be judged.
        spec.analysis.probe = Some(spec.health.ready.clone());
    }
    if !spec.aws.test_cidrs.iter().any(|cidr| cidr == HERE) {
        spec.aws.test_cidrs.push(HERE.to_owned());
    }
    left_out
}

/// Leaves it running, and says how to reach it.
async fn keep(cx: &Context, spec: &Spec, done: &Result<Done>, interrupts: &Interrupts) {
    let simulated = cx.simulated().map(|s| s.variables().to_vec()).unwrap_or_default();
    let mut lines: Vec<_> = simulated.iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
    lines.push("export DBIRD_CLOUD='aws'".to_owned());
    lines.push(format!("# dbird status -e {} --set state.url={}", spec.environment, spec.state_url));
    if let Err(failure) = done {
        cx.out.warning(format!("{}; it is left as it is", failure.message));
    }
    cx.out.note("The account stays until Ctrl-C. In another terminal:");
    cx.out.event(Event::Text { topic: "environment".to_owned(), text: lines.join("\n") });
    interrupts.first().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_names() {
        for (text, known) in [
            ("throttle", true),
            ("throttle:CreateService", true),
            ("lost-reply", false),
            ("lost-reply:", false),
            ("lost-reply:CreateDeployment", true),
            ("no-capacity:1", false),
            ("nonsense", false),
        ] {
            assert_eq!(fault(text).is_ok(), known, "{text}");
        }
    }
}
