//! `downgrade`: all scores in one database at `SCORE_DB_PATH`, for a release that knows no spool. It decides when that is safe:
//! nobody ingests, and nothing that was accepted is left unread.

use std::time::Instant;

use serde_json::json;
use spool::{FoldError, Folder, Share, Survey, fold, is_own_copy, mount};

use super::arguments::Downgrade;
use super::place::{Place, nonce};
use super::turn::{Turn, until};
use super::{Done, Failure, causes, failed};

pub(super) async fn run(options: &Downgrade) -> Result<Done, Failure> {
    let deadline = Instant::now() + options.timeout;
    let place = Place::open()?;
    let target = place.path(&place.original);
    let survey = place.survey()?;
    let unread = survey.segments.iter().any(|segment| !segment.is_covered());
    if survey.folded && !unread {
        return Ok(Done {
            text: format!("the scores are at {} already\n", target.display()),
            facts: json!({ "database": target, "epoch": survey.begun, "changed": false }),
        });
    }
    if survey.begun == 0 && survey.segments.is_empty() {
        return Ok(Done {
            text: format!("no spool was ever used here: the scores are at {}\n", target.display()),
            facts: json!({ "database": target, "epoch": null, "changed": false }),
        });
    }
    place.must_ingest()?;
    make_room(&place, &survey)?;

    let mut turn = Turn::take(&place, None)?;
    let epoch = turn.active(deadline).await?;
    turn.end()?;
    let survey = place.survey()?;
    if survey.begun != epoch {
        return Err(turn.refused());
    }
    if !survey.clean {
        let trouble =
            turn.status().trouble.unwrap_or_else(|| "the log of this database could not be emptied".to_owned());
        return Err(Failure::new(format!("the database was not handed over: {trouble}"))
            .advise("nothing was moved; see whether the share has room, and try again"));
    }
    let left: Vec<String> = survey.segments.iter().filter(|segment| !segment.is_covered()).map(say).collect();
    if !left.is_empty() && !options.leave_unread {
        let newer = turn.status().newer_segments;
        let advice = if newer > 0 {
            format!("{newer} are of a newer release: downgrade with that one")
        } else {
            "a process died while it wrote them: nobody was told that these scores are kept. --leave-unread goes on, and leaves \
             them where they are"
                .to_owned()
        };
        return Err(Failure::new(format!("not all that was accepted can be read: {}", left.join("; "))).advise(advice));
    }

    let _lock = alone(&place, deadline).await?;
    fold(&*place.share, epoch, &place.original, &nonce()).map_err(|error| {
        let failure = Failure::new(format!("the scores could not be moved back: {}", causes(&error)));
        match error {
            FoldError::Overtaken(_) => failure.advise("stop the service first, all of its processes, and try again"),
            FoldError::Taken(_) => failure.advise("move it away, and try again"),
            FoldError::NotClean(_) | FoldError::Share { .. } => failure.advise("nothing is lost; try again"),
        }
    })?;
    let rest = match left.len() {
        0 => String::new(),
        left => format!("\n  left on the share, unread: {left} segments"),
    };
    Ok(Done {
        text: format!(
            "the scores of epoch {epoch} are at {}{rest}\n  start the earlier release now; this one takes them back when it is \
             started again\n",
            target.display()
        ),
        facts: json!({ "database": target, "epoch": epoch, "changed": true, "unread": left }),
    })
}

fn say(segment: &spool::Segment) -> String {
    format!("{} has {} bytes, {} of them read", segment.name, segment.len, segment.covered.unwrap_or_default())
}

/// The place where the scores go must be empty, unless an earlier try of this command put them there.
fn make_room(place: &Place, survey: &Survey) -> Result<(), Failure> {
    // Otherwise what is there is taken over now, and gets another name.
    if survey.begun == 0 || survey.folded || place.original_len() == 0 {
        return Ok(());
    }
    let share = &*place.share;
    let own = is_own_copy(share, survey.begun, &place.original)
        .map_err(failed(format!("{} can't be read", place.path(&place.original).display())))?;
    if !own {
        let what = format!("{} has something in it that is not in the spool", place.path(&place.original).display());
        return Err(Failure::new(what).advise("move it away, and try again: the scores go there"));
    }
    share.remove(&place.original).map_err(failed(format!("{} can't be removed", place.original)))
}

/// Keeps others from taking the database over while it is copied, where locks do that.
async fn alone(place: &Place, deadline: Instant) -> Result<Option<<Folder as Share>::Lock>, Failure> {
    if place.verdict.ingest != Ok(mount::Locking::Trusted) {
        return Ok(None);
    }
    let lock =
        until(deadline, || place.share.try_lock().map_err(failed("the writer's lock can't be asked for"))).await?;
    if lock.is_none() {
        return Err(Failure::new("another process has begun to write the scores")
            .advise("stop the service first, all of its processes, and try again"));
    }
    Ok(lock)
}
