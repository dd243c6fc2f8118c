//! Which step does what. A step acts only when what is live differs from what is wanted; data is never taken away unless
//! it was named.

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::{
    Action, Document, Documents, ImageRef, Observed, Plan, Preview, Reason, ReleaseId, Scope, Step, StepId, StepKind,
    plan::PLAN_FORMAT,
    planning::{diff, diff::with_known_references, risks},
    rollout::Course,
};

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The documents to bring about; for [`Reason::Destroy`] those that describe what goes.
    pub documents: &'a Documents,
    /// What is live.
    pub observed: &'a Observed,
    /// What the cloud's own engine says.
    pub preview: &'a Preview,
    /// The image that the documents name.
    pub image: Option<ImageRef>,
    /// Why.
    pub reason: Reason,
    /// How traffic is to move; none for [`Reason::Destroy`].
    pub course: Option<&'a Course>,
    /// How many copies of the service run at least.
    pub copies: u32,
    /// For [`Reason::Destroy`]: the data that goes as well, by name.
    pub delete_data: &'a [String],
}

/// No plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Nothing runs that could be started again.
    #[error("nothing is live in this environment, so nothing can be restarted")]
    NothingLive,
    /// A name that is no data of this service.
    #[error("there is no data called `{name}` here; {}", known_data(.known))]
    UnknownData {
        /// The name that was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The release before uses a protocol on its store that this one does not know yet.
    #[error(
        "{parent} keeps its store by version {from} of the storage protocol, which a release with version {to} can't read: its \
         scores would be out of sight"
    )]
    StorageProtocol {
        /// The release that serves.
        parent: ReleaseId,
        /// Its version.
        from: u64,
        /// The new release's version.
        to: u64,
    },
    /// A release has to be made and nobody said how it takes over.
    #[error("a release has to be made, but no rollout was given for it")]
    NoCourse,
}

/// The plan that brings what is live to what is wanted.
pub fn plan(input: &Input<'_>) -> Result<Plan, PlanError> {
    let parent = input.observed.current().map(|r| r.id);
    let destroy = input.reason == Reason::Destroy;
    if input.reason == Reason::Restart && parent.is_none() {
        return Err(PlanError::NothingLive);
    }
    let mut steps: Vec<Step> = if destroy {
        check_names(input)?;
        let mut going: Vec<_> = input.documents.steps.iter().rev().collect();
        going.sort_by_key(|d| turn(d.kind));
        going.into_iter().map(|d| removal(d, input)).collect()
    } else {
        let mut anew = BTreeSet::new();
        let mut steps = Vec::new();
        for document in &input.documents.steps {
            let step = step(document, input, &anew);
            if matches!(step.action, Action::Create | Action::Replace | Action::Adopt) {
                anew.insert(step.id.clone());
            }
            steps.push(step);
        }
        steps
    };
    // What an image step would fetch, nobody needs when no release is made.
    let releases = steps.iter().any(|s| s.kind == StepKind::Service && s.action.acts());
    if !releases && !destroy {
        for step in steps.iter_mut().filter(|s| s.kind == StepKind::Image) {
            step.action = Action::None;
            step.changes.clear();
        }
    }
    let course = if releases && !destroy { Some(input.course.ok_or(PlanError::NoCourse)?) } else { None };
    let stopped_first = match parent.and_then(|parent| crossing(input, parent)) {
        Some(Crossing { parent, from, to }) if to < from => {
            return Err(PlanError::StorageProtocol { parent, from, to });
        }
        crossing => crossing.zip(course).map(|(_, course)| course.stopping_first()),
    };
    let mut course = stopped_first.as_ref().or(course).cloned();
    if let (Some(course), Some(current)) = (&mut course, input.observed.current())
        && !course.batches.is_empty()
    {
        course.copies_before = u32::try_from(current.tasks.len()).unwrap_or(0);
    }
    let course = course.as_ref();
    let risks = risks::risks(input, &steps, course, parent);
    Ok(Plan {
        format: PLAN_FORMAT,
        service: input.documents.service.clone(),
        environment: input.documents.environment.clone(),
        cloud: input.documents.cloud,
        reason: input.reason.clone(),
        parent,
        documents: input.documents.digest(),
        observed: input.observed.digest(),
        image: input.image.clone(),
        rollout: match course {
            Some(course) => course.describe(parent),
            None if destroy => "everything but the data goes away".to_owned(),
            None => "no release is made".to_owned(),
        },
        course: course.cloned(),
        steps,
        risks,
    })
}

fn step(document: &Document, input: &Input<'_>, anew: &BTreeSet<StepId>) -> Step {
    let live = input.observed.documents.get(&document.step);
    let serves = input.observed.current().is_some();
    let wanted = with_known_references(&document.body, live, anew);
    let mut changes = diff(live.unwrap_or(&Value::Null), &wanted);
    let restart = input.reason == Reason::Restart && document.kind == StepKind::Service;
    let action = match (document.kind, live) {
        (StepKind::Service, _) if !serves => Action::Create,
        // It serves, but what it was made from can't be read: a new release says what runs.
        (StepKind::Service, None) => Action::Update,
        (StepKind::Data, None) if input.observed.data.contains_key(data_name(document)) => Action::Adopt,
        (_, None) => Action::Create,
        (_, Some(_)) if restart || !changes.is_empty() => Action::Update,
        (_, Some(_)) => Action::None,
    };
    if let Some(more) = input.preview.changes.get(&document.step) {
        // What the documents say in more detail already is not said again as a whole.
        let said = |path: &str, have: &str| have.strip_prefix(path).is_some_and(|l| l.is_empty() || l.starts_with('.'));
        let new = more.iter().filter(|c| !changes.iter().any(|have| said(&c.path, &have.path)));
        changes.extend(new.cloned().collect::<Vec<_>>());
    }
    let action = if action == Action::None && !changes.is_empty() { Action::Update } else { action };
    built(document, action, changes)
}

/// A change of the protocol by which releases share their store.
pub(super) struct Crossing {
    pub(super) parent: ReleaseId,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Whether the release that serves and the wanted one use their store by different versions of the protocol.
pub(super) fn crossing(input: &Input<'_>, parent: ReleaseId) -> Option<Crossing> {
    if input.reason == Reason::Destroy {
        return None;
    }
    let version = |body: &Value| body.get("storage_protocol").and_then(Value::as_u64).unwrap_or(0);
    let document = input.documents.steps.iter().find(|d| d.kind == StepKind::Service)?;
    let (from, to) = (version(input.observed.documents.get(&document.step)?), version(&document.body));
    (from != to).then_some(Crossing { parent, from, to })
}

/// What goes first: what uses others before what it uses, and data last.
fn turn(kind: StepKind) -> u8 {
    match kind {
        StepKind::Service => 0,
        StepKind::Image => 1,
        StepKind::Infrastructure => 2,
        StepKind::Data => 3,
    }
}

fn removal(document: &Document, input: &Input<'_>) -> Step {
    let live = input.observed.documents.contains_key(&document.step);
    let name = data_name(document);
    let action = match document.kind {
        StepKind::Service if live || !input.observed.releases.is_empty() => Action::Delete,
        // Others live in it.
        StepKind::Infrastructure if live && is_shared(document) => Action::Keep,
        StepKind::Infrastructure if live => Action::Delete,
        StepKind::Data if input.delete_data.iter().any(|n| n == name || *n == document.step.0) => Action::Delete,
        StepKind::Data if live || input.observed.data.contains_key(name) => Action::Keep,
        // Images are shared between environments, and a rollback needs them.
        StepKind::Image if live => Action::Keep,
        _ => Action::None,
    };
    built(document, action, Vec::new())
}

fn built(document: &Document, action: Action, changes: Vec<crate::Change>) -> Step {
    Step {
        id: document.step.clone(),
        kind: document.kind,
        title: document.title.clone(),
        action,
        scope: if document.kind == StepKind::Infrastructure { Scope::Shared } else { Scope::Release },
        document: document.digest(),
        changes,
    }
}

fn is_shared(document: &Document) -> bool {
    document.body.get("shared").and_then(Value::as_bool).unwrap_or(false)
}

/// The name that data goes by: what its document says, or else its step.
pub(super) fn data_name(document: &Document) -> &str {
    document.body.get("name").and_then(Value::as_str).unwrap_or(&document.step.0)
}

fn check_names(input: &Input<'_>) -> Result<(), PlanError> {
    let data = || input.documents.steps.iter().filter(|d| d.kind == StepKind::Data);
    let wrong = input.delete_data.iter().find(|name| !data().any(|d| *name == data_name(d) || **name == d.step.0));
    match wrong {
        None => Ok(()),
        Some(name) => {
            let known = data().map(|d| data_name(d).to_owned()).collect();
            Err(PlanError::UnknownData { name: name.clone(), known })
        }
    }
}

fn known_data(known: &[String]) -> String {
    if known.is_empty() { "this service keeps none".to_owned() } else { format!("there is {}", known.join(", ")) }
}
