//! Whether an account is ready for an environment: each check says what was found and what to do about it. Nothing is
//! changed, and a check that can't be made does not keep the others from being made.

mod account;
mod live;

use dbird_core::ProviderError;
use dbird_core::Target;

use crate::AwsProvider;

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Questions {
    /// The service and environment.
    pub target: Target,
    /// The ARN of the certificate, where there is one.
    pub certificate: Option<String>,
    /// The public name, where there is one.
    pub domain: Option<String>,
    /// What secrets are called: names or ARNs of Secrets Manager, `ssm:/path` or ARNs of parameters.
    pub secrets: Vec<String>,
    /// Virtual CPUs that may run at once: all copies of two releases.
    pub cpu_max: f64,
    /// A role that is used instead of one that dbird makes.
    pub role: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something is wrong.
    Ng,
    /// It could not be looked at, or there is nothing to look at.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, in a word or two: `credentials`.
    pub name: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub text: String,
    /// What to do about it; none where nothing is to be done.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Check { name, verdict: Verdict::Ok, text: text.into(), remedy: None }
    }

    fn ng(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { name, verdict: Verdict::Ng, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn skip(name: &'static str, text: impl Into<String>) -> Self {
        Check { name, verdict: Verdict::Skip, text: text.into(), remedy: None }
    }

    /// What could not be asked.
    fn unasked(name: &'static str, error: &ProviderError) -> Self {
        Check { name, verdict: Verdict::Ng, text: error.causes.join(": "), remedy: error.hint.clone() }
    }
}

impl AwsProvider {
    /// Looks at everything that an environment needs of its account.
    pub async fn doctor(&self, questions: &Questions) -> Vec<Check> {
        let mut checks = account::checks(self, questions).await;
        if checks.iter().any(|c| c.verdict == Verdict::Ng) {
            // Without the right credentials, nothing else can be asked.
            let left = ["quota", "certificate", "secrets", "stack", "image", "roles", "alarms"];
            checks.extend(left.map(|name| Check::skip(name, "not looked at: the credentials come first")));
            return checks;
        }
        checks.push(account::quota(self, questions).await);
        checks.push(account::certificate(self, questions).await);
        checks.push(account::secrets(self, questions).await);
        checks.extend(live::checks(self, questions).await);
        checks
    }
}
