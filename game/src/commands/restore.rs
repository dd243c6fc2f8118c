//! `restore`: the database of a backup in the place of the one that is there. It decides that nothing is changed before the
//! backup is proved to be whole, and that the scores it replaces are kept.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use spool::{Replacement, Share, Survey};

use super::arguments::Restore;
use super::copy::{copy, inspect};
use super::manifest::Manifest;
use super::place::{Place, nonce};
use super::target::Target;
use super::turn::Turn;
use super::{Done, Failure, failed};

const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

pub(super) async fn run(options: &Restore) -> Result<Done, Failure> {
    let source = Target::parse(&options.source, "")?;
    let place = Place::open()?;
    place.must_be_spool()?;
    place.must_ingest()?;
    let manifest = read_manifest(&source).await?;
    let fetched = fetch(&place, &source, &manifest).await?;

    let survey = place.survey()?;
    let there = survey.begun > 0 || place.original_len() > 0;
    if there && !options.yes {
        let made = format!("{} scores of {}", manifest.rows, manifest.made_at);
        return Err(Failure::usage(format!("there are scores in {}; nothing was changed", place.folder.display()))
            .advise(format!("the backup is sound ({made}); to replace what is there by it, add --yes")));
    }
    let deadline = Instant::now() + options.timeout;
    let (over, kept) = if options.unreadable {
        (survey.begun, keep_file(&place, &survey)?)
    } else {
        keep_scores(&place, deadline).await?
    };

    let replacement = Replacement { file: fetched.name.clone(), over };
    let mut turn = Turn::take(&place, Some(replacement))?;
    // Another process may still have the lock for a moment, but not for as long as all of the first wait.
    let epoch = turn.active(deadline.max(Instant::now() + options.timeout)).await?;
    turn.end()?;
    let survey = place.survey()?;
    if survey.begun < epoch || (survey.begun == epoch && !survey.clean) {
        let trouble = turn.status().trouble.unwrap_or_else(|| "see whether the share has room".to_owned());
        return Err(Failure::new(format!("the backup was restored, but its database was not handed over: {trouble}"))
            .advise("the next process to start takes it over all the same"));
    }

    let kept_line = kept.as_ref().map(|kept| format!("\n  what was there before is kept: {}", kept.display()));
    let text = format!(
        "{} scores of {} are restored, in epoch {epoch}\n  from {source}{}\n  start the service again\n",
        manifest.rows,
        manifest.made_at,
        kept_line.unwrap_or_default()
    );
    let facts = json!({
        "source": source.to_string(),
        "rows": manifest.rows,
        "made_at": manifest.made_at,
        "epoch": epoch,
        "kept": kept,
    });
    Ok(Done { text, facts })
}

async fn read_manifest(source: &Target) -> Result<Manifest, Failure> {
    let from = source.manifest();
    match from.get(MANIFEST_BYTES_MAX).await? {
        Some(bytes) => Manifest::read(&bytes, &from.to_string()),
        None => Err(Failure::new(format!("{from} is not there"))
            .advise("a backup is a file and its manifest beside it; without one it was not finished")),
    }
}

/// A file on the share that nobody else knows, and that goes with this.
struct Fetched {
    name: String,
    path: PathBuf,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

async fn fetch(place: &Place, source: &Target, manifest: &Manifest) -> Result<Fetched, Failure> {
    let name = format!("restore.{}.db", nonce());
    let fetched = Fetched { path: place.path(&name), name };
    let sum = source.get_file(&fetched.path, manifest.bytes).await?;
    let not = |what: String| {
        Failure::new(format!("{source} is not what its manifest says: {what}; nothing was changed"))
            .advise("restore another backup, or fetch this one again")
    };
    if sum.bytes != manifest.bytes {
        let more = if sum.bytes > manifest.bytes { "more than " } else { "" };
        let found = sum.bytes.min(manifest.bytes);
        return Err(not(format!("it has {more}{found} bytes, not {}", manifest.bytes)));
    }
    if !sum.sha256.eq_ignore_ascii_case(&manifest.sha256) {
        return Err(not(format!("its sha256 is {}, not {}", sum.sha256, manifest.sha256)));
    }
    let rows = inspect(&fetched.path).map_err(|why| not(format!("it is no sound database: {why}")))?;
    if rows != manifest.rows {
        return Err(not(format!("it has {rows} scores, not {}", manifest.rows)));
    }
    Ok(fetched)
}

/// Moves all that was accepted into the database that is there, and keeps a copy of it beside it. Says which epoch it is of.
async fn keep_scores(place: &Place, deadline: Instant) -> Result<(u64, Option<PathBuf>), Failure> {
    let mut turn = Turn::take(place, None)?;
    let active = turn.active(deadline).await.map_err(|failure| match failure.advice {
        Some(_) => failure,
        None => failure.advise("if it can't be used any more, --unreadable keeps its file and replaces it"),
    });
    let epoch = active?;
    let copy = copy(place, &turn, deadline).await?;
    turn.end()?;
    if copy.epoch != epoch {
        return Err(turn.refused());
    }
    if copy.rows == 0 {
        return Ok((epoch, None));
    }
    let kept = format!("before-restore-{epoch}.db");
    place
        .share
        .rename(&copy.name, &kept)
        .and_then(|()| place.share.sync_dir(""))
        .map_err(failed(format!("{kept} can't be made")))?;
    Ok((epoch, Some(place.path(&kept))))
}

/// Keeps the files of a database that can't be opened, as they are.
fn keep_file(place: &Place, survey: &Survey) -> Result<Option<PathBuf>, Failure> {
    let Some(database) = survey.database() else { return Ok(None) };
    let kept = format!("before-restore-{}.db", survey.begun);
    for (from, to) in [(database.clone(), kept.clone()), (format!("{database}-wal"), format!("{kept}-wal"))] {
        match fs::copy(place.path(&from), place.path(&to)).and_then(|_| fs::File::open(place.path(&to))?.sync_all()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(format!("{from} can't be kept as {to}"))(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(place.path(&kept).exists().then(|| place.path(&kept)))
}
