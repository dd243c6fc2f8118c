//! `dbird doctor`: what a deploy needs, checked one by one, each with its remedy. It changes nothing.

mod aws;
mod local;

use std::path::{Path, PathBuf};

use dbird_core::{Spec, spec::Artefact};

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{
        Event,
        events::{CheckState, Live},
        time,
    },
    session::Session,
};

/// Less free space than this is not enough.
const FREE_BYTES_MIN: u64 = 500_000_000;

/// Check what a deploy needs, with a remedy for what is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed or started. The exit code is 1 if anything is NG.

Examples:
    dbird doctor
    dbird doctor -e prod -c aws                     credentials, quotas, certificate, roles, alarms, ...
    dbird doctor -e prod -c aws --print-policy      what dbird has to be allowed there, exactly
    dbird doctor -o json | jq 'select(.state == \"NG\")'")]
pub(crate) struct Args {
    /// Instead, print the IAM policy that dbird needs for this environment (AWS)
    #[arg(long)]
    print_policy: bool,
    /// With --print-policy: write it into this folder, in files that are each short enough for IAM
    #[arg(long, value_name = "DIR", requires = "print_policy", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// What one check found.
struct Found {
    state: CheckState,
    detail: String,
    remedy: Option<String>,
}

fn ok(detail: impl Into<String>) -> Found {
    Found { state: CheckState::Ok, detail: detail.into(), remedy: None }
}

fn skip(detail: impl Into<String>) -> Found {
    Found { state: CheckState::Skip, detail: detail.into(), remedy: None }
}

fn ng(detail: impl Into<String>, remedy: impl Into<String>) -> Found {
    Found { state: CheckState::Ng, detail: detail.into(), remedy: Some(remedy.into()) }
}

/// Checks everything, and counts what is not good.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    if args.print_policy {
        return aws::policy(args.out.as_deref(), cx);
    }
    let project = cx.project()?.folder.clone();
    let mut bad = 0;
    let mut say = |name: &str, found: Found| {
        let Found { state, detail, remedy } = found;
        bad += usize::from(state == CheckState::Ng);
        cx.out.event(Event::Check { name: name.to_owned(), state, detail, remedy });
    };
    say("folder", folder(&project));
    say("disk space", disk_space(&project));
    match cx.spec() {
        Err(failure) => say("environment", ng(failure.message, "`dbird validate` shows each fault with its place")),
        Ok(spec) => {
            say("environment", ok(format!("{} for {} is valid", spec.environment, spec.cloud)));
            say("build", build(&project, &spec));
            cx.look(async |_| {
                let session = Session::open(cx, &spec, "doctor", None)?;
                match session.cloud.aws() {
                    Some(provider) => aws::checks(provider, &session, &mut say).await,
                    None => local::checks(&project, &session, &mut say).await,
                }
                say("state", state(&session).await);
                Ok(())
            })?;
        }
    }
    match bad {
        0 => Ok(Done { live: None::<Live>, ..Done::success() }),
        1 => Err(Failure::failed("1 check is not good")),
        n => Err(Failure::failed(format!("{n} checks are not good"))),
    }
}

fn folder(project: &Path) -> Found {
    let tried = crate::project::state_folder(project).and_then(|f| tempfile::NamedTempFile::new_in(f).map(drop));
    match tried {
        Ok(()) => ok(format!("{} can be written", project.join(".dbird").display())),
        Err(e) => ng(format!("{} can't be written: {e}", project.join(".dbird").display()), "make it writable for you"),
    }
}

fn disk_space(project: &Path) -> Found {
    match rustix::fs::statvfs(project) {
        Err(e) => skip(format!("could not be found out: {e}")),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} free", time::size(free));
            let remedy = format!("free at least {} on the disk of {}", time::size(FREE_BYTES_MIN), project.display());
            if free < FREE_BYTES_MIN { ng(text, remedy) } else { ok(text) }
        }
    }
}

fn build(project: &Path, spec: &Spec) -> Found {
    let Some(build) = &spec.service.build else {
        return skip("there is no [service.build]; images are named with --image or --from");
    };
    let (key, path) = match &build.artefact {
        Artefact::Binary { path } => ("binary", path),
        Artefact::Folder { path, .. } => ("folder", path),
    };
    match build.command.first() {
        None if project.join(path).exists() => ok(format!("{path} is there")),
        None => {
            ng(format!("{path} is not there"), format!("make it, correct `{key}`, or give the `command` that makes it"))
        }
        Some(program) => match which(project, program) {
            Some(found) => ok(format!("{program} is {}", found.display())),
            None => ng(format!("{program} is not on PATH"), "install it, or correct `command` in [service.build]"),
        },
    }
}

/// Where a program is found, as the shell would look for it from the project's folder.
fn which(project: &Path, program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = project.join(program);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|f| f.join(program)).find(|p| p.is_file())
}

async fn state(session: &Session) -> Found {
    let url = &session.spec.state_url;
    match session.operator.unfinished().await {
        Err(e) => {
            let remedy = "make it readable for you; it holds the history and the lease";
            ng(format!("{url} can't be read: {e}"), e.hint().unwrap_or_else(|| remedy.to_owned()))
        }
        Ok(None) => ok(format!("{url}, nothing is left over")),
        Ok(Some(u)) if u.holder.is_some() => ok(format!("{url}, {} is being deployed right now", u.release)),
        Ok(Some(u)) if u.parked.is_some() => {
            ok(format!("{url}, {} waits at a gate: {}", u.release, session.typing.hint()))
        }
        Ok(Some(u)) if u.beside => {
            ok(format!("{url}, {} goes on in the cloud: `{}` follows it", u.release, session.typing.command("wait")))
        }
        Ok(Some(u)) => ng(
            format!("{} was not finished", u.release),
            "the next `dbird deploy` or `dbird rollback` finishes or undoes it",
        ),
    }
}
