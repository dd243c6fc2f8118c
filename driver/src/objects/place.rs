//! A bucket or a container as people know it. It decides how the place is named and what is advised when it can't be used; it
//! names no key and no account's secret.

use std::fmt;

use object_store::Error as ObjectError;

use super::innermost;
use crate::store::StoreError;

/// Where state is kept, and the host that is asked for it.
#[derive(Debug, Clone)]
pub(super) enum Place {
    S3 { bucket: String, host: String },
    Blob { account: String, container: String, host: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::S3 { bucket, .. } => write!(f, "s3://{bucket}"),
            Place::Blob { account, container, .. } => write!(f, "az://{account}/{container}"),
        }
    }
}

impl Place {
    pub(super) fn missing(&self) -> String {
        match self {
            Place::S3 { bucket, .. } => format!(
                "there is no bucket {bucket}: make it with `aws s3api create-bucket --bucket {bucket}`, set up as the runbook \
                 says, or correct `[state] url`"
            ),
            Place::Blob { account, container, .. } => format!(
                "there is no container {container}: make it with `az storage container create --account-name {account} \
                 --name {container} --auth-mode login`, set up as the runbook says, or correct `[state] url`"
            ),
        }
    }

    pub(super) fn no_credentials(&self) -> String {
        match self {
            Place::S3 { .. } => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or run where a role \
                                 gives them; of a profile: `eval \"$(aws configure export-credentials --format env)\"`"
                    .to_owned()
            }
            Place::Blob { .. } => "sign in with `az login` and set AZURE_USE_AZURE_CLI=true, or set AZURE_TENANT_ID, \
                                   AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET, or run where \
                                   an identity is assigned"
                .to_owned(),
        }
    }

    pub(super) fn unknown_credentials(&self) -> String {
        match self {
            Place::S3 { .. } => {
                "the store does not know these credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                                 AWS_SESSION_TOKEN must belong together and be of the bucket's account"
                    .to_owned()
            }
            Place::Blob { account, .. } => format!(
                "the store does not know these credentials: they must be of the tenant and the account {account}, and not \
                 have expired"
            ),
        }
    }

    pub(super) fn denied(&self) -> String {
        match self {
            Place::S3 { bucket, .. } => format!(
                "whoever deploys needs s3:ListBucket on {bucket}, and s3:GetObject and s3:PutObject on what is in it"
            ),
            Place::Blob { account, container, .. } => format!(
                "whoever deploys needs the role Storage Blob Data Contributor on {container} of {account}; a new role takes \
                 some minutes to work"
            ),
        }
    }

    pub(super) fn elsewhere(&self, region: Option<&str>) -> String {
        match (self, region) {
            (Place::S3 { .. }, Some(region)) => format!("the bucket is in another region: set AWS_REGION={region}"),
            (Place::S3 { bucket, .. }, None) => format!(
                "the bucket is in another region: set AWS_REGION to what `aws s3api get-bucket-location --bucket {bucket}` says"
            ),
            (Place::Blob { host, .. }, _) => format!("{host} points elsewhere: is AZURE_STORAGE_ENDPOINT right?"),
        }
    }

    pub(super) fn unreachable(&self) -> String {
        match self {
            Place::S3 { host, .. } => format!(
                "{host} must be reachable from here; AWS_REGION and AWS_ENDPOINT_URL_S3 decide which host that is"
            ),
            Place::Blob { host, .. } => format!(
                "{host} must be reachable from here, so the account in `[state] url` must exist; AZURE_STORAGE_ENDPOINT names \
                 another host"
            ),
        }
    }

    /// It can't even be tried.
    pub(super) fn unusable(&self, e: &ObjectError, why: &str) -> StoreError {
        StoreError {
            what: format!("the state at {self} can't be used"),
            retry: false,
            hint: Some(why.to_owned()),
            source: Some(innermost(e).into()),
        }
    }
}
