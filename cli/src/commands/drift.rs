//! `dbird drift`: what somebody changed by hand since the last release: the service against its record, and on AWS the stack
//! against its template. It changes nothing.

use dbird_core::{
    Action, Observed, Preview, Reason, StepKind,
    planning::{self, Input},
};
use serde_json::Value;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::{Event, events::DriftView},
    session::{self, Session},
};

/// Show what was changed by hand since the last release
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is live is compared with the record of the release that serves: image, settings, desired count, traffic. On AWS,
CloudFormation also compares every resource of the stack with its template, which takes some seconds. `dbird deploy` puts
right what belongs to the service.

Examples:
    dbird drift
    dbird drift -e prod -c aws --exit-code       in a pipeline: 4 if anything drifted")]
pub(crate) struct Args {
    /// End with exit code 4 if there is any
    #[arg(long)]
    exit_code: bool,
}

/// Compares, and shows what differs.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.look(async |_| {
        let session = Session::open(cx, &spec, "drift", None)?;
        let observed = session.observe().await?;
        let under_way = session.operator.unfinished().await?.map(|u| u.release).or(observed.unfinished.as_ref().map(|h| h.release));
        if let Some(release) = under_way {
            return Err(Failure { retry: true, ..Failure::failed(format!("{release} is under way, so what is live moves")) }
                .hint(format!("`{}` waits for its end", session.typing.command("wait"))));
        }
        let mut found = service(&session, &observed).await?;
        if let Some(aws) = session.cloud.aws() {
            match aws.drift(&session.target).await? {
                Some(resources) => found.extend(resources.into_iter().flat_map(resource)),
                None => cx.out.warning("there is no stack that could be compared; `dbird status` says how it stands"),
            }
        }
        let count = found.len();
        found.into_iter().for_each(|view| cx.out.event(Event::Drift(view)));
        let live = Some(session::live(&observed));
        if count == 0 {
            cx.out.event(Event::Unchanged { text: "No drift: what is live is what was released.".to_owned() });
            return Ok(Done { exit_code: 0, outcome: "unchanged", live });
        }
        cx.out.note("`dbird deploy` puts right what belongs to the service; what belongs to the stack, change back by hand, or in its template.");
        Ok(Done { exit_code: if args.exit_code { 4 } else { 0 }, outcome: "changes", live })
    })
}

/// What is live of the release that serves, against its record. The plan that would bring it back says what differs.
async fn service(session: &Session, observed: &Observed) -> Result<Vec<DriftView>> {
    let serving = session.serving(observed).await?;
    let (preview, course) = (Preview::default(), session.course()?);
    let input = Input {
        documents: &serving.documents,
        observed,
        preview: &preview,
        image: serving.image.clone(),
        reason: Reason::Deploy,
        course: Some(&course),
        copies: session.spec.scale.min,
        delete_data: &[],
    };
    let plan = planning::plan(&input).map_err(|e| Failure::usage("what is live can't be compared").because(&e))?;
    let mut found = Vec::new();
    for step in plan.steps.into_iter().filter(|s| s.action.acts()) {
        let of = if step.kind == StepKind::Service { "service" } else { step.id.0.as_str() }.to_owned();
        if step.action == Action::Create {
            found.push(DriftView { of, what: step.title, path: String::new(), expected: None, actual: None });
            continue;
        }
        found.extend(step.changes.into_iter().map(|change| DriftView {
            of: of.clone(),
            what: step.title.clone(),
            path: change.path,
            expected: change.after,
            actual: change.before,
        }));
    }
    // Nothing is under way, so all of the traffic should be where the record says.
    found.extend(observed.releases.iter().filter(|r| r.id == serving.id && r.weight != 100).map(|r| DriftView {
        of: "service".to_owned(),
        what: format!("traffic of {}", r.id),
        path: "weight".to_owned(),
        expected: Some(Value::from(100)),
        actual: Some(Value::from(r.weight)),
    }));
    Ok(found)
}

fn resource(drifted: dbird_aws::drift::Drifted) -> Vec<DriftView> {
    let what = format!("{} ({})", drifted.resource, drifted.kind);
    if drifted.is_deleted || drifted.differences.is_empty() {
        return vec![DriftView { of: "stack".to_owned(), what, path: String::new(), expected: None, actual: None }];
    }
    let view = |d: dbird_aws::drift::Difference| DriftView {
        of: "stack".to_owned(),
        what: what.clone(),
        path: d.path.trim_start_matches('/').replace('/', "."),
        expected: Some(Value::String(d.expected)),
        actual: Some(Value::String(d.actual)),
    };
    drifted.differences.into_iter().map(view).collect()
}
