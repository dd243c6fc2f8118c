//! `backup`: a copy of the database with its manifest, to a file or an object store. It decides that the manifest is the last
//! thing written: without one, there is no backup.

use std::time::Instant;

use serde_json::json;

use super::arguments::Backup;
use super::copy::{Copy, copy};
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::place::Place;
use super::target::Target;
use super::turn::Turn;
use super::{Done, Failure};
use crate::clock;

pub(super) async fn run(options: &Backup) -> Result<Done, Failure> {
    let deadline = Instant::now() + options.timeout;
    // Like 20260131T120000Z, and never the same twice within a second by two processes that write to one folder.
    let time: String = clock::rfc3339(clock::now_ms()).chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    let target = Target::parse(&options.target, &format!("drafty-bird-{time}.db"))?;
    let place = Place::open()?;
    place.must_be_spool()?;
    let survey = place.survey()?;
    if survey.folded || (survey.claimed == 0 && place.original_len() > 0) {
        let path = place.path(&place.original);
        let what = format!("{} is the database of a release without a spool", path.display());
        return Err(Failure::new(what)
            .advise("stop the service and copy that file, or start this release once: it takes the scores over"));
    }
    if survey.claimed == 0 && survey.segments.is_empty() {
        let what = format!("there are no scores in {}", place.folder.display());
        return Err(
            Failure::new(what).advise("set SCORE_DB_PATH as the service has it, and look whether the share is mounted")
        );
    }
    let mut _alone = None;
    if options.replace {
        _alone = target.make_room(deadline).await?;
    } else {
        target.must_be_free().await?;
        target.manifest().must_be_free().await?;
    }

    let mut turn = Turn::take(&place, None)?;
    let copy = copy(&place, &turn, deadline).await?;
    let newer = turn.status().newer_segments;
    // The service must not wait for a slow target.
    turn.end()?;
    let manifest = if options.replace { replace(&target, &copy).await? } else { put(&target, &copy).await? };

    let left_out = match newer {
        0 => String::new(),
        newer => format!("\n  not in it: {newer} segments of a newer release, which this one can't read"),
    };
    let text = format!(
        "{target}\n  {} scores, {} bytes, of epoch {}\n  sha256 {}\n  manifest {}{left_out}\n",
        manifest.rows,
        manifest.bytes,
        manifest.epoch,
        manifest.sha256,
        target.manifest()
    );
    let facts = json!({
        "target": target.to_string(),
        "manifest": target.manifest().to_string(),
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "epoch": manifest.epoch,
        "sha256": manifest.sha256,
        "newer_segments": newer,
    });
    Ok(Done { text, facts })
}

async fn put(target: &Target, copy: &Copy) -> Result<Manifest, Failure> {
    let sum = target.put_file(&copy.path, false).await?;
    let manifest = Manifest::new(copy.epoch, copy.rows, sum.bytes, sum.sha256);
    if let Err(failure) = target.manifest().put(manifest.json()?, false).await {
        target.remove().await;
        return Err(failure);
    }
    Ok(manifest)
}

/// Two files can't be replaced at once. While the first is, the manifest speaks of both backups: wherever this ends, what lies
/// there is one of them, whole.
async fn replace(target: &Target, copy: &Copy) -> Result<Manifest, Failure> {
    let sum = Target::File(copy.path.clone()).read(u64::MAX, |_| Ok(())).await?;
    let manifest = Manifest::new(copy.epoch, copy.rows, sum.bytes, sum.sha256);
    let place = target.manifest();
    match standing(target).await? {
        Some(old) => place.put(old.followed_by(&manifest).json()?, true).await?,
        // What lies there is no backup as long as it has no manifest.
        None => place.remove().await,
    }
    let sum = target.put_file(&copy.path, true).await?;
    if sum.sha256 != manifest.sha256 {
        return Err(Failure::new(format!("{} changed while it was copied to {target}", copy.path.display())));
    }
    place.put(manifest.json()?, true).await?;
    Ok(manifest)
}

/// The manifest of the backup that is there, if it can be restored by this release.
async fn standing(target: &Target) -> Result<Option<Manifest>, Failure> {
    let place = target.manifest();
    let Some(bytes) = place.get(MANIFEST_BYTES_MAX).await? else { return Ok(None) };
    let Ok(manifest) = Manifest::read(&bytes, &place.to_string()) else { return Ok(None) };
    let mut alternatives = manifest.alternatives();
    if alternatives.len() == 1 {
        return Ok(alternatives.pop());
    }
    // An earlier replacement was broken off.
    let longest = alternatives.iter().map(|one| one.bytes).max().unwrap_or_default();
    let Ok(sum) = target.read(longest, |_| Ok(())).await else { return Ok(None) };
    Ok(alternatives.into_iter().find(|one| one.sha256 == sum.sha256))
}
