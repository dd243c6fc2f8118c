//! `dbird restore`: the data of a copy in the place of what is there, by the service's own command. It decides which copy is
//! meant and whether it still stands, asks before, and lets nothing else change the environment meanwhile.

use dbird_core::{Command, Release, ReleaseId, Spec, snapshot};

use super::{
    Context, Done,
    backup::{self, ended, key, new_place, nothing_serves, storage},
};
use crate::{
    failure::{Failure, Result},
    interrupt::Interrupts,
    output::{Event, time},
    session::Session,
};

/// Releases that are looked through for copies.
const LOOK_BACK: usize = 2_000;
/// Copies that are named when another was asked for.
const NAMED_MAX: usize = 5;

/// Bring back a copy of the service's data, while it runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What was stored since the copy was taken is lost, but for the backup that is taken first. It runs the command that [storage]
restore names, as a task of the release that serves; the exit code is that command's. The release stays: `dbird rollback`
goes back to an older one.

Examples:
    dbird restore r7                     the copy that was taken before r7; `dbird history` lists them
    dbird restore --before 7             the same
    dbird restore /data/snapshots/manual-20261121T113653
    dbird restore -y --no-backup s3://my-backups/prod/friday")]
pub(crate) struct Args {
    /// Which copy: rN for the one that was taken before that release, a path as the service sees it, or an address that its
    /// command takes
    #[arg(value_name = "SOURCE", required_unless_present = "before", conflicts_with = "before")]
    source: Option<String>,
    /// The copy that was taken before this release
    #[arg(long, value_name = "N")]
    before: Option<ReleaseId>,
    /// Don't back up what is there now
    #[arg(long)]
    no_backup: bool,
    /// Stop each command after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// A copy that is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    place: String,
    /// In words, for the question.
    what: String,
    /// The release before which it was taken.
    before: Option<ReleaseId>,
}

/// Restores.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    // Before anything else is looked at: without a command there is nothing to ask about.
    backup::command(&spec, "restore", "")?;
    let saved = if args.no_backup { None } else { Some(new_place(storage(&spec)?, "before-restore")) };
    if let Some(place) = &saved {
        backup::command(&spec, "backup", place).map_err(|e| {
            e.hint("with --no-backup, what is there now is lost; or name the service's own command for it")
        })?;
    }
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "restore", Some(interrupts))?;
        session.recover().await?;
        let wanted = args.before.or_else(|| args.source.as_deref().and_then(release_of));
        let source = match wanted {
            Some(before) => taken_before(before, &session.operator.history(LOOK_BACK).await?)?,
            None => {
                let place = args.source.clone().unwrap_or_default();
                Source { what: format!("what lies at {place}"), place, before: None }
            }
        };
        let argv = backup::command(&spec, "restore", &source.place)?;
        let release = session.observe().await?.current().map(|r| r.id).ok_or_else(|| nothing_serves(&spec))?;
        confirm(cx, &spec, &source, saved.as_deref(), interrupts).await?;
        restore(args, cx, &session, release, &source, argv, saved).await
    })
}

async fn restore(
    args: &Args,
    cx: &Context,
    session: &Session,
    release: ReleaseId,
    source: &Source,
    argv: Vec<String>,
    saved: Option<String>,
) -> Result<Done> {
    let timeout_ms = args.timeout.map(|s| s.saturating_mul(1000));
    let mut exclusive = session.operator.exclusively().await?;
    let work = async {
        // What was found before the question may have changed while it was asked.
        if session.observe().await?.current().map(|r| r.id) != Some(release) {
            return Err(Failure::failed(format!("{release} does not serve any more; nothing was changed"))
                .hint("give the command again"));
        }
        if let Some(before) = source.before {
            taken_before(before, &session.operator.history(LOOK_BACK).await?)?;
        }
        if let Some(place) = &saved {
            let argv = backup::command(&session.spec, "backup", place)?;
            let command = Command { release, argv, timeout_ms, key: key("backup") };
            let start_ms = cx.out.elapsed_ms();
            let end = exclusive.run(&command).await?;
            if end.exit_code != 0 {
                let text = format!(
                    "what is there now could not be backed up (exit code {}); nothing was changed",
                    end.exit_code
                );
                return Err(Failure::failed(text).hint("with --no-backup, what is there now is lost"));
            }
            let took_ms = cx.out.elapsed_ms().saturating_sub(start_ms);
            cx.out.event(Event::Copied { place: place.clone(), took_ms });
        }
        let command = Command { release, argv, timeout_ms, key: key("restore") };
        Ok(exclusive.run(&command).await?)
    };
    let end = work.await;
    let given_back = exclusive.end().await;
    let end = end?;
    given_back?;
    if end.exit_code == 0 {
        cx.out.event(Event::Restored { from: source.place.clone(), saved });
    }
    Ok(ended(cx, end.exit_code))
}

/// `r7`, but not a path; a release by its number alone could be a file's name.
fn release_of(source: &str) -> Option<ReleaseId> {
    source.starts_with('r').then(|| source.parse().ok())?
}

/// The copy that was taken before a release, if it still stands.
fn taken_before(before: ReleaseId, history: &[Release]) -> Result<Source> {
    let standing = snapshot::standing(history);
    if let Some(found) = standing.iter().find(|s| s.before == before) {
        let when = format!("{} UTC, {}", time::stamp(found.at_unix_ms), time::ago(found.at_unix_ms));
        let what = format!("the copy that {} took before {before} ({when})", found.taken_by);
        return Ok(Source { place: found.place.clone(), what, before: Some(before) });
    }
    let taken = history.iter().filter_map(|r| r.snapshot.as_ref()).find(|s| s.before == before);
    let over = taken.and_then(|taken| standing.iter().find(|s| s.place == taken.place));
    let text = match (history.iter().find(|r| r.id == before), over) {
        (None, _) => format!("there is no release {before} here"),
        (Some(_), Some(over)) => {
            format!("the copy that was taken before {before} is gone: the one before {} took its place", over.before)
        }
        (Some(_), None) => format!("no copy of the data was taken before {before}"),
    };
    let names: Vec<_> = standing.iter().rev().take(NAMED_MAX).map(|s| s.before.to_string()).collect();
    let hint = if names.is_empty() {
        "no copy stands; [storage] snapshot = \"before-release\" takes one before each release".to_owned()
    } else {
        format!("copies stand that were taken before {}; `dbird history` lists all", names.join(", "))
    };
    Err(Failure::usage(text).hint(hint))
}

/// It takes data away, so it is always asked about.
async fn confirm(
    cx: &Context,
    spec: &Spec,
    source: &Source,
    saved: Option<&str>,
    interrupts: &Interrupts,
) -> Result<()> {
    let lost = match saved {
        Some(place) => format!("What was stored since is lost, but for a backup at {place}."),
        None => "What was stored since is lost: no backup of it is taken.".to_owned(),
    };
    cx.out.note(format!("The data of {} becomes {}. {lost}", spec.environment, source.what));
    if cx.global.yes {
        return Ok(());
    }
    if !cx.out.is_interactive() {
        let text = format!(
            "restoring the data of {} needs a confirmation, and there is no terminal to ask on",
            spec.environment
        );
        return Err(Failure::usage(text).hint("-y confirms it"));
    }
    match super::ask(cx, interrupts, "Replace the data? [y/N]").await?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::failed("not confirmed; nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_are_taken_for_releases() {
        for (text, release) in [("r7", Some(7)), ("7", None), ("/data/r7", None), ("r7.db", None), ("rx", None)] {
            assert_eq!(release_of(text), release.map(ReleaseId), "{text}");
        }
    }
}
