//! Policies about how a service is reached from outside.

use super::{AWS_AND_AZURE, AZURE, Policy};
use crate::{
    Cloud, Spec,
    environment::{Finding, Severity},
};

pub(super) const HTTP_IN_PRODUCTION: Policy = Policy {
    code: "DB004",
    title: "plain HTTP in production",
    severity: Severity::Error,
    waivable: true,
    clouds: AWS_AND_AZURE,
    what: "An environment is production if it is called prod, production or live, or has a public name (`domain`) in \
           this cloud. On AWS it needs a `certificate` for the load balancer. On Azure the platform's own TLS is always \
           there, and `allow_insecure` must not open plain HTTP beside it.",
    why: "Whoever is on the way reads and changes what users send and get, sessions and scores included.",
    fix: "AWS: have a certificate issued by ACM in the environment's region and set `[cloud.aws] certificate`. Azure: \
          leave `allow_insecure` out.",
    wrong: "[cloud.aws]\ndomain = \"bird.example.com\"",
    right: "[cloud.aws]\ndomain = \"bird.example.com\"\n\
            certificate = \"arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000\"",
    check: |spec, found| {
        if !is_production(spec) {
            return;
        }
        if spec.cloud == Cloud::Aws && spec.aws.certificate.is_none() {
            let message = format!("the production environment `{}` would answer plain HTTP only", spec.environment);
            let finding = Finding::at("cloud.aws.certificate", message).else_at("cloud.aws.domain");
            found.push(finding.help("set `[cloud.aws] certificate` to the ARN of a certificate in ACM"));
        }
        if spec.cloud == Cloud::Azure && spec.azure.allow_insecure {
            let message = format!("the production environment `{}` would answer plain HTTP too", spec.environment);
            found.push(Finding::at("cloud.azure.allow_insecure", message).suggest("false"));
        }
    },
};

fn is_production(spec: &Spec) -> bool {
    let domain = match spec.cloud {
        Cloud::Local => None,
        Cloud::Aws => spec.aws.domain.as_ref(),
        Cloud::Azure => spec.azure.domain.as_ref(),
    };
    domain.is_some() || matches!(spec.environment.as_str(), "prod" | "production" | "live")
}

pub(super) const INTERNAL_WITH_PUBLIC_NAME: Policy = Policy {
    code: "DB008",
    title: "an internal environment with an external URL",
    severity: Severity::Error,
    waivable: false,
    clouds: AZURE,
    what: "`[cloud.azure] internal` is true and `domain` gives the service a public name.",
    why: "An internal Container Apps environment has an address within its network only. The public name would lead \
          nowhere, its certificate could not be issued, and every check from outside would fail.",
    fix: "Leave `domain` out, or make the environment external by leaving `internal` out.",
    wrong: "[cloud.azure]\ninternal = true\ndomain = \"bird.example.com\"",
    right: "[cloud.azure]\ninternal = true",
    check: |spec, found| {
        if let Some(domain) = spec.azure.domain.as_ref().filter(|_| spec.azure.internal) {
            let message = format!("`{domain}` is a public name, and an internal environment has no public address");
            found.push(Finding::at("cloud.azure.domain", message).reads(&["cloud.azure.internal"]));
        }
    },
};
