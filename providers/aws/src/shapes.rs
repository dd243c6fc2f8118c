//! The shapes of what is asked and answered, written to a file where somebody wants to compare two clouds that should be
//! alike: which members each request and each answer had. No value is ever written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use dbird_core::provider::{ErrorKind, Result};
use serde_json::json;

use crate::error::{Adding, fault};

/// An answer is not looked into deeper than this.
const DEPTH_MAX: usize = 24;

/// Writes shapes, if somebody named a file for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    file: Option<Arc<Mutex<File>>>,
}

impl Shapes {
    /// Appends to this file.
    pub(crate) fn to(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Shapes::default()) };
        match File::options().create(true).append(true).open(path) {
            Ok(file) => Ok(Shapes { file: Some(Arc::new(Mutex::new(file))) }),
            Err(error) => {
                Err(fault(ErrorKind::Invalid, "record shapes", path.display().to_string(), "the file can't be written")
                    .because(&error))
            }
        }
    }
}

/// What a request was like, until its answer is there.
#[derive(Debug)]
struct Asked(BTreeSet<String>);

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Shapes {
    fn name(&self) -> &'static str {
        "dbird-shapes"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if self.file.is_some() {
            cfg.interceptor_state().store_put(Asked(shape(&format!("{:?}", context.input()))));
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let (Some(file), Some(metadata)) = (&self.file, cfg.load::<Metadata>()) else { return Ok(()) };
        let output = context.output_or_error().and_then(std::result::Result::ok);
        let line = json!({
            "service": metadata.service(),
            "operation": metadata.name(),
            "ok": output.is_some(),
            "status": context.response().map(|response| response.status().as_u16()),
            "input": cfg.load::<Asked>().map(|asked| &asked.0),
            "output": output.map(|output| shape(&format!("{output:?}"))),
        });
        // Nothing depends on the file; whoever compares sees that it ends early.
        let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        Ok(())
    }
}

/// The members that a value has, as paths: `stacks[].outputs[].output_key`. Read from what the SDK's types say of themselves,
/// which is alike for every protocol.
fn shape(text: &str) -> BTreeSet<String> {
    let mut reader = Reader { rest: text.split_once("]:").map_or(text, |(_, rest)| rest), found: BTreeSet::new() };
    reader.value("", 0);
    reader.found
}

struct Reader<'a> {
    rest: &'a str,
    found: BTreeSet<String>,
}

impl Reader<'_> {
    /// Reads one value; true where it is more than nothing.
    fn value(&mut self, path: &str, depth: usize) -> bool {
        self.blank();
        let name: String = self.rest.chars().take_while(|c| c.is_alphanumeric() || "_-.+:".contains(*c)).collect();
        let (after, leaf) = (self.rest.get(name.len()..).unwrap_or_default(), depth > DEPTH_MAX);
        match after.chars().next() {
            Some('"') if name.is_empty() => self.string(),
            Some('[') if name.is_empty() => return self.items(&format!("{path}[]"), ']', false, depth),
            Some('{') if name.is_empty() => return self.items(&format!("{path}{{}}"), '}', true, depth),
            Some('(') => {
                self.rest = after;
                // A variant with a value: what it says is the value's.
                let inner = if name == "Some" { path.to_owned() } else { String::new() };
                let had = self.items(&inner, ')', false, depth);
                if name == "Some" {
                    return had;
                }
            }
            Some(' ') if after.starts_with(" {") => {
                self.rest = &after[1..];
                // A time is one value.
                let inner = if name == "DateTime" || leaf { None } else { Some(path) };
                self.members(inner, depth);
                if inner.is_some() {
                    return true;
                }
            }
            _ => {
                self.rest = after;
                if name.is_empty() {
                    // What can't be read ends it.
                    self.rest = "";
                }
                if name == "None" {
                    return false;
                }
            }
        }
        if !path.is_empty() {
            self.found.insert(path.to_owned());
        }
        true
    }

    /// A list, a map or a variant's values, up to its end.
    fn items(&mut self, path: &str, end: char, keyed: bool, depth: usize) -> bool {
        self.rest = &self.rest[1..];
        let mut any = false;
        loop {
            self.blank();
            match self.rest.chars().next() {
                None => return any,
                Some(c) if c == end => {
                    self.rest = &self.rest[1..];
                    return any;
                }
                Some(',') => self.rest = &self.rest[1..],
                Some(_) => {
                    if keyed {
                        self.value("", depth + 1);
                        self.rest = self.rest.trim_start_matches(':');
                    }
                    any |= self.value(path, depth + 1);
                }
            }
        }
    }

    /// The members of a structure, up to its end.
    fn members(&mut self, path: Option<&str>, depth: usize) {
        self.rest = &self.rest[1..];
        loop {
            self.blank();
            match self.rest.chars().next() {
                None => return,
                Some('}') => {
                    self.rest = &self.rest[1..];
                    return;
                }
                Some(',' | '.') => self.rest = &self.rest[1..],
                Some(_) => {
                    let Some((name, rest)) = self.rest.split_once(": ") else {
                        self.rest = "";
                        return;
                    };
                    self.rest = rest;
                    // What begins so is the SDK's own: the id of the request.
                    match path.filter(|_| !name.starts_with('_')) {
                        None => {
                            let kept = std::mem::take(&mut self.found);
                            self.value("", depth + 1);
                            self.found = kept;
                        }
                        Some("") => {
                            self.value(name, depth + 1);
                        }
                        Some(path) => {
                            self.value(&format!("{path}.{name}"), depth + 1);
                        }
                    }
                }
            }
        }
    }

    fn string(&mut self) {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        self.rest = end.map_or("", |(at, _)| &self.rest[at + 1..]);
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksOutput;
    use aws_sdk_cloudformation::types::{Output, Stack, StackStatus};

    use super::*;

    fn paths(text: &str) -> Vec<String> {
        shape(text).into_iter().collect()
    }

    #[test]
    fn a_shape_has_members_and_no_values() {
        let stack = Stack::builder()
            .stack_name("bird \"one\"")
            .creation_time(aws_smithy_types::DateTime::from_secs(1))
            .stack_status(StackStatus::CreateComplete)
            .outputs(Output::builder().output_key("Url").output_value("http://a, b: {c}").build())
            .build();
        let text = format!("{:?}", DescribeStacksOutput::builder().stacks(stack).build());
        let wanted = [
            "stacks[].creation_time",
            "stacks[].outputs[].output_key",
            "stacks[].outputs[].output_value",
            "stacks[].stack_name",
            "stacks[].stack_status",
        ];
        assert_eq!(paths(&text), wanted, "{text}");
    }

    #[test]
    fn what_is_absent_is_no_member() {
        let cases: [(&str, &[&str]); 7] = [
            ("TypeErasedBox[!Clone]:A { b: None, c: Some([]), d: Some(5) }", &["d"]),
            ("A { tags: Some({\"k\": \"v\", \"l\": \"w\"}), _request_id: Some(\"x\") }", &["tags{}"]),
            ("A { kind: Some(Unknown(UnknownVariantValue(\"new\"))) }", &["kind"]),
            ("A { b: B { c: -1.5, d: true } }", &["b.c", "b.d"]),
            ("A { at: Some(DateTime { seconds: 1, subsecond_nanos: 0 }), b: 1 }", &["at", "b"]),
            ("A { b: \"x\\\\\", c: \"y\\\"}\" }", &["b", "c"]),
            ("A", &[]),
        ];
        for (text, wanted) in cases {
            assert_eq!(paths(text), wanted, "{text}");
        }
    }

    #[test]
    fn nonsense_ends() {
        for text in ["A {", "A { b", "[[[[", "A { b: \"x", "A { b: ] }", "}", ""] {
            shape(text);
        }
    }
}
