//! What was asked and answered: kept for whoever counts, and written to a file for whoever judges it. Secrets' values are
//! masked in both.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Answer, Call};

/// How many of the last calls are kept in memory; all are counted.
const KEPT_MAX: usize = 20_000;

/// Members whose value is a secret wherever they stand.
const SECRET: &[&str] =
    &["SecretString", "SecretBinary", "authorizationToken", "SecretAccessKey", "SessionToken", "Password"];

/// Every call so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    counts: BTreeMap<String, u64>,
    last: VecDeque<Value>,
}

impl State {
    fn count(&mut self, service: &str, operation: &str) {
        *self.counts.entry(format!("{service}:{operation}")).or_default() += 1;
    }
}

impl Record {
    /// One that is also written to a file, if one is named.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub(crate) fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let file = match path {
            Some(path) => Some(File::options().create(true).append(true).open(path)?),
            None => None,
        };
        Ok(Record { state: Mutex::new(State { file, ..State::default() }) })
    }

    /// Adds a call with its answer.
    pub(crate) fn add(&self, call: &Call, status: u16, answer: &Answer, at_unix_ms: u64, took: Duration) {
        let took_ms = (took.as_secs_f64() * 1000.0 * 100.0).round() / 100.0;
        let (output, code) = match answer {
            Ok(output) => (masked(&call.service, output), Value::Null),
            Err(fault) => (json!({ "message": fault.message }), Value::String(fault.code.clone())),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut state.file {
            let line = json!({
                "at": at_unix_ms, "service": call.service, "operation": call.operation,
                "input": masked(&call.service, &call.input), "status": status, "output": output, "code": code,
                "took_ms": took_ms,
            });
            // Nothing depends on the file; whoever reads it notices that it ends early.
            let _ = writeln!(file, "{line}");
        }
        state.count(&call.service, &call.operation);
        if state.last.len() == KEPT_MAX {
            state.last.pop_front();
        }
        let line = json!({
            "at": at_unix_ms, "service": call.service, "operation": call.operation, "status": status, "code": code,
            "took_ms": took_ms,
        });
        state.last.push_back(line);
    }

    /// Counts a request that is no call of the account's API.
    pub(crate) fn count(&self, service: &str, operation: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).count(service, operation);
    }

    /// The counts by service and operation, and the last calls without what was in them.
    pub(crate) fn report(&self) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "total": state.counts.values().sum::<u64>(), "counts": state.counts, "calls": state.last })
    }
}

/// The same without the values of secrets.
fn masked(service: &str, value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(service, item)).collect()),
        Value::Object(members) => {
            let secure = service == "ssm" && (members.contains_key("Type") || members.contains_key("Name"));
            let hide = |name: &str| SECRET.contains(&name) || (secure && name == "Value");
            let member = |(name, value): (&String, &Value)| match value {
                Value::String(_) if hide(name) => (name.clone(), Value::from("***")),
                value => (name.clone(), masked(service, value)),
            };
            Value::Object(members.iter().map(member).collect())
        }
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_calls_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let record = Record::open(Some(&path)).unwrap();
        let call = |service: &str, operation: &str, input: Value| Call {
            service: service.to_owned(),
            operation: operation.to_owned(),
            input,
        };
        let answers = [
            (call("secretsmanager", "GetSecretValue", json!({ "SecretId": "a" })), json!({ "SecretString": "canary" })),
            (call("ssm", "PutParameter", json!({ "Name": "/a", "Value": "canary" })), json!({})),
            (call("ssm", "GetParameters", json!({})), json!({ "Parameters": [{ "Name": "/a", "Value": "canary" }] })),
            (
                call("ecr", "GetAuthorizationToken", json!({})),
                json!({ "authorizationData": [{ "authorizationToken": "canary" }] }),
            ),
        ];
        for (call, answer) in answers {
            record.add(&call, 200, &Ok(answer), 1, Duration::from_millis(2));
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 4);
        assert!(!written.contains("canary"), "{written}");
        assert_eq!(record.report()["counts"]["ssm:PutParameter"], 1);
        assert_eq!(record.report()["total"], 4);
    }
}
