//! `gc`: removes what dead processes left on the share. It decides what nobody needs any more; a segment is removed only when
//! all of it is in the database and nobody can be about to add to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use spool::{Segment, Share, Survey};

use super::arguments::Gc;
use super::place::Place;
use super::turn::{Turn, until};
use super::{Done, Failure, failed};
use crate::store::user_of;

/// What is not in the database this long after the ingester has read on is not on its way into it.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Report {
    removed: Vec<(String, String)>,
    kept: Vec<(String, String)>,
}

pub(super) async fn run(options: &Gc) -> Result<Done, Failure> {
    let place = Place::open()?;
    let is_old = |name: &str| is_old(&place.path(name), options.older_than);
    let mut report = Report::default();
    let survey = covered(&place, options, &is_old).await?;
    for segment in &survey.segments {
        match verdict(&place, &survey, segment, &is_old) {
            Ok(why) => report.remove(&place, &segment.name, why, false),
            Err(why) => report.kept.push((segment.name.clone(), why)),
        }
    }
    let names = place.share.list("").map_err(failed(format!("{} can't be read", place.folder.display())))?;
    for name in names {
        let Some(what) = survey.leftover(&name) else { continue };
        if is_old(&name) {
            report.remove(&place, &name, what.to_owned(), place.path(&name).is_dir());
        } else {
            report.kept.push((name, format!("{what}, but not old enough")));
        }
    }
    Ok(report.done())
}

/// What is there once the old segments are in the database: the live ingester's work, or this process's.
async fn covered(place: &Place, options: &Gc, is_old: &dyn Fn(&str) -> bool) -> Result<Survey, Failure> {
    let survey = place.survey()?;
    let waiting = |survey: &Survey| {
        let current = survey.listed == survey.begun;
        survey.segments.iter().any(|segment| is_old(&segment.name) && !(current && segment.is_covered()))
    };
    // Before any epoch, and after a downgrade, this process's turn would take over a database that another release uses.
    if survey.begun == 0 || survey.folded || !waiting(&survey) {
        return Ok(survey);
    }
    let mut turn = Turn::take(place, None)?;
    let mut seen = (survey, Instant::now());
    let look = || {
        let survey = place.survey()?;
        if survey != seen.0 {
            seen = (survey, Instant::now());
        }
        let settled = seen.0.listed == seen.0.begun && seen.1.elapsed() >= SETTLED;
        Ok((settled || !waiting(&seen.0)).then_some(()))
    };
    let _: Option<()> = until(Instant::now() + options.timeout, look).await?;
    turn.end()?;
    place.survey()
}

/// Why a segment may be removed, or why not.
fn verdict(place: &Place, survey: &Survey, segment: &Segment, is_old: &dyn Fn(&str) -> bool) -> Result<String, String> {
    if !is_old(&segment.name) {
        return Err("its owner may be alive: it was added to not long ago".to_owned());
    }
    // The list of an epoch before may speak of another database than the one that is used now.
    if survey.listed != survey.begun || survey.folded {
        return Err("no ingester has said yet what is in the database".to_owned());
    }
    match segment.covered {
        Some(covered) if covered == segment.len => {}
        Some(covered) => {
            return Err(format!(
                "{} of its {} bytes can't be read",
                segment.len - covered.min(segment.len),
                segment.len
            ));
        }
        None => return Err("it is not in the database yet".to_owned()),
    }
    if let Some(pid) = user_of(&place.path(&segment.name)) {
        return Err(format!("process {pid} has it open"));
    }
    Ok(format!("all {} bytes are in the database, and its owner is gone", segment.len))
}

fn is_old(path: &Path, older_than: Duration) -> bool {
    let Ok(found) = fs::symlink_metadata(path) else { return false };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_sub(found.mtime());
    u64::try_from(age).is_ok_and(|age| age >= older_than.as_secs())
}

impl Report {
    fn remove(&mut self, place: &Place, name: &str, why: String, is_folder: bool) {
        let path = place.path(name);
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Ok(()) => self.removed.push((name.to_owned(), why)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.kept.push((name.to_owned(), format!("it can't be removed: {error}"))),
        }
    }

    fn done(self) -> Done {
        let mut text = String::new();
        for (title, names) in [("removed", &self.removed), ("kept", &self.kept)] {
            for (name, why) in names {
                text.push_str(&format!("{title} {name}: {why}\n"));
            }
        }
        text.push_str(&format!("{} removed, {} kept\n", self.removed.len(), self.kept.len()));
        let list = |names: &[(String, String)]| {
            names.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect::<Vec<_>>()
        };
        Done { text, facts: json!({ "removed": list(&self.removed), "kept": list(&self.kept) }) }
    }
}
