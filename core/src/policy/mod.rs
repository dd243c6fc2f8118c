//! What is unwise or can't work although every value is right by itself, each with a stable code and an explanation. A policy
//! judges the finished specification only; where its keys stand is looked up by `environment`.

mod access;
mod cloud;
mod exposure;
mod rollout;
mod secret;
mod storage;

use std::fmt;

use crate::{Cloud, Spec, environment::Finding, environment::Severity};

/// Something that `dbird validate` objects to.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Stable: `DB007`.
    pub code: &'static str,
    /// In a few words, without an article or a full stop.
    pub title: &'static str,
    /// Whether it stops the command.
    pub severity: Severity,
    /// It may be let pass for one key, with a reason, through `[policies] waive`.
    pub waivable: bool,
    /// The clouds that it is about; elsewhere it is not looked at.
    pub clouds: &'static [Cloud],
    /// What is objected to.
    pub what: &'static str,
    /// What happens otherwise.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// Keys that it objects to, as they would stand in a file.
    pub wrong: &'static str,
    /// The same, put right.
    pub right: &'static str,
    check: fn(&Spec, &mut Vec<Finding>),
}

impl Policy {
    /// Whether it is about this cloud.
    pub fn applies(&self, cloud: Cloud) -> bool {
        self.clouds.contains(&cloud)
    }
}

impl fmt::Display for Policy {
    /// The explanation, for `dbird explain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") };
        let indented = |toml: &str| toml.lines().map(indent).collect::<String>();
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        writeln!(f, "{} ({severity}): {}\n", self.code, self.title)?;
        if self.clouds.len() < Cloud::ALL.len() {
            let names: Vec<_> = self.clouds.iter().map(|cloud| cloud.name()).collect();
            writeln!(f, "Only for: {}\n", names.join(", "))?;
        }
        writeln!(f, "{}\n\nWhy: {}\n\nFix: {}\n", self.what, self.why, self.fix)?;
        write!(f, "Refused:\n\n{}\nAccepted:\n\n{}", indented(self.wrong), indented(self.right))?;
        if self.waivable {
            writeln!(f, "\nWhere it is right nevertheless, say so for that key, with the reason:\n")?;
            let waiver = format!("{{ code = \"{}\", key = \"...\", why = \"...\" }}", self.code);
            writeln!(f, "    [policies]\n    waive = [{waiver}]")?;
        }
        Ok(())
    }
}

const EVERYWHERE: &[Cloud] = &Cloud::ALL;
const AWS: &[Cloud] = &[Cloud::Aws];
const AZURE: &[Cloud] = &[Cloud::Azure];
const AWS_AND_AZURE: &[Cloud] = &[Cloud::Aws, Cloud::Azure];
const LOCAL: &[Cloud] = &[Cloud::Local];

const ALL: &[Policy] = &[
    storage::SINGLE_WRITER_SCALED,
    storage::OVERLAP_WITHOUT_PROTOCOL,
    storage::WAL_ON_A_SHARE,
    exposure::HTTP_IN_PRODUCTION,
    access::WILDCARD,
    secret::PLAIN_SECRET,
    storage::CLOSED_ACCOUNT,
    exposure::INTERNAL_WITH_PUBLIC_NAME,
    access::ROLE_CANNOT_PULL,
    cloud::KIND_NOT_RUN,
    rollout::ENGINE_CANNOT,
    cloud::NEEDS_PODMAN,
    storage::MANY_WRITERS_ON_SQLITE,
    cloud::SIZE_NOT_OFFERED,
    cloud::SCRATCH_WITHOUT_PROGRAM,
    rollout::NUMBERS_OF_ANOTHER_CLOUD,
    storage::COPY_WITHOUT_COMMAND,
];

/// Every policy, by code.
pub fn all() -> &'static [Policy] {
    ALL
}

/// The policy of this code, in whatever case it is written.
pub fn explain(code: &str) -> Option<&'static Policy> {
    ALL.iter().find(|policy| policy.code.eq_ignore_ascii_case(code.trim()))
}

/// Everything that the policies object to.
pub(crate) fn check(spec: &Spec) -> Vec<(&'static Policy, Finding)> {
    let mut found = Vec::new();
    for policy in ALL.iter().filter(|policy| policy.applies(spec.cloud)) {
        let mut findings = Vec::new();
        (policy.check)(spec, &mut findings);
        found.extend(findings.into_iter().map(|finding| (policy, finding)));
    }
    found
}
