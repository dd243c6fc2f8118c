//! What an account has before anything is made in it: credentials, region, quotas, the certificate, the secrets.

use aws_sdk_acm::types::{CertificateDetail, CertificateStatus};
use aws_sdk_ssm::types::ParameterStringFilter;
use dbird_core::ProviderError;

use crate::AwsProvider;
use crate::clock::unix_ms;
use crate::doctor::{Check, Questions};
use crate::error::{Answer, code};
use crate::observe::account;

/// The quota of virtual CPUs that run on Fargate at once.
const FARGATE_CPU: (&str, &str) = ("fargate", "L-3032A538");
/// A certificate that ends sooner is told of.
const ENDS_SOON_MS: u64 = 14 * 24 * 3_600_000;

/// Credentials, account and region.
pub(super) async fn checks(aws: &AwsProvider, _: &Questions) -> Vec<Check> {
    let credentials = match aws.clients.credentials().await {
        Err(error) => return vec![Check::unasked("credentials", &error)],
        Ok(credentials) => credentials,
    };
    let region = &credentials.region;
    let mut checks = Vec::new();
    match account(aws).await {
        Err(error) => checks.push(Check::unasked("credentials", &error)),
        Ok(found) => {
            checks.push(Check::ok("credentials", format!("access key {} works", credentials.key)));
            checks.push(match &aws.config.account {
                Some(wanted) if *wanted != found => Check::ng(
                    "account",
                    format!("the credentials are for account {found}, and [cloud.aws] says {wanted}"),
                    "check AWS_PROFILE, or correct `account` in [cloud.aws]",
                ),
                _ => Check::ok("account", found),
            });
        }
    }
    checks.push(Check::ok("region", region.clone()));
    checks
}

/// Whether all copies of two releases may run at once.
pub(super) async fn quota(aws: &AwsProvider, questions: &Questions) -> Check {
    let (service, quota) = FARGATE_CPU;
    let answer = aws.clients.quotas().await.get_service_quota().service_code(service).quota_code(quota).send().await;
    let found = match answer.or_fault("read the quota of Fargate", "") {
        Err(error) => return Check::unasked("quota", &error),
        Ok(answer) => answer.quota.and_then(|q| q.value),
    };
    let needed = questions.cpu_max;
    match found {
        None => Check::skip("quota", "AWS does not say how many virtual CPUs may run on Fargate"),
        Some(most) if most < needed => Check::ng(
            "quota",
            format!("{most} virtual CPUs may run on Fargate, and two releases need {needed}"),
            format!("ask for more in Service Quotas (fargate, {quota}), or lower `max` in [scale]"),
        ),
        Some(most) => Check::ok("quota", format!("{most} virtual CPUs may run on Fargate, {needed} are needed")),
    }
}

/// Whether the certificate can be used.
pub(super) async fn certificate(aws: &AwsProvider, questions: &Questions) -> Check {
    let Some(arn) = &questions.certificate else {
        return Check::skip("certificate", "none is configured: the service answers over plain HTTP");
    };
    let remedy = "use a certificate of the same region that is issued (`certificate` in [cloud.aws])";
    let of = arn.split(':').nth(3).unwrap_or_default();
    match aws.clients.region().await {
        Ok(region) if region != of => {
            return Check::ng("certificate", format!("it is in {of}, and the load balancer in {region}"), remedy);
        }
        Ok(_) => {}
        Err(error) => return Check::unasked("certificate", &error),
    }
    let answer = aws.clients.acm().await.describe_certificate().certificate_arn(arn).send().await;
    match answer.or_fault("read the certificate", arn) {
        Err(error) => Check { remedy: Some(remedy.to_owned()), ..Check::unasked("certificate", &error) },
        Ok(answer) => match answer.certificate {
            None => Check::ng("certificate", "there is no such certificate", remedy),
            Some(found) => judge(&found, questions.domain.as_deref(), unix_ms()),
        },
    }
}

fn judge(found: &CertificateDetail, domain: Option<&str>, now_unix_ms: u64) -> Check {
    let name = "certificate";
    let status = found.status().map(CertificateStatus::as_str).unwrap_or_default();
    if status != "ISSUED" {
        let remedy = "finish its validation in ACM, then deploy";
        return Check::ng(name, format!("its status is {status}"), remedy);
    }
    let names: Vec<&str> =
        found.subject_alternative_names().iter().map(String::as_str).chain(found.domain_name()).collect();
    if let Some(domain) = domain.filter(|domain| !names.iter().any(|name| covers(name, domain))) {
        let text = format!("it is for {}, not for {domain}", names.join(", "));
        return Check::ng(name, text, "use one that names the domain, or correct `domain` in [cloud.aws]");
    }
    let ends = found.not_after().and_then(|t| t.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok());
    match ends {
        Some(ends) if ends < now_unix_ms + ENDS_SOON_MS => {
            let days = ends.saturating_sub(now_unix_ms) / 86_400_000;
            Check::ng(name, format!("it ends in {days} days"), "renew it in ACM")
        }
        _ => Check::ok(name, format!("issued for {}", names.first().unwrap_or(&""))),
    }
}

/// Whether a certificate's name is good for a domain: itself, or one label instead of a star.
fn covers(name: &str, domain: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => domain.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(domain),
    }
}

/// Whether every secret exists. None is read.
pub(super) async fn secrets(aws: &AwsProvider, questions: &Questions) -> Check {
    if questions.secrets.is_empty() {
        return Check::skip("secrets", "the environment names none");
    }
    let mut missing = Vec::new();
    for secret in &questions.secrets {
        match exists(aws, secret).await {
            Ok(true) => {}
            Ok(false) => missing.push(secret.as_str()),
            Err(error) => return Check::unasked("secrets", &error),
        }
    }
    match missing.is_empty() {
        true => Check::ok("secrets", format!("all {} exist", questions.secrets.len())),
        false => Check::ng(
            "secrets",
            format!("missing: {}", missing.join(", ")),
            "make them in Secrets Manager (`aws secretsmanager create-secret --name NAME`) or in Parameter Store",
        ),
    }
}

async fn exists(aws: &AwsProvider, secret: &str) -> Result<bool, ProviderError> {
    let parameter = secret.strip_prefix("ssm:").or_else(|| {
        let path = secret.split_once(":parameter").map(|(_, path)| path);
        path.filter(|_| secret.contains(":ssm:"))
    });
    if let Some(parameter) = parameter {
        let filter = ParameterStringFilter::builder().key("Name").option("Equals").values(parameter).build();
        let Ok(filter) = filter else { return Ok(false) };
        let answer = aws.clients.ssm().await.describe_parameters().parameter_filters(filter).send().await;
        let found = answer.or_fault("look for the parameter", secret)?;
        return Ok(found.parameters.is_some_and(|p| !p.is_empty()));
    }
    match aws.clients.secrets().await.describe_secret().secret_id(secret).send().await {
        Err(error) if code(&error) == "ResourceNotFoundException" => Ok(false),
        answer => Ok(answer.or_fault("look for the secret", secret)?.deleted_date.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::DateTime;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_certificate_is_issued_for_the_domain_and_does_not_end_soon() {
        let now_s = 1_700_000_000;
        let year = DateTime::from_secs(now_s + 365 * 86_400);
        let cases = [
            (CertificateStatus::Issued, "bird.example.com", year, Some("bird.example.com"), Verdict::Ok),
            (CertificateStatus::Issued, "*.example.com", year, Some("bird.example.com"), Verdict::Ok),
            (CertificateStatus::Issued, "*.example.com", year, Some("a.bird.example.com"), Verdict::Ng),
            (CertificateStatus::Issued, "example.com", year, Some("bird.example.com"), Verdict::Ng),
            (CertificateStatus::Issued, "example.com", year, None, Verdict::Ok),
            (CertificateStatus::PendingValidation, "example.com", year, None, Verdict::Ng),
            (CertificateStatus::Issued, "example.com", DateTime::from_secs(now_s + 86_400), None, Verdict::Ng),
        ];
        for (status, name, ends, domain, verdict) in cases {
            let found = CertificateDetail::builder().status(status).domain_name(name).not_after(ends).build();
            let check = judge(&found, domain, u64::try_from(now_s).unwrap() * 1000);
            assert_eq!(check.verdict, verdict, "{name}: {check:?}");
            assert_eq!(check.remedy.is_none(), verdict == Verdict::Ok, "{check:?}");
        }
    }
}
