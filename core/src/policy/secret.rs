//! The policy about secrets in files that everybody can read.

use super::{EVERYWHERE, Policy};
use crate::environment::{Finding, Severity, looks_secret, value_looks_secret};

pub(super) const PLAIN_SECRET: Policy = Policy {
    code: "DB006",
    title: "a secret in plain text",
    severity: Severity::Error,
    waivable: true,
    clouds: EVERYWHERE,
    what: "A variable in `[env]` is called like a secret (PASSWORD, SECRET, TOKEN, KEY, ...) and holds text, or a value \
           looks like one: a token of a well-known service, a private key, an address with a password in it.",
    why: "Environment files are committed, and their values stand in task definitions, plans and logs, where many more \
          people read them than should have the secret.",
    fix: "Move it to `[secrets]`, which holds its name only. Locally the value comes from .dbird/secrets or from the \
          environment of whoever deploys; in a cloud from its secret store. Then replace the secret: it has been seen.",
    wrong: "[env]\nDB_PASSWORD = \"hunter2\"",
    right: "[secrets]\nDB_PASSWORD = { name = \"db-password\" }",
    check: |spec, found| {
        // The value is told by none of these, because whatever is told is also logged.
        let help = "move it to [secrets], as { name = \"...\" }";
        for name in spec.env.iter().filter(|(name, value)| looks_secret(name, value)).map(|(name, _)| name) {
            let message = format!("`{name}` looks like a secret in plain text");
            found.push(Finding::at(format!("env.{name}"), message).at_key().help(help));
        }
        if spec.telemetry.otlp.as_deref().is_some_and(value_looks_secret) {
            let message = "the address holds a password in plain text";
            let help = "set OTEL_EXPORTER_OTLP_HEADERS through [secrets] instead";
            found.push(Finding::at("telemetry.otlp", message).at_key().help(help));
        }
        if spec.analysis.prometheus.as_deref().is_some_and(value_looks_secret) {
            let message = "the address holds a password in plain text";
            let help = "have the server, or a proxy before it, let this machine in without one";
            found.push(Finding::at("analysis.prometheus", message).at_key().help(help));
        }
        for (i, hook) in spec.rollout.hooks.iter().enumerate() {
            if hook.run.iter().any(|argument| value_looks_secret(argument)) {
                let message = "an argument looks like a secret in plain text";
                found.push(Finding::at(format!("rollout.hooks.{i}.run"), message).at_key().help(help));
            }
            if hook.url.as_deref().is_some_and(value_looks_secret) {
                let message = "the address holds a secret in plain text";
                let help = "have a small service of your own pass it on, which knows the secret";
                found.push(Finding::at(format!("rollout.hooks.{i}.url"), message).at_key().help(help));
            }
        }
    },
};
