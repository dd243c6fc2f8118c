//! How often the cloud was asked. A request is distinct by its operation and parameters; the same once more is a repeat, and
//! the store and the registry are counted apart.

use std::collections::BTreeMap;

use super::account::Call;

/// Operations that begin so change nothing.
const READS: [&str; 5] = ["Describe", "Get", "List", "BatchGet", "Filter"];

/// The requests of one command.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    /// To the control plane, each different one once.
    pub(super) distinct: usize,
    /// The same ones again.
    pub(super) repeated: usize,
    /// To the control plane, calls that change something.
    pub(super) changing: usize,
    /// To the store, but for those that look again whether somebody asked for something.
    pub(super) store: usize,
    /// These.
    pub(super) store_polls: usize,
    /// To the image registry.
    pub(super) registry: u64,
    operations: BTreeMap<String, (usize, usize)>,
}

impl Requests {
    /// Of these calls, and so many requests to the registry.
    pub(super) fn of(calls: &[Call], registry: u64) -> Requests {
        let mut requests = Requests { registry, ..Requests::default() };
        let mut seen: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for call in calls {
            if call.service == "s3" {
                let polls = call.operation == "GetObject" && call.input.contains("/requests/");
                *(if polls { &mut requests.store_polls } else { &mut requests.store }) += 1;
                continue;
            }
            *seen.entry((&call.service, &call.operation, &call.input)).or_default() += 1;
            requests.changing += usize::from(!is_read(&call.operation));
        }
        for ((service, operation, _), times) in seen {
            requests.distinct += 1;
            requests.repeated += times - 1;
            let of_operation = requests.operations.entry(format!("{service}:{operation}")).or_default();
            of_operation.0 += 1;
            of_operation.1 += times - 1;
        }
        requests
    }

    /// In a sentence.
    pub(super) fn told(&self) -> String {
        let Requests { distinct, repeated, store, store_polls, registry, .. } = self;
        let store = store + store_polls;
        format!(
            "{distinct} (besides: {repeated} repeated polls and looks, {store} to the store, {registry} to the registry)"
        )
    }

    /// Every operation, with how many different requests and repeats.
    pub(super) fn listed(&self) -> String {
        let lines =
            self.operations.iter().map(|(name, (distinct, repeated))| format!("  {name}: {distinct} + {repeated}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// True for an operation that changes nothing.
pub(super) fn is_read(operation: &str) -> bool {
    READS.iter().any(|read| operation.starts_with(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_is_distinct_once() {
        let call = |service: &str, operation: &str, input: &str| Call {
            at_ms: 0.0,
            service: service.to_owned(),
            operation: operation.to_owned(),
            input: input.to_owned(),
        };
        let calls = [
            call("ecs", "DescribeServices", "a"),
            call("ecs", "DescribeServices", "b"),
            call("ecs", "DescribeServices", "a"),
            call("ecs", "CreateService", "a"),
            call("s3", "PutObject", "a"),
            call("s3", "GetObject", r#"{"Key":"dbird/aws/bird/dev/requests/00000000/000000000001.json"}"#),
            call("sts", "GetCallerIdentity", ""),
        ];
        let requests = Requests::of(&calls, 7);
        assert_eq!((requests.distinct, requests.repeated, requests.changing), (4, 1, 1));
        assert_eq!((requests.store, requests.store_polls, requests.registry), (1, 1, 7));
        assert!(requests.listed().contains("ecs:DescribeServices: 2 + 1"), "{}", requests.listed());
    }
}
