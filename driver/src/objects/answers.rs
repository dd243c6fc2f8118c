//! What a failed answer of an object store means for whoever deploys. It decides whether trying again can help and what to do;
//! it repeats no URL, no header and no more of an answer than its code and first sentence.

use object_store::{Error as ObjectError, client::HttpError};

use super::{innermost, place::Place};
use crate::store::StoreError;

/// More of a message than this is not repeated.
const MESSAGE_CHARS_MAX: usize = 300;

/// A failure, as far as it can be told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// The store's own name for it, such as `AccessDenied`.
    code: String,
    /// The region that the store would rather see.
    region: Option<String>,
    /// A sentence.
    text: String,
    /// It says that the request's date is wrong.
    clock: bool,
    /// Nothing was heard, or not all of it.
    lost: bool,
}

impl Answer {
    pub(super) fn of(e: &ObjectError) -> Answer {
        let text = innermost(e);
        let mut cause: Option<&dyn std::error::Error> = Some(e);
        let mut lost = false;
        while let Some(c) = cause {
            lost |= c.is::<HttpError>();
            cause = c.source();
        }
        // The crate keeps its type of this error to itself: its text is all there is.
        let status: Option<u16> = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let Some(status) = status else { return Answer { lost, text: shortened(&text), ..Answer::default() } };
        let code = element(&text, "Code").unwrap_or_default().to_owned();
        let message = element(&text, "Message").and_then(|m| m.lines().next()).unwrap_or_default();
        let told = [&status.to_string(), &*code].join(" ");
        let told = told.trim_end();
        Answer {
            status: Some(status),
            region: element(&text, "Region").filter(|r| r.len() < 40).map(str::to_owned),
            clock: code == "RequestTimeTooSkewed" || text.to_ascii_lowercase().contains("date header"),
            text: shortened(&if message.is_empty() { told.to_owned() } else { format!("{told}: {message}") }),
            code,
            lost,
        }
    }

    /// The bucket or container itself is missing, rather than the object.
    pub(super) fn nowhere(&self) -> bool {
        matches!(&*self.code, "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "ResourceNotFound")
    }

    /// Neither written nor refused: two writers met, and the store wants to be asked again.
    pub(super) fn undecided(&self) -> bool {
        matches!(&*self.code, "ConditionalRequestConflict" | "OperationAborted" | "UploadIsInProgress")
    }

    /// The object is there. 409 has other meanings as well, and only one of them is that.
    pub(super) fn taken(&self) -> bool {
        self.status != Some(409) || self.code == "BlobAlreadyExists"
    }

    fn retry(&self) -> bool {
        let busy = matches!(self.status, Some(408 | 429 | 500 | 502..=599));
        self.lost || busy || self.undecided() || matches!(&*self.code, "SlowDown" | "RequestTimeout" | "ServerBusy")
    }

    fn hint(&self, place: &Place) -> Option<String> {
        let hint = match (&*self.code, self.status) {
            _ if self.nowhere() => place.missing(),
            _ if self.clock => "this machine's clock is wrong: set it, then give the command again".to_owned(),
            ("ExpiredToken" | "TokenRefreshRequired" | "RequestExpired", _) => {
                "the credentials have expired: get new ones, then give the command again".to_owned()
            }
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "AuthenticationFailed", _)
            | ("InvalidAuthenticationInfo" | "NoAuthenticationInformation" | "InvalidClientTokenId", _)
            | (_, Some(401)) => place.unknown_credentials(),
            _ if self.text.contains("failed to authenticate") => place.unknown_credentials(),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, Some(300..=399)) => place.elsewhere(self.region.as_deref()),
            ("KeyBasedAuthenticationNotPermitted", _) => {
                "the account takes no account keys: sign in with an identity, for example `az login` and \
                 AZURE_USE_AZURE_CLI=true"
                    .to_owned()
            }
            (_, Some(403)) => place.denied(),
            ("NotImplemented", _) | (_, Some(501)) => OVERWRITES.to_owned(),
            _ if self.status.is_none() && self.text.contains("redirect without LOCATION") => place.elsewhere(None),
            _ if self.lost => place.unreachable(),
            _ if self.retry() => {
                "the store is overloaded or out of order: wait a little, then give the command again".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    /// With what was not possible, and where.
    pub(super) fn explain(self, what: String, place: &Place) -> StoreError {
        StoreError { what, retry: self.retry(), hint: self.hint(place), source: Some(self.text.into()) }
    }
}

/// What to do about a store on which a lease would be worth nothing.
pub(super) const OVERWRITES: &str =
    "keep the state in a store that refuses to write over an object (If-None-Match: *), as S3 and Azure Blob do";

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.trim())
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}
