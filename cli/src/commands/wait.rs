//! `dbird wait`: until no rollout is under way and what serves is ready.

use std::time::{Duration, Instant};

use dbird_core::{Outcome, Release};
use dbird_driver::Error;

use super::{Context, Done};
use crate::{
    failure::{Failure, FailureKind, Result},
    interrupt::Interrupts,
    output::{Event, events::ReleaseView},
    session::{self, Session},
};

/// How often it is looked whether everything is ready.
const LOOK: Duration = Duration::from_millis(200);

/// Wait until a rollout has ended and what serves is ready
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is that of the deploy that was waited for: 0, 1 or 3; or 6 where it was left at a gate. A rollout that
its cloud drives and that nobody follows any more is followed; Ctrl-C leaves it to the cloud again.

Examples:
    dbird wait
    dbird wait --timeout 60")]
pub(crate) struct Args {
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
}

/// Waits.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    // Whoever follows a rollout that its cloud drives holds the lease, and has to give it back.
    cx.attend(async |interrupts| {
        let session = Session::open(cx, &spec, "wait", Some(interrupts))?;
        let limit = Duration::from_secs(args.timeout);
        let done = wait(cx, &session, limit, interrupts).await;
        session.with_live(done).await
    })
}

async fn wait(cx: &Context, session: &Session, limit: Duration, interrupts: &Interrupts) -> Result<Done> {
    let late = || {
        let text = format!("not ready after {} s", limit.as_secs());
        Failure { retry: true, ..Failure::failed(text).hint("`dbird status` shows what is missing") }
    };
    let started = Instant::now();
    let timeout_ms = u64::try_from(limit.as_millis()).ok();
    let waited = match session.operator.wait(timeout_ms).await {
        Err(Error::Parked { release, weight }) => return session.parked(release, weight).await,
        Err(Error::Left { release }) => return Ok(session.left(release).await),
        Err(Error::Late { .. }) => return Err(late()),
        other => other?,
    };
    let ready = ready(cx, session, waited);
    tokio::select! {
        done = tokio::time::timeout(limit.saturating_sub(started.elapsed()), ready) => done.unwrap_or_else(|_| Err(late())),
        () = interrupts.first() => Err(Failure::new(FailureKind::Interrupted, "interrupted")),
    }
}

/// Says how the release ended that was waited for, and returns once what serves is ready.
async fn ready(cx: &Context, session: &Session, waited: Option<Release>) -> Result<Done> {
    if let Some(release) = waited {
        let view = ReleaseView::of(&release, release.outcome == Outcome::Succeeded);
        match release.outcome {
            Outcome::Succeeded | Outcome::Destroyed => {
                let endpoints = session.observe().await?.endpoints;
                cx.out.event(Event::Released { release: view, endpoints });
            }
            Outcome::RolledBack => {
                return Err(Failure::new(
                    FailureKind::RolledBack,
                    format!("{} was rolled back: {}", view.id, view.why),
                ));
            }
            Outcome::Removed | Outcome::Failed => {
                return Err(Failure::failed(format!("{} failed: {}", view.id, view.why)));
            }
        }
    }
    let started = Instant::now();
    loop {
        let observed = session.observe().await?;
        let Some(current) = observed.current() else {
            return Err(Failure::failed(format!("nothing is deployed in {}", session.target.environment)));
        };
        if current.ready {
            return Ok(Done { live: Some(session::live(&observed)), ..Done::success() });
        }
        cx.out.event(Event::Waiting {
            step: "service".to_owned(),
            waiting_for: format!("readiness of {}", current.id),
            weights: Default::default(),
            elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        tokio::time::sleep(LOOK).await;
    }
}
