//! What CloudFormation tells of an operation: its events, oldest first, and what they add up to. Events of other operations
//! on the same stack are left out.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::StackEvent;
use dbird_core::provider::ProgressEvent;
use dbird_core::provider::Result;

use crate::AwsProvider;
use crate::clock::CloudClock;
use crate::error::{Answer, code, message};

/// More events than this are not kept.
const EVENTS_MAX: usize = 1_000;
/// An operation has no more pages of them than this.
const PAGES_MAX: usize = 20;
/// By so much this machine's clock may be ahead of AWS's.
const SKEW_MS: u64 = 5_000;
/// Resources that are named while one waits for them.
const NAMED_MAX: usize = 4;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) id: String,
    pub(crate) at_unix_ms: u64,
    pub(crate) logical: String,
    pub(crate) physical: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) token: String,
    /// It is about the stack itself.
    pub(crate) whole: bool,
}

impl Happened {
    fn of(event: StackEvent) -> Self {
        let at = event.timestamp.and_then(|t| t.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok());
        let physical = event.physical_resource_id.unwrap_or_default();
        Happened {
            id: event.event_id.unwrap_or_default(),
            at_unix_ms: at.unwrap_or_default(),
            whole: event.resource_type.as_deref() == Some("AWS::CloudFormation::Stack")
                && event.stack_id.as_deref() == Some(&physical),
            physical,
            logical: event.logical_resource_id.unwrap_or_default(),
            kind: event.resource_type.unwrap_or_default(),
            status: event.resource_status.map(|s| s.as_str().to_owned()).unwrap_or_default(),
            reason: event.resource_status_reason.unwrap_or_default(),
            token: event.client_request_token.unwrap_or_default(),
        }
    }

    /// True for an event of the operation with this token that was asked for at this time.
    fn is_of(&self, token: &str, since_unix_ms: u64) -> bool {
        if self.token.is_empty() { self.at_unix_ms + SKEW_MS >= since_unix_ms } else { self.token == token }
    }

    /// The first event of an operation.
    fn begins(&self) -> bool {
        let first = ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"];
        self.whole && first.contains(&self.status.as_str())
    }

    /// The event as people see it.
    fn told(&self, clock: &CloudClock) -> ProgressEvent {
        let kind = self.kind.trim_start_matches("AWS::").replace("::", " ");
        let status = self.status.to_lowercase().replace('_', " ");
        let what = if self.whole { format!("stack {}", self.logical) } else { format!("{} ({kind})", self.logical) };
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        ProgressEvent { at_unix_ms: clock.here_unix_ms(self.at_unix_ms), text: format!("{what}: {status}{why}") }
    }
}

/// The events of one operation so far, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Events(pub(crate) Vec<Happened>);

impl Events {
    /// Adds what happened since; the operation is known by its token, or where AWS tells none, by when it began.
    pub(crate) async fn read_on(
        &mut self,
        aws: &AwsProvider,
        stack: &str,
        token: &str,
        since_unix_ms: u64,
    ) -> Result<()> {
        let last = self.0.last().map(|e| e.id.clone());
        let mut new: Vec<Happened> = Vec::new();
        let mut page = None;
        'pages: for _ in 0..PAGES_MAX {
            let client = aws.clients.cloudformation().await;
            let answer = client.describe_stack_events().stack_name(stack).set_next_token(page.take()).send().await;
            let answer = match answer {
                Err(error) if code(&error) == "ValidationError" && message(&error).contains("does not exist") => break,
                answer => answer.or_fault("read the stack's events", stack)?,
            };
            for event in answer.stack_events.unwrap_or_default().into_iter().map(Happened::of) {
                let begins = event.begins();
                if Some(&event.id) == last.as_ref() {
                    break 'pages;
                }
                new.push(event);
                if begins {
                    break 'pages;
                }
            }
            match answer.next_token {
                None => break,
                next => page = next,
            }
        }
        new.reverse();
        self.0.extend(new.into_iter().filter(|e| e.is_of(token, since_unix_ms)));
        let more = self.0.len().saturating_sub(EVENTS_MAX);
        self.0.drain(..more);
        Ok(())
    }

    /// What the stack itself was last said to be; none before its first word.
    pub(crate) fn status(&self) -> Option<&Happened> {
        self.0.iter().rev().find(|e| e.whole)
    }

    /// What is waited for.
    pub(crate) fn waiting_for(&self, stack: &str) -> String {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for event in self.0.iter().filter(|e| !e.whole) {
            last.insert(&event.logical, &event.status);
        }
        let open: Vec<&str> =
            last.into_iter().filter(|(_, status)| status.ends_with("_IN_PROGRESS")).map(|(id, _)| id).collect();
        match open.len() {
            0 => format!("the stack {stack}"),
            n if n <= NAMED_MAX => open.join(", "),
            n => format!("{} and {} more", open[..NAMED_MAX].join(", "), n - NAMED_MAX),
        }
    }

    /// All of it for people.
    pub(crate) fn told(&self, clock: &CloudClock) -> Vec<ProgressEvent> {
        self.0.iter().map(|e| e.told(clock)).collect()
    }
}

/// The token of the operation that is under way, or was the last.
pub(crate) async fn token_of(aws: &AwsProvider, stack: &str) -> Result<String> {
    let client = aws.clients.cloudformation().await;
    let answer = client.describe_stack_events().stack_name(stack).send().await;
    let events = answer.or_fault("read the stack's events", stack)?.stack_events.unwrap_or_default();
    let last = events.into_iter().map(Happened::of).find(|e| e.whole);
    Ok(last.map(|e| e.token).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(logical: &str, status: &str, reason: &str) -> Happened {
        Happened {
            id: format!("{logical}-{status}"),
            logical: logical.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            kind: "AWS::EC2::VPC".to_owned(),
            whole: logical == "bird-dev",
            ..Happened::default()
        }
    }

    #[test]
    fn what_is_waited_for_is_what_is_under_way() {
        let mut events = Events(vec![event("bird-dev", "CREATE_IN_PROGRESS", "")]);
        assert_eq!(events.waiting_for("bird-dev"), "the stack bird-dev");
        events.0.push(event("Vpc", "CREATE_IN_PROGRESS", ""));
        assert_eq!(events.waiting_for("bird-dev"), "Vpc");
        events.0.push(event("Vpc", "CREATE_COMPLETE", ""));
        for name in ["A", "B", "C", "D", "E", "F"] {
            events.0.push(event(name, "CREATE_IN_PROGRESS", ""));
        }
        assert_eq!(events.waiting_for("bird-dev"), "A, B, C, D and 2 more");
    }

    #[test]
    fn an_operation_has_its_own_events_only() {
        let at = |token: &str, at_unix_ms| Happened { token: token.to_owned(), at_unix_ms, ..event("Vpc", "X", "") };
        for (event, ours) in [
            (at("mine", 0), true),
            (at("other", 99_000), false),
            (at("", 1_000), false),
            (at("", 99_000), true),
            (at("", 95_000), true),
        ] {
            assert_eq!(event.is_of("mine", 99_000), ours, "{event:?}");
        }
    }

    #[test]
    fn an_event_says_what_and_why() {
        let clock = CloudClock::of(None).unwrap();
        let text = event("Vpc", "CREATE_FAILED", "no more of them").told(&clock).text;
        assert_eq!(text, "Vpc (EC2 VPC): create failed: no more of them");
    }
}
