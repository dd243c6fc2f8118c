//! Certificates. Any well-formed ARN of this account and region is one that was issued; the fault `certificate-pending` leaves
//! them all waiting, and `certificate-missing` takes them away.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{Answer, Call, Fault, World, cloudformation::kinds::Kind, stamp, text};

/// Certificates that are remembered.
const CERTIFICATES_MAX: usize = 1000;
/// So long a certificate is valid.
const VALID_MS: u64 = 395 * 86_400_000;

/// The certificates that somebody asked for.
#[derive(Debug, Default)]
pub(crate) struct Acm {
    seen: Mutex<BTreeSet<String>>,
}

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[];

impl Acm {
    /// Whether a load balancer can use this certificate.
    pub(crate) fn is_issued(&self, world: &World, arn: &str) -> bool {
        self.is_there(world, arn) && !world.faults.has("certificate-pending")
    }

    fn is_there(&self, world: &World, arn: &str) -> bool {
        let id = arn.strip_prefix(&world.arn("acm", "certificate/")).unwrap_or_default();
        let formed = id.len() == 36 && uuid::Uuid::parse_str(id).is_ok();
        if !formed || world.faults.has("certificate-missing") {
            return false;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < CERTIFICATES_MAX {
            seen.insert(arn.to_owned());
        }
        true
    }
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    match call.operation.as_str() {
        "DescribeCertificate" => {
            let arn = text(&call.input, "CertificateArn").unwrap_or_default();
            if !world.acm.is_there(world, arn) {
                let said = format!("Could not find certificate {arn}.");
                return Err(Fault::new("ResourceNotFoundException", said));
            }
            Ok(json!({ "Certificate": describe(world, arn) }))
        }
        "ListCertificates" => {
            let seen = world.acm.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let summary = |arn: &String| {
                let whole = describe(world, arn);
                json!({ "CertificateArn": arn, "DomainName": whole["DomainName"], "Status": whole["Status"] })
            };
            Ok(json!({ "CertificateSummaryList": seen.iter().map(summary).collect::<Vec<_>>() }))
        }
        "ListTagsForCertificate" => Ok(json!({ "Tags": [] })),
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}

fn describe(world: &World, arn: &str) -> Value {
    let issued = !world.faults.has("certificate-pending");
    let origin_ms = world.clock.origin_unix_ms();
    let mut certificate = json!({
        "CertificateArn": arn, "DomainName": "bird.example", "SubjectAlternativeNames": ["bird.example"],
        "Type": "AMAZON_ISSUED", "KeyAlgorithm": "RSA-2048", "Status": if issued { "ISSUED" } else { "PENDING_VALIDATION" },
        "CreatedAt": stamp(origin_ms), "RenewalEligibility": "ELIGIBLE", "InUseBy": [],
    });
    if issued {
        certificate["IssuedAt"] = stamp(origin_ms);
        certificate["NotBefore"] = stamp(origin_ms);
        certificate["NotAfter"] = stamp(origin_ms + VALID_MS);
    }
    certificate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::elb::tests::world;

    #[tokio::test]
    async fn certificates_are_made_up_for_their_arns() {
        let world = world(1.0);
        let id = "certificate/01234567-89ab-cdef-0123-456789abcdef";
        let mine = world.arn("acm", id);
        let elsewhere = mine.replace("us-east-1", "eu-west-1");
        let api = async |arn: &str| {
            let input = json!({ "CertificateArn": arn });
            call(&world, &Call { service: "acm".into(), operation: "DescribeCertificate".into(), input }).await
        };
        assert_eq!(api(&mine).await.unwrap()["Certificate"]["Status"], "ISSUED");
        for wrong in [elsewhere.as_str(), "arn:none", &world.arn("acm", "certificate/1")] {
            assert_eq!(api(wrong).await.unwrap_err().code, "ResourceNotFoundException", "{wrong}");
            assert!(!world.acm.is_issued(&world, wrong));
        }
        world.faults.set(vec!["certificate-pending".to_owned()]);
        assert_eq!(api(&mine).await.unwrap()["Certificate"]["Status"], "PENDING_VALIDATION");
        assert!(!world.acm.is_issued(&world, &mine));
        world.faults.set(vec!["certificate-missing".to_owned()]);
        assert!(api(&mine).await.is_err());
    }
}
