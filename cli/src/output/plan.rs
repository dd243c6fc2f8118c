//! What a plan looks like: as text with `+ ~ - =` and aligned fields, and as Markdown for a pull request.

use std::fmt::Write as _;

use dbird_core::{Action, Change, Plan, Scope, Step, StepKind};
use serde_json::Value;

use super::{
    style::{BOLD, CYAN, DIM, GREEN, Look, RED, YELLOW, padded, paint},
    text::short,
};

/// Longer values are cut; the JSON plan has them whole.
const VALUE_CHARACTERS_MAX: usize = 60;

/// The mark of an action with its colour.
fn mark(action: Action) -> (anstyle::Style, &'static str) {
    match action {
        Action::Create => (GREEN, "+"),
        Action::Adopt => (CYAN, "+"),
        Action::Update => (YELLOW, "~"),
        Action::Replace => (YELLOW, "~"),
        Action::Delete => (RED, "-"),
        Action::None | Action::Keep => (DIM, "="),
    }
}

/// What the mark alone does not say.
fn remark(step: &Step) -> &'static str {
    match (step.action, step.scope) {
        (Action::Adopt, _) => " (exists from before, taken over)",
        (Action::Replace, _) => " (taken away and made anew)",
        (Action::Keep, _) if step.kind == StepKind::Data => " (kept, it holds data)",
        (Action::Keep, _) => " (kept)",
        (Action::None, _) => "",
        (_, Scope::Shared) => " (hits the serving release at once)",
        (_, Scope::Release) => "",
    }
}

/// For a terminal.
pub(crate) fn text(plan: &Plan, look: Look) -> String {
    let mut text = String::new();
    let Plan { service, environment, cloud, parent, image, rollout, steps, risks, .. } = plan;
    let _ = writeln!(text, "{} in {environment} on {cloud}", paint(BOLD, service));
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<8} {value}");
    };
    row("live", parent.map_or_else(|| "nothing yet".to_owned(), |p| p.to_string()));
    if let Some(image) = image {
        row("image", format!("{} {}", image.digest.short(), paint(DIM, &image.repository)));
    }
    if plan.is_empty() {
        return text + "No changes.";
    }
    if !rollout.is_empty() {
        row("rollout", rollout.clone());
    }
    text.push('\n');
    let width = steps.iter().map(|s| s.id.0.chars().count()).max().unwrap_or(0);
    for step in steps {
        let (style, mark) = mark(step.action);
        let quiet = if matches!(step.action, Action::None | Action::Keep) { DIM } else { anstyle::Style::new() };
        let title = paint(quiet, format!("{}{}", step.title, remark(step)));
        let _ = writeln!(text, "  {} {}  {title}", paint(style, mark), padded(quiet, &step.id.0, width));
        text.push_str(&changes(step, look));
    }
    if !risks.is_empty() {
        let _ = writeln!(text, "\n{}", paint(YELLOW, "Risks:"));
        for risk in risks {
            let _ = writeln!(text, "  {} {}: {}", paint(YELLOW, "!"), risk.step, risk.text);
        }
    }
    let _ = write!(text, "\n{}", summary(steps));
    text
}

fn changes(step: &Step, look: Look) -> String {
    // What is new as a whole, to the cloud or to dbird, is not shown field by field: everything would be.
    if matches!(step.action, Action::Create | Action::Adopt) {
        return String::new();
    }
    fields(&step.changes, "      ", look)
}

/// Fields with what they were and what they become, a line each.
pub(super) fn fields(changes: &[Change], indent: &str, look: Look) -> String {
    let width = changes.iter().map(|c| c.path.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for change in changes {
        let Change { path, before, after } = change;
        let value = match (before, after) {
            (Some(b), Some(a)) => format!("{} {} {}", paint(RED, value(b)), look.arrow(), paint(GREEN, value(a))),
            (None, Some(a)) => format!("{} {}", paint(DIM, "+"), paint(GREEN, value(a))),
            (Some(b), None) => format!("{} {}", paint(DIM, "-"), paint(RED, value(b))),
            (None, None) => String::new(),
        };
        let _ = writeln!(text, "{indent}{}  {value}", padded(CYAN, path, width));
    }
    text
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::String(s) if s.starts_with("sha256:") => short(s).to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARACTERS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARACTERS_MAX - 3).chain("...".chars()).collect()
}

fn summary(steps: &[Step]) -> String {
    let count = |wanted: &[Action]| steps.iter().filter(|s| wanted.contains(&s.action)).count();
    let parts = [
        (count(&[Action::Create]), "to create"),
        (count(&[Action::Adopt]), "to take over"),
        (count(&[Action::Update, Action::Replace]), "to change"),
        (count(&[Action::Delete]), "to take away"),
        (count(&[Action::Keep]), "kept"),
        (count(&[Action::None]), "unchanged"),
    ];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    format!("{}.", parts.join(", "))
}

/// For a pull request.
pub(crate) fn markdown(plan: &Plan) -> String {
    let mut text = format!("### `{}` in `{}` on {}\n\n", plan.service, plan.environment, plan.cloud);
    let live = plan.parent.map_or_else(|| "nothing yet".to_owned(), |p| format!("`{p}`"));
    let _ = writeln!(text, "- live: {live}");
    if let Some(image) = &plan.image {
        let _ = writeln!(text, "- image: `{}`", image.digest);
    }
    if plan.is_empty() {
        return text + "\nNo changes.";
    }
    let _ = writeln!(text, "- rollout: {}\n", plan.rollout);
    text.push_str("| | step | what | field | before | after |\n|---|---|---|---|---|---|\n");
    let cell = |v: Option<&Value>| v.map(|v| format!("`{}`", escaped(&value(v)))).unwrap_or_default();
    for step in &plan.steps {
        let mark = mark(step.action).1;
        let _ = writeln!(text, "| `{mark}` | {} | {}{} | | | |", step.id, escaped(&step.title), remark(step));
        if !matches!(step.action, Action::Create | Action::Adopt) {
            for c in &step.changes {
                let _ = writeln!(
                    text,
                    "| | | | `{}` | {} | {} |",
                    escaped(&c.path),
                    cell(c.before.as_ref()),
                    cell(c.after.as_ref())
                );
            }
        }
    }
    for risk in &plan.risks {
        let _ = write!(text, "\n> **Risk** ({}): {}\n", risk.step, risk.text);
    }
    let _ = write!(text, "\n{}", summary(&plan.steps));
    text
}

/// So that a value can't end its cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('`', "'").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use dbird_core::{Cloud, Digest, ImageRef, Reason, ReleaseId, Risk, StepId};
    use serde_json::json;

    use super::*;

    fn sample() -> Plan {
        let step = |id: &str, kind, title: &str, action, changes| Step {
            id: StepId::new(id),
            kind,
            title: title.into(),
            action,
            scope: Scope::Release,
            document: Digest::of(b"d"),
            changes,
        };
        let change =
            |path: &str, before: Option<Value>, after: Option<Value>| Change { path: path.into(), before, after };
        Plan {
            format: 1,
            service: "bird".into(),
            environment: "dev".into(),
            cloud: Cloud::Local,
            reason: Reason::Deploy,
            parent: Some(ReleaseId(3)),
            documents: Digest::of(b"a"),
            observed: Digest::of(b"b"),
            image: Some(ImageRef { repository: "oci:.dbird/images".into(), digest: Digest::of(b"c") }),
            rollout: "swap (one process may open the store)".into(),
            course: None,
            steps: vec![
                step("image", StepKind::Image, "image bird", Action::Create, vec![]),
                step("data", StepKind::Data, "data folder /data", Action::None, vec![]),
                step(
                    "service",
                    StepKind::Service,
                    "service bird",
                    Action::Update,
                    vec![
                        change("env.GREETING", Some(json!("hi")), Some(json!("ho"))),
                        change("env.NEW", None, Some(json!("a|b`c"))),
                        change("image.digest", Some(json!(Digest::of(b"x"))), Some(json!(Digest::of(b"c")))),
                        change("env.OLD", Some(json!("x".repeat(100))), None),
                    ],
                ),
            ],
            risks: vec![Risk { step: StepId::new("data"), text: "something could hurt".into() }],
        }
    }

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    const LOOK: Look = Look { unicode: false, width: 100 };

    #[test]
    fn a_plan_shows_marks_and_aligned_fields() {
        insta::assert_snapshot!("plan-text", bare(&text(&sample(), LOOK)));
    }

    #[test]
    fn markdown_cells_stay_cells() {
        insta::assert_snapshot!("plan-markdown", markdown(&sample()));
    }

    #[test]
    fn an_empty_plan_says_so() {
        let mut plan = sample();
        plan.steps.iter_mut().for_each(|s| s.action = Action::None);
        assert!(bare(&text(&plan, LOOK)).ends_with("No changes."));
        assert!(markdown(&plan).ends_with("No changes."));
    }
}
