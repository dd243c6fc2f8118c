//! Who signs requests to S3, where the variables of the process don't say it. It knows no cloud and keeps nothing.

use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;
use object_store::{CredentialProvider, Error as ObjectError, Result, aws::AwsCredential};

/// Keys that requests are signed with.
#[derive(Clone)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The session's token, for keys that end.
    pub session: Option<String>,
}

// By hand: a secret is never shown.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Gives keys, new ones before the old ones end. Asked before every request, so it has to remember them.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The keys to sign with now.
    async fn keys(&self) -> std::result::Result<Keys, Box<dyn Error + Send + Sync>>;
}

/// A signer as the store's client wants it.
pub(super) struct Signing(pub(super) Arc<dyn Signer>);

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing")
    }
}

#[async_trait]
impl CredentialProvider for Signing {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        match self.0.keys().await {
            Ok(keys) => Ok(Arc::new(AwsCredential { key_id: keys.id, secret_key: keys.secret, token: keys.session })),
            Err(source) => Err(ObjectError::Generic { store: "S3", source }),
        }
    }
}
