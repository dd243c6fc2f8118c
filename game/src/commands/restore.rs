//! `restore`: the database of a backup in the place of the one that is there. It decides that nothing is changed before the
//! backup is proved to be whole, and that the scores it replaces are kept.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use spool::{Replacement, Share, Survey};

use super::arguments::Restore;
use super::copy::{copy, inspect};
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::place::{Place, nonce};
use super::target::Target;
use super::turn::Turn;
use super::{Done, Failure, failed};

/// Times that a service may take its database back in the middle of it.
const TRIES_MAX: u32 = 10;

pub(super) async fn run(options: &Restore) -> Result<Done, Failure> {
    let source = Target::parse(&options.source, "")?;
    let place = Place::open()?;
    place.must_be_spool()?;
    place.must_ingest()?;
    let written = read_manifest(&source).await?;
    let (fetched, manifest) = fetch(&place, &source, &written).await?;

    let survey = place.survey()?;
    let there = survey.begun > 0 || place.original_len() > 0;
    if there && !options.yes {
        let made = format!("{} scores of {}", manifest.rows, manifest.made_at);
        return Err(Failure::usage(format!("there are scores in {}; nothing was changed", place.folder.display()))
            .advise(format!("the backup is sound ({made}); to replace what is there by it, add --yes")));
    }
    let deadline = Instant::now() + options.timeout;
    let Replaced { epoch, kept, rows } = if options.running {
        replace_running(&place, &fetched, deadline).await?
    } else {
        replace_stopped(&place, &fetched, deadline, options).await?
    };
    let added = rows.map(|rows| rows.saturating_sub(manifest.rows));
    let added_line = added.filter(|added| *added > 0).map(|added| {
        format!("\n  {added} more were accepted meanwhile, or are in segments that running processes still write to")
    });

    let kept_line = kept.as_ref().map(|kept| format!("\n  what was there before is kept: {}", kept.display()));
    let next = if options.running { "" } else { "\n  start the service again" };
    let text = format!(
        "{} scores of {} are restored, in epoch {epoch}\n  from {source}{}{}{next}\n",
        manifest.rows,
        manifest.made_at,
        added_line.unwrap_or_default(),
        kept_line.unwrap_or_default()
    );
    let facts = json!({
        "source": source.to_string(),
        "rows": manifest.rows,
        "made_at": manifest.made_at,
        "epoch": epoch,
        "kept": kept,
        "added": added,
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

/// The backup, proved to be whole, and its manifest: the one of those that it may be.
async fn fetch(place: &Place, source: &Target, written: &Manifest) -> Result<(Fetched, Manifest), Failure> {
    let name = format!("restore.{}.db", nonce());
    let fetched = Fetched { path: place.path(&name), name };
    let alternatives = written.alternatives();
    let longest = alternatives.iter().map(|one| one.bytes).max().unwrap_or_default();
    let sum = source.get_file(&fetched.path, longest).await?;
    let not = |what: String| {
        Failure::new(format!("{source} is not what its manifest says: {what}; nothing was changed"))
            .advise("restore another backup, or fetch this one again")
    };
    let is = |one: &&Manifest| sum.bytes == one.bytes && sum.sha256.eq_ignore_ascii_case(&one.sha256);
    let manifest = alternatives.iter().find(is).unwrap_or(written).clone();
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
    Ok((fetched, manifest))
}

/// What came of it.
struct Replaced {
    /// In which the database of the backup is used.
    epoch: u64,
    /// Where what was there before is.
    kept: Option<PathBuf>,
    /// Scores that are there now, where nobody else could add any before they were counted.
    rows: Option<u64>,
}

/// Replaces the database of a service that does not run.
async fn replace_stopped(
    place: &Place,
    fetched: &Fetched,
    deadline: Instant,
    options: &Restore,
) -> Result<Replaced, Failure> {
    let (over, kept) = if options.unreadable {
        let survey = place.survey()?;
        (survey.begun, keep_file(place, &survey)?)
    } else {
        keep_scores(place, deadline).await?
    };
    let replacement = Replacement { file: fetched.name.clone(), over };
    let mut turn = Turn::take(place, Some(replacement))?;
    // Another process may still have the lock for a moment, but not for as long as all of the first wait.
    let epoch = turn.active(deadline.max(Instant::now() + options.timeout)).await?;
    turn.end()?;
    handed_over(place, &turn, epoch)?;
    Ok(Replaced { epoch, kept, rows: None })
}

/// The same while it runs. Its ingester is overtaken, which the protocol allows at any time, and goes on with the database of
/// the backup; what it accepts meanwhile waits in segments.
async fn replace_running(place: &Place, fetched: &Fetched, deadline: Instant) -> Result<Replaced, Failure> {
    for _ in 0..TRIES_MAX {
        let mut turn = Turn::overtake(place, None)?;
        // Who has the lock could claim again as soon as this process lets go.
        let lock = turn.lock(place, deadline).await?;
        let over = turn.active(deadline).await?;
        // All that it read is in the database then, and nothing is added to that any more.
        turn.end()?;
        let survey = place.survey()?;
        if survey.begun != over || !survey.clean {
            continue;
        }
        let kept = keep_database(place, over)?;
        let replacement = Replacement { file: fetched.name.clone(), over };
        let mut turn = Turn::overtake(place, Some(replacement))?;
        if let Some(epoch) = turn.active_over(place, over, deadline).await? {
            turn.end()?;
            handed_over(place, &turn, epoch)?;
            let database = lock.as_ref().and(place.survey()?.database());
            let rows = database.and_then(|database| inspect(&place.path(&database)).ok());
            return Ok(Replaced { epoch, kept, rows });
        }
        turn.end()?;
        if let Some(kept) = kept {
            drop(fs::remove_file(kept));
        }
    }
    Err(Failure::new(format!("the service took its database back {TRIES_MAX} times; nothing was changed"))
        .advise("stop the service, and try again without --running"))
}

fn handed_over(place: &Place, turn: &Turn, epoch: u64) -> Result<(), Failure> {
    let survey = place.survey()?;
    if survey.begun < epoch || (survey.begun == epoch && !survey.clean) {
        let trouble = turn.status().trouble.unwrap_or_else(|| "see whether the share has room".to_owned());
        return Err(Failure::new(format!("the backup was restored, but its database was not handed over: {trouble}"))
            .advise("the next process to start takes it over all the same"));
    }
    Ok(())
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

/// Keeps the database of an epoch that was left clean, and that nobody has open.
fn keep_database(place: &Place, epoch: u64) -> Result<Option<PathBuf>, Failure> {
    let Some(database) = place.survey()?.database() else { return Ok(None) };
    let (from, kept) = (place.path(&database), place.path(&format!("before-restore-{epoch}.db")));
    let not = |why: String| Failure::new(format!("{database} can't be kept as {}: {why}", kept.display()));
    if inspect(&from).map_err(&not)? == 0 {
        return Ok(None);
    }
    let keep = || -> std::io::Result<()> {
        fs::copy(&from, &kept)?;
        fs::File::open(&kept)?.sync_all()?;
        place.share.sync_dir("")
    };
    keep().map_err(|error| not(error.to_string()))?;
    // What took the place of the file while it was copied would not be whole.
    inspect(&kept).map_err(not)?;
    Ok(Some(kept))
}
