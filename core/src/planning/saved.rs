//! Plan files: written by `plan --out`, carried out by `deploy --plan` only while they still say exactly what a fresh plan
//! says.

use thiserror::Error;

use crate::{Digest, Plan, ReleaseId, plan::PLAN_FORMAT};

/// A plan file can't be used.
#[derive(Debug, Error)]
pub enum PlanFileError {
    /// A newer dbird wrote it.
    #[error(
        "the plan has format {found}, and this dbird reads formats up to {PLAN_FORMAT}: use the dbird that wrote it"
    )]
    NewerFormat {
        /// Its format.
        found: u64,
    },
    /// It is something else.
    #[error("this is not a plan that `dbird plan --out` wrote")]
    NotAPlan(#[source] serde_json::Error),
}

impl Plan {
    /// The digest of everything in it.
    pub fn digest(&self) -> Digest {
        // A plan holds no map with keys other than strings, so this can't fail; null has a digest too.
        Digest::of_json(&serde_json::to_value(self).unwrap_or_default())
    }

    /// The plan file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a plan file.
    pub fn read(bytes: &[u8]) -> Result<Plan, PlanFileError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(PlanFileError::NotAPlan)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found > u64::from(PLAN_FORMAT) => Err(PlanFileError::NewerFormat { found }),
            _ => serde_json::from_value(value).map_err(PlanFileError::NotAPlan),
        }
    }
}

/// A saved plan does not say any more what a fresh one says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the plan does not stand any more: {}", .what.join("; "))]
pub struct Moved {
    /// What moved, each a sentence without its full stop; never empty.
    pub what: Vec<String>,
}

/// Whether a saved plan still says exactly what a fresh one, made the same way, says.
pub fn check_saved(saved: &Plan, fresh: &Plan) -> Result<(), Moved> {
    let mut what = Vec::new();
    let place = |p: &Plan| format!("{} in {} on {}", p.service, p.environment, p.cloud);
    if place(saved) != place(fresh) {
        return Err(Moved { what: vec![format!("it is for {}, not for {}", place(saved), place(fresh))] });
    }
    if saved.reason != fresh.reason {
        what.push("it was made by another command".to_owned());
    }
    let name = |release: Option<ReleaseId>| release.map_or_else(|| "nothing".to_owned(), |r| r.to_string());
    if saved.parent != fresh.parent {
        what.push(format!("it was made while {} served, now {} serves", name(saved.parent), name(fresh.parent)));
    } else if saved.observed != fresh.observed {
        what.push("what is live has changed since".to_owned());
    }
    if saved.image != fresh.image {
        let digest = |p: &Plan| p.image.as_ref().map_or_else(|| "none".to_owned(), |i| i.digest.short().to_owned());
        what.push(format!("it is for image {}, now there is {}", digest(saved), digest(fresh)));
    } else if saved.documents != fresh.documents {
        let differs =
            |s: &&crate::Step| fresh.steps.iter().find(|f| f.id == s.id).map(|f| &f.document) != Some(&s.document);
        let gone = saved.steps.iter().filter(differs).map(|s| format!("`{}`", s.id));
        let new =
            fresh.steps.iter().filter(|f| saved.steps.iter().all(|s| s.id != f.id)).map(|f| format!("`{}`", f.id));
        let steps: Vec<_> = gone.chain(new).collect();
        what.push(format!("the configuration has changed since ({})", steps.join(", ")));
    }
    if saved.course != fresh.course {
        what.push(format!("the rollout has changed since: \"{}\", now \"{}\"", saved.rollout, fresh.rollout));
    }
    if what.is_empty() && (&saved.steps, &saved.risks) != (&fresh.steps, &fresh.risks) {
        what.push("a plan made now has other steps".to_owned());
    }
    if what.is_empty() { Ok(()) } else { Err(Moved { what }) }
}
