//! What a plan could hurt, in sentences for the person who confirms it. Nothing is forbidden here: what must not happen is a
//! policy.

use crate::{
    Action, Reason, ReleaseId, Risk, Scope, Step, StepKind,
    planning::Input,
    rollout::{Course, SWAP_HOLD_LIMIT_MS},
};

pub(super) fn risks(
    input: &Input<'_>,
    steps: &[Step],
    course: Option<&Course>,
    parent: Option<ReleaseId>,
) -> Vec<Risk> {
    let mut risks = Vec::new();
    for step in steps.iter().filter(|s| s.action.acts()) {
        let mut add = |text: String| risks.push(Risk { step: step.id.clone(), text });
        match (step.kind, step.action) {
            (StepKind::Data, Action::Delete) => add(format!("{} is deleted for good", step.title)),
            (StepKind::Data, Action::Replace) => add(format!("{} is replaced: what it holds is lost", step.title)),
            (StepKind::Data, Action::Update) if parent.is_some() => {
                add(format!("{} changes under the release that serves", step.title));
            }
            (StepKind::Service, Action::Delete) => {
                for release in &input.observed.releases {
                    add(format!("{} stops answering", release.id));
                }
            }
            (StepKind::Service, _) => service(input, step, course, parent, &mut add),
            _ => {}
        }
        if step.scope == Scope::Shared && step.action != Action::Create && input.reason != Reason::Destroy {
            add(format!("{} changes for the release that serves as well, at once", step.title));
        }
        input.preview.risks.get(&step.id).into_iter().flatten().cloned().for_each(&mut add);
    }
    risks
}

fn service(
    input: &Input<'_>,
    step: &Step,
    course: Option<&Course>,
    parent: Option<ReleaseId>,
    add: &mut dyn FnMut(String),
) {
    let Some(parent) = parent else {
        if input.copies == 1 {
            add("one copy runs: while it is started again after a crash, nothing answers".to_owned());
        }
        return;
    };
    if let Some(crossing) = super::make::crossing(input, parent) {
        let (from, to) = (crossing.from, crossing.to);
        add(format!(
            "the storage protocol changes from {from} to {to}: {parent} stops before the new release opens the store, and can't \
             read it any more after that"
        ));
    }
    if course.is_some_and(|c| c.cold && c.is_cloud_driven()) {
        add(format!("nothing serves from the end of {parent} until the new release is ready: requests fail meanwhile"));
    } else if course.is_some_and(|c| c.cold) {
        let most_s = SWAP_HOLD_LIMIT_MS as f64 / 1000.0;
        add(format!(
            "nothing serves from the end of {parent} until the new release is ready: requests wait for it, at most {most_s} s, and \
             are then told to come back"
        ));
    } else if course.is_some_and(|c| c.swap) {
        let most_s = SWAP_HOLD_LIMIT_MS as f64 / 1000.0;
        add(format!("requests wait while the store passes from {parent} to the new release, at most {most_s} s"));
    }
    let moved: Vec<_> = step.changes.iter().filter(|c| c.before.is_some()).map(|c| c.path.as_str()).collect();
    for door in moved.iter().filter(|p| matches!(**p, "listen" | "test_listen")) {
        add(format!("`{door}` moves for {parent} as well: clients of the old address must follow"));
    }
    if moved.iter().any(|p| p.starts_with("mounts")) {
        add("its mounts change: it may find its data elsewhere, or not at all".to_owned());
    }
}
