//! What requests about stacks have in common: the template that they carry, tags, tokens, names.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    engine::OnFailure,
    template::{BODY_BYTES_MAX, Template, invalid},
};
use crate::aws::{Fault, World, flag, list, text};

/// The template of a request: in it, in S3, or the one that the stack has.
pub(crate) fn template(world: &World, input: &Value, before: Option<&Template>) -> Result<Template, Fault> {
    match (text(input, "TemplateBody"), text(input, "TemplateURL"), before) {
        (Some(body), None, _) if body.len() > BODY_BYTES_MAX => Err(invalid(format!(
            "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length less \
             than or equal to {BODY_BYTES_MAX}"
        ))),
        (Some(body), None, _) => Template::parse(body),
        (None, Some(url), _) => Template::parse(&from_s3(world, url)?),
        (None, None, Some(before)) if flag(input, "UsePreviousTemplate") == Some(true) => Ok(before.clone()),
        _ => Err(invalid("Either Template URL or Template Body must be specified.".to_owned())),
    }
}

/// Tags of a request.
pub(crate) fn tags(input: &Value) -> Result<Option<BTreeMap<String, String>>, Fault> {
    if input.get("Tags").is_none() {
        return Ok(None);
    }
    let mut tags = BTreeMap::new();
    for tag in list(input, "Tags") {
        let key = text(tag, "Key").unwrap_or_default();
        if key.is_empty() || key.starts_with("aws:") {
            return Err(invalid("Tag keys can't be empty or begin with aws:".to_owned()));
        }
        tags.insert(key.to_owned(), text(tag, "Value").unwrap_or_default().to_owned());
    }
    if tags.len() > 50 {
        return Err(invalid("Member must have length less than or equal to 50".to_owned()));
    }
    Ok(Some(tags))
}

/// Whether what the template makes was acknowledged.
pub(crate) fn capabilities(input: &Value, template: &Template) -> Result<Vec<String>, Fault> {
    let given: Vec<String> = list(input, "Capabilities").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let enough = match template.capability() {
        None => true,
        Some("CAPABILITY_NAMED_IAM") => given.iter().any(|one| one == "CAPABILITY_NAMED_IAM"),
        Some(_) => given.iter().any(|one| one == "CAPABILITY_NAMED_IAM" || one == "CAPABILITY_IAM"),
    };
    match template.capability() {
        Some(needed) if !enough => {
            Err(Fault::new("InsufficientCapabilitiesException", format!("Requires capabilities : [{needed}]")))
        }
        _ => Ok(given),
    }
}

/// A stack's or change set's name as CloudFormation takes it.
pub(crate) fn checked_name(name: &str, what: &str) -> Result<(), Fault> {
    let good = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match good {
        true => Ok(()),
        false => Err(invalid(format!(
            "1 validation error detected: Value '{name}' at '{what}' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
        ))),
    }
}

/// What is to become of it when it fails.
pub(crate) fn on_failure(input: &Value) -> OnFailure {
    match (flag(input, "DisableRollback"), text(input, "OnFailure").or(text(input, "OnStackFailure"))) {
        (Some(true), _) | (_, Some("DO_NOTHING")) => OnFailure::Nothing,
        (_, Some("DELETE")) => OnFailure::Delete,
        _ => OnFailure::Rollback,
    }
}

fn from_s3(world: &World, url: &str) -> Result<String, Fault> {
    let wrong = || invalid(format!("S3 error: The template at {url} can't be read"));
    let url = url::Url::parse(url).map_err(|_| wrong())?;
    let path = crate::aws::wire::unescaped(url.path().trim_start_matches('/'));
    let host = url.host_str().unwrap_or_default();
    // `bucket.s3.region.amazonaws.com/key`, or `host/bucket/key`.
    let (bucket, key) = match host.split_once(".s3") {
        Some((bucket, _)) => (bucket, path.as_str()),
        None => path.split_once('/').ok_or_else(wrong)?,
    };
    let object = world.s3.read(world, bucket, key).ok_or_else(wrong)?;
    String::from_utf8(object).map_err(|_| wrong())
}
