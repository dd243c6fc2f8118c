//! `dbird bootstrap`: what an account needs once, before the first environment: the bucket that keeps the state.

use dbird_aws::AwsProvider;
use serde_json::json;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    interrupt::Interrupts,
    output::{Event, events::StepState},
    session::Session,
};

/// The longest name that a bucket can have.
const NAME_CHARACTERS_MAX: usize = 63;

/// Make the bucket that keeps the state of all environments in an AWS account
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The bucket is made by a stack of its own, dbird-bootstrap-SERVICE: versioned, encrypted, closed to the public, TLS only, and
kept if the stack goes. Doing it again changes nothing. Its last line says what to write into environments/base.toml.

Examples:
    dbird bootstrap -c aws
    dbird bootstrap -c aws --bucket my-team-dbird-state")]
pub(crate) struct Args {
    /// The bucket's name, in all of AWS; without it, the one that `[cloud.aws] state` names, or SERVICE-dbird-ACCOUNT
    #[arg(long, value_name = "NAME", value_parser = bucket_name)]
    bucket: Option<String>,
}

fn bucket_name(text: &str) -> std::result::Result<String, String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if (3..=NAME_CHARACTERS_MAX).contains(&text.len())
        && inside
        && edge(text.chars().next())
        && edge(text.chars().last())
    {
        return Ok(text.to_owned());
    }
    Err(format!("3 to {NAME_CHARACTERS_MAX} small letters, digits and dashes, with none of these at an end"))
}

/// Asks, makes it, and says what to write down.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let spec = cx.spec()?;
    cx.work(async |interrupts| {
        let session = Session::open(cx, &spec, "bootstrap", Some(interrupts))?;
        let Some(aws) = session.cloud.aws() else {
            return Err(Failure::usage(format!("there is nothing to prepare for environments on {}", spec.cloud))
                .hint("`dbird bootstrap -c aws` makes the bucket that keeps the state"));
        };
        tokio::select! {
            done = make(args, cx, &session, aws, interrupts) => done,
            () = interrupts.first() => Err(Failure::new(crate::failure::FailureKind::Interrupted, "interrupted; AWS goes on with the stack")
                .hint("run the same command again: it follows the same stack")),
        }
    })
}

async fn make(
    args: &Args,
    cx: &Context,
    session: &Session,
    aws: &AwsProvider,
    interrupts: &Interrupts,
) -> Result<Done> {
    let service = &session.spec.service.name;
    let account = aws.account().await?;
    let own = format!("{service}-dbird-{account}");
    let configured = configured(&session.spec.state_url);
    let bucket = args.bucket.clone().or_else(|| configured.map(str::to_owned)).unwrap_or(own);
    let stack = format!("dbird-bootstrap-{service}");
    confirm(cx, &format!("Make the bucket {bucket} in account {account}, by the stack {stack}? [y/N]"), interrupts)
        .await?;
    let template = cx.project()?.bootstrap(&bucket, service)?;
    let document = json!({ "stack": stack, "tags": { "dbird:service": service }, "template": template });
    let (out, title) = (cx.out.clone(), format!("stack {stack}"));
    let step = |state| {
        let (step, title, took_ms) = ("bootstrap".to_owned(), title.clone(), out.elapsed_ms());
        out.event(Event::Step { step, title, state, took_ms });
    };
    step(StepState::Started);
    let mut told = |event: &dbird_core::provider::ProgressEvent| {
        let (step, happened_unix_ms) = ("bootstrap".to_owned(), event.at_unix_ms);
        out.event(Event::Happened { step, happened_unix_ms, text: event.text.clone() });
    };
    let outputs = aws.bootstrap(&document, &mut told).await.inspect_err(|_| step(StepState::Failed))?;
    step(StepState::Done);
    let made = outputs.get("Bucket").cloned().unwrap_or(bucket);
    let line = format!("[cloud.aws]\nstate = \"s3://{made}\"");
    if configured == Some(made.as_str()) {
        cx.out.note(format!("The state is kept in {}, as this environment says.", session.spec.state_url));
    } else {
        cx.out.note("Write this into environments/base.toml, and every environment keeps its state there:");
        cx.out.event(Event::Text { topic: "state".to_owned(), text: line });
    }
    Ok(Done::success())
}

/// The bucket that the configuration names already.
fn configured(url: &str) -> Option<&str> {
    url.strip_prefix("s3://")?.split('/').next().filter(|name| !name.is_empty())
}

async fn confirm(cx: &Context, question: &str, interrupts: &Interrupts) -> Result<()> {
    if cx.global.yes {
        return Ok(());
    }
    if !cx.out.is_interactive() {
        return Err(Failure::usage("this makes a bucket, and there is no terminal to ask on").hint("-y confirms it"));
    }
    match super::ask(cx, interrupts, question).await?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::failed("not confirmed; nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_that_s3_takes() {
        let cases =
            [("my-state", true), ("ab", false), ("-abc", false), ("abc-", false), ("My", false), ("a_b_c", false)];
        for (name, taken) in cases {
            assert_eq!(bucket_name(name).is_ok(), taken, "{name}");
        }
        assert!(bucket_name(&"a".repeat(64)).is_err());
    }

    #[test]
    fn the_configuration_may_name_the_bucket() {
        for (url, wanted) in [("s3://b/prod", Some("b")), ("s3://b", Some("b")), ("file:.dbird/state", None)] {
            assert_eq!(configured(url), wanted);
        }
    }
}
