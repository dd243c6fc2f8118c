//! Why an operation on a stack failed: the first thing that failed by itself, of all that CloudFormation then gave up.

use crate::stack::events::{Events, Happened};

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// As it was wanted.
    Well,
    /// It failed; a sentence without its full stop.
    Failed(String),
}

/// How the operation on this stack ended; none while it is under way.
pub(crate) fn end(events: &Events, stack: &str) -> Option<End> {
    let status = events.status()?.status.as_str();
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "DELETE_COMPLETE" => Some(End::Well),
        _ if status.ends_with("_FAILED") || status.ends_with("ROLLBACK_COMPLETE") => {
            Some(End::Failed(why(events, stack, status)))
        }
        _ => None,
    }
}

fn why(events: &Events, stack: &str, status: &str) -> String {
    let done = match status {
        "DELETE_FAILED" => "could not be deleted",
        "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => "could not be made",
        "IMPORT_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_FAILED" => "could not take over what was there",
        _ => "could not be changed",
    };
    let first = match first_cause(events) {
        Some(event) => format!(": {}", said(event)),
        None => events.status().map(|e| format!(": {}", e.reason)).filter(|r| r.len() > 2).unwrap_or_default(),
    };
    let left = match status {
        "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => "; what was changed was undone".to_owned(),
        "UPDATE_ROLLBACK_FAILED" | "IMPORT_ROLLBACK_FAILED" => format!(
            "; undoing it failed too, at {}. Put that right, then run `dbird deploy`: it first goes on with undoing",
            not_undone(events)
        ),
        "ROLLBACK_FAILED" => {
            "; removing what had been made failed too. Run `dbird deploy`: it first removes what is left".to_owned()
        }
        _ => String::new(),
    };
    let next = match first_cause(events) {
        Some(event) if left.is_empty() || status == "UPDATE_ROLLBACK_COMPLETE" => remedy(&event.reason),
        _ => "",
    };
    format!("the stack {stack} {done}{first}{left}{next}")
}

/// What to do about it, by the code that CloudFormation's handlers give.
fn remedy(reason: &str) -> &'static str {
    let code = reason.rsplit_once("HandlerErrorCode: ").map_or("", |(_, code)| code.trim_end_matches(['.', ')']));
    match code {
        "AlreadyExists" => {
            ". Something else made it, and dbird leaves it alone: delete it, or give this service or environment another \
             name; then run `dbird deploy`"
        }
        "ServiceLimitExceeded" => ". Ask for a higher quota (`dbird doctor` shows them), then run `dbird deploy`",
        "AccessDenied" => {
            ". `dbird doctor --print-policy` prints the permissions that are needed; then run `dbird deploy`"
        }
        _ => ". Put that right, then run `dbird deploy`",
    }
}

/// The first resource that failed by itself.
pub(crate) fn first_cause(events: &Events) -> Option<&Happened> {
    let cancelled = |e: &Happened| {
        e.reason.starts_with("Resource ") && (e.reason.contains("cancelled") || e.reason.contains("canceled"))
    };
    let failed = || events.0.iter().filter(|e| !e.whole && e.status.ends_with("_FAILED"));
    failed().find(|e| !cancelled(e)).or_else(|| failed().next())
}

/// What could not be undone.
fn not_undone(events: &Events) -> String {
    let undoing = events.0.iter().position(|e| e.whole && e.status.contains("ROLLBACK_IN_PROGRESS")).unwrap_or(0);
    let failed: Vec<String> =
        events.0[undoing..].iter().filter(|e| !e.whole && e.status.ends_with("_FAILED")).map(said).collect();
    if failed.is_empty() { "the stack itself".to_owned() } else { failed.join("; ") }
}

fn said(event: &Happened) -> String {
    let kind = event.kind.trim_start_matches("AWS::").replace("::", " ");
    let id = if event.physical.is_empty() { String::new() } else { format!(" {}", event.physical) };
    let reason = if event.reason.is_empty() { "no reason was given" } else { plain(&event.reason) };
    format!("{} ({kind}{id}): {reason}", event.logical)
}

/// A reason without what CloudFormation's handlers wrap it in.
fn plain(reason: &str) -> &str {
    let inner = reason.strip_prefix("Resource handler returned message: \"");
    let inner = inner.and_then(|rest| Some(rest.rsplit_once("\" (RequestToken:")?.0));
    inner.unwrap_or(reason).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::events::tests::event;

    const STACK: &str = "bird-dev";

    fn ended(events: &[(&str, &str, &str)]) -> Option<End> {
        end(&Events(events.iter().map(|(id, status, reason)| event(id, status, reason)).collect()), STACK)
    }

    #[test]
    fn an_operation_ends_when_its_stack_does() {
        for open in ["CREATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"] {
            assert_eq!(ended(&[(STACK, open, "")]), None, "{open}");
        }
        for well in ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE"] {
            assert_eq!(ended(&[(STACK, well, "")]), Some(End::Well), "{well}");
        }
        assert_eq!(ended(&[("Vpc", "CREATE_COMPLETE", "")]), None);
    }

    #[test]
    fn the_first_cause_is_not_what_was_given_up_because_of_it() {
        let end = ended(&[
            (STACK, "CREATE_IN_PROGRESS", ""),
            ("Subnet", "CREATE_FAILED", "Resource creation cancelled"),
            ("Vpc", "CREATE_FAILED", "The maximum number of VPCs has been reached."),
            ("Role", "CREATE_FAILED", "Something later"),
            (STACK, "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Subnet, Vpc]"),
            (STACK, "ROLLBACK_COMPLETE", ""),
        ]);
        let Some(End::Failed(why)) = end else { panic!("{end:?}") };
        assert_eq!(
            why,
            "the stack bird-dev could not be made: Vpc (EC2 VPC): The maximum number of VPCs has been reached. Put that \
             right, then run `dbird deploy`"
        );
    }

    #[test]
    fn what_somebody_else_made_is_named_with_what_to_do() {
        let reason = "Resource handler returned message: \"The log group x already exists. (Service: Logs)\" \
                      (RequestToken: 1-2, HandlerErrorCode: AlreadyExists)";
        let end = ended(&[("Logs", "CREATE_FAILED", reason), (STACK, "ROLLBACK_COMPLETE", "")]);
        let Some(End::Failed(why)) = end else { panic!("{end:?}") };
        assert!(why.contains("The log group x already exists. (Service: Logs). Something else made it"), "{why}");
        assert!(!why.contains("RequestToken") && why.contains("`dbird deploy`"), "{why}");
        let codes = [
            ("ServiceLimitExceeded", "quota"),
            ("AccessDenied", "--print-policy"),
            ("NotStabilized", "`dbird deploy`"),
        ];
        for (code, said) in codes {
            assert!(remedy(&format!("no (RequestToken: 1, HandlerErrorCode: {code})")).contains(said), "{code}");
        }
    }

    #[test]
    fn a_stack_that_is_stuck_says_where_and_what_to_do() {
        let end = ended(&[
            ("Listener", "UPDATE_FAILED", "bad certificate"),
            (STACK, "UPDATE_ROLLBACK_IN_PROGRESS", ""),
            ("Role", "UPDATE_FAILED", "not found"),
            (STACK, "UPDATE_ROLLBACK_FAILED", "The following resource(s) failed to update: [Role]"),
        ]);
        let Some(End::Failed(why)) = end else { panic!("{end:?}") };
        for part in ["bad certificate", "undoing it failed too, at Role (EC2 VPC): not found", "`dbird deploy`"] {
            assert!(why.contains(part), "{part} is missing in: {why}");
        }
    }
}
