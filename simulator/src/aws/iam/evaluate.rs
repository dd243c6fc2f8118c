//! What policies say of an action on a resource: a denial wins, and what nothing allows is not allowed. Conditions count as met.

use serde_json::Value;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    NotAllowed,
    Denied,
}

/// Decides on an action (`ecs:RunTask`) on a resource (an ARN or `*`).
pub(crate) fn decide(policies: &[Value], action: &str, resource: &str) -> Decision {
    let mut decision = Decision::NotAllowed;
    for statement in policies.iter().flat_map(statements) {
        let action_fits = fits(statement, "Action", "NotAction", |pattern| {
            matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
        });
        let resource_fits = fits(statement, "Resource", "NotResource", |pattern| matches(pattern, resource));
        if !(action_fits && resource_fits) {
            continue;
        }
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Deny") => return Decision::Denied,
            Some("Allow") => decision = Decision::Allowed,
            _ => {}
        }
    }
    decision
}

/// A policy's statements, whether it has one or several.
pub(crate) fn statements(policy: &Value) -> &[Value] {
    match policy.get("Statement") {
        Some(Value::Array(all)) => all,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
}

/// A text or a list of texts.
pub(crate) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let all = match value {
        Value::Array(all) => &all[..],
        one => std::slice::from_ref(one),
    };
    all.iter().filter_map(Value::as_str)
}

fn fits(statement: &Value, named: &str, excluded: &str, fit: impl Fn(&str) -> bool) -> bool {
    match (statement.get(named), statement.get(excluded)) {
        (Some(patterns), _) => texts(patterns).any(fit),
        (None, Some(patterns)) => !texts(patterns).any(fit),
        (None, None) => false,
    }
}

/// Whether text fits a pattern with `*` and `?`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_decide() {
        let read = json!({ "Statement": { "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "arn:aws:secretsmanager:*:*:secret:bird/*" } });
        let broad = json!({ "Statement": [
            { "Effect": "Allow", "Action": ["ecs:*", "LOGS:Put*"], "Resource": "*" },
            { "Effect": "Deny", "Action": "ecs:DeleteCluster", "Resource": "*" },
        ] });
        let not = json!({ "Statement": [{ "Effect": "Allow", "NotAction": "iam:*", "Resource": "*" }] });
        let table: &[(&Value, &str, &str, Decision)] = &[
            (
                &read,
                "secretsmanager:GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:bird/key",
                Decision::Allowed,
            ),
            (
                &read,
                "secretsmanager:GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:other",
                Decision::NotAllowed,
            ),
            (
                &read,
                "secretsmanager:PutSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:bird/key",
                Decision::NotAllowed,
            ),
            (&broad, "ecs:RunTask", "*", Decision::Allowed),
            (&broad, "logs:PutLogEvents", "x", Decision::Allowed),
            (&broad, "ecs:DeleteCluster", "x", Decision::Denied),
            (&not, "ecs:RunTask", "x", Decision::Allowed),
            (&not, "iam:CreateUser", "x", Decision::NotAllowed),
        ];
        for (policy, action, resource, expected) in table {
            assert_eq!(decide(std::slice::from_ref(*policy), action, resource), *expected, "{action} {resource}");
        }
    }

    #[test]
    fn patterns_match() {
        let table = [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "axxbyyc", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
